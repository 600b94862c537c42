//! `skyflight ingest` and `skyflight generate`.

use std::sync::Arc;

use anyhow::{Result, ensure};
use skyflight_ingest::{CommitMode, GenerateRequest, IngestReport, IngestRequest, ProgressLine, TableSource, infer};
use skyflight_proto::tls::Dialer;

use crate::cli::{GenerateArgs, IngestArgs, Mode};
use crate::config::Config;
use crate::node::{Home, start_workers};
use crate::sources::table_sources;

pub(crate) async fn run(args: IngestArgs, mut config: Config) -> Result<()> {
    let mode = match args.mode {
        Mode::Append => CommitMode::Append,
        Mode::Replace => CommitMode::Replace,
    };
    let mut tables = Vec::new();
    for source in &args.sources {
        tables.extend(table_sources(source, mode)?);
    }
    if args.dry_run {
        return show(&tables).await;
    }
    if let Some(replicas) = args.replicas {
        config.ingest.replicas = replicas;
    }
    let home = Home::open(&args.data_dir, &config).await?;
    // Where no server runs here, its workers are started for the while; where one does, its
    // workers are in the catalog.
    let lock = home.try_lock()?;
    let workers = match &lock {
        Some(_) => start_workers(&home, &config).await?,
        None => Vec::new(),
    };
    let work = Load { database: args.database, tables, rejects: args.rejects };
    let answer = load(work, &config, &home).await;
    for worker in workers {
        worker.shutdown().await;
    }
    report(&answer?);
    Ok(())
}

/// What to load.
pub(crate) struct Load {
    pub(crate) database: String,
    pub(crate) tables: Vec<TableSource>,
    pub(crate) rejects: Option<std::path::PathBuf>,
}

pub(crate) async fn load(work: Load, config: &Config, home: &Home) -> Result<IngestReport> {
    let request = IngestRequest {
        staging_dir: home.folder.join("staging").join(&work.database),
        index_dir: home.folder.join("index"),
        database: work.database,
        tables: work.tables,
        replicas: config.ingest.replicas,
        memory_bytes: config.ingest.memory_mib << 20,
        threads: config.ingest.threads,
        rejects: work.rejects,
        dialer: Dialer::new(home.tls.clone()),
        progress: Some(Arc::new(ProgressLine::new())),
    };
    Ok(skyflight_ingest::ingest(request, Arc::clone(&home.store), Arc::clone(&home.keys)).await?)
}

async fn show(tables: &[TableSource]) -> Result<()> {
    for table in tables {
        println!("{}", infer(&table.inputs, &table.description).await?);
    }
    Ok(())
}

fn report(report: &IngestReport) {
    for table in &report.tables {
        println!(
            "{}: {} rows in {} chunks, {} overlap rows, {} orphans, {} rejected",
            table.table, table.rows, table.chunks, table.overlap_rows, table.orphans, table.rejected
        );
    }
    println!("snapshot {}: {} files, {} bytes, {:.1} s", report.snapshot, report.files, report.bytes, report.seconds);
}

pub(crate) async fn generate(args: GenerateArgs) -> Result<()> {
    ensure!(args.objects > 0, "--objects must be at least 1");
    let report = skyflight_ingest::generate(GenerateRequest {
        objects: args.objects,
        sources_per_object: args.sources,
        forced_per_object: args.forced,
        seed: args.seed,
        threads: args.threads,
        output: args.output.clone(),
        progress: Some(Arc::new(ProgressLine::new())),
    })
    .await?;
    println!(
        "{} objects ({} exact duplicates), {} sources ({} orphans, {} duplicates), {} forced sources ({} orphans)",
        report.object_rows,
        report.duplicate_objects,
        report.source_rows,
        report.orphan_sources,
        report.duplicate_sources,
        report.forced_rows,
        report.orphan_forced
    );
    println!(
        "{} bytes in {:.1} s; load them with: skyflight ingest --database NAME {}",
        report.bytes,
        report.seconds,
        args.output.display()
    );
    Ok(())
}
