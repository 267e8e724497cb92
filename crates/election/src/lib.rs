//! Which node owns an address: MetalLB's rank, with reasons
