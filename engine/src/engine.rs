//! What all sessions of a coordinator share.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::execution::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::optimizer::{Analyzer, AnalyzerRule};
use datafusion::physical_optimizer::aggregate_statistics::AggregateStatistics;
use datafusion::prelude::SessionConfig;
use moka::sync::Cache;
use skyflight_catalog::{CatalogStore, SnapshotId};
use tokio::runtime::Handle;

use crate::director_index::{IndexHome, PageCache};
use crate::dispatch::ChunkDispatcher;
use crate::fragment::{bounded_runtime, sort_reservation};
use crate::functions::{AreaSpecRule, IntegerPredicateRule};
use crate::guard::SqlLimits;
use crate::own::sees;
use crate::plan::fold::FoldIntoFragment;
use crate::plan::planner::SkyQueryPlanner;
use crate::registry::state_builder;
use crate::repair::{analyzer_rules, optimizer_rules, physical_rules};
use crate::session::{Session, SessionOptions};
use crate::shuffle::{ShuffleConfig, Shuffler};
use crate::system::SystemTables;
use crate::tables::SnapshotIndex;
use crate::{EngineError, Result};

/// Snapshots kept arranged for planning; one is current per database, the rest serve old tickets.
const INDEXED_SNAPSHOTS: u64 = 64;

/// How a coordinator plans and merges.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Partitions of a merge plan; at least 2.
    pub target_partitions: usize,
    /// Memory of all merge plans together.
    pub memory_bytes: usize,
    /// Folder for what merge plans spill.
    pub spill_dir: PathBuf,
    /// Most bytes spilled at once.
    pub spill_bytes: u64,
    /// Folder of the director indexes, where this machine has them; without it ids are looked for in
    /// the statistics of chunk files alone.
    pub index_dir: Option<PathBuf>,
    /// Limits on SQL text, checked before planning.
    pub limits: SqlLimits,
    /// Database in which unqualified tables are looked up first.
    pub default_database: Option<String>,
    /// When queries are shuffled between workers.
    pub shuffle: ShuffleConfig,
    /// Where planning and merging run, apart from the network: its threads need stacks of 16 MiB,
    /// because planners recurse.
    pub runtime: Handle,
}

/// Plans and runs queries; cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
    /// `None` where there is no database `system`.
    pub(crate) system: Option<Arc<dyn SystemTables>>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: EngineConfig,
    pub(crate) store: Arc<dyn CatalogStore>,
    pub(crate) dispatcher: Arc<dyn ChunkDispatcher>,
    /// Everything of a session that does not depend on the query.
    pub(crate) template: SessionState,
    /// `None` where queries cannot be shuffled.
    pub(crate) shuffler: Option<Arc<Shuffler>>,
    indices: Cache<SnapshotId, Arc<SnapshotIndex>>,
    index_pages: Arc<PageCache>,
}

impl Shared {
    fn index_home(&self) -> Option<IndexHome<'_>> {
        let folder = self.config.index_dir.as_deref()?;
        Some(IndexHome { folder, pages: &self.index_pages })
    }
}

impl Engine {
    /// Builds the engine.
    ///
    /// # Errors
    /// The spill folder cannot be used.
    pub fn new(
        config: EngineConfig,
        store: Arc<dyn CatalogStore>,
        dispatcher: Arc<dyn ChunkDispatcher>,
    ) -> Result<Self> {
        std::fs::create_dir_all(&config.spill_dir).map_err(|e| {
            EngineError::Internal(format!("cannot create the spill folder {}: {e}", config.spill_dir.display()))
        })?;
        let runtime = bounded_runtime(config.memory_bytes, config.spill_dir.clone(), config.spill_bytes)?;
        let template = template(&config, &runtime);
        let shuffler = dispatcher.shuffle().map(|cluster| Arc::new(Shuffler::new(config.shuffle.clone(), cluster)));
        let indices = Cache::new(INDEXED_SNAPSHOTS);
        let index_pages = Arc::new(PageCache::new());
        let shared = Arc::new(Shared { config, store, dispatcher, template, shuffler, indices, index_pages });
        Ok(Engine { shared, system: None })
    }

