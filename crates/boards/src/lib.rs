//! A catalogue of FPGA boards, their identification and their peripherals.
