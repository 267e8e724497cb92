//! Seeded simulation of whole speakers on a virtual LAN
