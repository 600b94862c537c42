//! A synthetic survey: Object, Source and ForcedSource as an instrument might have seen them, in the form that
//! [`crate::ingest`] reads.
//!
//! The sky is cut into HEALPix cells of order 5. Each cell has a random generator of its own and is written by
//! one thread, and files are made of whole cells in a fixed order, so the rows depend on the request alone.

mod describe;
mod object;
mod plan;
mod rows;
mod source;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::error::{IngestError, IoContext, Result};
use crate::progress::{NoProgress, ProgressSink, Stage};
use crate::threads::{Stop, StopOnDrop, share_out};
use plan::{Part, SkyPlan};
use rows::PartFiles;

/// Objects in all at most: their sources are numbered too.
const MOST_OBJECTS: u64 = 100_000_000_000;

/// Sources or forced sources of an object at most.
const MOST_PER_OBJECT: u32 = 100_000;

/// What survey to make.
#[derive(Clone, Debug)]
pub struct GenerateRequest {
    /// Distinct objects; about one in a hundred is written twice.
    pub objects: u64,
    /// Sources of each object; 0 leaves the table out.
    pub sources_per_object: u32,
    /// Forced sources of each object; 0 leaves the table out.
    pub forced_per_object: u32,
    /// Another seed gives another sky.
    pub seed: u64,
    /// Threads; 0 means one for each processor. The rows do not depend on it.
    pub threads: usize,
    /// The folder to write to: `Object/part-00000.parquet`, …, `Object.toml` and the same for the children.
    /// Earlier parts there are removed.
    pub output: PathBuf,
    /// Hears how far it is.
    pub progress: Option<Arc<dyn ProgressSink>>,
}

/// What was made. Duplicates and orphans are among the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GenerateReport {
    /// Rows of Object.
    pub object_rows: u64,
    /// Of these, second copies: every column the same.
    pub duplicate_objects: u64,
    /// Rows of Source.
    pub source_rows: u64,
    /// Of these, rows without an object: `objectId` is null or unknown.
    pub orphan_sources: u64,
    /// Of these, second copies.
    pub duplicate_sources: u64,
    /// Rows of ForcedSource.
    pub forced_rows: u64,
    /// Of these, rows without an object.
    pub orphan_forced: u64,
    /// Bytes written.
    pub bytes: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl GenerateReport {
    fn add(&mut self, part: &GenerateReport) {
        self.object_rows += part.object_rows;
        self.duplicate_objects += part.duplicate_objects;
        self.source_rows += part.source_rows;
        self.orphan_sources += part.orphan_sources;
        self.duplicate_sources += part.duplicate_sources;
        self.forced_rows += part.forced_rows;
        self.orphan_forced += part.orphan_forced;
        self.bytes += part.bytes;
    }
}

/// Writes a synthetic survey. Memory does not grow with its size.
///
/// # Errors
/// `Request` when the numbers are out of range, `Io` and `Parquet` when the files cannot be written.
pub async fn generate(request: GenerateRequest) -> Result<GenerateReport> {
    let stop = Stop::default();
    let _ends_with_this = StopOnDrop(stop.clone());
    let progress: Arc<dyn ProgressSink> = request.progress.clone().unwrap_or_else(|| Arc::new(NoProgress));
    let sink = Arc::clone(&progress);
    let written = tokio::task::spawn_blocking(move || write_survey(&request, sink.as_ref(), &stop)).await;
    progress.finished();
    written.map_err(|_| IngestError::Thread("generate"))?
}

fn write_survey(request: &GenerateRequest, progress: &dyn ProgressSink, stop: &Stop) -> Result<GenerateReport> {
    let started = Instant::now();
    check(request)?;
    let plan = SkyPlan::new(request.objects, request.seed)?;
    let tables = describe::tables(request);
    for table in &tables {
        let folder = request.output.join(&table.name);
        std::fs::create_dir_all(&folder).at("create", &folder)?;
        remove_parts(&folder)?;
        let path = request.output.join(format!("{}.toml", table.name));
        std::fs::write(&path, table.to_toml()?).at("write", &path)?;
    }
    let children = u64::from(request.sources_per_object) + u64::from(request.forced_per_object);
    progress.stage("synthetic sky", Stage::Generate, Some(request.objects * (1 + children)));
    let threads = match request.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let reports = share_out(
        "generate",
        threads,
        stop,
        plan.parts(),
        |_| Ok(GenerateReport::default()),
        |report, part| {
            report.add(&write_part(request, &plan, &part, progress, stop)?);
            Ok(())
        },
        Ok,
    )?;
    let mut report = GenerateReport::default();
    reports.iter().for_each(|part| report.add(part));
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

fn check(request: &GenerateRequest) -> Result<()> {
    if !(1..=MOST_OBJECTS).contains(&request.objects) {
        return Err(IngestError::Request(format!("{} objects: ask for 1 to {MOST_OBJECTS}", request.objects)));
    }
    let most = request.sources_per_object.max(request.forced_per_object);
    if most > MOST_PER_OBJECT {
        return Err(IngestError::Request(format!("{most} rows of each object: ask for at most {MOST_PER_OBJECT}")));
    }
    Ok(())
}

fn remove_parts(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).at("list", folder)? {
        let path = entry.at("list", folder)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("part-") && name.ends_with(".parquet") {
            std::fs::remove_file(&path).at("remove", &path)?;
        }
    }
    Ok(())
}

fn write_part(
    request: &GenerateRequest,
    plan: &SkyPlan,
    part: &Part,
    progress: &dyn ProgressSink,
    stop: &Stop,
) -> Result<GenerateReport> {
    let mut files = PartFiles::create(request, part.number)?;
    let mut report = GenerateReport::default();
    for cell in part.cells.clone() {
        stop.check()?;
        let before = report;
        let mut rng = ChaCha8Rng::seed_from_u64(plan::mix(request.seed, cell));
        for index in 0..plan.objects_in(cell) {
            let object = object::Object::draw(plan, cell, index, &mut rng)?;
            source::observe(request, &object, &mut rng, &mut files, &mut report)?;
            if index % 1_024 == 1_023 {
                stop.check()?;
            }
        }
        let rows = |report: &GenerateReport| report.object_rows + report.source_rows + report.forced_rows;
        progress.rows(rows(&report) - rows(&before));
    }
    report.bytes = files.finish()?;
    Ok(report)
}
