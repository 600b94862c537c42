//! `skyflight demo`: real catalogs and a synthetic release, loaded once; six queries; and a server
//! that stays up.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use arrow::array::AsArray;
use futures::TryStreamExt;
use skyflight_client::{Connection, Format, write_rows};
use skyflight_ingest::{CommitMode, GenerateRequest, ProgressLine, TableDescription, TableSource};

use skyflight_server::AuthMode;

use crate::cli::DemoArgs;
use crate::config::Config;
use crate::ingest::{Load, load};
use crate::node::{Home, start_coordinator, start_workers, stop_signal};
use crate::sources::table_sources;

/// Real catalogs, with their descriptions; see those for the sources.
const REAL: [(&str, &str, &[u8]); 2] = [
    ("hipparcos.parquet", include_str!("../demo/hipparcos.toml"), include_bytes!("../demo/hipparcos.parquet")),
    ("tycho2.parquet", include_str!("../demo/tycho2.toml"), include_bytes!("../demo/tycho2_bright.parquet")),
];

/// Seed of the synthetic release.
const SEED: u64 = 1;

/// What each query shows, and its text. `{id}` is an object with many sources.
const QUERIES: [(&str, &str); 6] = [
    (
        "cone search: the brightest objects within 0.3 degrees of a point",
        "SELECT objectId, ra, dec, rMag FROM synthetic.Object \
         WHERE CONTAINS(POINT(ra, dec), CIRCLE(266.4, -29.0, 0.3)) = 1 ORDER BY rMag LIMIT 5",
    ),
    (
        "light curve: one object's detections in time",
        "SELECT midPointTai, band, mag, magErr FROM synthetic.Source WHERE objectId = {id} ORDER BY midPointTai LIMIT 8",
    ),
    (
        "colour cut: a scan of everything",
        "SELECT count(*) AS n, avg(gMag - rMag) AS mean_colour FROM synthetic.Object \
         WHERE gMag - rMag BETWEEN 0.3 AND 0.6 AND rMag < 21",
    ),
    (
        "sky map: counts by HEALPix cell of order 2",
        "SELECT healpix_index(2, ra, dec) AS cell, count(*) AS n FROM synthetic.Object GROUP BY cell ORDER BY n DESC LIMIT 5",
    ),
    (
        "director and child: mean magnitudes of the objects in a box",
        "SELECT o.objectId, count(*) AS detections, avg(s.mag) AS mean_mag, stddev(s.mag) AS scatter \
         FROM synthetic.Object o JOIN synthetic.Source s ON s.objectId = o.objectId \
         WHERE o.ra BETWEEN 10 AND 14 AND o.dec BETWEEN -3 AND 1 \
         GROUP BY o.objectId HAVING count(*) > 5 ORDER BY scatter DESC LIMIT 5",
    ),
    (
        "match: Hipparcos and Tycho-2 within 2 arcseconds",
        "SELECT count(*) AS pairs, count(DISTINCT h.hip) AS stars, avg(separation(h.ra_j1991, h.dec_j1991, t.ra, t.dec)) * 3600 AS mean_arcsec \
         FROM stars.hipparcos h JOIN stars.tycho2 t \
         ON separation(h.ra_j1991, h.dec_j1991, t.ra, t.dec) < 2.0 / 3600",
    ),
];

pub(crate) async fn run(args: DemoArgs, mut config: Config) -> Result<()> {
    config.coordinator.listen = free_or_given(args.listen)?;
    config.check()?;
    ensure!(
        !config.tls.is_on() && config.auth_mode()? == AuthMode::Open,
        "the demo is for one person on one machine: it has neither TLS nor users; use skyflight serve"
    );
    let home = Home::open(&args.data_dir, &config).await?;
    let Some(_lock) = home.try_lock()? else {
        bail!("a demo already runs on {}; stop it, or give another --data-dir", args.data_dir.display());
    };
    let workers = start_workers(&home, &config).await?;
    let coordinator = start_coordinator(&home, &config).await?;
    let url = home.url(&coordinator);
    println!("a coordinator and {} workers run in this process; data in {}", workers.len(), home.folder.display());
    load_stars(&home, &config).await?;
    load_synthetic(&home, &config, &args).await?;

    let mut connection = Connection::open(&url).await?;
    ask(&mut connection).await?;
    say_how_to_connect(&url);
    if !args.exit {
        println!("serving until Ctrl-C");
        stop_signal().await?;
    }
    drop(connection);
    coordinator.shutdown().await?;
    for worker in workers {
        worker.shutdown().await;
    }
    Ok(())
}

/// The address asked for, or a free port beside it where somebody listens there already.
fn free_or_given(listen: SocketAddr) -> Result<SocketAddr> {
    match TcpListener::bind(listen) {
        Ok(_) => Ok(listen),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            println!("{listen} is in use; taking a free port");
            Ok(SocketAddr::new(listen.ip(), 0))
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on {listen}")),
    }
}

async fn is_loaded(home: &Home, database: &str) -> Result<bool> {
    let databases = home.store.databases().await?;
    Ok(databases.iter().any(|d| d.name == database && d.current.is_some()))
}

