//! A whole speaker without sockets or clients: membership, ownership and announcing composed
