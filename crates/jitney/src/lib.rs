//! Several processes drive the same PCIe cards from user space, at the same time and safely.
