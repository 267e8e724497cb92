//! The part of the machine that has `foca` probe no more than is needed.

use foca::{Codec as _, Header, Message, State, Timer};
use metallb_sansio::Instant;

use crate::Identity;
use crate::codec::{Codec, ProbeMessage, get_identity, probe_message};
use crate::machine::{Member, Wake};

/// Probes of one peer that are spared in a row. One that is heard but hears nobody is found out by the next.
const SPARED: u8 = 3;

impl Member {
    /// The peer said something of its own accord.
    pub(crate) fn spoke(&mut self, now: Instant, who: &Identity) {
        if let Some(peer) = self.peers.get_mut(&who.name)
            && peer.identity.as_ref() == Some(who)
        {
            peer.spoke = Some(now);
        }
    }

    /// `foca` wants to probe somebody. When that one spoke within the last period, so that there is no doubt, and the probe would carry no
    /// news, it need not be sent: this is the answer for `foca`.
    pub(crate) fn probe_sent(&mut self, now: Instant, to: &Identity, body: &[u8]) -> Option<Vec<u8>> {
        let (ProbeMessage::Ping { number, news }, _) = probe_message(body)? else {
            return None;
        };
        self.probing = Some((to.clone(), number));
        let period = self.timing.probe_period;
        let mut members = self.foca.iter_members();
        let member = members.find(|member| member.id() == to && member.state() == State::Alive);
        let incarnation = member.map(foca::Member::incarnation);
        let peer = self.peers.get_mut(&to.name)?;
        let lately = peer.spoke.is_some_and(|at| now - at < period);
        let (Some(src_incarnation), true) = (incarnation, lately && !news && peer.spared < SPARED) else {
            peer.spared = 0;
            return None;
        };
        peer.spared += 1;
        let header = Header {
            src: to.clone(),
            src_incarnation,
            dst: self.foca.identity().clone(),
            message: Message::Ack(number),
        };
        let mut answer = Vec::new();
        Codec.encode_header(&header, &mut answer).ok()?;
        Some(answer)
    }

    /// A message for `foca` was taken in. When it is the answer to the probe under way, others need not be asked to probe: `foca` is told
    /// at once that the time for that has come, and nobody has to wake up for it later.
    pub(crate) fn probe_heard(&mut self, now: Instant, body: &[u8]) {
        let Some((message, mut source)) = probe_message(body) else {
            return;
        };
        let Ok(source) = get_identity(&mut source) else {
            return;
        };
        let number = match message {
            ProbeMessage::Ping { .. } => return self.spoke(now, &source),
            ProbeMessage::Ack(number) => number,
        };
        if self
            .probing
            .take_if(|probing| *probing == (source, number))
            .is_none()
        {
            return;
        }
        let mut indirect = None;
        self.timers.retain(|wake| match wake {
            Wake::Foca(timer @ Timer::SendIndirectProbe { .. }) => {
                indirect = Some(timer.clone());
                false
            }
            _ => true,
        });
        if let Some(timer) = indirect {
            self.drive(now, |foca, collected| foca.handle_timer(timer, collected));
        }
    }
}
