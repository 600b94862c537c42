//! A small house to test in: two directors, two children and a replicated table, cut by either scheme,
//! with a dispatcher that runs fragments in this process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt32Array,
};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use skyflight_catalog::{
    CatalogStore, Column, ColumnStatistics, Commit, CommitMode, FileId, FileKind, NewFile, NewTable, Owner,
    SqliteStore, TableCommit, TableFacts, TableKind, WorkerId,
};
use skyflight_engine::dispatch::{ChunkDispatcher, DispatchRequest, FrameStream, QueryContext};
use skyflight_engine::fragment::{FragmentConfig, FragmentRuntime, ScanFile};
use skyflight_engine::frames::encode_batch;
use skyflight_engine::functions::scalar_functions;
use skyflight_engine::guard::SqlLimits;
use skyflight_engine::{Engine, EngineConfig, EngineError, PlannedQuery, Session, SessionOptions};
use skyflight_sky::{ChunkId, Degrees, Position, Scheme, SchemeSpec};
use tempfile::TempDir;

/// One of the two ways to cut the test sky.
pub(crate) fn schemes() -> Vec<SchemeSpec> {
    let cells = (0..48).map(|pixel| 16 + pixel).collect();
    vec![
        SchemeSpec::Healpix { cells, overlap_arcsec: 60.0 },
        SchemeSpec::Stripes { stripes: 18, sub_stripes: 4, overlap_deg: 0.01667 },
    ]
}

pub(crate) struct House {
    engine: Engine,
    /// The same tables, whole, in plain DataFusion.
    pub(crate) plain: SessionContext,
    _folder: TempDir,
    runtime: Option<tokio::runtime::Runtime>,
}

/// Runs fragments on files in this process, through their encoded form.
#[derive(Debug)]
struct InProcess {
    files: BTreeMap<FileId, ScanFile>,
    fragments: Arc<FragmentRuntime>,
}

impl ChunkDispatcher for InProcess {
    fn dispatch(&self, request: DispatchRequest) -> FrameStream {
        let fragment = match self.fragments.decode(&request.fragment.bytes) {
            Ok(fragment) => Arc::new(fragment),
            Err(error) => return futures::stream::once(async { Err(error) }).boxed(),
        };
        let mut runs = Vec::new();
        for chunk in &request.chunks.chunks {
            assert!(!chunk.workers.is_empty());
            let mut files = chunk.files.iter().map(|id| self.files[id].clone());
            let per_scan: Vec<Vec<ScanFile>> =
                chunk.files_per_scan.iter().map(|n| files.by_ref().take(*n as usize).collect()).collect();
            runs.push(fragment.execute(&per_scan, request.query.cancel.clone()).map(|run| run.stream));
        }
        futures::stream::iter(runs)
            .flat_map(|run| match run {
                Ok(stream) => stream.map(|b| b.map_err(EngineError::from)).boxed(),
                Err(error) => futures::stream::once(async { Err(error) }).boxed(),
            })
            .flat_map(|batch| match batch.and_then(|b| encode_batch(&b)) {
                Ok(frames) => futures::stream::iter(frames.into_iter().map(Ok).collect::<Vec<_>>()),
                Err(error) => futures::stream::iter(vec![Err(error)]),
            })
            .boxed()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // A runtime must not be waited for in asynchronous code.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl House {
    pub(crate) async fn build(spec: SchemeSpec) -> House {
        let folder = tempfile::tempdir().unwrap();
        let scheme = spec.build().unwrap();
        let tables = tables(scheme.as_ref());
        let store = SqliteStore::in_memory().await.unwrap();
        let database = store.create_database("dr1", None).await.unwrap();
        let opened = store.open_transaction(database.id, &Owner::this_process("test")).await.unwrap();
        let mut sequence = 0;
        let mut files = BTreeMap::new();
        let mut commits = Vec::new();
        for table in &tables {
            let mut new_files = Vec::new();
            for (kind, chunks) in [(FileKind::Rows, &table.chunks), (FileKind::Overlap, &table.overlap)] {
                for (chunk, batch) in chunks {
                    sequence += 1;
                    let id = FileId::new(opened.id, sequence);
                    let (file, new) = write(folder.path(), id, *chunk, kind, batch);
                    files.insert(id, file);
                    new_files.push(new);
                }
            }
            commits.push(TableCommit {
                ended: Vec::new(),
                table: table.new.clone(),
                mode: CommitMode::Append,
                facts: table.facts,
                files: new_files,
            });
        }
        store.commit(opened.id, Commit { scheme: Some(spec), tables: commits }).await.unwrap();

        let fragments = FragmentRuntime::new(FragmentConfig {
            memory_bytes: 256 << 20,
            spill_dir: folder.path().join("spill"),
            spill_bytes: 1 << 30,
            batch_rows: 100,
        });
        let dispatcher = InProcess { files, fragments: Arc::new(fragments.unwrap()) };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_stack_size(16 << 20)
            .enable_all()
            .build()
            .unwrap();
        let config = EngineConfig {
            index_dir: None,
            target_partitions: 3,
            memory_bytes: 256 << 20,
            spill_dir: folder.path().join("merge"),
            spill_bytes: 1 << 30,
            limits: SqlLimits::default(),
            default_database: None,
            shuffle: Default::default(),
            runtime: runtime.handle().clone(),
        };
        let engine = Engine::new(config, Arc::new(store), Arc::new(dispatcher)).unwrap();
        House { engine, plain: plain(&tables), _folder: folder, runtime: Some(runtime) }
    }

    pub(crate) async fn session(&self) -> Session {
        self.engine.session(SessionOptions::default()).await.unwrap()
    }

    pub(crate) async fn plan(&self, sql: &str) -> Result<PlannedQuery, EngineError> {
        self.session().await.plan(sql, QueryContext::new("test")).await
    }

    /// The rows of a query as sorted text, one line each.
    pub(crate) async fn ask(&self, sql: &str) -> Result<Vec<String>, EngineError> {
        let planned = self.plan(sql).await?;
        let mut stream = planned.execute()?;
        let mut batches = Vec::new();
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(EngineError::from)?;
            assert_eq!(batch.schema(), planned.schema());
            batches.push(batch);
        }
        Ok(lines(&batches))
    }

