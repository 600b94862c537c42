//! The list of what is not run or does not hold, with reasons.

use std::collections::BTreeMap;

/// The list in `skipped.txt`: a folder, a file or `file:line`, then the reason.
pub(super) struct Skipped {
    reasons: BTreeMap<&'static str, &'static str>,
}

impl Skipped {
    pub(super) fn read() -> Skipped {
        let lines = include_str!("skipped.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let reasons = lines.map(|line| line.split_once(' ').unwrap_or_else(|| panic!("no reason in {line:?}")));
        Skipped { reasons: reasons.map(|(place, reason)| (place, reason.trim())).collect() }
    }

    /// Why a file or the statement at a place is skipped.
    pub(super) fn reason(&self, place: &str) -> Option<&'static str> {
        let folder = place.split_inclusive('/').next().unwrap_or(place);
        [place, folder].iter().find_map(|listed| self.reasons.get(listed).copied())
    }
}
