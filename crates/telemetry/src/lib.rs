//! Logs, metrics and health endpoints shared by the binaries
