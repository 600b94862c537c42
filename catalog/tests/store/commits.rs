//! Commits: whole or not at all, append and replace, dropping a table, old snapshots unchanged.

use std::sync::Arc;

use skyflight_catalog::{
    CatalogError, CatalogStore, ChunkFile, Commit, CommitMode, FileKind, PairFacts, Snapshot, SqliteStore, Table,
    TableFacts, TableKind,
};
use skyflight_sky::ChunkId;

use crate::fixtures::{
    OnDisk, column, facts, files, filter_table, ingest, object, pairs, source, stripes, this_process, write,
};

fn chunks(snapshot: &Snapshot, table: &str) -> Vec<u64> {
    snapshot.table(table).unwrap().files.iter().map(|file| file.chunk.0).collect()
}

#[tokio::test]
async fn a_committed_release_reads_back_as_it_was_given_after_reopening() {
    let disk = OnDisk::new();
    let store = disk.open().await;
    let database = store.create_database("Dr1", Some("release")).await.unwrap();
    let opened = store.open_transaction(database.id, &this_process()).await.unwrap();
    // Beyond i64 on purpose: chunk ids are unsigned.
    let highest = u64::MAX - 1;
    let mut objects = files(opened.id, 0, &[highest, 7, i64::MAX as u64 + 1, 7]);
    objects[3].kind = FileKind::Overlap;
    objects[3].statistics.clear();
    let mut index = files(opened.id, 4, &[0]).remove(0);
    index.kind = FileKind::DirectorIndex;
    index.workers.clear();
    objects.push(index);
    let sources = files(opened.id, 100, &[7]);
    let filters = files(opened.id, 200, &[u64::MAX]);
    let source_facts = TableFacts { rows: 10, orphans: 2, ids_span_chunks: true, ..facts(0) };
    let mut source_write = write(source(), CommitMode::Replace, 10, sources.clone());
    source_write.facts = source_facts;
    let tables = vec![
        write(object(), CommitMode::Append, 30, objects.clone()),
        source_write,
        write(filter_table(), CommitMode::Replace, 10, filters.clone()),
    ];
    let id = store.commit(opened.id, Commit { scheme: Some(stripes()), tables }).await.unwrap();
    drop(store);

    let store = disk.open().await;
    let snapshot = store.snapshot(id).await.unwrap();
    assert_eq!(snapshot.id, id);
    assert_eq!(snapshot.database.name, "Dr1");
    assert_eq!(snapshot.database.scheme, Some(stripes()));
    assert_eq!(snapshot.database.current, Some(id));
    assert!(snapshot.created_unix_ms > 1_700_000_000_000);
    assert_eq!(store.database("dr1").await.unwrap(), snapshot.database);
    assert_eq!(store.current_snapshot(database.id).await.unwrap(), Some(id));
    let [objects_read, sources_read, filters_read] = snapshot.tables.as_slice() else { panic!("three tables") };

    let declared = object();
    let expected = Table {
        id: objects_read.table.id,
        database: database.id,
        name: declared.name,
        kind: TableKind::Director,
        columns: declared.columns,
        id_column: declared.id_column,
        ra_column: declared.ra_column,
        dec_column: declared.dec_column,
        director: None,
        director_key: None,
        second_director: None,
        second_director_key: None,
        description: declared.description,
    };
    assert_eq!(objects_read.table, expected);
    assert_eq!(objects_read.facts, facts(30));
    let as_read = |new: &skyflight_catalog::NewFile, table: &Table| ChunkFile {
        id: new.id,
        table: table.id,
        chunk: new.chunk,
        kind: new.kind,
        rows: new.rows,
        bytes: new.bytes,
        sha256: new.sha256,
        statistics: new.statistics.clone(),
        workers: new.workers.clone(),
    };
    // Sorted by chunk as an unsigned number, then kind.
    let order = [4, 1, 3, 2, 0].map(|i: usize| as_read(&objects[i], &objects_read.table));
    assert_eq!(objects_read.files, order);
    assert_eq!(objects_read.chunk_files(ChunkId(7)), &order[1..3]);
    assert!(objects_read.chunk_files(ChunkId(8)).is_empty());

    assert_eq!(sources_read.facts, source_facts);
    assert_eq!(sources_read.files, [as_read(&sources[0], &sources_read.table)]);
    // Declared as `object`, found as the director was declared.
    assert_eq!(sources_read.table.director.as_deref(), Some("Object"));
    assert_eq!(filters_read.files, [as_read(&filters[0], &filters_read.table)]);
    assert_eq!(filters_read.files[0].chunk, ChunkId::EVERYWHERE);
    assert_eq!(snapshot.table("SOURCE").map(|table| &table.table), Some(&sources_read.table));
    assert!(snapshot.table("nothing").is_none());
}

