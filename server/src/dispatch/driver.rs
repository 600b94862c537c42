//! One dispatch from its first stream to its last committed chunk.

use std::sync::Arc;
use std::time::Instant;

use skyflight_engine::dispatch::QueryCounters;
use skyflight_engine::{EngineError, Result};
use tokio::task::{JoinError, JoinSet};
use tracing::{debug, warn};

use super::failure::Failure;
use super::ledger::Job;
use super::relay::{Outlet, Totals};
use super::roster::Roster;
use super::task::{Outcome, Task, Work};
use super::ticket::chunk_bytes;

/// Runs every chunk exactly once, or says why not. Dropping the future drops every stream.
pub(super) async fn drive(work: Arc<Work>, outlet: Outlet) -> Result<Totals> {
    let cancel = work.request.query.cancel.clone();
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(EngineError::Cancelled),
        totals = Drive::run(work, outlet) => totals,
    }
}

struct Drive {
    work: Arc<Work>,
    outlet: Outlet,
    roster: Roster,
    streams: JoinSet<Outcome>,
    totals: Totals,
}

impl Drive {
    async fn run(work: Arc<Work>, outlet: Outlet) -> Result<Totals> {
        let begun = Instant::now();
        let listing = work.shared.book.listing().await?;
        let request = &work.request;
        let roster = Roster::new(&request.chunks.workers, request.query.id, |worker| {
            work.shared.book.doubtful(worker, &listing)
        });
        let planned = request.chunks.chunks.len();
        debug!(query_id = %request.query.id, chunks = planned, workers = request.chunks.workers.len(), "chunks dispatched");
        let mut drive =
            Drive { work: Arc::clone(&work), outlet, roster, streams: JoinSet::new(), totals: Totals::default() };
        drive.give_all()?;
        while drive.step().await? {}
        // The one place where a dispatch can end well.
        if drive.totals.chunks != planned {
            return Err(EngineError::Internal(format!(
                "{} of {planned} chunks were committed when the last stream ended",
                drive.totals.chunks
            )));
        }
        let elapsed_us = begun.elapsed().as_micros() as u64;
        debug!(query_id = %request.query.id, chunks = planned, rows = drive.totals.rows, elapsed_us, "chunks committed");
        Ok(drive.totals)
    }

    fn give_all(&mut self) -> Result<()> {
        let chunks = Arc::clone(&self.work.request.chunks);
        for (planned, chunk) in chunks.chunks.iter().enumerate() {
            if chunk.workers.is_empty() {
                return Err(EngineError::Unavailable(format!(
                    "no worker holds all files of chunk {}; start the workers that do, or ingest the table again",
                    chunk.chunk
                )));
            }
            let known = |worker: &u16| (*worker as usize) < chunks.workers.len();
            let planned = u32::try_from(planned).ok().filter(|_| chunk.workers.iter().all(known));
            let Some(planned) = planned else {
                return Err(EngineError::Internal(format!("chunk {} is planned on unknown workers", chunk.chunk)));
            };
            let job = Job { planned, attempts: 0, delivered: 0 };
            self.roster.give(job, chunk);
        }
        Ok(())
    }

    /// Opens the streams that can be, then waits for one to end. False when nothing is left to do.
    async fn step(&mut self) -> Result<bool> {
        self.open_streams();
        let wake_at = self.roster.wake_at().map(tokio::time::Instant::from_std);
        if self.streams.is_empty() && wake_at.is_none() {
            return Ok(false);
        }
        let wake = async {
            match wake_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(ended) = self.streams.join_next() => self.settle(ended)?,
            () = wake => {}
        }
        Ok(true)
    }

    fn open_streams(&mut self) {
        let chunks = &self.work.request.chunks.chunks;
        let bytes_of = |job: &Job| chunk_bytes(&chunks[job.planned as usize]);
        while let Some(batch) = self.roster.next(&self.work.shared.config, bytes_of) {
            let desk = self.roster.desk(batch.worker);
            let inline = !std::mem::replace(&mut desk.knows_fragment, true);
            let task = Task::new(&self.work, batch, desk.id.clone(), inline, self.outlet.another());
            self.streams.spawn_on(task.run(), &self.work.shared.runtime);
        }
    }

    fn settle(&mut self, ended: Result<Outcome, JoinError>) -> Result<()> {
        let outcome = ended.map_err(|e| EngineError::Internal(format!("a task stream stopped: {e}")))?;
        self.totals.chunks += outcome.committed;
        self.totals.rows += outcome.rows;
        let worker = outcome.worker;
        let book = &self.work.shared.book;
        match outcome.ended {
            Ok(()) => {
                book.record_success(&self.roster.desk(worker).id);
                self.roster.succeeded(worker);
                Ok(())
            }
            Err(Failure::Worker(reason)) => {
                book.record_failure(&self.roster.desk(worker).id);
                self.reassign(worker, outcome.answered, reason, outcome.unfinished)
            }
            Err(Failure::Query(error)) => Err(error),
            Err(Failure::FragmentUnknown) => Err(EngineError::Internal("a fragment was not sent".into())),
            Err(Failure::Gone) => Err(EngineError::Cancelled),
        }
    }

    /// Gives the unfinished chunks of a failed worker to others, or to itself after a pause.
    fn reassign(&mut self, worker: u16, answered: bool, reason: String, unfinished: Vec<Job>) -> Result<()> {
        let request = &self.work.request;
        let config = &self.work.shared.config;
        QueryCounters::add(&request.query.counters.retries, unfinished.len() as u64);
        let id = self.roster.desk(worker).id.clone();
        warn!(query_id = %request.query.id, worker = %id, %reason, unfinished = unfinished.len(), "worker failed, its chunks go elsewhere");
        let queued = self.roster.failed(worker, answered, reason, config);
        for job in unfinished.into_iter().chain(queued) {
            let chunk = &request.chunks.chunks[job.planned as usize];
            if job.attempts >= config.attempts_per_chunk {
                return Err(EngineError::Unavailable(format!(
                    "chunk {} could not be read in {} attempts ({}); check that these workers run and can be reached, \
                     then run the query again",
                    chunk.chunk,
                    job.attempts,
                    self.roster.reasons(chunk)
                )));
            }
            self.roster.give(job, chunk);
        }
        Ok(())
    }
}
