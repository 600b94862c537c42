//! The DataFusion project's own `.slt` files, run against our session: whatever our rules, functions,
//! limits and operators do to a plan, the answers must stay those that DataFusion promises.
//!
//! The files are those of the crate `datafusion-sqllogictest` of DataFusion's version; `integration/run`
//! says in `SKYFLIGHT_DATAFUSION_SLT` where they are. Without it the test is skipped.
//! `SKYFLIGHT_DATAFUSION_SLT_ONLY=window` runs the files with that in their name.
//! What cannot hold here is in `skipped.txt`, with the reason.

mod database;
mod missing;
mod skipped;
mod tables;
mod values;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use skyflight_catalog::SqliteStore;
use skyflight_engine::dispatch::{ChunkDispatcher, DispatchRequest, FrameStream};
use skyflight_engine::guard::SqlLimits;
use skyflight_engine::shuffle::ShuffleConfig;
use skyflight_engine::{Engine, EngineConfig};
use sqllogictest::{Normalizer, Record, Runner, TestError, parse_file, strict_column_validator};

use database::{Database, Way};
use skipped::Skipped;
use values::TypeLetter;

const FOLDER: &str = "SKYFLIGHT_DATAFUSION_SLT";
const ONLY: &str = "SKYFLIGHT_DATAFUSION_SLT_ONLY";
/// Files run at a time.
const FILES_AT_ONCE: usize = 2;
/// Fewer than these mean that something is not run any more.
const LEAST_FILES: usize = 240;
const LEAST_STATEMENTS: usize = 18_000;

#[test]
fn datafusions_own_statements_hold() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        say(&format!("SKIPPED: DataFusion's own .slt files, because {FOLDER} does not say where they are"));
        return;
    };
    let folder = folder.canonicalize().unwrap();
    let only = std::env::var_os(ONLY).map(|only| only.into_string().unwrap());
    let skipped = Arc::new(Skipped::read());
    let files: Vec<PathBuf> = slt_files(&folder)
        .into_iter()
        .filter(|file| skipped.reason(&name(&folder, file)).is_none())
        .filter(|file| only.as_ref().is_none_or(|only| name(&folder, file).contains(only)))
        .collect();

    // Sessions plan on threads with stacks of this size.
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(FILES_AT_ONCE).thread_stack_size(16 << 20).enable_all().build().unwrap();
    let spill = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let tally = runtime.block_on(async {
        let engine = engine(spill.path(), runtime.handle()).await;
        let runs = files.into_iter().map(|file| {
            let (engine, folder, skipped) = (engine.clone(), folder.clone(), Arc::clone(&skipped));
            let name = name(&folder, &file);
            let run = runtime.spawn(Box::pin(async move { run_file(&engine, &folder, &file, &skipped).await }));
            async move { run.await.unwrap_or_else(|failure| Tally::failed(format!("{name}: {failure}"))) }
        });
        futures::stream::iter(runs).buffer_unordered(FILES_AT_ONCE).fold(Tally::default(), Tally::and).await
    });
    say(&tally.report(started.elapsed()));
    assert!(tally.failures.is_empty(), "{} statements do not hold", tally.failures.len());
    if only.is_none() {
        assert!(tally.files >= LEAST_FILES && tally.compared() >= LEAST_STATEMENTS, "too little was run");
    }
}

/// Past the capture of a test's output, which would hide what was not run.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn slt_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(slt_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "slt") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// A file's path in the folder.
fn name(folder: &Path, file: impl AsRef<Path>) -> String {
    file.as_ref().strip_prefix(folder).unwrap_or(file.as_ref()).display().to_string()
}

/// An engine without chunks.
async fn engine(spill: &Path, runtime: &tokio::runtime::Handle) -> Engine {
    #[derive(Debug)]
    struct NoChunks;
    impl ChunkDispatcher for NoChunks {
        fn dispatch(&self, _: DispatchRequest) -> FrameStream {
            panic!("there are no chunks")
        }
    }
    let config = EngineConfig {
        target_partitions: 4,
        memory_bytes: 1 << 30,
        spill_dir: spill.to_path_buf(),
        spill_bytes: 4 << 30,
        limits: SqlLimits::default(),
        default_database: None,
        index_dir: None,
        shuffle: ShuffleConfig::default(),
        runtime: runtime.clone(),
    };
    Engine::new(config, Arc::new(SqliteStore::in_memory().await.unwrap()), Arc::new(NoChunks)).unwrap()
}

