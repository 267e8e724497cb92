//! Reconciles the MetalLB resource into its operands

fn main() {}
