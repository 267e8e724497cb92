//! How the addresses that this node owns stand: for those who tell it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::announcer::{Announcer, Role};

/// How an address that this node owns stands, on whatever links there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owned {
    /// It is answered for.
    Answered,
    /// Whether somebody outside the cluster has it is being found out (RFC 5227 2.1.1); until then there are no answers.
    Probing,
    /// Somebody outside the cluster has it and is left alone; also while that one is asked again.
    Blocked,
}

impl Announcer {
    /// How the address stands; `None` when this node does not own it.
    pub fn owned_as(&self, address: IpAddr) -> Option<Owned> {
        match &self.held.get(&address)?.role {
            Role::Owner(_) => Some(Owned::Answered),
            Role::Blocked(_) => Some(Owned::Blocked),
            // Whoever is left alone is asked again from time to time. That is not news.
            Role::Probing(_) if self.conflicts(self.now).any(|(claimed, _)| claimed == address) => {
                Some(Owned::Blocked)
            }
            Role::Probing(_) => Some(Owned::Probing),
            Role::StandIn(_) => None,
        }
    }

    /// The addresses for which answers have begun or ended since this was last asked, by what probes or other stations said.
    /// Not those that were owned, disowned or lost a link: whoever tells that knows.
    pub fn take_turned(&mut self) -> BTreeSet<IpAddr> {
        core::mem::take(&mut self.turned)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use metallb_sansio::{Instant, Machine as _};

    use super::*;
    use crate::announcer::BLOCKED_FOR;
    use crate::wire::arp::Repr;
    use crate::{ConflictPolicy, Entry, Input, Interfaces, Link, MacAddr};

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
    const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    /// One with a link, which owns the address from a second on.
    fn owner(policy: ConflictPolicy, entry: Entry) -> Announcer {
        let mut announcer = Announcer::with_policy(policy);
        let link = Link {
            name: "eth0".into(),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            arp: true,
            link_local: None,
        };
        announcer.handle(Instant::ZERO, Input::LinkUp(1, link));
        let own = Input::Own {
            address: ADDRESS.into(),
            interfaces: Interfaces::All,
            entry,
        };
        announcer.handle(Instant::from_millis(1_000), own);
        announcer
    }

    fn claim(announcer: &mut Announcer, now: Instant) {
        announcer.set_now(now);
        let frame = Repr::announcement_request(ADDRESS, STRANGER).emit(MacAddr::BROADCAST);
        announcer.handle_frame(1, &frame);
    }

    fn until(announcer: &mut Announcer, end: Instant) {
        while let Some(at) = announcer.poll_timeout().filter(|at| *at <= end) {
            announcer.handle_timeout(at);
        }
    }

    fn stands(announcer: &mut Announcer) -> (Option<Owned>, bool) {
        let turned = announcer.take_turned();
        (
            announcer.owned_as(ADDRESS.into()),
            turned == [ADDRESS.into()].into(),
        )
    }

    #[test]
    fn an_address_turns_when_its_probing_ends_well() {
        let mut announcer = owner(ConflictPolicy::Warn, Entry::Probe);
        assert_eq!(stands(&mut announcer), (Some(Owned::Probing), false));
        until(&mut announcer, Instant::from_millis(2_000));
        assert_eq!(stands(&mut announcer), (Some(Owned::Answered), true));
        assert_eq!(
            stands(&mut announcer),
            (Some(Owned::Answered), false),
            "told once"
        );
        announcer.handle(Instant::from_millis(3_000), Input::Reannounce(ADDRESS.into()));
        assert_eq!(
            stands(&mut announcer),
            (Some(Owned::Answered), false),
            "as before"
        );
        announcer.handle(Instant::from_millis(4_000), Input::Disown(ADDRESS.into()));
        assert_eq!(stands(&mut announcer), (None, false));
    }

    /// Under `block` an address is lost to a stranger, asked for again, and returns when the stranger is gone.
    #[test]
    fn an_address_that_is_left_to_a_stranger_stays_blocked_while_that_one_is_asked() {
        let mut announcer = owner(ConflictPolicy::Block, Entry::Announce);
        assert_eq!(stands(&mut announcer), (Some(Owned::Answered), false));
        let start = Instant::from_millis(2_000);
        claim(&mut announcer, start);
        assert_eq!(stands(&mut announcer), (Some(Owned::Blocked), true));
        let again = start + BLOCKED_FOR;
        until(&mut announcer, again);
        let probing = matches!(announcer.held[&ADDRESS.into()].role, Role::Probing(_));
        assert!(probing, "it is asked for");
        assert_eq!(stands(&mut announcer), (Some(Owned::Blocked), false));
        claim(&mut announcer, again);
        assert_eq!(stands(&mut announcer), (Some(Owned::Blocked), false), "no news");
        until(&mut announcer, again + BLOCKED_FOR + BLOCKED_FOR);
        assert_eq!(stands(&mut announcer), (Some(Owned::Answered), true));
    }

    #[test]
    fn what_is_announced_all_the_same_is_answered_for() {
        let mut announcer = owner(ConflictPolicy::Warn, Entry::Announce);
        claim(&mut announcer, Instant::from_millis(2_000));
        assert_eq!(stands(&mut announcer), (Some(Owned::Answered), false));
    }
}
