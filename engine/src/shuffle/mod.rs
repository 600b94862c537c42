//! Shuffled queries: the part of the merge plan that repartitions or sorts many rows runs on the
//! workers that hold the chunks, and the coordinator merges what is left.
//!
//! The way of one shuffled query:
//!
//! 1. `choice` looks at the merge plan and at the statistics of its leaves and says, with the
//!    reason that EXPLAIN shows, whether the rows should meet on the coordinator or on the workers.
//! 2. If on the workers, the query is planned again with joins that spill and without what cannot
//!    travel, `NOT IN` and `count(DISTINCT …)` in forms that can be divided (`divide`), and
//!    `exec::ShuffledExec` takes the place of the whole plan. Sub-queries of one value are asked before the
//!    rest is planned (`subqueries`).
//! 3. When it runs, `placement` gives each chunk to one of its reachable workers, `stages` cuts
//!    the plan into stages of one task per worker, and the library `datafusion-distributed`
//!    hands the tasks out. In task *k* a leaf is a `leaf::StageLeafExec`, which runs the fragment on
//!    the chunks of worker *k*, each once.
//! 4. Plans and rows travel over our own Flight service (`channel` asks, [`host`] serves), under
//!    tickets and with trailers like those of tasks: a partition whose trailer has not come, or
//!    does not agree with what came, is an error and never the end.
//! 5. The library retries nothing. A run that fails through no fault of the query's, while no row has
//!    left it, is made once more, with the workers looked at anew.
//!
//! Only this module names `datafusion-distributed`.

mod channel;
mod choice;
mod divide;
pub(crate) mod exec;
pub mod host;
pub(crate) mod leaf;
mod lines;
mod placement;
mod stages;
mod subqueries;

use std::fmt::Debug;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use skyflight_catalog::WorkerId;
use skyflight_proto::ClusterKeys;
use skyflight_proto::tls::Dialer;
use tokio::runtime::Handle;

pub(crate) use choice::{Choice, choose};
use lines::Lines;

use crate::{EngineError, Result};

/// Whether queries are shuffled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ShuffleMode {
    /// Where the estimates say so.
    #[default]
    Auto,
    /// Wherever it can be.
    Always,
    /// Nowhere.
    Never,
}

impl ShuffleMode {
    /// The name by which clients and configuration know it.
    pub fn name(self) -> &'static str {
        match self {
            ShuffleMode::Auto => "auto",
            ShuffleMode::Always => "always",
            ShuffleMode::Never => "never",
        }
    }
}

impl FromStr for ShuffleMode {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self> {
        let modes = [ShuffleMode::Auto, ShuffleMode::Always, ShuffleMode::Never];
        modes
            .into_iter()
            .find(|mode| text.eq_ignore_ascii_case(mode.name()))
            .ok_or_else(|| EngineError::Invalid(format!("shuffle is auto, always or never, not {text:?}")))
    }
}

/// When queries are shuffled, and how.
#[derive(Debug, Clone)]
pub struct ShuffleConfig {
    /// What holds for sessions that do not say.
    pub mode: ShuffleMode,
    /// Rows that may arrive at one repartition or sort of a merge plan; beyond them the query is
    /// shuffled.
    pub rows: u64,
    /// The same in bytes.
    pub bytes: u64,
    /// Bytes of the smaller side of a join beyond which a shuffled query sorts and merges both
    /// sides, which spills, instead of hashing one, which does not.
    pub sort_merge_bytes: u64,
    /// Partitions of each task.
    pub partitions: usize,
}

impl Default for ShuffleConfig {
    fn default() -> Self {
        ShuffleConfig {
            mode: ShuffleMode::Auto,
            rows: 5_000_000,
            bytes: 256 << 20,
            sort_merge_bytes: 256 << 20,
            partitions: 2,
        }
    }
}

/// The workers of a cluster, as shuffled queries need them.
#[async_trait]
pub trait ShuffleCluster: Debug + Send + Sync {
    /// For each of `workers` its address `http://host:port` if it answers now, else `None`.
    async fn reachable(&self, workers: &[WorkerId]) -> Result<Vec<Option<String>>>;

    /// The cluster's keys, which sign the tickets of stages.
    fn keys(&self) -> Arc<ClusterKeys>;

    /// How workers are reached.
    fn dialer(&self) -> Dialer {
        Dialer::default()
    }

    /// Where network work is done.
    fn network(&self) -> Handle;
}

/// What the shuffled queries of one coordinator share.
#[derive(Debug)]
pub(crate) struct Shuffler {
    pub(crate) config: ShuffleConfig,
    pub(crate) cluster: Arc<dyn ShuffleCluster>,
    lines: Arc<Lines>,
}

impl Shuffler {
    pub(crate) fn new(config: ShuffleConfig, cluster: Arc<dyn ShuffleCluster>) -> Self {
        let lines = Arc::new(Lines::new(cluster.network(), cluster.dialer()));
        Shuffler { config, cluster, lines }
    }
}
