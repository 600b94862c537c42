//! The DataFusion project's own `.slt` files, run against our session: whatever our rules, functions,
//! limits and operators do to a plan, the answers must stay those that DataFusion promises.
//!
//! The files are those of the crate `datafusion-sqllogictest` of DataFusion's version; `integration/run`
//! says in `SKYFLIGHT_DATAFUSION_SLT` where they are. Without it the test is skipped.
//! `SKYFLIGHT_DATAFUSION_SLT_ONLY=window` runs the files with that in their name, `SKYFLIGHT_FULL=1` also
//! the long ones. What cannot hold here is in `skipped.txt`, with the reason.

mod database;
mod missing;
mod skipped;
mod tables;
mod tally;
mod values;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use skyflight_catalog::SqliteStore;
use skyflight_engine::dispatch::{ChunkDispatcher, DispatchRequest, FrameStream};
use skyflight_engine::guard::SqlLimits;
use skyflight_engine::shuffle::ShuffleConfig;
use skyflight_engine::{Engine, EngineConfig};
use sqllogictest::{
    Normalizer, QueryExpect, Record, RecordOutput, Runner, TestErrorKind, parse_file, strict_column_validator,
};

use database::{Database, Way};
use skipped::Skipped;
use tally::Tally;
use values::TypeLetter;

const FOLDER: &str = "SKYFLIGHT_DATAFUSION_SLT";
const ONLY: &str = "SKYFLIGHT_DATAFUSION_SLT_ONLY";
const FULL: &str = "SKYFLIGHT_FULL";
/// Files run at a time.
const FILES_AT_ONCE: usize = 2;
/// Fewer files and statements mean that something is not run any more.
const LEAST: (usize, usize) = (240, 15_000);
/// The same with the long files.
const LEAST_OF_ALL: (usize, usize) = (250, 18_000);
/// Half the time goes into these.
const LONG: [&str; 4] =
    ["aggregate_memory_spill.slt", "imdb.slt", "nested_loop_join_spill.slt", "push_down_filter_regression.slt"];

#[test]
fn datafusions_own_statements_hold() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        say(&format!("SKIPPED: DataFusion's own .slt files, because {FOLDER} does not say where they are"));
        return;
    };
    let folder = folder.canonicalize().unwrap();
    let only = std::env::var_os(ONLY).map(|only| only.into_string().unwrap());
    let full = std::env::var_os(FULL).is_some_and(|full| !full.is_empty() && full != "0");
    let skipped = Arc::new(Skipped::read());
    let files: Vec<PathBuf> = slt_files(&folder)
        .into_iter()
        .filter(|file| {
            let name = name(&folder, file);
            let wanted = only.as_ref().map_or(full || !is_long(&name), |only| name.contains(only));
            wanted && skipped.reason(&name).is_none()
        })
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
            async move { run.await.unwrap_or_else(|failure| Tally::fault(format!("{name}: {failure}"))) }
        });
        futures::stream::iter(runs).buffer_unordered(FILES_AT_ONCE).fold(Tally::default(), Tally::and).await
    });
    say(&tally.report(started.elapsed()));
    assert!(tally.faults.is_empty(), "{} statements do not hold", tally.faults.len());
    if only.is_none() {
        let least = if full { LEAST_OF_ALL } else { LEAST };
        let enough = tally.files >= least.0 && tally.compared() >= least.1;
        assert!(enough, "fewer than {least:?} files and statements were run");
    }
}

fn is_long(name: &str) -> bool {
    LONG.contains(&name)
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
    let mut tally = Tally::of_a_file();
    for record in parse_file::<TypeLetter>(file).unwrap() {
        let (location, only_logical) = match &record {
            Record::Halt { .. } => break,
            Record::Statement { loc, .. } => (Some(loc.clone()), false),
            Record::Query { loc, expected, .. } => (Some(loc.clone()), shows_only_logical(expected)),
            _ => (None, false),
        };
        let result = Box::pin(runner.run_async(record)).await;
        match (location, result) {
            (None, result) => drop(result.unwrap()),
            // Not for DataFusion.
            (Some(_), Ok(RecordOutput::Nothing)) => {}
            (Some(location), result) => {
                let place = format!("{}:{}", name(folder, location.file()), location.line());
                let (way, refusal) = database.way().await;
                let error = result.err().map(|error| error.kind());
                tally.count(&place, way, &refusal, fault(way, error, only_logical), skipped.reason(&place));
            }
        }
    }
    tally.times.push((started.elapsed(), name(folder, file)));
    tally
}

/// True of the plans that DataFusion expects where it cannot plan on to the operators.
fn shows_only_logical(expected: &QueryExpect<TypeLetter>) -> bool {
    let QueryExpect::Results { results, .. } = expected else { return false };
    let shows = |kind| results.iter().any(|line| line.trim() == kind);
    shows("logical_plan") && !shows("physical_plan")
}

/// What is wrong with how a statement went.
fn fault(way: Way, error: Option<TestErrorKind>, only_logical: bool) -> Option<TestErrorKind> {
    use TestErrorKind::{
        ErrorMismatch, Fail, QueryResultColumnsMismatch, QueryResultMismatch, StatementResultMismatch,
    };
    error.filter(|error| match (way, error) {
        (Way::Missing, _) => false,
        // Another error was expected: DataFusion's own limits are higher.
        (Way::TooLarge, ErrorMismatch { .. }) => false,
        (
            Way::Explained,
            QueryResultMismatch { .. } | QueryResultColumnsMismatch { .. } | StatementResultMismatch { .. },
        ) => false,
        (Way::Explained, Fail { .. }) => !only_logical,
        _ => true,
    })
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
