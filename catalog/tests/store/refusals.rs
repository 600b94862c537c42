//! What a commit must not contain: each contradiction is refused with a reason, and nothing is written.

use skyflight_catalog::{
    CatalogError, CatalogStore, Commit, CommitMode, FileId, FileKind, SqliteStore, TableCommit, TableKind,
    TransactionId, WorkerId,
};
use skyflight_sky::{ChunkId, SchemeSpec};

use crate::fixtures::{column, files, filter_table, ingest, object, pairs, source, stripes, this_process, write};

/// Tries a commit into a database that has Object with 20 rows, and gives the refusal.
async fn refusal(change: impl FnOnce(TransactionId) -> Commit) -> String {
    let store = SqliteStore::in_memory().await.unwrap();
    let database = store.create_database("dr1", None).await.unwrap();
    let before = ingest(&store, "dr1", object(), CommitMode::Replace, 20, &[1, 2]).await;
    let opened = store.open_transaction(database.id, &this_process()).await.unwrap();
    let error = store.commit(opened.id, change(opened.id)).await.unwrap_err();
    assert!(matches!(error, CatalogError::Invalid(_) | CatalogError::NotFound { .. }), "{error:?}");
    assert_eq!(store.current_snapshot(database.id).await.unwrap(), Some(before));
    // The transaction is still open, so the caller may correct itself.
    store.heartbeat(opened.id).await.unwrap();
    error.to_string()
}

async fn refusal_of(change: impl FnOnce(TransactionId) -> TableCommit) -> String {
    refusal(|id| Commit { scheme: None, tables: vec![change(id)] }).await
}

fn append_to_object(id: TransactionId) -> TableCommit {
    write(object(), CommitMode::Append, 30, files(id, 0, &[3]))
}

#[tokio::test]
async fn the_commit_they_are_all_made_from_is_accepted() {
    let store = SqliteStore::in_memory().await.unwrap();
    let database = store.create_database("dr1", None).await.unwrap();
    ingest(&store, "dr1", object(), CommitMode::Replace, 20, &[1, 2]).await;
    let opened = store.open_transaction(database.id, &this_process()).await.unwrap();
    let commit = Commit { scheme: None, tables: vec![append_to_object(opened.id)] };
    store.commit(opened.id, commit).await.unwrap();
}

#[tokio::test]
async fn schemes_that_contradict_or_are_missing() {
    let other = SchemeSpec::Healpix { cells: (4..16).collect(), overlap_arcsec: 60.0 };
    let text = refusal(|id| Commit { scheme: Some(other), tables: vec![append_to_object(id)] }).await;
    assert!(text.contains("cuts the sky otherwise"), "{text}");

    let store = SqliteStore::in_memory().await.unwrap();
    let database = store.create_database("dr1", None).await.unwrap();
    let opened = store.open_transaction(database.id, &this_process()).await.unwrap();
    let tables = vec![write(object(), CommitMode::Replace, 10, files(opened.id, 0, &[1]))];
    let error = store.commit(opened.id, Commit { scheme: None, tables }).await.unwrap_err();
    assert!(error.to_string().contains("has a scheme"), "{error}");
}

#[tokio::test]
async fn files_of_others_doubled_or_misplaced() {
    let change_file = |change: fn(&mut skyflight_catalog::NewFile)| {
        refusal_of(move |id| {
            let mut commit = append_to_object(id);
            change(&mut commit.files[0]);
            commit
        })
    };
    let text = change_file(|file| file.id = FileId::new(TransactionId(999), 1)).await;
    assert!(text.contains("is not of transaction"), "{text}");
    let text = change_file(|file| file.chunk = ChunkId::EVERYWHERE).await;
    assert!(text.contains("only replicated tables are everywhere"), "{text}");
    let text = change_file(|file| file.workers[0] = WorkerId::from("no good\n")).await;
    assert!(text.contains("cannot name a worker"), "{text}");
    let text = change_file(|file| file.workers[1] = file.workers[0].clone()).await;
    assert!(text.contains("twice on worker worker-2"), "{text}");
    let text = change_file(|file| file.rows = u64::MAX).await;
    assert!(text.contains("count them again"), "{text}");
    let text = change_file(|file| file.kind = FileKind::Overlap).await;
    assert!(text.contains("said to have 30 rows after the commit, its files hold 20"), "{text}");

    let text = refusal_of(|id| {
        let mut commit = append_to_object(id);
        commit.files.extend(files(id, 0, &[4]));
        commit.facts.rows = 40;
        commit
    })
    .await;
    assert!(text.contains("occurs twice"), "{text}");
    let text = refusal_of(|id| write(filter_table(), CommitMode::Replace, 10, files(id, 0, &[4]))).await;
    assert!(text.contains("only replicated tables are everywhere"), "{text}");
}

