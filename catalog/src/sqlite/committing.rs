//! How a new snapshot is written. Everything here runs inside one write transaction of the caller's.

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::snapshots::load_tables;
use super::transactions::closed;
use super::value::{count_to_sql, next_id, now_unix_ms};
use super::{databases, statistics};
use crate::check::check;
use crate::commit::{Commit, CommitMode, NewFile, NewTable, TableCommit};
use crate::error::{CatalogError, Result};
use crate::ids::{DatabaseId, SnapshotId, TableId, TransactionId};
use crate::names;
use crate::records::{Database, FileKind, Table, TableFacts};

// Rows of one INSERT: ten values each stay far below SQLite's 32,766 and PostgreSQL's 65,535 parameters.
const ROWS_PER_INSERT: usize = 500;

pub(super) async fn commit(
    write: &mut SqliteConnection,
    transaction: TransactionId,
    commit: &Commit,
) -> Result<SnapshotId> {
    let row: Option<(i64, Option<i64>)> =
        sqlx::query_as("SELECT database_id, base_snapshot FROM transactions WHERE id = $1 AND state = 'open'")
            .bind(transaction.0)
            .fetch_optional(&mut *write)
            .await?;
    let Some((database, base)) = row else {
        return Err(closed(write, transaction).await?);
    };
    let database = databases::by_id(write, DatabaseId(database)).await?;
    let base = base.map(SnapshotId);
    if database.current != base {
        return Err(CatalogError::Conflict { database: database.name, base, current: database.current });
    }
    let existing = current_tables(write, &database).await?;
    check(transaction, commit, &existing, database.scheme.as_ref())?;

    let snapshot = insert_snapshot(write, &database, Some(transaction)).await?;
    for table_commit in &commit.tables {
        let old = existing.iter().find(|(old, _)| old.name.eq_ignore_ascii_case(&table_commit.table.name));
        write_table(write, &database, snapshot, table_commit, old.map(|(old, _)| old)).await?;
    }
    if let (None, Some(scheme)) = (&database.scheme, &commit.scheme) {
        let text = serde_json::to_string(scheme)
            .map_err(|error| CatalogError::Invalid(format!("the scheme cannot be stored: {error}")))?;
        sqlx::query("UPDATE databases SET scheme = $2 WHERE id = $1")
            .bind(database.id.0)
            .bind(text)
            .execute(&mut *write)
            .await?;
    }
    make_current(write, &database, snapshot).await?;
    let closed_now = sqlx::query(
        "UPDATE transactions SET state = 'committed', closed_unix_ms = $2 WHERE id = $1 AND state = 'open'",
    )
    .bind(transaction.0)
    .bind(now_unix_ms())
    .execute(&mut *write)
    .await?
    .rows_affected();
    if closed_now == 1 { Ok(snapshot) } else { Err(closed(write, transaction).await?) }
}

pub(super) async fn drop_table(write: &mut SqliteConnection, database: &Database, name: &str) -> Result<SnapshotId> {
    let existing = current_tables(write, database).await?;
    let Some((table, _)) = existing.iter().find(|(table, _)| table.name.eq_ignore_ascii_case(name)) else {
        return Err(names::not_found("table", name, existing.iter().map(|(table, _)| table.name.as_str())));
    };
    if let Some((child, _)) = existing.iter().find(|(other, _)| other.lies_with(&table.name)) {
        return Err(CatalogError::Invalid(format!(
            "table \"{}\" is the director of \"{}\"; drop \"{}\" first",
            table.name, child.name, child.name
        )));
    }
    let snapshot = insert_snapshot(write, database, None).await?;
    end_table(write, table.id, snapshot).await?;
    make_current(write, database, snapshot).await?;
    Ok(snapshot)
}

async fn current_tables(write: &mut SqliteConnection, database: &Database) -> Result<Vec<(Table, TableFacts)>> {
    match database.current {
        Some(current) => load_tables(write, database.id, current).await,
        None => Ok(Vec::new()),
    }
}

