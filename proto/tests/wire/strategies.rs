//! Any value of every message.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use skyflight_proto::{
    BatchMark, ChunkHolders, ChunkTask, ChunkTrailer, DropTransactionResult, DropTransactionTicket, EndpointTicket,
    FileKind, FileReceipt, JobTicket, ListFilesTicket, PartitionTicket, PutFileTicket, RecallResult, RecallTicket,
    RegisterWorker, ScanCounters, SignedTicket, SnapshotRef, StageTask, StageTicket, StatementTicket, TaskDone,
    TaskMessage, TaskTicket, Ticket, WorkerStatus, task_message, ticket,
};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), vec(any::<char>(), 0..40).prop_map(String::from_iter)]
}

fn blob() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn kind() -> impl Strategy<Value = i32> {
    prop_oneof![Just(FileKind::Rows), Just(FileKind::Overlap)].prop_map(i32::from)
}

prop_compose! {
    pub fn signed_ticket()(payload in blob(), key_id in text(), mac in blob()) -> SignedTicket {
        SignedTicket { payload, key_id, mac }
    }
}

prop_compose! {
    pub fn snapshot_ref()(database: i64, snapshot: i64) -> SnapshotRef {
        SnapshotRef { database, snapshot }
    }
}

prop_compose! {
    pub fn job_ticket()(first_batch: u64) -> JobTicket {
        JobTicket { first_batch }
    }
}

prop_compose! {
    pub fn statement_ticket()(
        sql in text(),
        snapshots in vec(snapshot_ref(), 0..5),
        schema_hash in blob(),
        default_schema in text(),
        prepared: bool,
        shuffle in text(),
        outcome in blob(),
        parameter_schema in blob(),
        parameters in blob(),
        signed_integers: bool,
    ) -> StatementTicket {
        StatementTicket {
            sql,
            snapshots,
            schema_hash,
            default_schema,
            prepared,
            shuffle,
            outcome,
            parameter_schema,
            parameters,
            signed_integers,
        }
    }
}

prop_compose! {
    pub fn chunk_task()(
        chunk: u64,
        files in vec(any::<i64>(), 0..20),
        files_per_scan in vec(any::<u32>(), 0..5),
        skip_rows: u64,
    ) -> ChunkTask {
        ChunkTask { chunk, files, files_per_scan, skip_rows }
    }
}

prop_compose! {
    pub fn task_ticket()(
        snapshots in vec(snapshot_ref(), 0..5),
        fragment_hash in blob(),
        fragment in option::of(blob()),
        deterministic: bool,
        chunks in vec(chunk_task(), 0..8),
        attempt: u32,
        interactive: bool,
        traceparent in text(),
        schema_hash in blob(),
    ) -> TaskTicket {
        TaskTicket {
            snapshots,
            fragment_hash,
            fragment,
            deterministic,
            chunks,
            attempt,
            interactive,
            traceparent,
            schema_hash,
        }
    }
}

prop_compose! {
    pub fn chunk_holders()(workers in vec(any::<u32>(), 0..5)) -> ChunkHolders {
        ChunkHolders { workers }
    }
}

prop_compose! {
    pub fn endpoint_ticket()(
        task in option::of(task_ticket()),
        schema in blob(),
        rows_schema in blob(),
        workers in vec(text(), 0..5),
        holders in vec(chunk_holders(), 0..8),
    ) -> EndpointTicket {
        EndpointTicket { task, schema, rows_schema, workers, holders }
    }
}

pub fn recall_ticket() -> impl Strategy<Value = RecallTicket> {
    Just(RecallTicket {})
}

prop_compose! {
    pub fn recall_result()(streams: u32) -> RecallResult {
        RecallResult { streams }
    }
}

prop_compose! {
    pub fn put_file_ticket()(
        database in text(),
        table in text(),
        chunk: u64,
        file: i64,
        kind in kind(),
        rows: u64,
        bytes: u64,
        sha256 in blob(),
    ) -> PutFileTicket {
        PutFileTicket { database, table, chunk, file, kind, rows, bytes, sha256 }
    }
}

prop_compose! {
    pub fn file_receipt()(
        database in text(),
        table in text(),
        chunk: u64,
        file: i64,
        kind in kind(),
        rows: u64,
        bytes: u64,
        sha256 in blob(),
    ) -> FileReceipt {
        FileReceipt { database, table, chunk, file, kind, rows, bytes, sha256 }
    }
}

