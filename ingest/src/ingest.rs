//! The story of an ingest: open a transaction, remove what earlier ones left, load each table, commit.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arrow::datatypes::DataType;
use skyflight_catalog::{
    ABANDONED_AFTER_MS, CatalogError, CatalogStore, Commit, CommitMode, Database, Owner, PairFacts, Snapshot,
    TableCommit, TableFacts, TableKind, TransactionId, Worker, index_folder,
};
use skyflight_proto::ClusterKeys;
use skyflight_sky::{ChunkId, SchemeSpec, adaptive_cells};
use tokio::task::JoinSet;

use crate::delivery::{Courier, unix_ms};
use crate::description::SchemeDescription;
use crate::director_index::{DirectorIndex, Grown, Growth, IndexHome, index_type};
use crate::error::{IngestError, IoContext, Result};
use crate::leftovers::{remove_leftovers, staging_folder};
use crate::load::{Loading, LoadingParts, Routed, TableInput, store_table};
use crate::placement::{Placement, load};
use crate::progress::{NoProgress, ProgressSink};
use crate::request::{IngestReport, IngestRequest, TableReport};
use crate::route::{count_positions, route_child, route_director, route_match, route_replicated};
use crate::spill::SpillArea;
use crate::threads::{Stop, StopOnDrop};

/// How often the transaction shows that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Cuts the request's tables into chunk files, sends these to the workers and commits one snapshot.
///
/// Whatever goes wrong, the previous snapshot stays current. Files of an ingest that fails are removed at
/// once where the workers can be reached; those of one that dies, or whose future is dropped, by the next
/// ingest into the database.
///
/// # Errors
/// Every variant of [`IngestError`]; `Catalog(Busy)` while another ingest into the database is alive.
pub async fn ingest(
    request: IngestRequest,
    store: Arc<dyn CatalogStore>,
    keys: Arc<ClusterKeys>,
) -> Result<IngestReport> {
    let started = Instant::now();
    request.check()?;
    let progress: Arc<dyn ProgressSink> = request.progress.clone().unwrap_or_else(|| Arc::new(NoProgress));
    let outcome = Box::pin(in_transaction(&request, &store, keys, &progress)).await;
    progress.finished();
    outcome.map(|report| IngestReport { seconds: started.elapsed().as_secs_f64(), ..report })
}

async fn in_transaction(
    request: &IngestRequest,
    store: &Arc<dyn CatalogStore>,
    keys: Arc<ClusterKeys>,
    progress: &Arc<dyn ProgressSink>,
) -> Result<IngestReport> {
    let database = find_or_create(store.as_ref(), &request.database).await?;
    let workers = store.workers().await?;
    let alive = alive(&workers);
    let courier = Arc::new(Courier::new(keys, request.dialer.clone()));
    let opened = store.open_transaction(database.id, &Owner::this_process("skyflight ingest")).await?;
    let stop = Stop::default();
    let _ends_with_this = StopOnDrop(stop.clone());
    let _heartbeat = heartbeat(Arc::clone(store), opened.id, stop.clone());
    let clean = |transaction: TransactionId| {
        let (workers, alive, courier) = (&workers, &alive, &courier);
        async move {
            let (staging, index) = (&request.staging_dir, &request.index_dir);
            remove_leftovers(store.as_ref(), courier, transaction, workers, alive, staging, index).await
        }
    };
    let outcome = async {
        for transaction in &opened.abandoned {
            clean(*transaction).await?;
        }
        let base = match opened.base {
            Some(base) => Some(store.snapshot(base).await?),
            None => None,
        };
        let snapshots = store.current_snapshots().await?;
        let held = load(snapshots.iter().map(AsRef::as_ref));
        let placement = Placement::new(alive.clone(), request.replicas, base.as_deref(), &held)?;
        let parts = LoadingParts {
            // A database keeps its declared case, whatever the request's.
            database: database.name.clone(),
            transaction: opened.id,
            staging: staging_folder(&request.staging_dir, opened.id),
            index_dir: request.index_dir.clone(),
            memory_bytes: request.memory(),
            threads: request.threads(),
            placement,
            courier: Arc::clone(&courier),
            progress: Arc::clone(progress),
            stop: stop.clone(),
        };
        load_and_commit(request, store.as_ref(), &database, base, parts).await
    }
    .await;
    match outcome {
        Ok(report) => Ok(report),
        Err(error) => {
            stop.set();
            let cleaned = async {
                // A commit may be done although its answer was lost: then these are files of the current snapshot.
                if store.abandon_transaction(opened.id).await? {
                    clean(opened.id).await?;
                } else {
                    tracing::warn!(transaction = %opened.id, "transaction is closed already, its files stay");
                }
                Ok::<(), IngestError>(())
            };
            if let Err(left) = cleaned.await {
                tracing::warn!(transaction = %opened.id, error = %left, "leftovers remain for the next ingest to remove");
            }
            Err(error)
        }
    }
}