    /// What plain DataFusion answers on the whole tables.
    pub(crate) async fn ask_plain(&self, sql: &str) -> Vec<String> {
        let frame = self.plain.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        lines(&frame.collect().await.unwrap())
    }
}

fn lines(batches: &[RecordBatch]) -> Vec<String> {
    use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
    let options = FormatOptions::default().with_null("NULL");
    let mut lines = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter> =
            batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            lines.push(columns.iter().map(|c| c.value(row).to_string()).collect::<Vec<_>>().join("|"));
        }
    }
    lines.sort();
    lines
}

fn plain(tables: &[TestTable]) -> SessionContext {
    let context = SessionContext::new();
    for table in tables {
        let batches: Vec<RecordBatch> = table.chunks.values().cloned().collect();
        let schema = batches[0].schema();
        let provider = datafusion::datasource::MemTable::try_new(schema, vec![batches]).unwrap();
        context.register_table(table.new.name.to_lowercase(), Arc::new(provider)).unwrap();
    }
    for function in scalar_functions() {
        context.register_udf(function.as_ref().clone());
    }
    context
}

struct TestTable {
    new: NewTable,
    facts: TableFacts,
    chunks: BTreeMap<ChunkId, RecordBatch>,
    overlap: BTreeMap<ChunkId, RecordBatch>,
}

fn tables(scheme: &dyn Scheme) -> Vec<TestTable> {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let objects = object_positions(&mut random);
    let homes: Vec<ChunkId> = objects.iter().map(|p| scheme.locate(*p).chunk).collect();
    let ids: Vec<i64> = (0..objects.len() as i64).map(|i| i * 3 + 1).collect();
    let object = batch(vec![
        ("objectId", Arc::new(Int64Array::from(ids.clone()))),
        ("ra", Arc::new(Float64Array::from_iter_values(objects.iter().map(|p| p.ra().0)))),
        ("dec", Arc::new(Float64Array::from_iter_values(objects.iter().map(|p| p.dec().0)))),
        (
            "rMag",
            Arc::new(
                (0..objects.len())
                    .map(|i| (i % 11 != 0).then_some(15.0 + (i % 97) as f64 / 10.0))
                    .collect::<Float64Array>(),
            ),
        ),
        ("_healpix_29", Arc::new(Int64Array::from_iter_values(objects.iter().map(|p| p.healpix29() as i64)))),
    ]);
    vec![
        director("Object", "objectId", &object, &objects, scheme),
        stars(&objects, &mut ChaCha8Rng::seed_from_u64(8), scheme),
        child("Source", &objects, &homes, &ids, 4, &mut random, scheme),
        child("Forced", &objects, &homes, &ids, 2, &mut random, scheme),
        filters(),
    ]
}

