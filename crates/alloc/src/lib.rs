//! Which address a service gets: the pure allocator
