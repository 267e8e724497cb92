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

/// How much of what a service needs a node can announce; the greater, the better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ability {
    /// It has an interface for none of the addresses.
    #[default]
    Nothing,
    /// For some.
    Some {
        /// Among them the one that decides the rank: a client that knows one address only most likely knows that.
        first: bool,
        /// For how many.
        addresses: usize,
    },
    /// For all.
    All,
}

impl Ability {
    /// That of a node which can announce those of the addresses that are `true`, the first of which decides the rank.
    pub fn of(addresses: impl IntoIterator<Item = bool>) -> Self {
        Self::of_kinds(addresses.into_iter().map(|able| (able, 1)))
    }

    /// The same of so many addresses each time.
    pub fn of_kinds(addresses: impl IntoIterator<Item = (bool, usize)>) -> Self {
        let (mut first, mut all, mut count) = (None, true, 0);
        for (able, addresses) in addresses {
            first.get_or_insert(able);
            all &= able;
            if able {
                count += addresses;
            }
        }
        match first {
            Some(_) if count == 0 => Self::Nothing,
            Some(first) if !all => Self::Some {
                first,
                addresses: count,
            },
            _ => Self::All,
        }
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
    /// No candidate that is there can announce anything, so that was ignored.
    pub usability_ignored: bool,
    /// No candidate is there, so that was ignored.
    pub presence_ignored: bool,
    /// What whoever answers can announce: nobody who is there can announce more.
    pub ability: Ability,
}

impl<'a> Roles<'a> {
    /// The parts among the candidates in order of rank.
    ///
    /// Of those who are there, the first by rank of those who can announce the most owns the addresses. One that owned
    /// them `before` and is away keeps them, unless somebody is there who would come before it too if it were; with
    /// [`Preemption::Never`] it keeps them whoever is there, until it is gone or somebody can announce more, or as much and is
    /// less `behind` (see [`Candidate::behind`](crate::Candidate::behind)). An exclusion that would leave nobody is ignored:
    /// first that of those who can announce less, by degrees, then that of those who are not there.
    pub fn of(
        ranked: &'a [NodeName],
        before: Option<&str>,
        preemption: Preemption,
        presence: impl Fn(&str) -> Presence,
        ability: impl Fn(&str) -> Ability,
        behind: impl Fn(&str) -> u32,
    ) -> Self {
        let live = |name: &&NodeName| presence(name).is_live();
        let best = ablest(ranked.iter().filter(live), &ability);
        let (best, most) = best.map_or((None, Ability::Nothing), |(name, most)| (Some(name), most));
        let place = |name: &NodeName| ranked.iter().position(|other| other == name);
        let ahead = |name: &NodeName| best.is_none_or(|best| place(name) < place(best));
        let kept = ranked
            .iter()
            .find(|name| before == Some(&***name))
            .filter(|name| {
                let able = ability(name);
                // Were it live, it would come first: whoever can announce more does, whatever the rank.
                let (there, first) = match preemption {
                    Preemption::ByRank => (presence(name) == Presence::Away, able > most || ahead(name)),
                    Preemption::Never => {
                        let before_best = best.is_none_or(|best| behind(name) <= behind(best));
                        (presence(name) != Presence::Gone, able > most || before_best)
                    }
                };
                there && first && able != Ability::Nothing && able >= most
            });
        let owner = kept.or(best).or_else(|| ranked.first());
        let acting = match kept {
            Some(away) if !presence(away).is_live() => best,
            _ => owner,
        };
        let usability_ignored = best.is_some() && most == Ability::Nothing;
        let trusted = ranked
            .iter()
            .filter(|name| presence(name) == Presence::Live && owner != Some(name));
        let deputy = ablest(trusted, &ability)
            .filter(|(_, able)| usability_ignored || *able != Ability::Nothing)
            .map(|(name, _)| name);
        Self {
            owner,
            acting,
            deputy,
            usability_ignored,
            presence_ignored: best.is_none() && kept.is_none() && owner.is_some(),
            ability: most,
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
            ability: Ability::All,
            ..Self::default()
        })
    }
}

