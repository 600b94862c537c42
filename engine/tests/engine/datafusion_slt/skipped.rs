//! The list of what is not run or does not hold, with reasons.

use std::collections::BTreeMap;

/// The list in `skipped.txt`: a folder, a file or `file:line`, then the reason.
pub(super) struct Skipped {
    reasons: BTreeMap<String, String>,
}

impl Skipped {
    pub(super) fn read() -> Skipped {
        let text = std::fs::read_to_string("tests/engine/datafusion_slt/skipped.txt").unwrap();
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let reasons = lines.map(|line| line.split_once(' ').unwrap_or_else(|| panic!("no reason in {line:?}")));
        Skipped { reasons: reasons.map(|(place, reason)| (place.to_string(), reason.trim().to_string())).collect() }
    }

    /// Why a file or the statement at a place is skipped.
    pub(super) fn reason(&self, place: &str) -> Option<&str> {
        let folder = place.split_inclusive('/').next().unwrap_or(place);
        [place, folder].iter().find_map(|listed| self.reasons.get(*listed).map(String::as_str))
    }
}
