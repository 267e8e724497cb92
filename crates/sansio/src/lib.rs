//! The one shape of every protocol core: inputs and time in, outputs out
