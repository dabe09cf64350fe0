//! The vfio-user protocol as types: messages in and out of bytes.