fn director(name: &str, id: &str, rows: &RecordBatch, positions: &[Position], scheme: &dyn Scheme) -> TestTable {
    let homes: Vec<ChunkId> = positions.iter().map(|p| scheme.locate(*p).chunk).collect();
    let (mut numbers, mut beside, mut found) = (Vec::new(), Vec::new(), Vec::new());
    for (number, position) in positions.iter().enumerate() {
        scheme.overlaps(*position, &mut found);
        numbers.extend(found.iter().map(|_| number as u32));
        beside.extend(&found);
    }
    let copies = take_record_batch(rows, &UInt32Array::from(numbers)).unwrap();
    let mut director = table(name, TableKind::Director, rows, cut(rows, &homes));
    director.overlap = cut(&copies, &beside);
    director.new.id_column = Some(id.into());
    director.new.ra_column = Some("ra".into());
    director.new.dec_column = Some("dec".into());
    director
}

/// Near objects, crowded where chunks meet and at the poles; with a radius of error in arcseconds.
fn stars(objects: &[Position], random: &mut ChaCha8Rng, scheme: &dyn Scheme) -> TestTable {
    let mut positions = Vec::new();
    for i in 0..800 {
        let (ra, dec) = match i % 5 {
            0..3 => {
                let near = objects[random.random_range(0..objects.len())];
                let dec = (near.dec().0 + random.random_range(-0.02..0.02)).clamp(-90.0, 90.0);
                (near.ra().0 + random.random_range(-0.02..0.02), dec)
            }
            3 => (
                f64::from(random.random_range(0..4)) * 90.0 + random.random_range(-0.02..0.02),
                random.random_range(-0.02..0.02),
            ),
            _ => (random.random_range(0.0..360.0), [-1.0, 1.0][i % 2] * random.random_range(89.9..90.0)),
        };
        positions.push(Position::new(Degrees(ra), Degrees(dec)).unwrap());
    }
    let err = (0..positions.len()).map(|i| (i % 17 != 0).then_some((i % 40) as f64 * 2.0));
    let rows = batch(vec![
        ("starId", Arc::new(Int64Array::from_iter_values(0..positions.len() as i64))),
        ("ra", Arc::new(Float64Array::from_iter_values(positions.iter().map(|p| p.ra().0)))),
        ("dec", Arc::new(Float64Array::from_iter_values(positions.iter().map(|p| p.dec().0)))),
        ("err", Arc::new(err.collect::<Float64Array>())),
        ("_healpix_29", Arc::new(Int64Array::from_iter_values(positions.iter().map(|p| p.healpix29() as i64)))),
    ]);
    director("Star", "starId", &rows, &positions, scheme)
}

/// Skewed: a dense patch, both poles, both sides of RA 0, and a thin rest.
fn object_positions(random: &mut ChaCha8Rng) -> Vec<Position> {
    let mut positions = Vec::new();
    for i in 0..900 {
        let (ra, dec) = match i % 5 {
            0 => (random.random_range(80.0..81.0), random.random_range(-5.0..-4.0)),
            1 => (random.random_range(0.0..360.0), random.random_range(88.0..90.0)),
            2 => (random.random_range(-1.0..1.0), random.random_range(-1.0..1.0)),
            3 => (random.random_range(0.0..360.0), random.random_range(-90.0..-87.0)),
            _ => (random.random_range(0.0..360.0), random.random_range(-90.0..90.0)),
        };
        positions.push(Position::new(Degrees(ra), Degrees(dec)).unwrap());
    }
    positions
}

