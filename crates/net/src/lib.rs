//! The only unsafe code: packet sockets and netlink
