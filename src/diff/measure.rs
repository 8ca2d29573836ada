//! One thing that a job is given or denied, in a form whose change has a direction.

use std::collections::BTreeSet;

use super::Direction;

/// One thing that a job is given or denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// At most so much; `None` is without a bound.
    AtMost {
        /// The bound, in the key's smallest unit.
        most: Option<u64>,
        /// The same for people.
        shown: String,
    },
    /// A version of a protection, which a later one holds better.
    AtLeast(u64),
    /// One of a few states, the tightest with the lowest rank. How two states of one rank compare is not known.
    State {
        /// How loose it is.
        rank: u8,
        /// Follows "becomes".
        shown: String,
    },
    /// Names of what it is given; `None` is everything.
    Given(Option<BTreeSet<String>>, Names),
    /// Names of what is held back from it.
    Denied(BTreeSet<String>, Names),
    /// Says nothing about how tightly the job is held.
    Neutral(String),
    /// Could be better or worse, and nobody can tell from here.
    Opaque(String),
    /// Steps in their order; which of them there are is told by other measures.
    Order(Vec<String>),
}

/// How two names compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Each stands for itself.
    Apart,
    /// A path stands for all that is below it.
    Paths,
}

impl Measure {
    /// At most so much of a quantity.
    pub(super) fn at_most<T: ToString>(value: Option<T>, number: impl Fn(&T) -> u64) -> Measure {
        Measure::AtMost {
            most: value.as_ref().map(number),
            shown: value.map_or_else(|| "no bound".to_owned(), |value| value.to_string()),
        }
    }

    /// No bound at all.
    pub(super) fn unbounded() -> Measure {
        Measure::at_most(None::<u64>, |most| *most)
    }

    /// None of it.
    pub(super) fn nothing() -> Measure {
        let shown = "none".to_owned();
        Measure::AtMost { most: Some(0), shown }
    }

    /// A state by its rank.
    pub(super) fn state(rank: u8, shown: impl Into<String>) -> Measure {
        let shown = shown.into();
        Measure::State { rank, shown }
    }

    /// A protection that is there or is not.
    pub(super) fn on(on: bool) -> Measure {
        match on {
            true => Measure::state(0, "on"),
            false => Measure::state(1, "off"),
        }
    }

    /// Names that it is given, each for itself.
    pub(super) fn given(names: impl IntoIterator<Item = String>) -> Measure {
        Measure::Given(Some(names.into_iter().collect()), Names::Apart)
    }

    /// What a change from `self` to `new` means, and why; `None` when they are the same.
    ///
    /// `subject` is what the key is about, for the reason. Whatever gives anything that was not given before is
    /// looser, also when it takes something else away.
    pub(super) fn compare(&self, new: &Measure, subject: &str) -> Option<(Direction, String)> {
        if self == new {
            return None;
        }
        Some(match (self, new) {
            (
                Measure::AtMost {
                    most: old,
                    shown: was,
                },
                Measure::AtMost { most: new, shown },
            ) => {
                let (old, new) = (old.unwrap_or(u64::MAX), new.unwrap_or(u64::MAX));
                let direction = match new.cmp(&old) {
                    std::cmp::Ordering::Greater => Direction::Looser,
                    std::cmp::Ordering::Less => Direction::Tighter,
                    std::cmp::Ordering::Equal => return None,
                };
                (direction, format!("{was} → {shown}"))
            }
            (Measure::AtLeast(old), Measure::AtLeast(new)) => {
                let direction = if new < old {
                    Direction::Looser
                } else {
                    Direction::Tighter
                };
                (direction, format!("{old} → {new}"))
            }
            (Measure::State { rank: old, .. }, Measure::State { rank: new, shown }) => {
                let direction = match new.cmp(old) {
                    std::cmp::Ordering::Greater => Direction::Looser,
                    std::cmp::Ordering::Less => Direction::Tighter,
                    std::cmp::Ordering::Equal => Direction::Unknown,
                };
                (direction, format!("{subject} becomes {shown}"))
            }
            (Measure::Given(old, names), Measure::Given(new, _)) => {
                given(old.as_ref(), new.as_ref(), *names)?
            }
            (Measure::Denied(old, names), Measure::Denied(new, _)) => denied(old, new, *names)?,
            (Measure::Neutral(old), Measure::Neutral(new)) => (Direction::Neutral, format!("{old} → {new}")),
            (Measure::Order(old), Measure::Order(new)) => {
                let both = |these: &[String], those: &[String]| -> Vec<String> {
                    these
                        .iter()
                        .filter(|step| those.contains(step))
                        .cloned()
                        .collect()
                };
                if both(old, new) == both(new, old) {
                    return None;
                }
                (Direction::Unknown, "the order of the steps changes".to_owned())
            }
            (old, new) => (Direction::Unknown, format!("{} → {}", old.shown(), new.shown())),
        })
    }