async fn load_and_commit(
    request: &IngestRequest,
    store: &dyn CatalogStore,
    database: &Database,
    base: Option<Arc<Snapshot>>,
    parts: LoadingParts,
) -> Result<IngestReport> {
    let (transaction, staging) = (parts.transaction, parts.staging.clone());
    std::fs::create_dir_all(&staging).at("create", &staging)?;
    let tables: Vec<Arc<TableInput>> = {
        let (request, base) = (request.clone(), base.clone());
        blocking("open the input", move || request.open(base.as_deref())).await?.into_iter().map(Arc::new).collect()
    };
    let spec = match &database.scheme {
        Some(spec) => Some(spec.clone()),
        None => choose_scheme(&tables, &parts).await?,
    };
    let scheme = spec.as_ref().map(SchemeSpec::build).transpose()?;
    let loading = Arc::new(Loading::new(parts, scheme));
    let mut indexes: HashMap<String, DirectorIndex> = HashMap::new();
    let mut commits = Vec::with_capacity(tables.len());
    let mut reports = Vec::with_capacity(tables.len());
    for table in &tables {
        let (commit, report) = load_table(&loading, table, base.as_deref(), &tables, &mut indexes, &commits).await?;
        commits.push(commit);
        reports.push(report);
        if let Some(rejects) = &table.rejects {
            rejects.flush()?;
        }
    }
    let snapshot = store.commit(transaction, Commit { scheme: spec, tables: commits }).await?;
    remove_staging(&staging).await;
    let (files, bytes) = loading.totals();
    tracing::info!(database = %loading.database, %transaction, %snapshot, files, bytes, "ingest committed");
    Ok(IngestReport { snapshot, tables: reports, files, bytes, seconds: 0.0 })
}

async fn load_table(
    loading: &Arc<Loading>,
    table: &Arc<TableInput>,
    base: Option<&Snapshot>,
    tables: &[Arc<TableInput>],
    indexes: &mut HashMap<String, DirectorIndex>,
    commits: &[TableCommit],
) -> Result<(TableCommit, TableReport)> {
    let mut grown = Grown::default();
    let mut ids_span_chunks = false;
    let mut second_ids_span_chunks = false;
    let routed: Routed = match table.input.schema.kind {
        TableKind::Director => {
            let (routed, index);
            (routed, index, grown) = load_director(loading, table, base).await?;
            ids_span_chunks = spans(loading, table, base, tables, &index).await?;
            indexes.insert(table.name().to_ascii_lowercase(), index);
            routed
        }
        TableKind::Child | TableKind::Companion => {
            let director = table.input.description.director.clone().unwrap_or_default();
            let index = index_of(loading, base, indexes, &director)?;
            ids_span_chunks = director_spans(base, commits, &director);
            let routed;
            (routed, grown) = load_child(loading, table, base, index).await?;
            routed
        }
        TableKind::Match => {
            let first = table.input.description.director.clone().unwrap_or_default();
            let second = table.input.description.second_director.clone().unwrap_or_default();
            let pair = [index_of(loading, base, indexes, &first)?, index_of(loading, base, indexes, &second)?];
            ids_span_chunks = director_spans(base, commits, &first);
            second_ids_span_chunks = director_spans(base, commits, &second);
            let (loading, table) = (Arc::clone(loading), Arc::clone(table));
            blocking("read a match", move || route_match(&loading, &table, [&pair[0], &pair[1]])).await?
        }
        TableKind::Replicated => {
            let (loading, table) = (Arc::clone(loading), Arc::clone(table));
            blocking("read a replicated table", move || route_replicated(&loading, &table)).await?
        }
    };
    let (orphans, pairs) = (routed.orphans, routed.pairs);
    let (incomplete, rejected) = (routed.incomplete, routed.rejected);
    let mut files = store_table(loading, table, routed).await?;
    let sum =
        |counts: bool| files.iter().filter(|file| file.kind.counts() == counts).map(|file| file.rows).sum::<u64>();
    let chunks: BTreeSet<ChunkId> = files.iter().filter(|file| file.kind.counts()).map(|file| file.chunk).collect();
    let report = TableReport {
        table: table.name().to_owned(),
        rows: sum(true),
        overlap_rows: sum(false),
        orphans: incomplete,
        rejected,
        chunks: chunks.len() as u64,
    };
    grown.new.iter().for_each(|file| loading.count(file.bytes));
    files.append(&mut grown.new);
    let kept = base.and_then(|base| base.table(table.name())).filter(|_| table.mode == CommitMode::Append);
    let kept = kept.map(|kept| kept.facts).unwrap_or_default();
    let facts = TableFacts {
        rows: kept.rows + report.rows,
        orphans: kept.orphans + orphans,
        ids_span_chunks: ids_span_chunks || kept.ids_span_chunks,
        pairs: PairFacts {
            second_orphans: kept.pairs.second_orphans + pairs.second_orphans,
            second_ids_span_chunks: second_ids_span_chunks || kept.pairs.second_ids_span_chunks,
            out_of_reach: kept.pairs.out_of_reach + pairs.out_of_reach,
        },
    };
    let declared = table.input.schema.declare(&table.input.description);
    Ok((TableCommit { table: declared, mode: table.mode, facts, files, ended: grown.ended }, report))
}

