//! The worker's side of shuffled queries: tasks of stages are set up, read and ended here.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use datafusion::common::{Result as PlanResult, exec_err, internal_datafusion_err};
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion_distributed::{
    CoordinatorToWorkerMsg, DistributedExt, ExecuteTaskRequest, MaybeEncoded, ProducerHead, SetPlanRequest, TaskKey,
    Worker, WorkerPlanRewriteEvent, WorkerPlanRewriteEventResponse, WorkerQueryContext, WorkerSessionBuilder,
};
use futures::StreamExt;
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use skyflight_proto::tls::Dialer;
use skyflight_proto::{ClusterKeys, PartitionTicket, ScanCounters, StageTask, StageTicket};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;
use uuid::Uuid;

use super::channel::{Asker, StageChannels};
use super::leaf::{StageContext, StageCost};
use super::lines::Lines;
use crate::fragment::{FragmentRuntime, error_of};
use crate::interrupt::{QueryCancel, protect};
use crate::plan::codec::FragmentCodec;
use crate::{EngineError, Result};

pub use super::leaf::ChunkFiles;

/// Names the task that a session is for, between [`StageHost::begin`] and the library's call back.
const SETUP_HEADER: &str = "x-skyflight-setup";

/// Runs the tasks of stages on one worker. To be called on the runtime that computes.
pub struct StageHost {
    worker: Worker,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for StageHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StageHost").finish_non_exhaustive()
    }
}

struct Shared {
    fragments: Arc<FragmentRuntime>,
    files: Arc<dyn ChunkFiles>,
    keys: Arc<ClusterKeys>,
    lines: Arc<Lines>,
    setups: Mutex<HashMap<u64, Setup>>,
    next_setup: AtomicU64,
}

/// What a session of a task is made with.
#[derive(Clone)]
struct Setup {
    asker: Asker,
    cost: Arc<StageCost>,
    cancel: CancellationToken,
}

/// A task that was set up. Dropping it ends whatever still runs of it.
#[derive(Debug)]
pub struct RunningStage {
    _end: oneshot::Sender<()>,
    _cancel: DropGuard,
    cost: Arc<StageCost>,
}

impl RunningStage {
    /// Chunks finished so far, and what they have cost.
    pub fn cost(&self) -> (u64, ScanCounters) {
        self.cost.so_far()
    }
}

impl StageHost {
    /// A host whose leaves read `files`, whose work is done within the bounds of `fragments`, and
    /// whose tasks reach each other with `dialer` over `network` under tickets signed with `keys`.
    pub fn new(
        fragments: Arc<FragmentRuntime>,
        files: Arc<dyn ChunkFiles>,
        keys: Arc<ClusterKeys>,
        dialer: Dialer,
        network: Handle,
    ) -> StageHost {
        let runtime = fragments.runtime_env();
        let shared = Arc::new(Shared {
            fragments,
            files,
            keys,
            lines: Arc::new(Lines::new(network, dialer)),
            setups: Mutex::default(),
            next_setup: AtomicU64::new(0),
        });
        let sessions = StageSessions(Arc::clone(&shared));
        let worker = Worker::from_session_builder(sessions).with_runtime_env(runtime);
        StageHost { worker, shared }
    }

