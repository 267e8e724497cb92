//! Which speakers are alive: SWIM membership as a machine, sealed datagrams