    /// The value for people.
    fn shown(&self) -> String {
        match self {
            Measure::AtMost { shown, .. } | Measure::State { shown, .. } => shown.clone(),
            Measure::AtLeast(number) => number.to_string(),
            Measure::Given(None, _) => "everything".to_owned(),
            Measure::Given(Some(names), _) | Measure::Denied(names, _) => listed(names.iter()),
            Measure::Neutral(text) | Measure::Opaque(text) => text.clone(),
            Measure::Order(steps) => steps.join(", "),
        }
    }
}

fn given(
    old: Option<&BTreeSet<String>>,
    new: Option<&BTreeSet<String>>,
    names: Names,
) -> Option<(Direction, String)> {
    let (old, new) = match (old, new) {
        (Some(old), Some(new)) => (old, new),
        (Some(_), None) => return Some((Direction::Looser, "everything, where it was limited".to_owned())),
        (None, Some(new)) => {
            return Some((
                Direction::Tighter,
                format!("only {}, where it was everything", listed(new.iter())),
            ));
        }
        (None, None) => return None,
    };
    let added: Vec<&String> = new.iter().filter(|name| !names.covers(old, name)).collect();
    let removed: Vec<&String> = old.iter().filter(|name| !names.covers(new, name)).collect();
    let direction = match (added.is_empty(), removed.is_empty()) {
        (false, _) => Direction::Looser,
        (true, false) => Direction::Tighter,
        (true, true) => return None,
    };
    Some((direction, added_and_removed(&added, &removed)))
}

fn denied(old: &BTreeSet<String>, new: &BTreeSet<String>, names: Names) -> Option<(Direction, String)> {
    let added: Vec<&String> = new.iter().filter(|name| !names.covers(old, name)).collect();
    let removed: Vec<&String> = old.iter().filter(|name| !names.covers(new, name)).collect();
    let direction = match (removed.is_empty(), added.is_empty()) {
        (false, _) => Direction::Looser,
        (true, false) => Direction::Tighter,
        (true, true) => return None,
    };
    Some((direction, added_and_removed(&added, &removed)))
}

fn added_and_removed(added: &[&String], removed: &[&String]) -> String {
    let part = |verb: &str, names: &[&String]| {
        (!names.is_empty()).then(|| format!("{verb} {}", listed(names.iter().copied())))
    };
    let parts: Vec<String> = [part("adds", added), part("removes", removed)]
        .into_iter()
        .flatten()
        .collect();
    parts.join("; ")
}

fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    match names.is_empty() {
        true => "nothing".to_owned(),
        false => names.join(", "),
    }
}

