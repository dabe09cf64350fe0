//! AMD/Xilinx XDMA (PG195) as types: registers, bit fields, descriptors.