    /// Sets up the task of a verified ticket, until `stop` is cancelled or what this gives is dropped.
    ///
    /// # Errors
    /// A ticket that contradicts itself, or a plan that cannot be decoded.
    pub async fn begin(
        &self,
        query: Uuid,
        user: String,
        ticket: StageTicket,
        stop: &CancellationToken,
    ) -> Result<RunningStage> {
        let key = key_of(ticket.task.as_ref())?;
        let address = Url::parse(&ticket.address)
            .map_err(|e| EngineError::Internal(format!("a stage's address {} is none: {e}", ticket.address)))?;
        let cost = Arc::new(StageCost::default());
        let cancel = stop.child_token();
        let asker = Asker { keys: Arc::clone(&self.shared.keys), query, user };
        let setup = Setup { asker, cost: Arc::clone(&cost), cancel: cancel.clone() };
        let cancel = cancel.drop_guard();
        let (end, ended) = oneshot::channel();
        let until = futures::stream::once(ended)
            .filter_map(|_| std::future::ready(None::<PlanResult<CoordinatorToWorkerMsg>>))
            .boxed();
        let request = SetPlanRequest {
            task_key: key,
            task_count: ticket.tasks as usize,
            plan: MaybeEncoded::Encoded(ticket.plan.to_vec()),
            work_unit_feed_declarations: Vec::new(),
            target_worker_url: address,
            query_start_time_ns: 0,
        };
        let number = self.shared.next_setup.fetch_add(1, Ordering::Relaxed);
        self.shared.setups.lock().insert(number, setup);
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static(SETUP_HEADER), HeaderValue::from(number))]);
        let set = self.worker.coordinator_channel(headers, request, until).await;
        self.shared.setups.lock().remove(&number);
        // What it would tell is the library's metrics, which nobody collects.
        drop(set.map_err(error_of)?);
        Ok(RunningStage { _end: end, _cancel: cancel, cost })
    }

    /// The rows of one partition of a task, waiting a while for the task to be set up.
    ///
    /// # Errors
    /// There is no such task or partition, or it cannot start.
    pub async fn read(&self, ticket: PartitionTicket) -> Result<SendableRecordBatchStream> {
        let producer_head = match ticket.partitioning {
            Some(bytes) => ProducerHead::RepartitionExec { partitioning: MaybeEncoded::Encoded(bytes.to_vec()) },
            None => ProducerHead::None,
        };
        let partition = ticket.partition as usize;
        let request = ExecuteTaskRequest {
            task_key: key_of(ticket.task.as_ref())?,
            target_partition_start: partition,
            target_partition_end: partition + 1,
            producer_head,
        };
        let (mut streams, _context) = self.worker.execute_task(request).await.map_err(error_of)?;
        streams.pop().ok_or_else(|| EngineError::Internal("a task gave no partition".into()))
    }
}

fn key_of(task: Option<&StageTask>) -> Result<TaskKey> {
    let wrong = || EngineError::Internal("a ticket that names no task of a stage".into());
    let task = task.ok_or_else(wrong)?;
    Ok(TaskKey {
        query_id: Uuid::from_slice(&task.run).map_err(|_| wrong())?,
        stage_id: task.stage as usize,
        task_number: task.task as usize,
    })
}

/// Builds the session in which one task is decoded and run.
struct StageSessions(Arc<Shared>);

#[async_trait]
impl WorkerSessionBuilder for StageSessions {
    async fn build_session_state(&self, mut context: WorkerQueryContext) -> PlanResult<SessionState> {
        let number = context.headers.get(SETUP_HEADER).and_then(|n| n.to_str().ok()?.parse().ok());
        let setup = number.and_then(|number: u64| self.0.setups.lock().get(&number).cloned());
        let Some(setup) = setup else { return exec_err!("a stage that nobody set up") };
        let config = context.builder.config().take().unwrap_or_default();
        let stage = StageContext {
            fragments: Arc::clone(&self.0.fragments),
            files: Arc::clone(&self.0.files),
            cost: Arc::clone(&setup.cost),
            cancel: setup.cancel.clone(),
        };
        let channels = StageChannels::new(setup.asker, Arc::clone(&self.0.lines), None);
        let cancel = setup.cancel.clone();
        let config = config
            .with_batch_size(self.0.fragments.batch_rows())
            .with_sort_spill_reservation_bytes(self.0.fragments.sort_reservation())
            .with_extension(Arc::new(stage))
            .with_extension(Arc::new(QueryCancel(setup.cancel)))
            .with_distributed_user_codec(FragmentCodec)
            .with_distributed_channel_resolver(channels)
            .with_distributed_worker_plan_rewrite_handler(move |event: WorkerPlanRewriteEvent<'_>| {
                Ok(WorkerPlanRewriteEventResponse::new(protect_task(event.plan, &cancel)?))
            });
        let runtime = self.0.fragments.runtime_env();
        Ok(crate::registry::state_builder(config).with_runtime_env(runtime).build())
    }
}

/// Lets a task be stopped. The repartition at its head, if there is one, stays at its head: the
/// library replaces it when it is told into how many partitions rows are to be divided.
fn protect_task(plan: Arc<dyn ExecutionPlan>, cancel: &CancellationToken) -> PlanResult<Arc<dyn ExecutionPlan>> {
    let Some(repartition) = plan.downcast_ref::<RepartitionExec>() else { return protect(plan, cancel) };
    let input = protect(Arc::clone(repartition.input()), cancel)?;
    Arc::clone(&plan)
        .replace_children(vec![input], ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
        .map_err(|e| internal_datafusion_err!("a repartition takes no other input: {e}"))
}
