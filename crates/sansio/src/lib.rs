//! The one shape of every protocol core: inputs and time in, outputs out.
//!
//! A membership node, an address owner, an ARP responder or a lease holder is a state machine. It owns no socket, reads
//! no clock and rolls no dice of its own: whoever drives it passes datagrams, facts and the present instant in, and takes
//! datagrams, decisions and the instant of the next wake-up out. The same machine therefore runs under tokio in the
//! binaries and under a virtual clock in the simulator, and a recorded list of inputs replays an incident exactly.
//!
//! Three parts, no dependencies:
//! * [`Instant`]: a point on the driver's monotonic clock;
//! * [`Machine`]: the interface;
//! * [`Timers`], [`Deadlines`] and [`SeededRng`]: what most machines need inside.

#![forbid(unsafe_code)]

mod deadlines;
mod instant;
mod machine;
mod rng;
mod timers;

pub use core::time::Duration;
pub use deadlines::Deadlines;
pub use instant::Instant;
pub use machine::Machine;
pub use rng::SeededRng;
pub use timers::Timers;
