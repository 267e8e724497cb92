//! Generates what is checked in: CRDs, manifests, samples

fn main() {}
