//! A real kernel's VFIO in a virtual machine, on a computer that has no card.
