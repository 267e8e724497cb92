//! One randomized sequence of objects, two API servers, two controllers: ours beside Go's. After every step both must say the
//! same of every service: addresses, pool, reasons of Events.
//!
//! [`steps`] are what users do, [`generate`] draws them from a seed, [`drive`] carries them out, [`observe`] sees what comes of
//! it, [`compare`] judges, [`known`] lists what may differ and why.

pub mod compare;
pub mod drive;
pub mod generate;
pub mod known;
pub mod observe;
pub mod run;
pub mod shrink;
pub mod steps;
