//! Watches, writes and events: the thin shell around the Kubernetes API
