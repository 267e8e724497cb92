//! The wires at work: datagrams and frames on their way.

use std::net::SocketAddr;

use metallb_speaker_core::Input;
use metallb_speaker_core::l2::wire::ethernet::Frame;

use crate::cluster::Arrival;
use crate::host::{Event, INTERFACE, mac};
use crate::kernel::node_at;
use crate::lan::{CLIENTS, Island, Lan};
use crate::{Cluster, Facts, NodeNumber, ServiceNumber};

impl Cluster {
    pub(crate) fn carry(&mut self, from: NodeNumber, to: SocketAddr, datagram: Vec<u8>) {
        self.datagrams += 1;
        let Some(to) = node_at(to, self.size()) else {
            return;
        };
        if self.lan.hears(from, to) && !self.lan.loses(&mut self.rng) {
            let at = self.now + Lan::latency(&mut self.rng);
            let input = Input::Datagram {
                from: self.setup.kernels.address(from),
                datagram,
            };
            self.arrive(at, Arrival::Node(to, Event::Wire(input)));
        }
    }

    /// What a client asks is at all nodes of its island. Those that do not hold the address take no notice, and are spared it.
    pub(crate) fn question(&mut self, island: Island, service: ServiceNumber, frame: &[u8]) {
        let interface = Lan::interface_to(island);
        let address = Facts::address(service);
        let group = Frame::new_checked(frame).map(Frame::destination);
        for node in 0..self.size() {
            let host = &self.hosts[node];
            let hears = group.is_ok_and(|group| host.hears_group(interface, group));
            if hears && host.holds(address) && host.is_powered() && self.lan.is_on(node, island) {
                self.tell(node, Event::Wire(Input::Frame(interface, frame.to_vec())));
            }
        }
    }

    /// What a switch does with a frame from a node: to one when it knows where, to all otherwise.
    pub(crate) fn flood(&mut self, from: NodeNumber, island: Island, frame: &[u8]) {
        let Ok(header) = Frame::new_checked(frame) else {
            return;
        };
        let destination = header.destination();
        let to_all = !destination.is_unicast();
        if island < CLIENTS && (to_all || destination == self.clients[island].mac) {
            let at = self.now + Lan::latency(&mut self.rng);
            self.arrive(at, Arrival::Client(island, frame.to_vec()));
        }
        if to_all {
            for node in 0..self.size() {
                self.deliver(from, island, node, frame, header);
            }
        } else if let Some(node) = self.node_of(destination) {
            self.deliver(from, island, node, frame, header);
        }
    }

    fn deliver(
        &mut self,
        from: NodeNumber,
        island: Island,
        node: NodeNumber,
        frame: &[u8],
        header: Frame<'_>,
    ) {
        let interface = Lan::interface_to(island);
        let destination = header.destination();
        if (destination.is_unicast() && destination != mac(node, interface))
            || from == node
            || !self.hosts[node].is_powered()
            || !self.lan.is_on(node, island)
        {
            return;
        }
        let deaf = interface == INTERFACE && !self.lan.hears(from, node);
        if deaf || self.lan.loses(&mut self.rng) {
            return;
        }
        if self.setup.kernels.answer(node, interface, header).is_some() {
            let at = self.now + Lan::latency(&mut self.rng);
            self.arrive(at, Arrival::Kernel(node, interface, frame.to_vec()));
        }
        if self.hosts[node].exists() && self.hosts[node].hears_group(interface, destination) {
            let at = self.now + Lan::latency(&mut self.rng);
            let event = Event::Wire(Input::Frame(interface, frame.to_vec()));
            self.arrive(at, Arrival::Node(node, event));
        }
    }

    /// The kernel answers for the node's own addresses, whether a speaker runs or not.
    pub(crate) fn kernel_answers(&mut self, node: NodeNumber, interface: u32, bytes: &[u8]) {
        let reached = self.lan.reaches(node, interface);
        if let Some(island) = reached.filter(|_| self.hosts[node].is_powered())
            && let Ok(frame) = Frame::new_checked(bytes)
            && let Some(answer) = self.setup.kernels.answer(node, interface, frame)
        {
            self.flood(node, island, &answer);
        }
    }
}