#[tokio::test]
async fn append_keeps_the_files_replace_takes_them_and_old_snapshots_stay_as_they_were() {
    let disk = OnDisk::new();
    let store = disk.open().await;
    store.create_database("dr1", None).await.unwrap();
    let first = ingest(&store, "dr1", object(), CommitMode::Append, 20, &[1, 2]).await;
    let second = ingest(&store, "dr1", source(), CommitMode::Append, 10, &[2]).await;
    let third = ingest(&store, "dr1", object(), CommitMode::Append, 40, &[2, 3]).await;
    let mut wider = object();
    wider.name = "OBJECT".to_owned();
    wider.columns.push(column("parallax", "Float64"));
    let fourth = ingest(&store, "dr1", wider, CommitMode::Replace, 10, &[9]).await;
    let fifth = ingest(&store, "dr1", filter_table(), CommitMode::Replace, 10, &[u64::MAX]).await;

    // From the store that wrote them, and from one that has cached nothing.
    for store in [store, disk.open().await] {
        let [first, second, third, fourth, fifth] = [
            store.snapshot(first).await.unwrap(),
            store.snapshot(second).await.unwrap(),
            store.snapshot(third).await.unwrap(),
            store.snapshot(fourth).await.unwrap(),
            store.snapshot(fifth).await.unwrap(),
        ];
        assert_eq!(first.tables.len(), 1);
        assert_eq!(chunks(&first, "object"), [1, 2]);
        assert_eq!((chunks(&second, "object"), chunks(&second, "source")), (vec![1, 2], vec![2]));
        assert_eq!((chunks(&third, "object"), chunks(&third, "source")), (vec![1, 2, 2, 3], vec![2]));
        assert_eq!((chunks(&fourth, "object"), chunks(&fourth, "source")), (vec![9], vec![2]));
        assert_eq!((chunks(&fifth, "object"), chunks(&fifth, "filter")), (vec![9], vec![u64::MAX]));

        let rows = |snapshot: &Snapshot| snapshot.table("object").unwrap().facts.rows;
        assert_eq!([rows(&first), rows(&second), rows(&third), rows(&fourth), rows(&fifth)], [20, 20, 40, 10, 10]);
        let columns = |snapshot: &Snapshot| snapshot.table("object").unwrap().table.columns.len();
        assert_eq!([columns(&first), columns(&third), columns(&fourth), columns(&fifth)], [5, 5, 6, 6]);
        assert_eq!(third.tables[0].table.name, "Object");
        assert_eq!(fourth.tables[0].table.name, "OBJECT");
        assert_eq!(fourth.tables[0].table.id, first.tables[0].table.id);
        assert_eq!(fourth.table("source").unwrap().table.director.as_deref(), Some("OBJECT"));
        assert_eq!(store.database("dr1").await.unwrap().current, Some(fifth.id));
    }
}

#[tokio::test]
async fn several_files_are_written_by_one_commit_in_more_than_one_batch() {
    let store = SqliteStore::in_memory().await.unwrap();
    store.create_database("dr1", None).await.unwrap();
    let all: Vec<u64> = (0..1501).collect();
    let id = ingest(&store, "dr1", object(), CommitMode::Replace, 15_010, &all).await;
    let snapshot = store.snapshot(id).await.unwrap();
    assert_eq!(chunks(&snapshot, "object"), all);
    assert!(snapshot.tables[0].files.iter().all(|file| file.workers.len() == 2 && file.statistics.len() == 1));
}

#[tokio::test]
async fn index_files_end_with_the_commit_that_replaces_them_and_old_snapshots_keep_theirs() {
    let disk = OnDisk::new();
    let store = disk.open().await;
    let database = store.create_database("dr1", None).await.unwrap();
    let mut snapshots = Vec::new();
    let mut index = Vec::new();
    for n in 0..3_u32 {
        let opened = store.open_transaction(database.id, &this_process()).await.unwrap();
        let mut new = files(opened.id, 0, &[u64::from(n), 0]);
        new[1].kind = FileKind::DirectorIndex;
        new[1].workers.clear();
        new[1].rows = 10 * (u64::from(n) + 1);
        let mut commit = write(object(), CommitMode::Append, 10 * (u64::from(n) + 1), new);
        // The third ends the first two, whose entries it has.
        commit.ended = if n == 2 { index.clone() } else { Vec::new() };
        index.push(commit.files[1].id);
        snapshots
            .push(store.commit(opened.id, Commit { scheme: Some(stripes()), tables: vec![commit] }).await.unwrap());
    }
    for store in [store, disk.open().await] {
        let expected = [vec![index[0]], vec![index[0], index[1]], vec![index[2]]];
        for (id, expected) in snapshots.iter().zip(expected) {
            let snapshot = store.snapshot(*id).await.unwrap();
            let files = &snapshot.table("object").unwrap().files;
            let found: Vec<_> =
                files.iter().filter(|file| file.kind == FileKind::DirectorIndex).map(|f| f.id).collect();
            assert_eq!(found, expected);
        }
    }
}

