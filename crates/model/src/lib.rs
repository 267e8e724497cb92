//! Domain values and the one validated configuration