    /// The same engine with the database `system`.
    #[must_use]
    pub fn with_system(self, system: Arc<dyn SystemTables>) -> Engine {
        Engine { system: Some(system), ..self }
    }

    /// DataFusion's state that every session begins with: functions, rules, planner and limits, and no
    /// tables.
    pub fn state(&self) -> &SessionState {
        &self.shared.template
    }

    /// Opens a session on the current snapshots, or on those named.
    ///
    /// # Errors
    /// The catalog store fails, or a named snapshot no longer exists.
    pub async fn session(&self, options: SessionOptions) -> Result<Session> {
        let snapshots = match &options.snapshots {
            None => self.shared.store.current_snapshots().await?,
            Some(named) => {
                let mut snapshots = Vec::with_capacity(named.len());
                for (_, snapshot) in named {
                    snapshots.push(self.shared.store.snapshot(*snapshot).await?);
                }
                snapshots
            }
        };
        // What a user may not see does not exist in the session.
        let snapshots: Vec<_> =
            snapshots.into_iter().filter(|snapshot| sees(&options.user, &snapshot.database.name)).collect();
        let mut indices = Vec::with_capacity(snapshots.len());
        for snapshot in &snapshots {
            indices.push(match self.shared.indices.get(&snapshot.id) {
                Some(index) => index,
                None => {
                    let index = Arc::new(SnapshotIndex::build(snapshot, self.shared.index_home())?);
                    self.shared.indices.insert(snapshot.id, Arc::clone(&index));
                    index
                }
            });
        }
        Ok(Session::new(self.clone(), options, snapshots, indices))
    }
}

fn template(config: &EngineConfig, runtime: &Arc<RuntimeEnv>) -> SessionState {
    let fragment_config = SessionConfig::new()
        .with_target_partitions(1)
        .set_bool("datafusion.optimizer.enable_dynamic_filter_pushdown", false);
    let fragments = state_builder(fragment_config).with_runtime_env(Arc::clone(runtime)).build();
    let session_config = SessionConfig::new()
        .with_target_partitions(config.target_partitions.max(2))
        .with_sort_spill_reservation_bytes(sort_reservation(config.memory_bytes))
        .with_default_catalog_and_schema(CATALOG, "information_schema")
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .set_bool("datafusion.sql_parser.enable_ident_normalization", false)
        // DataFusion moves a limit below a window whose frame looks ahead, which then sees too little.
        .set_bool("datafusion.optimizer.enable_window_limits", false)
        // Units and roles of columns are merged otherwise by a logical than by a physical UNION.
        .set_bool("datafusion.execution.skip_physical_aggregate_schema_check", true);
    // What the snapshot knows needs no fragment. Then comes folding, before all else: it needs each
    // node directly on its leaf.
    let mut rules = vec![Arc::new(AggregateStatistics::new()) as _, Arc::new(FoldIntoFragment) as _];
    rules.extend(physical_rules());
    // Integer predicates become comparisons before types are coerced, which would reject them.
    let mut analyzers: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![Arc::new(IntegerPredicateRule)];
    analyzers.extend(Analyzer::new().rules);
    analyzers.extend(analyzer_rules());
    analyzers.push(Arc::new(AreaSpecRule));
    state_builder(session_config)
        .with_runtime_env(Arc::clone(runtime))
        .with_analyzer_rules(analyzers)
        .with_optimizer_rules(optimizer_rules())
        .with_physical_optimizer_rules(rules)
        .with_query_planner(Arc::new(SkyQueryPlanner { fragments: Arc::new(fragments) }))
        .build()
}

/// The one Flight SQL catalog.
pub(crate) const CATALOG: &str = "skyflight";