impl Names {
    /// Whether one of `all` stands for `name` as well.
    fn covers(self, all: &BTreeSet<String>, name: &str) -> bool {
        match self {
            Names::Apart => all.contains(name),
            // Paths of a manifest are in their shortest form and hold no `..`.
            Names::Paths => all.iter().any(|path| {
                let rest = name.strip_prefix(path.trim_end_matches('/'));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Looser, Neutral, Tighter, Unknown};

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[track_caller]
    fn assert_change(old: Measure, new: Measure, direction: Direction, reason: &str) {
        assert_eq!(old.compare(&new, "it"), Some((direction, reason.to_owned())));
        assert_eq!(old.compare(&old, "it"), None);
    }

    #[test]
    fn bounds() {
        let bytes = |value: Option<u64>| Measure::at_most(value, |value| *value);
        assert_change(bytes(Some(1)), bytes(Some(2)), Looser, "1 → 2");
        assert_change(bytes(Some(2)), bytes(None), Looser, "2 → no bound");
        assert_change(bytes(None), bytes(Some(2)), Tighter, "no bound → 2");
        assert_change(Measure::AtLeast(2), Measure::AtLeast(7), Tighter, "2 → 7");
        assert_change(Measure::AtLeast(7), Measure::AtLeast(2), Looser, "7 → 2");
    }

    #[test]
    fn states() {
        let state = Measure::state;
        assert_change(state(0, "shut"), state(1, "open"), Looser, "it becomes open");
        assert_change(state(1, "open"), state(0, "shut"), Tighter, "it becomes shut");
        assert_change(state(1, "red"), state(1, "blue"), Unknown, "it becomes blue");
    }

    #[test]
    fn what_is_given_and_what_is_denied() {
        let given = |names: &[&str]| Measure::Given(Some(set(names)), Names::Apart);
        assert_change(given(&["a"]), given(&["a", "b"]), Looser, "adds b");
        assert_change(given(&["a"]), given(&["b"]), Looser, "adds b; removes a");
        assert_change(given(&["a", "b"]), given(&["a"]), Tighter, "removes b");
        let all = Measure::Given(None, Names::Apart);
        assert_change(
            given(&["a"]),
            all.clone(),
            Looser,
            "everything, where it was limited",
        );
        assert_change(all, given(&[]), Tighter, "only nothing, where it was everything");
        let denied = |names: &[&str]| Measure::Denied(set(names), Names::Apart);
        assert_change(denied(&["a"]), denied(&["b"]), Looser, "adds b; removes a");
        assert_change(denied(&["a"]), denied(&["a", "b"]), Tighter, "adds b");
    }

    #[test]
    fn a_path_stands_for_what_is_below_it() {
        let given = |names: &[&str]| Measure::Given(Some(set(names)), Names::Paths);
        assert_change(given(&["/usr"]), given(&["/usr/lib"]), Tighter, "removes /usr");
        assert_change(given(&["/usr/lib"]), given(&["/usr"]), Looser, "adds /usr");
        assert_change(
            given(&["/usr"]),
            given(&["/usr2"]),
            Looser,
            "adds /usr2; removes /usr",
        );
        assert_change(given(&["/"]), given(&["/a"]), Tighter, "removes /");
        assert_eq!(
            given(&["/usr"]).compare(&given(&["/usr", "/usr/lib"]), "it"),
            None
        );
        let denied = |names: &[&str]| Measure::Denied(set(names), Names::Paths);
        assert_change(
            denied(&["/proc/kcore"]),
            denied(&["/proc"]),
            Tighter,
            "adds /proc",
        );
        assert_change(
            denied(&["/proc"]),
            denied(&["/proc/kcore"]),
            Looser,
            "removes /proc",
        );
    }

    #[test]
    fn the_rest() {
        let (a, b) = ("a".to_owned(), "b".to_owned());
        assert_change(
            Measure::Neutral(a.clone()),
            Measure::Neutral(b.clone()),
            Neutral,
            "a → b",
        );
        assert_change(
            Measure::Opaque(a.clone()),
            Measure::Opaque(b.clone()),
            Unknown,
            "a → b",
        );
        assert_change(
            Measure::Opaque(a.clone()),
            Measure::Neutral(b.clone()),
            Unknown,
            "a → b",
        );
        let order = |steps: &[&str]| Measure::Order(steps.iter().map(|step| (*step).to_owned()).collect());
        assert_change(
            order(&["a", "b"]),
            order(&["b", "a"]),
            Unknown,
            "the order of the steps changes",
        );
        assert_eq!(order(&["a", "b"]).compare(&order(&["a", "c", "b"]), "it"), None);
    }
}
