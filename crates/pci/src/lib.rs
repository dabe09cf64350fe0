//! PCI configuration space as types.
