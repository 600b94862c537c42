//! What was run, how it went, and the words to say so.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use sqllogictest::TestErrorKind;

use super::database::Way;

/// The sums of some files.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) files: usize,
    ways: BTreeMap<Way, usize>,
    /// Why the guard refused queries.
    refusals: BTreeMap<String, usize>,
    /// Statements that do not hold and are in the list.
    listed: usize,
    pub(super) faults: Vec<String>,
    pub(super) times: Vec<(Duration, String)>,
}

impl Tally {
    pub(super) fn of_a_file() -> Tally {
        Tally { files: 1, ..Tally::default() }
    }

    pub(super) fn fault(fault: String) -> Tally {
        Tally { faults: vec![fault], ..Tally::default() }
    }

    /// Counts one statement: how it was treated, what was wrong, and what the list says.
    pub(super) fn count(
        &mut self,
        place: &str,
        way: Way,
        refusal: &str,
        fault: Option<TestErrorKind>,
        listed: Option<&str>,
    ) {
        match (fault, listed) {
            (Some(_), Some(_)) => self.listed += 1,
            (Some(fault), None) => self.faults.push(format!("{place}: {fault}")),
            (None, Some(_)) => self.faults.push(format!("{place} is in the list of what is skipped, but holds")),
            (None, None) => *self.ways.entry(way).or_default() += 1,
        }
        if way == Way::Unguarded {
            *self.refusals.entry(refusal.chars().take(70).collect()).or_default() += 1;
        }
    }

    pub(super) async fn and(mut self, other: Tally) -> Tally {
        self.files += other.files;
        self.listed += other.listed;
        self.faults.extend(other.faults);
        self.times.extend(other.times);
        for (way, count) in other.ways {
            *self.ways.entry(way).or_default() += count;
        }
        for (refusal, count) in other.refusals {
            *self.refusals.entry(refusal).or_default() += count;
        }
        self
    }

    fn of(&self, way: Way) -> usize {
        self.ways.get(&way).copied().unwrap_or_default()
    }

    /// Statements whose answers, or errors, were compared.
    pub(super) fn compared(&self) -> usize {
        self.of(Way::Ours) + self.of(Way::Unguarded) + self.of(Way::Prepared)
    }

    pub(super) fn report(&self, took: Duration) -> String {
        let mut text = String::new();
        for fault in &self.faults {
            let _ = writeln!(text, "{fault}\n");
        }
        let _ = writeln!(
            text,
            "DataFusion's own statements, {} files in {took:.0?}: {} queries as our guard reads them, {} that it \
             refuses, {} other statements; not compared: the plans of {} EXPLAINs, the words in which {} say that a \
             result is too large; left out: {} that need files from outside; {} do not hold and are listed, {} do \
             not hold",
            self.files,
            self.of(Way::Ours),
            self.of(Way::Unguarded),
            self.of(Way::Prepared),
            self.of(Way::Explained),
            self.of(Way::TooLarge),
            self.of(Way::Missing),
            self.listed,
            self.faults.len(),
        );
        let refusals = self.refusals.iter().map(|(refusal, count)| (*count, refusal.as_str()));
        let _ = writeln!(text, "refused by the guard: {}", most(refusals.collect(), 15));
        let _ = write!(text, "slowest: {}", most(self.times.clone(), 12));
        text
    }
}

/// The first of them, from the top.
fn most<T: Ord + std::fmt::Debug, N: Ord + std::fmt::Display>(mut counts: Vec<(T, N)>, wanted: usize) -> String {
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let first: Vec<String> = counts.iter().take(wanted).map(|(count, name)| format!("{name} {count:.1?}")).collect();
    first.join(", ")
}
