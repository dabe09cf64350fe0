//! Tests of the machine, most of them in a [`World`](super::testing::World), which checks what must always be true.

mod histories;
