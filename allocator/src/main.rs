//! Gives LoadBalancer services their addresses

fn main() {}
