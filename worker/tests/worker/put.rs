//! Files in.

use std::time::Duration;

use futures::StreamExt;
use skyflight_proto::ticket::Body;
use skyflight_proto::{ClusterKeys, FileKind, ListFilesTicket, wire};
use skyflight_worker::{WorkerConfig, WorkerError, start};
use tonic::Code;

use crate::rig::{Rig, connect, files_below, put_piece, put_start, put_ticket, refused, sign, unix_ms};
use crate::sky;

const FILE: i64 = 5 << 32 | 1;

#[tokio::test(flavor = "multi_thread")]
async fn a_good_file_is_kept_as_it_was_sent() {
    let mut rig = Rig::new().await;
    let content = sky::parquet(&sky::objects(20, 5_000));
    for (file, chunk, kind, path) in [
        (FILE, 20, FileKind::Rows, "chunks/dr1/Object/20/21474836481.parquet"),
        (FILE + 1, 20, FileKind::Overlap, "chunks/dr1/Object/20/21474836482.overlap.parquet"),
        (FILE + 2, u64::MAX, FileKind::Rows, "chunks/dr1/Object/everywhere/21474836483.parquet"),
    ] {
        let ticket = put_ticket("dr1", "Object", chunk, file, kind, &content, 5_000);
        let receipt = rig.put(&ticket, &content).await.unwrap();
        assert_eq!((receipt.database.as_str(), receipt.table.as_str()), ("dr1", "Object"));
        assert_eq!((receipt.chunk, receipt.file, receipt.kind()), (chunk, file, kind));
        assert_eq!((receipt.rows, receipt.bytes), (5_000, content.len() as u64));
        assert_eq!(receipt.sha256, ticket.sha256);
        assert_eq!(std::fs::read(rig.folder.path().join(path)).unwrap(), content);

        // A sender that did not hear the answer sends it again.
        assert_eq!(rig.put(&ticket, &content).await.unwrap(), receipt);
    }
    assert_eq!(rig.files().len(), 3);
    assert_eq!(rig.list("dr1").await.len(), 3);
    assert_eq!(rig.list("DR1").await.len(), 3);
    assert_eq!(rig.list("").await.len(), 3);
    assert_eq!(rig.list("dr2").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_promised_leaves_nothing() {
    let mut rig = Rig::new().await;
    let content = sky::parquet(&sky::objects(20, 1_000));
    let good = put_ticket("dr1", "Object", 20, FILE, FileKind::Rows, &content, 1_000);

    let mut ticket = good.clone();
    ticket.sha256 = vec![1; 32].into();
    refused(rig.put(&ticket, &content).await, Code::DataLoss, "SHA-256");

    let mut flipped = content.clone();
    flipped[content.len() / 2] ^= 1;
    refused(rig.put(&good, &flipped).await, Code::DataLoss, "SHA-256");

    let ticket = put_ticket("dr1", "Object", 20, FILE, FileKind::Rows, &content, 999);
    refused(rig.put(&ticket, &content).await, Code::InvalidArgument, "1000 rows");

    refused(rig.put(&good, &content[..content.len() - 1]).await, Code::DataLoss, "bytes");
    refused(rig.put(&good, &[]).await, Code::DataLoss, "bytes");
    let longer = [content.as_slice(), b"x"].concat();
    refused(rig.put(&good, &longer).await, Code::DataLoss, "bytes");

    let noise = vec![7; 1_000];
    let ticket = put_ticket("dr1", "Object", 20, FILE, FileKind::Rows, &noise, 1_000);
    refused(rig.put(&ticket, &noise).await, Code::InvalidArgument, "Parquet");

    let mut ticket = good.clone();
    ticket.sha256 = vec![1; 31].into();
    refused(rig.put(&ticket, &content).await, Code::InvalidArgument, "32 bytes");

    assert_eq!(rig.files(), Vec::<std::path::PathBuf>::new());
    rig.put(&good, &content).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_goes_leaves_nothing() {
    let rig = Rig::new().await;
    let content = sky::parquet(&sky::objects(20, 1_000));
    let ticket = put_ticket("dr1", "Object", 20, FILE, FileKind::Rows, &content, 1_000);
    let start = [put_start(rig.sign(Body::PutFile(ticket))), put_piece(&content[..1_000])];
    let endless = futures::stream::iter(start).chain(futures::stream::pending());
    let mut client = rig.client.clone();
    let sending = client.do_put(endless);
    assert!(tokio::time::timeout(Duration::from_millis(500), sending).await.is_err());
    for _ in 0..100 {
        if rig.files().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("left behind: {:?}", rig.files());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_tickets_of_the_cluster_open_the_folder() {
    let mut rig = Rig::new().await;
    let content = sky::parquet(&sky::objects(20, 10));
    let ticket = put_ticket("dr1", "Object", 20, FILE, FileKind::Rows, &content, 10);
    let good = rig.sign(Body::PutFile(ticket.clone()));

    refused(rig.put_with(bytes::Bytes::new(), &content).await, Code::Unauthenticated, "ticket");
    refused(rig.put_with(b"let me in"[..].into(), &content).await, Code::Unauthenticated, "ticket");
    let forged = sign(&ClusterKeys::generate(), Body::PutFile(ticket.clone()), unix_ms() + 60_000);
    refused(rig.put_with(forged, &content).await, Code::Unauthenticated, "key");
    let expired = sign(&rig.keys, Body::PutFile(ticket), unix_ms() - 1);
    refused(rig.put_with(expired, &content).await, Code::Unauthenticated, "expired");
    for bit in (0..good.len() * 8).step_by(97) {
        let mut altered = good.to_vec();
        altered[bit / 8] ^= 1 << (bit % 8);
        refused(rig.put_with(altered.into(), &content).await, Code::Unauthenticated, "");
    }
    let other = rig.sign(Body::ListFiles(ListFilesTicket { database: String::new() }));
    refused(rig.put_with(other, &content).await, Code::InvalidArgument, "DoPut");
    assert!(rig.files().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_never_leave_the_folder() {
    let mut rig = Rig::new().await;
    let content = sky::parquet(&sky::objects(20, 10));
    for name in ["..", ".", "", "../../x", "/tmp", "a/b", "a\\b", ".incoming", "a\0b", "données"] {
        let ticket = put_ticket(name, "Object", 20, FILE, FileKind::Rows, &content, 10);
        refused(rig.put(&ticket, &content).await, Code::InvalidArgument, "cannot name a database");
        let ticket = put_ticket("dr1", name, 20, FILE, FileKind::Rows, &content, 10);
        refused(rig.put(&ticket, &content).await, Code::InvalidArgument, "cannot name a table");
    }
    for file in [0, -1, i64::MIN] {
        let ticket = put_ticket("dr1", "Object", 20, file, FileKind::Rows, &content, 10);
        refused(rig.put(&ticket, &content).await, Code::InvalidArgument, "file id");
    }
    let mut ticket = put_ticket("dr1", "Object", 20, FILE, FileKind::Rows, &content, 10);
    ticket.kind = 7;
    refused(rig.put(&ticket, &content).await, Code::InvalidArgument, "kind");
    assert!(rig.files().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_means_one_file() {
    let mut rig = Rig::new().await;
    let content = sky::parquet(&sky::objects(20, 10));
    let other = sky::parquet(&sky::objects(21, 10));
    let ticket = put_ticket("dr1", "Object", 20, FILE, FileKind::Rows, &content, 10);
    rig.put(&ticket, &content).await.unwrap();
    for ticket in [
        put_ticket("dr1", "Object", 20, FILE, FileKind::Rows, &other, 10),
        put_ticket("dr1", "Object", 21, FILE, FileKind::Rows, &content, 10),
        put_ticket("dr1", "Source", 20, FILE, FileKind::Rows, &content, 10),
        put_ticket("dr1", "Object", 20, FILE, FileKind::Overlap, &content, 10),
    ] {
        let sent =
            if ticket.sha256 == put_ticket("", "", 0, 0, FileKind::Rows, &other, 0).sha256 { &other } else { &content };
        refused(rig.put(&ticket, sent).await, Code::AlreadyExists, "another file");
    }
    assert_eq!(rig.files().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_file_by_many_streams_is_one() {
    let rig = Rig::new().await;
    let content = sky::parquet(&sky::objects(20, 3_000));
    let ticket = put_ticket("dr1", "Object", 20, FILE, FileKind::Rows, &content, 3_000);
    let sends = (0..8).map(|_| {
        let (keys, address) = (rig.keys.clone(), rig.worker.address().to_owned());
        let (ticket, content) = (ticket.clone(), content.clone());
        async move {
            let signed = sign(&keys, Body::PutFile(ticket), unix_ms() + 60_000);
            let messages: Vec<_> =
                [put_start(signed)].into_iter().chain(content.chunks(4_096).map(put_piece)).collect();
            connect(&address).await.do_put(futures::stream::iter(messages)).await.map(|_| ())
        }
    });
    let ends = futures::future::join_all(sends).await;
    assert!(ends.iter().any(Result::is_ok));
    for end in ends {
        if let Err(status) = end {
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        }
    }
    assert_eq!(rig.files().len(), 1);
    assert_eq!(std::fs::read(&rig.files()[0]).unwrap(), content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_transaction_is_gone_for_good() {
    let mut rig = Rig::new().await;
    let content = sky::parquet(&sky::objects(20, 10));
    for (table, file) in [("Object", 5 << 32 | 1), ("Source", 5 << 32 | 2), ("Object", 6 << 32 | 1)] {
        rig.hold(table, 20, file, FileKind::Rows, &content, 10).await;
    }
    assert_eq!(rig.drop_transaction(5).await, 2);
    assert_eq!(rig.drop_transaction(5).await, 0);
    assert_eq!(rig.files().len(), 1);
    let left = rig.list("dr1").await;
    assert_eq!(left.iter().map(|r| r.file).collect::<Vec<_>>(), [6 << 32 | 1]);

    let late = put_ticket("dr1", "Object", 20, 5 << 32 | 3, FileKind::Rows, &content, 10);
    refused(rig.put(&late, &content).await, Code::FailedPrecondition, "dropped");
    assert_eq!(rig.files().len(), 1);

    let unsigned = rig.act(wire::ACTION_DROP_TRANSACTION, bytes::Bytes::new()).await;
    refused(unsigned, Code::Unauthenticated, "");
    let other = rig.sign(Body::ListFiles(ListFilesTicket { database: String::new() }));
    refused(rig.act(wire::ACTION_DROP_TRANSACTION, other).await, Code::InvalidArgument, "ticket");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_start_finds_files_and_clears_leftovers() {
    let mut rig = Rig::new().await;
    let content = sky::parquet(&sky::objects(20, 10));
    rig.hold("Object", 20, FILE, FileKind::Rows, &content, 10).await;
    rig.hold("Object", 20, FILE + 1, FileKind::Overlap, &content, 10).await;
    let before = rig.list("").await;
    let id = rig.worker.id().to_owned();

    // The folder has one worker at a time.
    let config = WorkerConfig::new(rig.folder.path(), rig.keys.clone());
    let second = start(config.clone()).await;
    assert!(matches!(second, Err(WorkerError::FolderInUse(_))), "{second:?}");

    let Rig { folder, keys, worker, .. } = rig;
    worker.shutdown().await;
    std::fs::write(folder.path().join("chunks/.incoming/half.part"), b"half a file").unwrap();
    std::fs::write(folder.path().join("chunks/dr1/Object/20/notes.txt"), b"mine").unwrap();

    let worker = start(config).await.unwrap();
    assert_eq!(worker.id(), id);
    let client = connect(worker.address()).await;
    let mut rig = Rig { folder, keys, worker, client };
    assert_eq!(rig.list("").await, before);
    assert!(files_below(rig.folder.path().join("chunks/.incoming")).is_empty());
    assert!(rig.folder.path().join("chunks/dr1/Object/20/notes.txt").exists());

    let Rig { folder, keys, worker, .. } = rig;
    drop(worker);
    let stranger = WorkerConfig { id: Some("another".into()), ..WorkerConfig::new(folder.path(), keys) };
    let refused = start(stranger).await;
    assert!(matches!(refused, Err(WorkerError::Config(_))), "{refused:?}");
}
