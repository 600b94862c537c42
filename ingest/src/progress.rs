//! How far an ingest or a generation is: one small trait, and a bar on the terminal.

use std::fmt::{self, Debug};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// What is being done to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Counting positions, to choose the chunks.
    Density,
    /// Reading rows and finding their chunks.
    Route,
    /// Sorting, writing and sending chunk files.
    Store,
    /// Writing synthetic rows.
    Generate,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Density => "counting positions",
            Stage::Route => "reading",
            Stage::Store => "storing",
            Stage::Generate => "generating",
        })
    }
}

/// Hears how far the work is. Called from several threads; must not block for long.
pub trait ProgressSink: Send + Sync + Debug {
    /// A stage of a table begins; `rows` is how many it will see, where that is known.
    fn stage(&self, table: &str, stage: Stage, rows: Option<u64>);
    /// So many more rows have passed the current stage.
    fn rows(&self, rows: u64);
    /// The work has ended, well or not.
    fn finished(&self);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoProgress;

impl ProgressSink for NoProgress {
    fn stage(&self, _table: &str, _stage: Stage, _rows: Option<u64>) {}
    fn rows(&self, _rows: u64) {}
    fn finished(&self) {}
}

/// A bar on standard error with rows and rate; hidden where standard error is no terminal.
#[derive(Debug)]
pub struct ProgressLine {
    bar: ProgressBar,
}

impl ProgressLine {
    /// A bar that shows nothing until the first stage.
    #[must_use]
    pub fn new() -> ProgressLine {
        let bar = ProgressBar::no_length();
        bar.enable_steady_tick(Duration::from_millis(200));
        ProgressLine { bar }
    }
}

impl Default for ProgressLine {
    fn default() -> ProgressLine {
        ProgressLine::new()
    }
}

impl ProgressSink for ProgressLine {
    fn stage(&self, table: &str, stage: Stage, rows: Option<u64>) {
        let template = match rows {
            Some(_) => "{msg:32} {wide_bar} {human_pos}/{human_len} rows  {per_sec}  {elapsed}",
            None => "{msg:32} {spinner} {human_pos} rows  {per_sec}  {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        self.bar.reset();
        match rows {
            Some(rows) => self.bar.set_length(rows),
            None => self.bar.unset_length(),
        }
        self.bar.set_message(format!("{table}: {stage}"));
    }

    fn rows(&self, rows: u64) {
        self.bar.inc(rows);
    }

    fn finished(&self) {
        self.bar.finish_and_clear();
    }
}
