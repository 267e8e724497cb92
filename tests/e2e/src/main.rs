//! The local cluster and the scenarios that run on it

fn main() {}