#[tokio::test]
async fn a_commit_that_fails_in_the_middle_leaves_the_previous_snapshot_and_no_rows() {
    let disk = OnDisk::new();
    let store = disk.open().await;
    let database = store.create_database("dr1", None).await.unwrap();
    let before = ingest(&store, "dr1", object(), CommitMode::Replace, 20, &[1, 2]).await;
    let counts = disk.counts().await;
    let opened = store.open_transaction(database.id, &this_process()).await.unwrap();
    // The store's own disk fails at the 1,203rd of 2,000 files, when two batches of files are already written.
    sqlx::raw_sql(
        "CREATE TRIGGER disk_full BEFORE INSERT ON files WHEN NEW.chunk = 1202 \
         BEGIN SELECT RAISE(ABORT, 'disk is full'); END",
    )
    .execute(&mut disk.raw().await)
    .await
    .unwrap();
    let all: Vec<u64> = (0..2000).collect();
    let commit = Commit {
        scheme: None,
        tables: vec![
            write(filter_table(), CommitMode::Replace, 10, files(opened.id, 5000, &[u64::MAX])),
            write(object(), CommitMode::Replace, 20_000, files(opened.id, 0, &all)),
        ],
    };
    let error = store.commit(opened.id, commit.clone()).await.unwrap_err();
    assert!(matches!(&error, CatalogError::Database(_)) && error.to_string().contains("disk is full"), "{error}");

    assert_eq!(disk.counts().await, counts);
    for store in [&store, &disk.open().await] {
        assert_eq!(store.current_snapshot(database.id).await.unwrap(), Some(before));
        assert_eq!(chunks(&store.snapshot(before).await.unwrap(), "object"), [1, 2]);
    }
    // The same transaction succeeds when the fault is gone.
    sqlx::raw_sql("DROP TRIGGER disk_full").execute(&mut disk.raw().await).await.unwrap();
    let after = store.commit(opened.id, commit).await.unwrap();
    assert_eq!(chunks(&store.snapshot(after).await.unwrap(), "object"), all);
}

#[tokio::test]
async fn a_commit_that_is_dropped_half_way_changes_nothing() {
    let disk = OnDisk::new();
    let store = disk.open().await;
    let database = store.create_database("dr1", None).await.unwrap();
    let opened = store.open_transaction(database.id, &this_process()).await.unwrap();
    let all: Vec<u64> = (0..20_000).collect();
    let tables = vec![write(object(), CommitMode::Replace, 200_000, files(opened.id, 0, &all))];
    let commit = Commit { scheme: Some(stripes()), tables };
    let cut = tokio::time::timeout(std::time::Duration::from_millis(50), store.commit(opened.id, commit.clone())).await;
    assert!(cut.is_err(), "the commit was too fast to be interrupted");
    assert_eq!(store.current_snapshot(database.id).await.unwrap(), None);
    assert_eq!(disk.counts().await, [0; 7]);
    store.commit(opened.id, commit).await.unwrap();
}

#[tokio::test]
async fn a_commit_on_a_snapshot_that_is_no_longer_current_conflicts() {
    let store = SqliteStore::in_memory().await.unwrap();
    let database = store.create_database("dr1", None).await.unwrap();
    ingest(&store, "dr1", filter_table(), CommitMode::Replace, 10, &[u64::MAX]).await;
    let base = ingest(&store, "dr1", object(), CommitMode::Replace, 20, &[1, 2]).await;
    // A process that is gone does not hold up a drop; had it only seemed gone, its commit conflicts.
    let opened = store.open_transaction(database.id, &crate::fixtures::dead_process()).await.unwrap();
    let dropped = store.drop_table(database.id, "filter").await.unwrap();
    let tables = vec![write(object(), CommitMode::Append, 30, files(opened.id, 0, &[3]))];
    let error = store.commit(opened.id, Commit { scheme: None, tables }).await.unwrap_err();
    let CatalogError::Conflict { base: from, current, .. } = &error else { panic!("{error}") };
    assert_eq!((*from, *current), (Some(base), Some(dropped)));
    assert_eq!(store.current_snapshot(database.id).await.unwrap(), Some(dropped));
}