/// Routes a director and takes its ids up into its index: the rows, the whole index, and what is new of it.
async fn load_director(
    loading: &Arc<Loading>,
    table: &Arc<TableInput>,
    base: Option<&Snapshot>,
) -> Result<(Routed, DirectorIndex, Grown)> {
    let id = table.input.schema.id.and_then(|at| table.input.schema.columns.get(at));
    let id_type = id.map(|column| index_type(&column.data_type));
    let id_type = id_type.ok_or_else(|| table.input.description.error("a director needs `id`"))?;
    let mut index = own_index(loading, table, base, id_type)?;
    let (loading, table) = (Arc::clone(loading), Arc::clone(table));
    blocking("read a director", move || {
        let (routed, ids) = route_director(&loading, &table)?;
        let grown = grow(&loading, &table, &mut index, &ids)?;
        Ok((routed, index, grown))
    })
    .await
}

/// Routes a child or companion, and takes up the ids of its orphans into an index of its own.
async fn load_child(
    loading: &Arc<Loading>,
    table: &Arc<TableInput>,
    base: Option<&Snapshot>,
    directors: DirectorIndex,
) -> Result<(Routed, Grown)> {
    let mut index = own_index(loading, table, base, directors.id_type.clone())?;
    let (loading, table) = (Arc::clone(loading), Arc::clone(table));
    blocking("read a child", move || {
        let (routed, orphans) = route_child(&loading, &table, &directors)?;
        let grown = grow(&loading, &table, &mut index, &orphans)?;
        Ok((routed, grown))
    })
    .await
}

/// The index that a table has before an ingest adds to it.
fn own_index(
    loading: &Loading,
    table: &TableInput,
    base: Option<&Snapshot>,
    id_type: DataType,
) -> Result<DirectorIndex> {
    let kept = base.and_then(|base| base.table(table.name())).filter(|_| table.mode == CommitMode::Append);
    match kept {
        // A table keeps its declared case, whatever the request's.
        Some(kept) => DirectorIndex::of(kept, &loading.index_folder(&kept.table.name), id_type),
        None => Ok(DirectorIndex::empty(id_type)),
    }
}

fn grow(loading: &Loading, table: &TableInput, index: &mut DirectorIndex, entries: &SpillArea) -> Result<Grown> {
    let home = IndexHome {
        folder: loading.index_folder(table.name()),
        next_file: &|| loading.next_file(),
        budget: loading.budget.row_group(),
        stop: &loading.stop,
    };
    let grown = index.grow(entries, &home, Growth::default())?;
    entries.remove();
    Ok(grown)
}

/// Whether work per id of this director cannot be done per chunk.
async fn spans(
    loading: &Arc<Loading>,
    table: &TableInput,
    base: Option<&Snapshot>,
    tables: &[Arc<TableInput>],
    index: &DirectorIndex,
) -> Result<bool> {
    let children = base.into_iter().flat_map(|base| &base.tables).filter(|child| {
        // A pair that lacks a row is out of step with the director from then on, and nothing else is.
        child.table.kind != TableKind::Match && child.table.lies_with(table.name())
    });
    for child in children {
        let replaced = tables
            .iter()
            .any(|other| other.mode == CommitMode::Replace && other.name().eq_ignore_ascii_case(&child.table.name));
        // An earlier orphan may belong to a row that comes only now, and lies in another chunk than that.
        if child.facts.orphans > 0 && !replaced {
            return Ok(true);
        }
    }
    // What is known of the other shards stays true.
    let (loading, index) = (Arc::clone(loading), index.grown_by(loading.transaction));
    blocking("check ids", move || index.ids_span_chunks(&loading.stop)).await
}

