//! ARP and NDP: wire formats and the announcer machine
