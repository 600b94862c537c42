//! What a coordinator can be told. Values come checked; where they come from is the binary's affair.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skyflight_engine::guard::SqlLimits;
use skyflight_engine::shuffle::ShuffleConfig;
use skyflight_proto::ClusterKeys;
use skyflight_proto::tls::NodeTls;

use crate::auth::AuthMode;
use crate::jobs::JobsConfig;
use crate::session::EndpointMode;
use crate::uploads::{TableWriter, UploadLimits};

/// How a coordinator listens, plans and limits.
#[derive(Debug, Clone)]
pub struct CoordinatorConfig {
    /// The address of the Flight SQL port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The cluster's keys: the first signs tickets.
    pub keys: Arc<ClusterKeys>,
    /// The keys of session tokens. Default: those of the cluster.
    pub token_keys: Arc<ClusterKeys>,
    /// The database in which unqualified names are looked up first, unless the client says another.
    pub default_database: Option<String>,
    /// How long the ticket of a statement's rows may be redeemed. Default 1 h.
    pub ticket_ttl: Duration,
    /// The longest life of a statement's ticket, however often it is renewed; at least `ticket_ttl`. The files of
    /// a snapshot are kept so long after another has taken them away, and for `ticket_ttl` more. Default 7 days.
    pub renewal_limit: Duration,
    /// Certificates of this coordinator and of those it believes; without them it speaks in clear.
    pub tls: Option<Arc<NodeTls>>,
    /// Who may ask. Default: whoever reaches the port.
    pub auth: AuthMode,
    /// How long a bearer token is good, in whole seconds. Default 24 h.
    pub token_ttl: Duration,
    /// How long a session lasts, however often its token is given out anew, in whole seconds. Default 7 d.
    pub session_max: Duration,
    /// How long a planned query waits to be fetched before it has to be planned again. Default 120 s.
    pub plan_ttl: Duration,
    /// Most planned queries that wait to be fetched. Default 1,000.
    pub plans_waiting: usize,
    /// Most queries that plan or run at a time; above it `ResourceExhausted`. Default 256.
    pub max_queries: usize,
    /// Limits on SQL text, checked before planning.
    pub sql_limits: SqlLimits,
    /// Threads that plan and merge, apart from the network's. Default: one for each processor.
    pub threads: usize,
    /// Partitions of a merge plan. Default: as many as threads, at least 2.
    pub merge_partitions: usize,
    /// Memory of all merge plans together, in bytes. Default 1 GiB.
    pub memory_bytes: usize,
    /// The folder for what merge plans spill.
    pub spill_dir: PathBuf,
    /// Most bytes spilled at once. Default 64 GiB.
    pub spill_bytes: u64,
    /// The folder of the director indexes, where this machine has them. Default: none.
    pub index_dir: Option<PathBuf>,
    /// What writes tables of users' own; without it they are not written here.
    pub table_writer: Option<Arc<dyn TableWriter>>,
    /// What all tables of one user may hold. Default 10^9 rows and 64 GiB.
    pub user_quota: UploadLimits,
    /// When queries are shuffled between workers. Default: from 5,000,000 rows or 256 MiB on.
    pub shuffle: ShuffleConfig,
    /// Whether workers serve rows to clients that do not say; never to those that may not follow.
    /// Default: auto.
    pub endpoints: EndpointMode,
    /// Bytes of chunk files that a query has to read before `auto` sends a client to the workers.
    /// Default 16 MiB.
    pub direct_bytes: u64,
    /// Jobs and their results.
    pub jobs: JobsConfig,
    /// How long running queries may take to end at shutdown. Default 5 s.
    pub shutdown_grace: Duration,
}

impl CoordinatorConfig {
    /// The defaults, for a coordinator at `listen` with these keys that spills to `spill_dir` and keeps
    /// its jobs in the folder `jobs` within it.
    pub fn new(listen: SocketAddr, keys: Arc<ClusterKeys>, spill_dir: PathBuf) -> Self {
        let jobs = JobsConfig::new(spill_dir.join("jobs"));
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        CoordinatorConfig {
            listen,
            token_keys: Arc::clone(&keys),
            keys,
            default_database: None,
            ticket_ttl: Duration::from_secs(3_600),
            renewal_limit: Duration::from_secs(7 * 24 * 3_600),
            tls: None,
            auth: AuthMode::Open,
            token_ttl: Duration::from_secs(24 * 3_600),
            session_max: Duration::from_secs(7 * 24 * 3_600),
            plan_ttl: Duration::from_secs(120),
            plans_waiting: 1_000,
            max_queries: 256,
            sql_limits: SqlLimits::default(),
            threads,
            merge_partitions: threads.max(2),
            memory_bytes: 1 << 30,
            spill_dir,
            spill_bytes: 64 << 30,
            index_dir: None,
            table_writer: None,
            user_quota: UploadLimits { rows: 1_000_000_000, bytes: 64 << 30 },
            shuffle: ShuffleConfig { partitions: threads.max(2), ..ShuffleConfig::default() },
            endpoints: EndpointMode::Auto,
            direct_bytes: 16 << 20,
            jobs,
            shutdown_grace: Duration::from_secs(5),
        }
    }
}