/// Rows of a child in their director's chunk; every 40th is an orphan where its own position is.
fn child(
    name: &str,
    objects: &[Position],
    homes: &[ChunkId],
    ids: &[i64],
    rows_per_object: usize,
    random: &mut ChaCha8Rng,
    scheme: &dyn Scheme,
) -> TestTable {
    let (mut keys, mut mags, mut bands, mut cells, mut chunks) = (vec![], vec![], vec![], vec![], vec![]);
    let mut orphans = 0;
    for i in 0..objects.len() * rows_per_object {
        let object = random.random_range(0..objects.len());
        if i % 40 == 0 {
            orphans += 1;
            let ra = random.random_range(0.0..360.0);
            let own = Position::new(Degrees(ra), Degrees(random.random_range(-90.0..90.0))).unwrap();
            keys.push((i % 80 == 0).then_some(-((i % 400) as i64) - 1));
            cells.push(own.healpix29() as i64);
            chunks.push(scheme.locate(own).chunk);
        } else {
            keys.push(Some(ids[object]));
            cells.push(objects[object].healpix29() as i64);
            chunks.push(homes[object]);
        }
        mags.push((i % 13 != 0).then_some(14.0 + (i % 71) as f64 / 7.0));
        bands.push(["g", "r", "i"][i % 3]);
    }
    let rows = batch(vec![
        ("objectId", Arc::new(Int64Array::from(keys))),
        ("mag", Arc::new(Float64Array::from(mags))),
        ("band", Arc::new(StringArray::from(bands))),
        ("_healpix_29", Arc::new(Int64Array::from(cells))),
    ]);
    let mut table = table(name, TableKind::Child, &rows, cut(&rows, &chunks));
    table.new.director = Some("Object".into());
    table.new.director_key = Some("objectId".into());
    table.facts.orphans = orphans;
    table
}

fn filters() -> TestTable {
    let rows = batch(vec![
        ("band", Arc::new(StringArray::from(vec!["g", "r", "i", "z"]))),
        ("wavelength", Arc::new(Float64Array::from(vec![477.0, 623.0, 762.0, 913.0]))),
    ]);
    let chunks = BTreeMap::from([(ChunkId::EVERYWHERE, rows.clone())]);
    table("Filter", TableKind::Replicated, &rows, chunks)
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, n != "_healpix_29"))).unwrap()
}

fn cut(rows: &RecordBatch, chunks: &[ChunkId]) -> BTreeMap<ChunkId, RecordBatch> {
    let mut indices: BTreeMap<ChunkId, Vec<u32>> = BTreeMap::new();
    for (row, chunk) in chunks.iter().enumerate() {
        indices.entry(*chunk).or_default().push(row as u32);
    }
    let taken = |rows_of: Vec<u32>| take_record_batch(rows, &UInt32Array::from(rows_of)).unwrap();
    indices.into_iter().map(|(chunk, rows_of)| (chunk, taken(rows_of))).collect()
}

fn table(name: &str, kind: TableKind, rows: &RecordBatch, chunks: BTreeMap<ChunkId, RecordBatch>) -> TestTable {
    let columns = columns(&rows.schema());
    let new = NewTable {
        name: name.into(),
        kind,
        columns,
        id_column: None,
        ra_column: None,
        dec_column: None,
        director: None,
        director_key: None,
        second_director: None,
        second_director_key: None,
        description: None,
    };
    let facts = TableFacts { rows: rows.num_rows() as u64, ..TableFacts::default() };
    TestTable { new, facts, chunks, overlap: BTreeMap::new() }
}

fn columns(schema: &SchemaRef) -> Vec<Column> {
    let column = |f: &Arc<datafusion::arrow::datatypes::Field>| Column {
        name: f.name().clone(),
        data_type: f.data_type().to_string(),
        nullable: f.is_nullable(),
        unit: None,
        ucd: None,
        description: None,
    };
    schema.fields().iter().map(column).collect()
}

/// What an ingest writes down of whole numbers.
fn statistics(batch: &RecordBatch) -> Vec<ColumnStatistics> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let numbers = columns.filter_map(|(field, column)| Some((field.name(), column.as_primitive_opt::<Int64Type>()?)));
    let text = |value: Option<i64>| value.map_or(String::new(), |value| value.to_string());
    numbers
        .map(|(name, values)| ColumnStatistics {
            column: name.clone(),
            min: text(values.iter().flatten().min()),
            max: text(values.iter().flatten().max()),
            null_count: values.null_count() as u64,
            nan_count: None,
        })
        .collect()
}

fn write(folder: &Path, id: FileId, chunk: ChunkId, kind: FileKind, batch: &RecordBatch) -> (ScanFile, NewFile) {
    let path: PathBuf = folder.join(format!("{id}.parquet"));
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    let bytes = path.metadata().unwrap().len();
    let new = NewFile {
        id,
        chunk,
        kind,
        rows: batch.num_rows() as u64,
        bytes,
        sha256: [0; 32],
        statistics: statistics(batch),
        workers: vec![WorkerId("w1".into()), WorkerId("w2".into())],
    };
    (ScanFile { path, bytes }, new)
}