fn director_spans(base: Option<&Snapshot>, commits: &[TableCommit], director: &str) -> bool {
    let new = commits.iter().find(|commit| commit.table.name.eq_ignore_ascii_case(director));
    let old = || base.and_then(|base| base.table(director)).map(|table| table.facts);
    new.map(|commit| commit.facts).or_else(old).is_some_and(|facts| facts.ids_span_chunks)
}

/// The index of a director, loaded just now or earlier.
fn index_of(
    loading: &Loading,
    base: Option<&Snapshot>,
    indexes: &HashMap<String, DirectorIndex>,
    director: &str,
) -> Result<DirectorIndex> {
    match indexes.get(&director.to_ascii_lowercase()) {
        Some(index) => Ok(index.clone()),
        None => existing_index(&loading.index_dir, &loading.database, base, director),
    }
}

/// The index of a director that is in the database.
fn existing_index(index_dir: &Path, database: &str, base: Option<&Snapshot>, director: &str) -> Result<DirectorIndex> {
    let missing = || IngestError::Request(format!("director {director} is not in the database; ingest it first"));
    let table = base.and_then(|base| base.table(director)).ok_or_else(missing)?;
    let id = table.table.columns.iter().find(|column| Some(&column.name) == table.table.id_column.as_ref());
    let id_type = id.and_then(|column| column.data_type.parse().ok()).map(|data_type| index_type(&data_type));
    let folder = index_folder(index_dir, database, &table.table.name);
    DirectorIndex::of(table, &folder, id_type.ok_or_else(missing)?)
}

/// The scheme of a database that has none: as the first director's description says, or the default.
async fn choose_scheme(tables: &[Arc<TableInput>], parts: &LoadingParts) -> Result<Option<SchemeSpec>> {
    let Some(director) = tables.iter().find(|table| table.input.schema.kind == TableKind::Director) else {
        return Ok(None);
    };
    let description = director.input.description.scheme.clone().unwrap_or_default();
    let SchemeDescription::Healpix { min_order, max_order, row_limit, overlap_arcsec } = description else {
        return Ok(description.fixed());
    };
    let director = Arc::clone(director);
    let (threads, stop, progress) = (parts.threads, parts.stop.clone(), Arc::clone(&parts.progress));
    blocking("count positions", move || {
        let density = count_positions(&director, max_order, threads, &stop, progress.as_ref())?;
        let cells = adaptive_cells(&density, min_order, max_order, row_limit);
        Ok(Some(SchemeSpec::Healpix { cells, overlap_arcsec }))
    })
    .await
}

async fn find_or_create(store: &dyn CatalogStore, name: &str) -> Result<Database> {
    match store.database(name).await {
        Err(CatalogError::NotFound { .. }) => {}
        found => return Ok(found?),
    }
    match store.create_database(name, None).await {
        // Someone else made it meanwhile.
        Err(CatalogError::AlreadyExists { .. }) => Ok(store.database(name).await?),
        created => Ok(created?),
    }
}

/// Workers that registered lately.
fn alive(workers: &[Worker]) -> Vec<Worker> {
    let now = unix_ms(SystemTime::now());
    workers.iter().filter(|worker| now - worker.last_seen_unix_ms <= ABANDONED_AFTER_MS).cloned().collect()
}

/// Shows that the transaction is alive until the set is dropped; stops the work when it was taken over.
fn heartbeat(store: Arc<dyn CatalogStore>, transaction: TransactionId, stop: Stop) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            match store.heartbeat(transaction).await {
                Ok(()) => {}
                Err(error @ (CatalogError::TransactionClosed { .. } | CatalogError::NotFound { .. })) => {
                    tracing::error!(%transaction, %error, "transaction lost");
                    stop.set();
                    return;
                }
                // The store may come back before the transaction counts as abandoned.
                Err(error) => tracing::warn!(%transaction, %error, "no heartbeat"),
            }
        }
    });
    tasks
}

async fn remove_staging(staging: &Path) {
    if let Err(error) = tokio::fs::remove_dir_all(staging).await {
        tracing::warn!(folder = %staging.display(), %error, "staging folder not removed");
    }
}

/// Runs work that keeps a processor busy, away from the async threads.
async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| IngestError::Thread(what))?
}
