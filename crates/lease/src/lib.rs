//! Who leads: a Lease holder as a machine
