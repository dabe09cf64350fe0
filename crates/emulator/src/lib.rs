//! Emulated FPGA boards, served over vfio-user.
