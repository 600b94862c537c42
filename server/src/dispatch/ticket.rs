//! Writes the signed ticket of one task.

use bytes::Bytes;
use skyflight_engine::dispatch::{DispatchRequest, PlannedChunk, QueryContext};
use skyflight_engine::trace;
use skyflight_proto::ticket::Body;
use skyflight_proto::{ChunkTask, ClusterKeys, TaskTicket, Ticket};
use uuid::Uuid;

use super::config::DispatchConfig;
use super::directory::unix_ms;
use super::ledger::Job;

/// The ticket for `jobs`, with the fragment in it if `inline`. Signed anew for each stream, because
/// a retry may come after the first ticket has expired.
pub(super) fn task_ticket(
    request: &DispatchRequest,
    config: &DispatchConfig,
    keys: &ClusterKeys,
    jobs: &[Job],
    attempt: u32,
    inline: bool,
) -> Bytes {
    let interactive = request.chunks.chunks.len() <= config.interactive_chunks;
    keys.sign(&Ticket {
        expires_unix_ms: unix_ms().saturating_add(config.ticket_ttl.as_millis() as i64),
        user: request.query.user.clone(),
        query_id: request.query.id.as_bytes().to_vec().into(),
        body: Some(Body::Task(task(request, interactive, jobs, attempt, inline))),
    })
}

/// What such a ticket asks for.
pub(super) fn task(
    request: &DispatchRequest,
    interactive: bool,
    jobs: &[Job],
    attempt: u32,
    inline: bool,
) -> TaskTicket {
    let chunks = jobs.iter().map(|job| chunk_task(&request.chunks.chunks[job.planned as usize], job));
    TaskTicket {
        // The file ids are those of the snapshots, and the fragment's hash binds the schema: both
        // are under the signature, so neither is repeated here.
        snapshots: Vec::new(),
        schema_hash: Bytes::new(),
        fragment_hash: request.fragment.hash.to_vec().into(),
        fragment: inline.then(|| request.fragment.bytes.clone()),
        deterministic: request.deterministic,
        chunks: chunks.collect(),
        attempt,
        interactive,
        traceparent: traceparent(&request.query),
    }
}

/// What a chunk takes in a ticket at most, in bytes: varints of 10 bytes for ids, 5 for counts.
pub(super) fn chunk_bytes(chunk: &PlannedChunk) -> usize {
    40 + 10 * chunk.files.len() + 5 * chunk.files_per_scan.len()
}

fn chunk_task(chunk: &PlannedChunk, job: &Job) -> ChunkTask {
    ChunkTask {
        chunk: chunk.chunk.0,
        files: chunk.files.iter().map(|file| file.0).collect(),
        files_per_scan: chunk.files_per_scan.clone(),
        skip_rows: job.delivered,
    }
}

/// The query's span; where it has none, a W3C trace context with the query's id as the trace.
fn traceparent(query: &QueryContext) -> String {
    trace::traceparent(&query.trace).unwrap_or_else(|| {
        let (_, span) = Uuid::new_v4().as_u64_pair();
        format!("00-{}-{span:016x}-01", query.id.simple())
    })
}
