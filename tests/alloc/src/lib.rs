//! The allocator on real API servers without nodes: each is etcd and kube-apiserver on loopback, started in seconds, several
//! at once ([`plane`]); the controllers run beside them as processes ([`controller`]).

pub mod api;
pub mod audit;
pub mod bench;
pub mod child;
pub mod controller;
pub mod differential;
pub mod ha;
pub mod plane;
pub mod wait;
