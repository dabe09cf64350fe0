//! Programs that were written for the character devices of AMD/Xilinx's XDMA driver (`/dev/xdma0_h2c_0` and the others), as
//! they are and without that driver: a library that `jitney xdma-compat` has the loader put in front of the C library.
//!
//! It has no interface of its own but the functions of the C library that programs use for files (`calls`). Each looks
//! whether the path or the descriptor is one of a device's; if not, the real function (`real`) is called with what came in.
//! docs/xdma-compat.md says what the devices do, and what cannot be kept.
//!
//! # How a descriptor is known
//! A device's descriptor is a real one of the kernel's, so that `dup`, `fork`, `exec`, `fcntl`, `poll` and passing it on need
//! nothing from here: a sealed, empty memory file that can neither be read nor written by itself (`placeholder`), or
//! for events a socket. Which device it is stands in its inode, and so nothing here has to be told of copies.
//! A call that goes past this library, as from within the C library or by `syscall`, fails with EBADF or EPERM and never does
//! something else.
//!
//! # What is where
//! | | |
//! |---|---|
//! | `node` | which device a path names; pure |
//! | `placeholder` | the descriptor that a program gets for it |
//! | `machine`, `card` | the bus and the cards of this process, opened when they are first used, anew in a forked child |
//! | `channel`, `memory`, `stream` | transfers |
//! | `registers`, `trap` | registers by read and write, and by loads and stores |
//! | `events` | interrupts of the design's own |
//! | `control` | `ioctl` |
//! | `stdio` | `FILE`s, which the C library would read by itself |
//! | `calls` | the functions that are put in front |

mod calls;
mod card;
mod channel;
mod control;
mod events;
mod failure;
mod inside;
mod machine;
mod memory;
mod node;
mod placeholder;
mod process;
mod real;
mod registers;
mod settings;
mod stdio;
mod stream;
mod trap;
mod user_memory;
mod wait;