async fn run_file(engine: &Engine, folder: &Path, file: &Path, skipped: &Skipped) -> Tally {
    let started = Instant::now();
    let database = Database::new(engine, &file.file_stem().unwrap().to_string_lossy());
    let mut runner = Runner::new(|| {
        let database = database.clone();
        async { Ok(database) }
    });
    runner.with_column_validator(strict_column_validator);
    runner.with_normalizer(without_trailing_spaces);
    runner.with_validator(rows_agree);
    let mut tally = Tally { files: 1, ..Tally::default() };
    for record in parse_file::<TypeLetter>(file).unwrap() {
        let location = match &record {
            Record::Halt { .. } => break,
            Record::Statement { loc, .. } | Record::Query { loc, .. } => Some(loc.clone()),
            _ => None,
        };
        let result = Box::pin(runner.run_async(record)).await;
        match (location, result) {
            (None, result) => result.map(drop).unwrap(),
            // Not for DataFusion, or for its configuration.
            (Some(_), Ok(sqllogictest::RecordOutput::Nothing)) => {}
            (Some(location), result) => {
                let place = format!("{}:{}", name(folder, location.file()), location.line());
                tally.count(&place, database.way().await, result.err(), skipped);
            }
        }
    }
    tally.times.push((started.elapsed(), name(folder, file)));
    tally
}

#[expect(clippy::ptr_arg, reason = "a Normalizer takes a String")]
fn without_trailing_spaces(text: &String) -> String {
    text.trim_end().to_string()
}

/// Whether rows are those expected, of which `<slt:ignore>` leaves a part open.
fn rows_agree(normalizer: Normalizer, actual: &[Vec<String>], expected: &[String]) -> bool {
    const IGNORE: &str = "<slt:ignore>";
    let expected: Vec<String> = expected.iter().map(normalizer).collect();
    let actual: Vec<String> = actual.iter().map(|row| normalizer(&row.join(" "))).collect();
    if !expected.iter().any(|line| line.contains(IGNORE)) {
        return actual == expected;
    }
    let (expected, actual) = (expected.join("\n"), actual.join("\n"));
    let mut parts = expected.split(IGNORE);
    let Some(mut rest) = actual.strip_prefix(parts.next().unwrap_or("")) else { return false };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

/// True where EXPLAIN fails on a query that DataFusion cannot run either: it shows the logical plan alone.
fn cannot_run(error: &TestError) -> bool {
    let text = error.to_string();
    ["Physical plan does not support logical expression", "Cannot execute pipeline breaking queries"]
        .iter()
        .any(|reason| text.contains(reason))
}

/// What was run, and how it went.
#[derive(Debug, Default)]
struct Tally {
    files: usize,
    ways: BTreeMap<Way, usize>,
    /// Statements that do not hold and are in the list.
    listed: usize,
    failures: Vec<String>,
    times: Vec<(Duration, String)>,
}

impl Tally {
    fn failed(failure: String) -> Tally {
        Tally { failures: vec![failure], ..Tally::default() }
    }

    fn count(&mut self, place: &str, way: Way, error: Option<TestError>, skipped: &Skipped) {
        use sqllogictest::TestErrorKind::{QueryResultColumnsMismatch, QueryResultMismatch};
        let plan_differs =
            |error: &TestError| matches!(error.kind(), QueryResultMismatch { .. } | QueryResultColumnsMismatch { .. });
        let error = match way {
            Way::Missing => None,
            Way::Explained => error.filter(|error| !plan_differs(error) && !cannot_run(error)),
            Way::Ours | Way::Unguarded | Way::Prepared => error,
        };
        match (error, skipped.reason(place)) {
            (Some(_), Some(_)) => self.listed += 1,
            (Some(error), None) => self.failures.push(format!("{place}: {error}")),
            (None, Some(_)) => self.failures.push(format!("{place} is in the list of what is skipped, but holds")),
            (None, None) => *self.ways.entry(way).or_default() += 1,
        }
    }

    async fn and(mut self, other: Tally) -> Tally {
        self.files += other.files;
        self.listed += other.listed;
        self.failures.extend(other.failures);
        self.times.extend(other.times);
        for (way, count) in other.ways {
            *self.ways.entry(way).or_default() += count;
        }
        self
    }

    fn of(&self, way: Way) -> usize {
        self.ways.get(&way).copied().unwrap_or_default()
    }

    /// Statements whose answers, or errors, were compared.
    fn compared(&self) -> usize {
        self.of(Way::Ours) + self.of(Way::Unguarded) + self.of(Way::Prepared)
    }

    fn report(&self, took: Duration) -> String {
        let mut text = String::new();
        for failure in &self.failures {
            let _ = writeln!(text, "{failure}\n");
        }
        let _ = writeln!(
            text,
            "DataFusion's own statements, {} files in {took:.0?}: {} queries as our guard reads them, {} that it \
             refuses, {} other statements; {} EXPLAINs planned but not compared, {} left out because they need files \
             from outside, {} that do not hold and are listed, {} that do not hold",
            self.files,
            self.of(Way::Ours),
            self.of(Way::Unguarded),
            self.of(Way::Prepared),
            self.of(Way::Explained),
            self.of(Way::Missing),
            self.listed,
            self.failures.len(),
        );
        let mut times = self.times.clone();
        times.sort_unstable_by(|a, b| b.cmp(a));
        let slowest: Vec<String> = times.iter().take(8).map(|(took, name)| format!("{name} {took:.1?}")).collect();
        let _ = write!(text, "slowest: {}", slowest.join(", "));
        text
    }
}