#[tokio::test]
async fn facts_that_the_files_contradict() {
    let text = refusal_of(|id| write(object(), CommitMode::Append, 10, files(id, 0, &[3]))).await;
    assert!(text.contains("said to have 10 rows after the commit, its files hold 30"), "{text}");
    let text = refusal_of(|id| write(object(), CommitMode::Replace, 30, files(id, 0, &[3]))).await;
    assert!(text.contains("its files hold 10"), "{text}");
    let text = refusal_of(|id| {
        let mut commit = append_to_object(id);
        commit.facts.orphans = 31;
        commit
    })
    .await;
    assert!(text.contains("more orphans than rows"), "{text}");
}

#[tokio::test]
async fn files_ended_that_are_no_index_files_or_hold_more() {
    let ending = |mode: CommitMode, rows: u64, ended: fn(FileId) -> Vec<FileId>, index_rows: u64| async move {
        let store = SqliteStore::in_memory().await.unwrap();
        let database = store.create_database("dr1", None).await.unwrap();
        let commit_with = |id: TransactionId, rows: u64, index_rows: u64| {
            let mut all = files(id, 0, &[1, 0]);
            all[1].kind = FileKind::DirectorIndex;
            all[1].rows = index_rows;
            write(object(), CommitMode::Append, rows, all)
        };
        let first = store.open_transaction(database.id, &this_process()).await.unwrap();
        let tables = vec![commit_with(first.id, 10, 10)];
        let before = store.commit(first.id, Commit { scheme: Some(stripes()), tables }).await.unwrap();
        let second = store.open_transaction(database.id, &this_process()).await.unwrap();
        let mut commit = commit_with(second.id, rows, index_rows);
        (commit.mode, commit.ended) = (mode, ended(FileId::new(first.id, 1)));
        let refused = store.commit(second.id, Commit { scheme: None, tables: vec![commit] }).await;
        let current = store.current_snapshot(database.id).await.unwrap();
        assert_eq!(refused.is_err(), current == Some(before));
        // What was refused has ended nothing.
        let snapshot = store.snapshot(before).await.unwrap();
        assert_eq!(snapshot.table("object").unwrap().files.len(), 2);
        refused.map_err(|error| error.to_string())
    };
    assert!(ending(CommitMode::Append, 20, |index| vec![index], 20).await.is_ok());
    let text = ending(CommitMode::Append, 20, |index| vec![index], 9).await.unwrap_err();
    assert!(text.contains("would lose 1 entries"), "{text}");
    let text = ending(CommitMode::Append, 20, |index| vec![index, index], 20).await.unwrap_err();
    assert!(text.contains("is no index file that table \"Object\" has now"), "{text}");
    let text = ending(CommitMode::Append, 20, |index| vec![FileId(index.0 - 1)], 20).await.unwrap_err();
    assert!(text.contains("is no index file"), "{text}");
    let text = ending(CommitMode::Replace, 10, |index| vec![index], 10).await.unwrap_err();
    assert!(text.contains("keeps no files"), "{text}");
}