async fn load_stars(home: &Home, config: &Config) -> Result<()> {
    if is_loaded(home, "stars").await? {
        println!("database stars is there already");
        return Ok(());
    }
    let folder = home.folder.join("demo-input");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut tables = Vec::new();
    for (file, description, bytes) in REAL {
        let path = folder.join(file);
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        let description = TableDescription::parse(description, file)?;
        tables.push(TableSource { description, inputs: vec![path], mode: CommitMode::Append });
    }
    load_database(home, config, "stars", tables, &folder).await
}

async fn load_synthetic(home: &Home, config: &Config, args: &DemoArgs) -> Result<()> {
    if is_loaded(home, "synthetic").await? {
        println!("database synthetic is there already");
        return Ok(());
    }
    let folder = home.folder.join("demo-synthetic");
    let started = Instant::now();
    let report = skyflight_ingest::generate(GenerateRequest {
        objects: args.objects,
        sources_per_object: args.sources,
        forced_per_object: 0,
        seed: SEED,
        threads: 0,
        output: folder.clone(),
        progress: Some(Arc::new(ProgressLine::new())),
    })
    .await?;
    println!(
        "generated {} objects and {} sources in {:.1} s",
        report.object_rows,
        report.source_rows,
        started.elapsed().as_secs_f64()
    );
    let tables = table_sources(&folder.display().to_string(), CommitMode::Append)?;
    load_database(home, config, "synthetic", tables, &folder).await
}

/// Loads a database and removes the input it was loaded from.
async fn load_database(
    home: &Home,
    config: &Config,
    database: &str,
    tables: Vec<TableSource>,
    input: &Path,
) -> Result<()> {
    let work = Load { database: database.to_string(), tables, rejects: None };
    let report = load(work, config, home).await?;
    for table in &report.tables {
        println!("loaded {database}.{}: {} rows in {} chunks", table.table, table.rows, table.chunks);
    }
    std::fs::remove_dir_all(input).with_context(|| format!("cannot remove {}", input.display()))
}

async fn ask(connection: &mut Connection) -> Result<()> {
    let id = busy_object(connection).await?;
    for (number, (title, sql)) in QUERIES.iter().enumerate() {
        let sql = sql.replace("{id}", &id.to_string());
        let chunks = chunks_touched(connection, &sql).await?;
        println!("\n{}. {title}\n{sql}", number + 1);
        let started = Instant::now();
        let rows = connection.query(&sql).await?;
        let schema = rows.schema();
        let summary = write_rows(Format::Table, schema, rows, &mut std::io::stdout(), |_| {}).await?;
        println!("{} rows in {:.1} ms; {}", summary.rows, started.elapsed().as_secs_f64() * 1e3, chunks.join("; "));
    }
    Ok(())
}

/// An object with detections, so that its light curve shows something.
async fn busy_object(connection: &mut Connection) -> Result<i64> {
    let sql = "SELECT objectId FROM synthetic.Source WHERE objectId IS NOT NULL GROUP BY objectId ORDER BY count(*) DESC, objectId LIMIT 1";
    let batches: Vec<_> = connection.query(sql).await?.try_collect().await?;
    batches
        .iter()
        .find(|b| b.num_rows() > 0)
        .and_then(|b| b.column(0).as_primitive_opt::<arrow::datatypes::Int64Type>().map(|c| c.value(0)))
        .ok_or_else(|| anyhow!("the synthetic release has no sources"))
}

/// What EXPLAIN says of chunks, one line for each leaf of the plan.
async fn chunks_touched(connection: &mut Connection, sql: &str) -> Result<Vec<String>> {
    let batches: Vec<_> = connection.query(&format!("EXPLAIN {sql}")).await?.try_collect().await?;
    let mut lines = Vec::new();
    for batch in &batches {
        let (Some(types), Some(plans)) =
            (batch.column(0).as_string_opt::<i32>(), batch.column(1).as_string_opt::<i32>())
        else {
            bail!("EXPLAIN did not give text");
        };
        for (kind, plan) in types.iter().zip(plans.iter()) {
            if let (Some(kind), Some(plan)) = (kind, plan)
                && kind.starts_with("chunks")
            {
                lines.push(plan.split(';').next().unwrap_or(plan).to_string());
            }
        }
    }
    Ok(lines)
}

fn say_how_to_connect(url: &str) {
    let address = url.trim_start_matches("http://");
    println!(
        "
The server listens on {url}. From another terminal:

  shell    skyflight sql --url {url}

  Python   pip install adbc-driver-flightsql adbc-driver-manager pyarrow
           import adbc_driver_flightsql.dbapi as sky
           with sky.connect(\"grpc://{address}\", autocommit=True) as connection, connection.cursor() as cursor:
               cursor.execute(\"SELECT count(*) FROM stars.hipparcos\")
               print(cursor.fetch_arrow_table())

  Rust     let mut sky = skyflight_client::Connection::open(\"{url}\").await?;
           let rows = sky.query(\"SELECT count(*) FROM stars.hipparcos\").await?;
"
    );
}