async fn insert_snapshot(
    write: &mut SqliteConnection,
    database: &Database,
    transaction: Option<TransactionId>,
) -> Result<SnapshotId> {
    let id = next_id(write, "snapshot").await?;
    sqlx::query(
        "INSERT INTO snapshots (id, database_id, parent_snapshot, transaction_id, created_unix_ms) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(id)
    .bind(database.id.0)
    .bind(database.current.map(|parent| parent.0))
    .bind(transaction.map(|transaction| transaction.0))
    .bind(now_unix_ms())
    .execute(write)
    .await?;
    Ok(SnapshotId(id))
}

// Says again what the commit was built on, so that it holds where writes are not in line as SQLite's are.
async fn make_current(write: &mut SqliteConnection, database: &Database, snapshot: SnapshotId) -> Result<()> {
    let moved = sqlx::query(
        "UPDATE databases SET current_snapshot = $2 \
         WHERE id = $1 AND current_snapshot IS NOT DISTINCT FROM $3 AND dropped_unix_ms IS NULL",
    )
    .bind(database.id.0)
    .bind(snapshot.0)
    .bind(database.current.map(|current| current.0))
    .execute(&mut *write)
    .await?
    .rows_affected();
    if moved == 1 {
        return Ok(());
    }
    let now = databases::by_id(write, database.id).await?;
    Err(CatalogError::Conflict { database: now.name, base: database.current, current: now.current })
}

async fn write_table(
    write: &mut SqliteConnection,
    database: &Database,
    snapshot: SnapshotId,
    commit: &TableCommit,
    old: Option<&Table>,
) -> Result<()> {
    let table = match (old, commit.mode) {
        (None, _) => {
            let id = insert_table(write, database, snapshot, &commit.table.name).await?;
            insert_definition(write, id, snapshot, &commit.table).await?;
            id
        }
        (Some(old), CommitMode::Append) => {
            end(write, End::Facts, old.id, snapshot).await?;
            end_index_files(write, old.id, snapshot, commit).await?;
            old.id
        }
        (Some(old), CommitMode::Replace) => {
            for what in [End::Facts, End::Definition, End::Files] {
                end(write, what, old.id, snapshot).await?;
            }
            insert_definition(write, old.id, snapshot, &commit.table).await?;
            old.id
        }
    };
    insert_facts(write, table, snapshot, &commit.facts).await?;
    insert_files(write, table, snapshot, &commit.files).await
}

/// What a snapshot can take away from a table.
#[derive(Clone, Copy)]
enum End {
    Table,
    Definition,
    Facts,
    Files,
}

async fn end(write: &mut SqliteConnection, what: End, table: TableId, snapshot: SnapshotId) -> Result<()> {
    let statement = match what {
        End::Table => "UPDATE tables SET until_snapshot = $2 WHERE id = $1 AND until_snapshot IS NULL",
        End::Definition => {
            "UPDATE table_definitions SET until_snapshot = $2 WHERE table_id = $1 AND until_snapshot IS NULL"
        }
        End::Facts => "UPDATE table_facts SET until_snapshot = $2 WHERE table_id = $1 AND until_snapshot IS NULL",
        End::Files => "UPDATE files SET until_snapshot = $2 WHERE table_id = $1 AND until_snapshot IS NULL",
    };
    sqlx::query(statement).bind(table.0).bind(snapshot.0).execute(write).await?;
    Ok(())
}

/// Ends the index files that new ones take the place of. An entry lost is a row that is never found again.
async fn end_index_files(
    write: &mut SqliteConnection,
    table: TableId,
    snapshot: SnapshotId,
    commit: &TableCommit,
) -> Result<()> {
    let mut ended_rows = 0;
    for file in &commit.ended {
        let rows: Option<i64> = sqlx::query_scalar(
            "UPDATE files SET until_snapshot = $3 \
             WHERE id = $1 AND table_id = $2 AND kind = $4 AND until_snapshot IS NULL RETURNING row_count",
        )
        .bind(file.0)
        .bind(table.0)
        .bind(snapshot.0)
        .bind(FileKind::DirectorIndex.as_str())
        .fetch_optional(&mut *write)
        .await?;
        let Some(rows) = rows else {
            return Err(CatalogError::Invalid(format!(
                "file {file} is no index file that table \"{}\" has now; end each of those that are replaced once",
                commit.table.name
            )));
        };
        ended_rows += rows.unsigned_abs();
    }
    let new = commit.files.iter().filter(|file| file.kind == FileKind::DirectorIndex).map(|file| file.rows);
    let new_rows: u64 = new.sum();
    if new_rows < ended_rows {
        return Err(CatalogError::Invalid(format!(
            "the index of table \"{}\" would lose {} entries; write all entries of the files that end again",
            commit.table.name,
            ended_rows - new_rows
        )));
    }
    Ok(())
}

async fn end_table(write: &mut SqliteConnection, table: TableId, snapshot: SnapshotId) -> Result<()> {
    for what in [End::Files, End::Facts, End::Definition, End::Table] {
        end(write, what, table, snapshot).await?;
    }
    Ok(())
}

async fn insert_table(
    write: &mut SqliteConnection,
    database: &Database,
    snapshot: SnapshotId,
    name: &str,
) -> Result<TableId> {
    let id = next_id(write, "table").await?;
    sqlx::query("INSERT INTO tables (id, database_id, name_key, since_snapshot) VALUES ($1, $2, $3, $4)")
        .bind(id)
        .bind(database.id.0)
        .bind(names::key(name))
        .bind(snapshot.0)
        .execute(write)
        .await?;
    Ok(TableId(id))
}

async fn insert_definition(
    write: &mut SqliteConnection,
    id: TableId,
    snapshot: SnapshotId,
    table: &NewTable,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO table_definitions (table_id, since_snapshot, name, kind, id_column, ra_column, dec_column, \
           director, director_key, second_director, second_director_key, description) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(id.0)
    .bind(snapshot.0)
    .bind(&table.name)
    .bind(table.kind.as_str())
    .bind(&table.id_column)
    .bind(&table.ra_column)
    .bind(&table.dec_column)
    .bind(&table.director)
    .bind(&table.director_key)
    .bind(&table.second_director)
    .bind(&table.second_director_key)
    .bind(&table.description)
    .execute(&mut *write)
    .await?;
    let numbered: Vec<_> = (0_i64..).zip(&table.columns).collect();
    for part in numbered.chunks(ROWS_PER_INSERT) {
        QueryBuilder::<Sqlite>::new(
            "INSERT INTO table_columns (table_id, since_snapshot, position, name, data_type, nullable, unit, ucd, \
             description) ",
        )
        .push_values(part, |mut row, (position, column)| {
            row.push_bind(id.0).push_bind(snapshot.0).push_bind(*position);
            row.push_bind(column.name.clone()).push_bind(column.data_type.clone());
            row.push_bind(i64::from(column.nullable));
            row.push_bind(column.unit.clone()).push_bind(column.ucd.clone()).push_bind(column.description.clone());
        })
        .build()
        .execute(&mut *write)
        .await?;
    }
    Ok(())
}

async fn insert_facts(
    write: &mut SqliteConnection,
    table: TableId,
    snapshot: SnapshotId,
    facts: &TableFacts,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO table_facts (table_id, since_snapshot, row_count, orphans, ids_span_chunks, second_orphans, \
           second_ids_span_chunks, out_of_reach) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(table.0)
    .bind(snapshot.0)
    .bind(count_to_sql("rows", facts.rows)?)
    .bind(count_to_sql("orphans", facts.orphans)?)
    .bind(i64::from(facts.ids_span_chunks))
    .bind(count_to_sql("orphans", facts.pairs.second_orphans)?)
    .bind(i64::from(facts.pairs.second_ids_span_chunks))
    .bind(count_to_sql("pairs out of reach", facts.pairs.out_of_reach)?)
    .execute(write)
    .await?;
    Ok(())
}

async fn insert_files(
    write: &mut SqliteConnection,
    table: TableId,
    snapshot: SnapshotId,
    files: &[NewFile],
) -> Result<()> {
    for part in files.chunks(ROWS_PER_INSERT) {
        let mut rows = Vec::with_capacity(part.len());
        for file in part {
            rows.push((file, count_to_sql("rows", file.rows)?, count_to_sql("bytes", file.bytes)?));
        }
        QueryBuilder::<Sqlite>::new(
            "INSERT INTO files (id, table_id, since_snapshot, chunk, kind, row_count, byte_count, sha256, statistics) ",
        )
        .push_values(rows, |mut row, (file, row_count, byte_count)| {
            row.push_bind(file.id.0).push_bind(table.0).push_bind(snapshot.0);
            row.push_bind(file.chunk.0.cast_signed()).push_bind(file.kind.as_str());
            row.push_bind(row_count).push_bind(byte_count);
            row.push_bind(file.sha256.to_vec()).push_bind(statistics::to_sql(&file.statistics));
        })
        .build()
        .execute(&mut *write)
        .await?;
    }
    insert_replicas(write, files).await
}

async fn insert_replicas(write: &mut SqliteConnection, files: &[NewFile]) -> Result<()> {
    let replicas: Vec<_> = files
        .iter()
        .flat_map(|file| (0_i64..).zip(&file.workers).map(|(position, worker)| (file.id.0, position, worker)))
        .collect();
    for part in replicas.chunks(ROWS_PER_INSERT) {
        QueryBuilder::<Sqlite>::new("INSERT INTO replicas (file_id, position, worker_id) ")
            .push_values(part, |mut row, (file, position, worker)| {
                row.push_bind(*file).push_bind(*position).push_bind(worker.0.clone());
            })
            .build()
            .execute(&mut *write)
            .await?;
    }
    Ok(())
}