#[tokio::test]
async fn rows_for_a_table_of_another_shape() {
    type Change = fn(&mut skyflight_catalog::NewTable);
    let changes: [(Change, &str); 6] = [
        (|table| table.kind = TableKind::Replicated, "another kind"),
        (|table| drop(table.columns.pop()), "another number of columns"),
        (|table| table.columns[1].data_type = "Float32".to_owned(), "type of column \"ra\" (Float32, not Float64)"),
        (|table| table.columns[1].nullable = true, "column \"ra\", which may be null"),
        (|table| table.columns[3].name = "Mag".to_owned(), "column \"Mag\" in the place of \"mag\""),
        (|table| table.id_column = Some("_healpix_29".to_owned()), "another id, position or director key"),
    ];
    for (change, expected) in changes {
        let text = refusal_of(move |id| {
            let mut commit = append_to_object(id);
            change(&mut commit.table);
            if commit.table.kind == TableKind::Replicated {
                commit.files[0].chunk = ChunkId::EVERYWHERE;
            }
            commit
        })
        .await;
        assert!(text.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn tables_declared_badly() {
    type Change = fn(&mut skyflight_catalog::NewTable);
    let of_object: [(Change, &str); 6] = [
        (|table| table.name = "my table".to_owned(), "cannot name a table"),
        (|table| table.columns.clear(), "has no columns"),
        (|table| table.columns.push(column("ra", "Float64")), "two columns \"ra\""),
        (|table| table.columns.push(column("", "Float64")), "without a usable name"),
        (|table| table.ra_column = Some("RA_".to_owned()), "there is no column \"RA_\"; did you mean \"ra\"?"),
        (|table| table.id_column = None, "director table \"Object\" needs an id column"),
    ];
    let of_source: [(Change, &str); 3] = [
        (|table| table.director = None, "needs a director"),
        (|table| table.director = Some("Objects".to_owned()), "did you mean \"Object\"?"),
        (|table| table.director_key = None, "needs a director key column"),
    ];
    for (table, changes) in [(object(), of_object.as_slice()), (source(), of_source.as_slice())] {
        for (change, expected) in changes {
            let mut table = table.clone();
            change(&mut table);
            let text = refusal_of(|id| write(table, CommitMode::Replace, 10, files(id, 0, &[3]))).await;
            assert!(text.contains(expected), "{text}");
        }
    }
    // Two columns that differ in case alone are two columns.
    let store = SqliteStore::in_memory().await.unwrap();
    store.create_database("dr1", None).await.unwrap();
    let mut table = object();
    table.columns.push(column("RA", "Float64"));
    ingest(&store, "dr1", table, CommitMode::Replace, 10, &[1]).await;
}

#[tokio::test]
async fn a_director_that_stops_being_one_and_a_table_named_twice() {
    let store = SqliteStore::in_memory().await.unwrap();
    let database = store.create_database("dr1", None).await.unwrap();
    ingest(&store, "dr1", object(), CommitMode::Replace, 10, &[1]).await;
    ingest(&store, "dr1", source(), CommitMode::Replace, 10, &[1]).await;
    let opened = store.open_transaction(database.id, &this_process()).await.unwrap();
    let mut replicated = object();
    replicated.kind = TableKind::Replicated;
    let tables = vec![write(replicated, CommitMode::Replace, 10, files(opened.id, 0, &[u64::MAX]))];
    let error = store.commit(opened.id, Commit { scheme: Some(stripes()), tables }).await.unwrap_err();
    assert!(error.to_string().contains("a table can only belong to a director"), "{error}");

    let text = refusal(|id| {
        let mut again = append_to_object(id);
        again.table.name = "OBJECT".to_owned();
        again.files = files(id, 10, &[3]);
        Commit { scheme: None, tables: vec![append_to_object(id), again] }
    })
    .await;
    assert!(text.contains("occurs twice"), "{text}");
}

#[tokio::test]
async fn matches_declared_or_stored_badly() {
    type Change = fn(&mut TableCommit);
    let changes: [(Change, &str); 7] = [
        (|pairs| pairs.table.second_director = None, "needs a second director; declare which table it pairs with"),
        (|pairs| pairs.table.second_director_key = None, "needs a second director key column"),
        (|pairs| pairs.table.second_director = Some("Stars".to_owned()), "there is no director table \"Stars\""),
        (|pairs| pairs.table.kind = TableKind::Child, "cannot have a second director"),
        (|pairs| pairs.files[1].kind = FileKind::FirstOnly, "10 pairs of two chunks in that of the first and 0"),
        (|pairs| pairs.facts.pairs.second_orphans = 21, "more orphans than rows"),
        (
            |pairs| {
                pairs.table = source();
                pairs.files[1].kind = FileKind::SecondOnly;
            },
            "only a match has them",
        ),
    ];
    for (change, expected) in changes {
        let text = refusal(|id| {
            let mut star = object();
            star.name = "Star".to_owned();
            let mut pair = write(pairs(), CommitMode::Replace, 20, files(id, 50, &[3, 4]));
            change(&mut pair);
            let directors = [object(), star].into_iter().enumerate();
            let mut tables: Vec<TableCommit> = directors
                .map(|(at, table)| write(table, CommitMode::Replace, 10, files(id, 20 + at as u32, &[3])))
                .collect();
            tables.push(pair);
            Commit { scheme: Some(stripes()), tables }
        })
        .await;
        assert!(text.contains(expected), "{text}");
    }
}