/// The first of those who can announce the most.
fn ablest<'a>(
    names: impl Iterator<Item = &'a NodeName>,
    ability: impl Fn(&str) -> Ability,
) -> Option<(&'a NodeName, Ability)> {
    let mut best: Option<(&NodeName, Ability)> = None;
    for name in names {
        let able = ability(name);
        if best.is_none_or(|(_, most)| able > most) {
            best = Some((name, able));
        }
        if able == Ability::All {
            break;
        }
    }
    best
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
        let ability = |name: &str| match letter(name) {
            able if able.is_ascii_uppercase() => Ability::All,
            _ => Ability::Nothing,
        };
        let roles = Roles::of(&names, before, preemption, presence, ability, |_| 0);
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

    /// Which of the letters, or of the lists, is that of `a`, `b` and so on.
    fn index(name: &str) -> usize {
        usize::from(name.as_bytes()[0] - b'a')
    }

    fn presence(stands: &str, name: &str) -> Presence {
        match stands.as_bytes()[index(name)] {
            b'L' => Presence::Live,
            b'A' => Presence::Away,
            _ => Presence::Gone,
        }
    }

    fn ability(able: [&str; 4], name: &str) -> Ability {
        Ability::of(["1", "2", "3"].map(|address| able[index(name)].contains(address)))
    }

    /// `a` to `d` in order of rank; each stands as its letter says, and can announce these of three addresses.
    fn degrees(stands: &str, able: [&str; 4], before: &str, preemption: Preemption) -> String {
        let names: Vec<NodeName> = ["a", "b", "c", "d"].map(NodeName::from).into();
        let presence = |name: &str| presence(stands, name);
        let ability = |name: &str| ability(able, name);
        let roles = Roles::of(&names, Some(before), preemption, presence, ability, |_| 0);
        let show = |name: Option<&NodeName>| name.map_or_else(|| "-".to_owned(), ToString::to_string);
        [roles.owner, roles.acting, roles.deputy].map(show).concat()
    }

    #[test]
    fn whoever_can_announce_more_than_all_others_keeps_it_while_its_speaker_is_away() {
        for (stands, able, before, expected) in [
            ("LLLL", ["1", "1", "123", "1"], "c", "cca"),
            ("LLAL", ["1", "1", "123", "1"], "c", "caa"),
            ("LLAL", ["1", "12", "123", "1"], "c", "cbb"),
            ("LLAL", ["", "", "123", ""], "c", "caa"),
            ("LLAL", ["", "", "3", ""], "c", "caa"),
            ("ALAL", ["1", "1", "123", "1"], "c", "cbb"),
            ("LLGL", ["1", "1", "123", "1"], "c", "aab"),
            ("LLAL", ["1", "1", "123", "1"], "a", "aab"),
            // A better one can as much, as it also could were all there.
            ("LLAL", ["123", "1", "123", "1"], "c", "aab"),
            ("LLAL", ["12", "1", "12", "1"], "c", "aab"),
            ("LLAL", ["", "", "", ""], "c", "aab"),
        ] {
            let seen = degrees(stands, able, before, Preemption::ByRank);
            assert_eq!(seen, expected, "{stands} {able:?} {before}");
        }
        for (able, expected) in [
            (["1", "1", "123", "1"], "caa"),
            (["1", "1", "1", "1"], "caa"),
            (["12", "1", "1", "1"], "aab"),
        ] {
            assert_eq!(
                degrees("LLAL", able, "c", Preemption::Never),
                expected,
                "{able:?}"
            );
        }
    }

    #[test]
    fn whoever_is_behind_keeps_nothing_from_one_that_is_not() {
        let names: Vec<NodeName> = ["a", "b", "c"].map(NodeName::from).into();
        for (stands, able, expected) in [
            ("LLL", "abc", "a"),
            ("GLL", "abc", "c"),
            ("LLL", "bc", "c"),
            ("LLL", "c", "c"),
            ("LLA", "abc", "a"),
            ("GLA", "abc", "c"),
        ] {
            let presence = |name: &str| presence(stands, name);
            let ability = |name: &str| Ability::of([able.contains(name)]);
            let behind = |name: &str| u32::from(name != "a");
            let roles = Roles::of(&names, Some("c"), Preemption::Never, presence, ability, behind);
            assert_eq!(roles.owner.map(|name| &**name), Some(expected), "{stands} {able}");
        }
    }

    /// The same where each is there.
    fn owner(able: [&str; 4], before: &str, preemption: Preemption) -> (String, Ability, bool) {
        let names: Vec<NodeName> = ["a", "b", "c", "d"].map(NodeName::from).into();
        let ability = |name: &str| ability(able, name);
        let roles = Roles::of(
            &names,
            Some(before),
            preemption,
            |_| Presence::Live,
            ability,
            |_| 0,
        );
        let owner = roles.owner.map(ToString::to_string);
        let deputy = roles.deputy.map(ToString::to_string);
        let both = owner.unwrap_or_default() + &deputy.unwrap_or_default();
        (both, roles.ability, roles.usability_ignored)
    }

    #[test]
    fn where_nobody_can_announce_all_it_goes_by_degrees() {
        let some = |first, addresses| Ability::Some { first, addresses };
        for (able, expected, ability, ignored) in [
            (["", "23", "123", "123"], "cd", Ability::All, false),
            (["", "23", "1", "12"], "dc", some(true, 2), false),
            (["", "23", "1", "1"], "cd", some(true, 1), false),
            (["", "3", "23", ""], "cb", some(false, 2), false),
            (["", "", "3", ""], "c", some(false, 1), false),
            (["", "", "", ""], "ab", Ability::Nothing, true),
        ] {
            let seen = owner(able, "a", Preemption::ByRank);
            assert_eq!(seen, (expected.to_owned(), ability, ignored), "{able:?}");
        }
        let keeps = |able, before| owner(able, before, Preemption::Never).0;
        assert_eq!(keeps(["1", "", "1", "1"], "c"), "ca", "it can as much as any");
        assert_eq!(keeps(["12", "", "1", "1"], "c"), "ac", "another can more");
        assert_eq!(Ability::of([]), Ability::All, "nothing is needed");
    }
}
