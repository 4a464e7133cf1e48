//! What a server costs, as Linux tells it in `/proc`: its processes, and the kernel's memory for its sockets.
//!
//! The texts are parsed by pure functions; only `Processes` and `KernelMemory::read` open files.

pub mod kernel;
pub mod process;
pub mod sampler;

pub use kernel::KernelMemory;
pub use process::{Processes, Resident, Switches, Usage};
pub use sampler::{Counted, Sampler};
