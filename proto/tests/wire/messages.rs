//! Every message, there and back; and one of them against bytes written by hand.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use skyflight_proto::{
    ChunkTask, ChunkTrailer, Message, ScanCounters, SnapshotRef, TaskMessage, TaskTicket, Ticket, task_message, ticket,
};

use crate::strategies as any_of;

fn there_and_back<M: Message + Default + Clone + PartialEq + Debug>(message: &M) -> Result<(), TestCaseError> {
    let encoded = message.encode_to_vec();
    prop_assert_eq!(encoded.len(), message.encoded_len());
    prop_assert_eq!(&M::decode(encoded.as_slice()).unwrap(), message);
    // A part of a message may be a message; it must not be a panic.
    for end in 0..encoded.len().min(64) {
        let _ = M::decode(&encoded[..end]);
    }
    Ok(())
}

/// One test for each message, and the list of their names.
macro_rules! round_trips {
    ($($strategy:ident => $name:literal,)*) => {
        const COVERED: &[&str] = &[$($name),*];

        proptest! {
            $(#[test]
            fn $strategy(message in any_of::$strategy()) {
                there_and_back(&message)?;
            })*
        }

        proptest! {
            #[test]
            fn garbage_is_refused_or_read_but_never_a_panic(bytes: Vec<u8>) {
                fn decode<M: Message + Default>(_: impl Strategy<Value = M>, bytes: &[u8]) {
                    let _ = M::decode(bytes);
                }
                $(decode(any_of::$strategy(), &bytes);)*
            }
        }
    };
}

round_trips! {
    signed_ticket => "SignedTicket",
    ticket => "Ticket",
    snapshot_ref => "SnapshotRef",
    statement_ticket => "StatementTicket",
    task_ticket => "TaskTicket",
    chunk_task => "ChunkTask",
    endpoint_ticket => "EndpointTicket",
    chunk_holders => "ChunkHolders",
    recall_ticket => "RecallTicket",
    recall_result => "RecallResult",
    job_ticket => "JobTicket",
    put_file_ticket => "PutFileTicket",
    file_receipt => "FileReceipt",
    drop_transaction_ticket => "DropTransactionTicket",
    drop_transaction_result => "DropTransactionResult",
    list_files_ticket => "ListFilesTicket",
    register_worker => "RegisterWorker",
    stage_task => "StageTask",
    stage_ticket => "StageTicket",
    partition_ticket => "PartitionTicket",
    worker_status => "WorkerStatus",
    task_message => "TaskMessage",
    batch_mark => "BatchMark",
    chunk_trailer => "ChunkTrailer",
    scan_counters => "ScanCounters",
    task_done => "TaskDone",
}

#[test]
fn every_message_of_the_proto_file_is_tested() {
    let path = Path::new("proto/skyflight.proto");
    let text = std::fs::read_to_string(path).unwrap();
    let declared: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("message ")?.split_once(" {").map(|(name, _)| name)).collect();
    assert_eq!(declared, COVERED.iter().copied().collect());
}

#[test]
fn a_task_ticket_is_these_bytes() {
    // Written by hand from the field numbers in the .proto file and
    // protobuf.dev/programming-guides/encoding: numbers that change break a running cluster.
    let ticket = Ticket {
        expires_unix_ms: 300,
        user: "ada".into(),
        query_id: Bytes::from_static(&[7, 8]),
        body: Some(ticket::Body::Task(TaskTicket {
            snapshots: vec![SnapshotRef { database: 1, snapshot: 2 }],
            fragment_hash: Bytes::from_static(&[0xAB]),
            fragment: Some(Bytes::new()),
            deterministic: true,
            chunks: vec![ChunkTask { chunk: u64::MAX, files: vec![5, 6], files_per_scan: vec![2], skip_rows: 9 }],
            attempt: 3,
            interactive: true,
            traceparent: "t".into(),
            schema_hash: Bytes::from_static(&[0xCD]),
        })),
    };
    let chunk = [
        &[0x08][..],
        &[0xFF; 9],
        &[0x01], // chunk
        &[0x12, 2, 5, 6],
        &[0x1A, 1, 2],
        &[0x20, 9],
    ]
    .concat();
    let task = [
        &[0x0A, 4, 0x08, 1, 0x10, 2][..], // snapshots
        &[0x1A, 1, 0xAB],
        &[0x22, 0], // a fragment of no bytes is not the same as none
        &[0x28, 1],
        &[0x32, chunk.len() as u8],
        &chunk,
        &[0x38, 3],
        &[0x40, 1],
        &[0x4A, 1, b't'],
        &[0x52, 1, 0xCD],
    ]
    .concat();
    let whole =
        [&[0x08, 0xAC, 0x02][..], &[0x12, 3, b'a', b'd', b'a'], &[0x1A, 2, 7, 8], &[0x5A, task.len() as u8], &task]
            .concat();
    assert_eq!(ticket.encode_to_vec(), whole);
}

#[test]
fn a_trailer_is_these_bytes() {
    let message = TaskMessage {
        body: Some(task_message::Body::Trailer(ChunkTrailer {
            chunk_index: 1,
            rows: 2,
            batches: 3,
            digest: 4,
            counters: Some(ScanCounters { bytes_read: 5, elapsed_us: 6, ..ScanCounters::default() }),
        })),
    };
    let trailer = [0x08, 1, 0x10, 2, 0x18, 3, 0x20, 4, 0x2A, 4, 0x08, 5, 0x30, 6];
    let whole = [&[0x12, trailer.len() as u8][..], &trailer].concat();
    assert_eq!(message.encode_to_vec(), whole);
}
