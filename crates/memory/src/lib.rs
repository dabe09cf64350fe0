//! Memory that processes and cards share, and sockets that carry descriptors.
