//! Small servers that the scenarios put into pods

fn main() {}