prop_compose! {
    pub fn drop_transaction_ticket()(transaction: i64) -> DropTransactionTicket {
        DropTransactionTicket { transaction }
    }
}

prop_compose! {
    pub fn drop_transaction_result()(files: u64) -> DropTransactionResult {
        DropTransactionResult { files }
    }
}

prop_compose! {
    pub fn list_files_ticket()(database in text()) -> ListFilesTicket {
        ListFilesTicket { database }
    }
}

prop_compose! {
    pub fn register_worker()(
        worker in text(),
        address in text(),
        started_unix_ms: i64,
        files: u64,
        bytes: u64,
        cores: u32,
    ) -> RegisterWorker {
        RegisterWorker { worker, address, started_unix_ms, files, bytes, cores }
    }
}

prop_compose! {
    pub fn stage_task()(run in blob(), stage: u32, task: u32) -> StageTask {
        StageTask { run, stage, task }
    }
}

prop_compose! {
    pub fn stage_ticket()(
        task in option::of(stage_task()),
        tasks: u32,
        plan in blob(),
        address in text(),
    ) -> StageTicket {
        StageTicket { task, tasks, plan, address }
    }
}

prop_compose! {
    pub fn partition_ticket()(
        task in option::of(stage_task()),
        partition: u32,
        partitioning in option::of(blob()),
    ) -> PartitionTicket {
        PartitionTicket { task, partition, partitioning }
    }
}

prop_compose! {
    pub fn worker_status()(
        worker in text(),
        running_tasks: u32,
        chunks_done: u64,
        fragments_cached: u64,
        rows_sent: u64,
        memory_bytes: u64,
    ) -> WorkerStatus {
        WorkerStatus {
            worker,
            running_tasks,
            chunks_done,
            fragments_cached,
            rows_sent,
            memory_bytes,
        }
    }
}

prop_compose! {
    pub fn batch_mark()(chunk_index: u32, sequence: u32) -> BatchMark {
        BatchMark { chunk_index, sequence }
    }
}

prop_compose! {
    pub fn scan_counters()(
        bytes_read: u64,
        rows_read: u64,
        rows_sent: u64,
        row_groups_pruned: u64,
        pages_pruned: u64,
        elapsed_us: u64,
    ) -> ScanCounters {
        ScanCounters {
            bytes_read,
            rows_read,
            rows_sent,
            row_groups_pruned,
            pages_pruned,
            elapsed_us,
        }
    }
}

prop_compose! {
    pub fn chunk_trailer()(
        chunk_index: u32,
        rows: u64,
        batches: u32,
        digest: u64,
        counters in option::of(scan_counters()),
    ) -> ChunkTrailer {
        ChunkTrailer { chunk_index, rows, batches, digest, counters }
    }
}

prop_compose! {
    pub fn task_done()(totals in option::of(scan_counters()), chunks: u32) -> TaskDone {
        TaskDone { totals, chunks }
    }
}

pub fn task_message() -> impl Strategy<Value = TaskMessage> {
    use task_message::Body;
    option::of(prop_oneof![
        batch_mark().prop_map(Body::Batch),
        chunk_trailer().prop_map(Body::Trailer),
        task_done().prop_map(Body::Done),
    ])
    .prop_map(|body| TaskMessage { body })
}

pub fn ticket_body() -> impl Strategy<Value = ticket::Body> {
    use ticket::Body;
    prop_oneof![
        statement_ticket().prop_map(Body::Statement),
        task_ticket().prop_map(Body::Task),
        put_file_ticket().prop_map(Body::PutFile),
        drop_transaction_ticket().prop_map(Body::DropTransaction),
        list_files_ticket().prop_map(Body::ListFiles),
        register_worker().prop_map(Body::RegisterWorker),
        stage_ticket().prop_map(Body::Stage),
        partition_ticket().prop_map(Body::Partition),
        endpoint_ticket().prop_map(Body::Endpoint),
        recall_ticket().prop_map(Body::Recall),
        job_ticket().prop_map(Body::Job),
    ]
}

prop_compose! {
    pub fn ticket()(
        expires_unix_ms: i64,
        user in text(),
        query_id in blob(),
        body in option::of(ticket_body()),
    ) -> Ticket {
        Ticket { expires_unix_ms, user, query_id, body }
    }
}
