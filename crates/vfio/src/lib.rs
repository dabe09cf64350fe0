//! One safe interface to a PCIe card and its address space, over every VFIO transport.
