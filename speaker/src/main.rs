//! Makes addresses reachable from this node

fn main() {}
