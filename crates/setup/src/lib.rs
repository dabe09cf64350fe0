//! Getting a PC ready for VFIO.

#![forbid(unsafe_code)]
