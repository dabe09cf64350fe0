//! A driver for AMD/Xilinx XDMA, the DMA/Bridge Subsystem for PCI Express (PG195).
