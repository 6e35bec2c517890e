//! Records that callers change: each change is decided on a version, so that nobody overwrites what they have not seen.

/// What a change comes to that was decided on a version of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revision<T> {
    /// The next version, to be written where the present one still stands.
    Changed(T),
    /// The record is like that already. There is no new version.
    Same,
    /// This very change made the present version: it is a repeat.
    Repeated,
    /// The record has changed since. Read it and decide again.
    Stale,
}

impl<T> Revision<T> {
    /// `same`: whether the change would leave the record as it is at `present`.
    pub fn decide(present: u64, decided_on: u64, same: bool, next: impl FnOnce(u64) -> T) -> Self {
        if decided_on == present {
            if same { Self::Same } else { Self::Changed(next(present.saturating_add(1))) }
        } else if same && decided_on.checked_add(1) == Some(present) {
            Self::Repeated
        } else {
            Self::Stale
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_and_only_on_what_was_seen() {
        for (present, decided_on, same, expected) in [
            (3, 3, false, Revision::Changed(4)),
            (3, 3, true, Revision::Same),
            (3, 2, true, Revision::Repeated),
            (3, 2, false, Revision::Stale),
            (3, 1, true, Revision::Stale),
            (3, 4, true, Revision::Stale),
            (3, u64::MAX, true, Revision::Stale),
        ] {
            assert_eq!(Revision::decide(present, decided_on, same, |version| version), expected, "{present} {decided_on} {same}");
        }
    }
}
