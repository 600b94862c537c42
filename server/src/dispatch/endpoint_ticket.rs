//! What the ticket of one endpoint asks for: a dispatch of its chunks with all that it takes, so that
//! a worker that holds them, and any coordinator, can serve it without knowing the query.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use skyflight_catalog::{FileId, WorkerId};
use skyflight_engine::dispatch::{ChunkList, DispatchRequest, EncodedFragment, PlannedChunk, QueryContext};
use skyflight_engine::frames::{decode_schema, encode_schema};
use skyflight_engine::{EngineError, Result};
use skyflight_proto::{ChunkHolders, EndpointTicket};
use skyflight_sky::ChunkId;

use super::config::INTERACTIVE_CHUNKS;
use super::endpoints::Part;
use super::ledger::Job;
use super::ticket::task;

/// The ticket's body for the chunks of `part`; `promised` is the schema that the client was told.
pub(crate) fn endpoint_ticket(request: &DispatchRequest, part: &Part, promised: &Schema) -> EndpointTicket {
    let jobs: Vec<Job> = part.chunks.iter().map(|&planned| Job { planned, attempts: 0, delivered: 0 }).collect();
    let interactive = request.chunks.chunks.len() <= INTERACTIVE_CHUNKS;
    let holders = |index: &u32| ChunkHolders {
        workers: request.chunks.chunks[*index as usize].workers.iter().map(|worker| u32::from(*worker)).collect(),
    };
    EndpointTicket {
        task: Some(task(request, interactive, &jobs, 0, true)),
        schema: encode_schema(promised),
        rows_schema: if same_columns(&request.schema, promised) {
            Bytes::new()
        } else {
            encode_schema(&request.schema)
        },
        workers: request.chunks.workers.iter().map(|worker| worker.0.clone()).collect(),
        holders: part.chunks.iter().map(holders).collect(),
    }
}

/// The dispatch that a verified ticket asks for, as part of `query`, and the schema that its client
/// was promised.
///
/// # Errors
/// `Internal`: the ticket contradicts itself.
pub(crate) fn request_of(ticket: EndpointTicket, query: QueryContext) -> Result<(SchemaRef, DispatchRequest)> {
    let wrong = |what: &str| EngineError::Internal(format!("the ticket of an endpoint {what}"));
    let task = ticket.task.ok_or_else(|| wrong("has no task"))?;
    let hash = task.fragment_hash.as_ref().try_into().map_err(|_| wrong("has no fragment's hash"))?;
    let bytes = task.fragment.ok_or_else(|| wrong("has no fragment"))?;
    if ticket.holders.len() != task.chunks.len() {
        return Err(wrong("does not say of each chunk who holds it"));
    }
    let mut chunks = Vec::with_capacity(task.chunks.len());
    for (chunk, holders) in task.chunks.into_iter().zip(ticket.holders) {
        let known = |worker: u32| u16::try_from(worker).ok().filter(|at| (*at as usize) < ticket.workers.len());
        let workers: Option<Vec<u16>> = holders.workers.into_iter().map(known).collect();
        chunks.push(PlannedChunk {
            chunk: ChunkId(chunk.chunk),
            files: chunk.files.into_iter().map(FileId).collect(),
            files_per_scan: chunk.files_per_scan,
            workers: workers.ok_or_else(|| wrong("names a worker that it does not list"))?,
        });
    }
    let promised = decode_schema(&ticket.schema)?;
    let schema =
        if ticket.rows_schema.is_empty() { Arc::clone(&promised) } else { decode_schema(&ticket.rows_schema)? };
    let total = chunks.len();
    let request = DispatchRequest {
        query,
        fragment: Arc::new(EncodedFragment { hash, bytes }),
        schema,
        chunks: Arc::new(ChunkList { chunks, workers: ticket.workers.into_iter().map(WorkerId).collect(), total }),
        deterministic: task.deterministic,
        commits: None,
    };
    Ok((promised, request))
}

fn same_columns(rows: &Schema, promised: &Schema) -> bool {
    rows.fields().len() == promised.fields().len()
        && rows
            .fields()
            .iter()
            .zip(promised.fields())
            .all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field};

    use super::*;

    fn request() -> DispatchRequest {
        let chunk = |id: u64| PlannedChunk {
            chunk: ChunkId(id),
            files: vec![FileId(id as i64), FileId(-1)],
            files_per_scan: vec![1, 1],
            workers: vec![(id % 3) as u16, ((id + 1) % 3) as u16],
        };
        let chunks = ChunkList {
            chunks: (0..10).map(chunk).collect(),
            workers: ["a", "b", "c"].map(WorkerId::from).to_vec(),
            total: 30,
        };
        DispatchRequest {
            query: QueryContext::new("ada"),
            fragment: Arc::new(EncodedFragment { hash: [3; 32], bytes: Bytes::from_static(b"plan") }),
            schema: Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)])),
            chunks: Arc::new(chunks),
            deterministic: true,
            commits: None,
        }
    }

    #[test]
    fn a_ticket_gives_its_part_of_the_dispatch_back() {
        let request = request();
        let part = Part { workers: vec![1], chunks: vec![1, 4, 7] };
        let named = |name: &str, nullable| Schema::new(vec![Field::new(name, DataType::Int64, nullable)]);
        for promised in [named("id", false), named("other", true)] {
            let ticket = endpoint_ticket(&request, &part, &promised);
            assert_eq!(ticket.rows_schema.is_empty(), promised.field(0).name() == "id");
            let (told, back) = request_of(ticket, QueryContext::new("ada")).unwrap();
            assert_eq!(*told, promised);
            assert_eq!(back.fragment, request.fragment);
            assert_eq!(back.schema.field(0).name(), "id", "the workers' frames have their own names");
            assert!(back.deterministic);
            assert_eq!(back.chunks.workers, request.chunks.workers);
            let expected: Vec<PlannedChunk> = [1, 4, 7].map(|at: usize| request.chunks.chunks[at].clone()).to_vec();
            assert_eq!(back.chunks.chunks, expected);
        }
    }

    #[test]
    fn a_ticket_that_contradicts_itself_is_refused() {
        let request = request();
        let part = Part { workers: vec![], chunks: vec![0, 1] };
        let good = endpoint_ticket(&request, &part, &request.schema);
        let wrong: [fn(&mut EndpointTicket); 5] = [
            |ticket| ticket.task = None,
            |ticket| drop(ticket.holders.pop()),
            |ticket| ticket.workers.truncate(1),
            |ticket| ticket.task.as_mut().unwrap().fragment = None,
            |ticket| ticket.schema = Bytes::new(),
        ];
        for spoil in wrong {
            let mut ticket = good.clone();
            spoil(&mut ticket);
            assert!(request_of(ticket, QueryContext::new("ada")).is_err());
        }
        assert!(request_of(good, QueryContext::new("ada")).is_ok());
    }
}
