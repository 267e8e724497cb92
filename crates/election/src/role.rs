//! Who answers now, and who watches whom, given who is there.

use crate::facts::NodeName;

/// How a node stands, as one speaker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Its speaker takes part.
    Live,
    /// Its speaker takes part, but is under suspicion.
    Suspect,
    /// Its speaker is away for a moment (it restarts, hangs or crashed), but the node is up and goes on forwarding.
    Away,
    /// The node is gone, or its speaker has been away for too long.
    Gone,
}

impl Presence {
    const fn is_live(self) -> bool {
        matches!(self, Self::Live | Self::Suspect)
    }
}

/// Whether a node that comes takes addresses from one that has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preemption {
    /// Whoever is better by rank does, as in `MetalLB`.
    #[default]
    ByRank,
    /// Nobody does: an address moves only when its owner goes.
    Never,
}

/// The parts in one service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles<'a> {
    /// Who owns the addresses.
    pub owner: Option<&'a NodeName>,
    /// Who answers for them: the owner, or while its speaker is away the next, with the owner's hardware address.
    pub acting: Option<&'a NodeName>,
    /// Who takes over when the owner is gone, as far as nobody is suspected: it watches the owner.
    pub deputy: Option<&'a NodeName>,
    /// No candidate is usable, so that was ignored.
    pub usability_ignored: bool,
    /// No candidate is there, so that was ignored.
    pub presence_ignored: bool,
}

impl<'a> Roles<'a> {
    /// The parts among the candidates in order of rank.
    ///
    /// The first that is there and usable owns the addresses. One that owned them `before` and is away keeps them,
    /// unless somebody better is there; with [`Preemption::Never`] it keeps them whoever is there, until it is gone or
    /// not usable. An exclusion that would leave nobody is ignored: first that of the unusable, then that of those who
    /// are not there.
    pub fn of(
        ranked: &'a [NodeName],
        before: Option<&str>,
        preemption: Preemption,
        presence: impl Fn(&str) -> Presence,
        usable: impl Fn(&str) -> bool,
    ) -> Self {
        let live = |name: &&NodeName| presence(name).is_live();
        let fit = |name: &&NodeName| usable(name);
        let best = ranked.iter().find(|name| live(name) && fit(name));
        let usability_ignored = best.is_none() && ranked.iter().any(|name| live(&name));
        let best = best.or_else(|| ranked.iter().find(live));
        let kept = match preemption {
            Preemption::ByRank => ranked
                .iter()
                .take_while(|name| best != Some(name))
                .find(|name| before == Some(&***name) && presence(name) == Presence::Away && fit(name)),
            Preemption::Never => ranked
                .iter()
                .find(|name| before == Some(&***name) && presence(name) != Presence::Gone && fit(name)),
        };
        let owner = kept.or(best).or_else(|| ranked.first());
        let acting = match kept {
            Some(away) if !presence(away).is_live() => best,
            _ => owner,
        };
        let deputy = ranked.iter().find(|name| {
            let trusted = presence(name) == Presence::Live;
            trusted && owner != Some(name) && (usability_ignored || fit(name))
        });
        Self {
            owner,
            acting,
            deputy,
            usability_ignored,
            presence_ignored: best.is_none() && kept.is_none() && owner.is_some(),
        }
    }

    /// The same when somebody who knows better says that `owner` owns the addresses; nothing when that one is not there.
    pub fn dictated(
        ranked: &'a [NodeName],
        owner: &'a NodeName,
        presence: impl Fn(&str) -> Presence,
    ) -> Option<Self> {
        let there = presence(owner);
        let others = || ranked.iter().filter(|name| *name != owner);
        let deputy = others().find(|name| presence(name) == Presence::Live);
        let acting = match there {
            Presence::Live | Presence::Suspect => Some(owner),
            Presence::Away => others().find(|name| presence(name).is_live()),
            Presence::Gone => return None,
        };
        Some(Self {
            owner: Some(owner),
            acting,
            deputy,
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a` to `d` in order of rank, each as its letter says: Live, Suspect, Away, Gone, and small when unusable.
    fn roles(stands: &str, before: Option<&str>, preemption: Preemption) -> String {
        let names: Vec<NodeName> = ["a", "b", "c", "d"].map(NodeName::from).into();
        let letter = |name: &str| {
            let index = usize::from(name.as_bytes()[0] - b'a');
            stands.as_bytes()[index]
        };
        let presence = |name: &str| match letter(name).to_ascii_uppercase() {
            b'L' => Presence::Live,
            b'S' => Presence::Suspect,
            b'A' => Presence::Away,
            _ => Presence::Gone,
        };
        let usable = |name: &str| letter(name).is_ascii_uppercase();
        let roles = Roles::of(&names, before, preemption, presence, usable);
        let show = |name: Option<&NodeName>| name.map_or_else(|| "-".to_owned(), ToString::to_string);
        [roles.owner, roles.acting, roles.deputy].map(show).concat()
    }

    #[test]
    fn owner_acting_and_deputy() {
        for (stands, before, expected) in [
            ("LLLL", None, "aab"),
            ("GLLL", None, "bbc"),
            ("ALLL", Some("a"), "abb"),
            ("ALLL", None, "bbc"),
            ("ALLL", Some("b"), "bbc"),
            ("LALL", Some("b"), "aac"),
            ("GALL", Some("b"), "bcc"),
            ("ASLL", Some("a"), "abc"),
            ("SLLL", Some("a"), "aab"),
            ("lLLL", Some("a"), "bbc"),
            ("aLLL", Some("a"), "bbc"),
            ("llll", None, "aab"),
            ("lGGG", None, "aa-"),
            ("GGGG", Some("b"), "aa-"),
            ("AGGG", Some("a"), "a--"),
            ("AAGL", Some("b"), "bdd"),
        ] {
            let seen = roles(stands, before, Preemption::ByRank);
            assert_eq!(seen, expected, "{stands} {before:?}");
        }
    }

    #[test]
    fn whoever_has_it_keeps_it_where_nobody_preempts() {
        for (stands, before, expected) in [
            ("LLLL", None, "aab"),
            ("LLLL", Some("c"), "cca"),
            ("LLSL", Some("c"), "cca"),
            ("LLAL", Some("c"), "caa"),
            ("LLGL", Some("c"), "aab"),
            ("LLlL", Some("c"), "aab"),
            ("LLaL", Some("c"), "aab"),
            ("GGAG", Some("c"), "c--"),
            ("GGGG", Some("c"), "aa-"),
            ("llll", Some("c"), "aab"),
            ("LLLL", Some("x"), "aab"),
        ] {
            let seen = roles(stands, before, Preemption::Never);
            assert_eq!(seen, expected, "{stands} {before:?}");
        }
    }
}