#[tokio::test]
async fn dropping_a_table_makes_a_snapshot_without_it() {
    let store = SqliteStore::in_memory().await.unwrap();
    let database = store.create_database("dr1", None).await.unwrap();
    let not_yet = store.drop_table(database.id, "object").await.unwrap_err();
    assert!(matches!(not_yet, CatalogError::NotFound { what: "table", .. }), "{not_yet}");
    ingest(&store, "dr1", object(), CommitMode::Replace, 10, &[1]).await;
    let both = ingest(&store, "dr1", source(), CommitMode::Replace, 10, &[1]).await;

    let error = store.drop_table(database.id, "sorce").await.unwrap_err();
    assert_eq!(error.to_string(), "there is no table \"sorce\"; did you mean \"Source\"?");
    let error = store.drop_table(database.id, "object").await.unwrap_err();
    assert_eq!(error.to_string(), "table \"Object\" is the director of \"Source\"; drop \"Source\" first");
    let opened = store.open_transaction(database.id, &this_process()).await.unwrap();
    let busy = store.drop_table(database.id, "source").await.unwrap_err();
    assert!(matches!(busy, CatalogError::Busy { .. }), "{busy}");
    store.forget_transaction(opened.id).await.unwrap();

    let one = store.drop_table(database.id, "SOURCE").await.unwrap();
    let none = store.drop_table(database.id, "Object").await.unwrap();
    let names = |snapshot: Arc<Snapshot>| -> Vec<String> {
        snapshot.tables.iter().map(|table| table.table.name.clone()).collect()
    };
    assert_eq!(names(store.snapshot(both).await.unwrap()), ["Object", "Source"]);
    assert_eq!(names(store.snapshot(one).await.unwrap()), ["Object"]);
    assert!(names(store.snapshot(none).await.unwrap()).is_empty());

    // A table of the dropped one's name is a new table.
    let again = ingest(&store, "dr1", object(), CommitMode::Append, 10, &[4]).await;
    let (old, new) = (store.snapshot(both).await.unwrap(), store.snapshot(again).await.unwrap());
    assert_ne!(old.tables[0].table.id, new.tables[0].table.id);
    assert_eq!((chunks(&old, "object"), chunks(&new, "object")), (vec![1], vec![4]));
}

#[tokio::test]
async fn the_current_snapshots_of_all_databases_come_by_name() {
    let store = SqliteStore::in_memory().await.unwrap();
    for name in ["b", "a", "empty"] {
        store.create_database(name, None).await.unwrap();
    }
    let b = ingest(&store, "b", object(), CommitMode::Replace, 10, &[1]).await;
    let a = ingest(&store, "a", object(), CommitMode::Replace, 10, &[2]).await;
    let ids = |snapshots: &[Arc<Snapshot>]| -> Vec<_> { snapshots.iter().map(|snapshot| snapshot.id).collect() };
    let before = store.current_snapshots().await.unwrap();
    assert_eq!(ids(&before), [a, b]);
    let b2 = ingest(&store, "b", object(), CommitMode::Append, 20, &[3]).await;
    let after = store.current_snapshots().await.unwrap();
    assert_eq!(ids(&after), [a, b2]);
    // The unchanged one is the very same.
    assert!(Arc::ptr_eq(&before[0], &after[0]));
    assert!(matches!(
        store.snapshot(skyflight_catalog::SnapshotId(999)).await,
        Err(CatalogError::NotFound { what: "snapshot", .. })
    ));
}

#[tokio::test]
async fn a_match_reads_back_and_holds_its_directors() {
    let store = SqliteStore::in_memory().await.unwrap();
    let database = store.create_database("dr1", None).await.unwrap();
    let opened = store.open_transaction(database.id, &this_process()).await.unwrap();
    let mut star = object();
    star.name = "Star".to_owned();
    let mut pair_files = files(opened.id, 50, &[3, 3, 4]);
    pair_files[1].kind = FileKind::FirstOnly;
    pair_files[2].kind = FileKind::SecondOnly;
    let mut pair = write(pairs(), CommitMode::Replace, 20, pair_files);
    pair.facts.pairs = PairFacts { second_orphans: 3, second_ids_span_chunks: true, out_of_reach: 2 };
    let expected = pair.facts;
    let tables = vec![
        write(object(), CommitMode::Replace, 10, files(opened.id, 0, &[3])),
        write(star, CommitMode::Replace, 10, files(opened.id, 20, &[4])),
        pair,
    ];
    let id = store.commit(opened.id, Commit { scheme: Some(stripes()), tables }).await.unwrap();
    let snapshot = store.snapshot(id).await.unwrap();
    let read = snapshot.table("Pair").unwrap();
    assert_eq!(read.facts, expected);
    assert_eq!(read.table.directors().collect::<Vec<_>>(), [("Object", "objectId"), ("Star", "starId")]);
    assert!(read.table.lies_with("star") && !read.table.lies_with("pair"));
    let kinds: Vec<FileKind> = read.files.iter().map(|file| file.kind).collect();
    assert_eq!(kinds, [FileKind::Rows, FileKind::FirstOnly, FileKind::SecondOnly]);
    for director in ["Object", "Star"] {
        let refused = store.drop_table(database.id, director).await.unwrap_err();
        assert!(refused.to_string().contains("drop \"Pair\" first"), "{refused}");
    }
}
