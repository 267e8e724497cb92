//! Classic BPF: which frames a packet socket takes. It runs in the kernel, before the process is woken.

use libc::sock_filter;

use crate::packet::{FRAME_MAX, Protocol};

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const LOAD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
const JUMP_EQ: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// `SKF_AD_OFF`: what the kernel knows of a frame beside its bytes.
const ANCILLARY: u32 = 0xffff_f000;
const PACKET_TYPE: u32 = ANCILLARY + 4; // SKF_AD_PKTTYPE
const INTERFACE: u32 = ANCILLARY + 8; // SKF_AD_IFINDEX
const OTHER_HOST: u32 = 3; // PACKET_OTHERHOST

const fn step(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

const ACCEPT: sock_filter = step(RETURN, 0, 0, FRAME_MAX as u32);
const DROP: sock_filter = step(RETURN, 0, 0, 0);

/// The program of a socket on the interface with that number. Taken is what the protocol needs, but not:
///
/// * what came in on the interface for another one. The kernel takes a VLAN's tag off, makes the VLAN's interface the one that
///   received the frame, and then hands it to the sockets of that one and of the parent alike, likewise with macvlan. It
///   does so after the tag is gone from its own records too, so that no filter can ask for it (`SKF_AD_VLAN_TAG_PRESENT`).
/// * what is for another station's hardware address (a promiscuous interface), or has the tag of a VLAN for which this node has
///   no interface: the answer would leave without it.
pub(crate) fn program(protocol: Protocol, interface: u32) -> Vec<sock_filter> {
    let mut program = vec![
        step(LOAD, 0, 0, INTERFACE),
        step(JUMP_EQ, 1, 0, interface),
        DROP,
        step(LOAD, 0, 0, PACKET_TYPE),
        step(JUMP_EQ, 0, 1, OTHER_HOST),
        DROP,
    ];
    match protocol {
        Protocol::Arp => program.extend([
            step(LOAD_HALF, 0, 0, 12),
            step(JUMP_EQ, 0, 3, 0x0806),
            step(LOAD_HALF, 0, 0, 20), // operation
            step(JUMP_EQ, 2, 0, 1),
            step(JUMP_EQ, 1, 0, 2),
            DROP,
            ACCEPT,
        ]),
        Protocol::Ndp => program.extend([
            step(LOAD_HALF, 0, 0, 12),
            step(JUMP_EQ, 0, 5, 0x86dd),
            step(LOAD_BYTE, 0, 0, 20), // next header
            step(JUMP_EQ, 0, 3, 58),
            step(LOAD_BYTE, 0, 0, 54), // ICMPv6 type
            step(JUMP_EQ, 2, 0, 135),
            step(JUMP_EQ, 1, 0, 136),
            DROP,
            ACCEPT,
        ]),
    }
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a kernel makes of a program: how many bytes of the frame it takes. Loads beyond the end take nothing.
    fn taken(program: &[sock_filter], frame: &[u8], interface: u32, packet_type: u32) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            let bytes = |length: usize| {
                let from = step.k as usize;
                let bytes = frame.get(from..from + length)?;
                Some(bytes.iter().fold(0, |all, byte| all << 8 | u32::from(*byte)))
            };
            let loaded = match (step.code, step.k) {
                (RETURN, bytes) => return bytes,
                (JUMP_EQ, value) => {
                    let jump = if accumulator == value { step.jt } else { step.jf };
                    at += usize::from(jump);
                    continue;
                }
                (LOAD, INTERFACE) => Some(interface),
                (LOAD, PACKET_TYPE) => Some(packet_type),
                (LOAD_HALF, _) => bytes(2),
                (LOAD_BYTE, _) => bytes(1),
                other => panic!("{other:?}"),
            };
            match loaded {
                Some(value) => accumulator = value,
                None => return 0,
            }
        }
    }

    fn arp(operation: u8) -> Vec<u8> {
        let mut frame = vec![0; 42];
        frame[12..14].copy_from_slice(&[8, 6]);
        frame[21] = operation;
        frame
    }

    fn icmpv6(kind: u8) -> Vec<u8> {
        let mut frame = vec![0; 86];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        (frame[20], frame[54]) = (58, kind);
        frame
    }

    /// Whether taken by the sockets for ARP and NDP on interface 2.
    fn both(frame: &[u8], interface: u32, packet_type: u32) -> [bool; 2] {
        [Protocol::Arp, Protocol::Ndp].map(|protocol| {
            let taken = taken(&program(protocol, 2), frame, interface, packet_type);
            assert!([0, FRAME_MAX as u32].contains(&taken));
            taken > 0
        })
    }

    #[test]
    fn each_protocol_takes_its_own() {
        let mut udp = icmpv6(135);
        udp[20] = 17;
        for (what, frame, expected) in [
            ("request", arp(1), [true, false]),
            ("reply", arp(2), [true, false]),
            ("reverse request", arp(3), [false, false]),
            ("cut short", arp(1)[..21].to_vec(), [false, false]),
            ("solicitation", icmpv6(135), [false, true]),
            ("advertisement", icmpv6(136), [false, true]),
            ("router advertisement", icmpv6(134), [false, false]),
            ("UDP", udp, [false, false]),
            ("cut short", icmpv6(135)[..54].to_vec(), [false, false]),
            ("nothing", Vec::new(), [false, false]),
        ] {
            assert_eq!(both(&frame, 2, 0), expected, "{what}");
            assert_eq!(both(&frame, 2, 1), expected, "{what} to all");
        }
    }

    /// A frame tagged for eth0.100 comes to the sockets of eth0 as one that eth0.100 has received.
    #[test]
    fn what_another_interface_has_received_is_left_to_that_one() {
        for (frame, expected) in [(arp(1), [true, false]), (icmpv6(135), [false, true])] {
            for packet_type in [0, 1, 2] {
                assert_eq!(both(&frame, 2, packet_type), expected);
                for other in [0, 1, 3, 258, u32::MAX] {
                    assert_eq!(both(&frame, other, packet_type), [false, false]);
                }
            }
            assert_eq!(both(&frame, 2, OTHER_HOST), [false, false]);
        }
    }
}
