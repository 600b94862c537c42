//! The life of an ingest's transaction: open, then committed or aborted; abandoned when its owner is gone
//! and its leftovers are still to be removed.

use sqlx::SqliteConnection;

use super::value::{corrupt, next_id, now_unix_ms};
use crate::error::{CatalogError, Result};
use crate::ids::TransactionId;
use crate::names;
use crate::owner::Owner;
use crate::records::Database;
use crate::store::{ABANDONED_AFTER_MS, OpenedTransaction};

struct Unfinished {
    id: TransactionId,
    abandoned: bool,
    owner: Owner,
    heartbeat_age_ms: i64,
}

impl Unfinished {
    async fn is_alive(&self, seen_by: &Owner) -> bool {
        !self.abandoned && self.heartbeat_age_ms <= ABANDONED_AFTER_MS && !self.owner.is_gone(seen_by).await
    }

    fn busy(self, database: &Database) -> CatalogError {
        CatalogError::Busy {
            database: database.name.clone(),
            transaction: self.id,
            owner: self.owner,
            heartbeat_age_ms: self.heartbeat_age_ms,
        }
    }
}

pub(super) async fn open(
    write: &mut SqliteConnection,
    database: &Database,
    owner: &Owner,
) -> Result<OpenedTransaction> {
    // The id comes first: where writes run side by side this row makes two openings wait for each other.
    let id = next_id(write, "transaction").await?;
    // A file's id keeps its transaction in 31 bits.
    if id > i64::from(i32::MAX) {
        return Err(CatalogError::Invalid("this catalog has used up its transaction ids; make a new one".to_owned()));
    }
    let mut abandoned = Vec::new();
    for other in unfinished(write, database).await? {
        if other.is_alive(owner).await {
            return Err(other.busy(database));
        }
        abandoned.push(other.id);
    }
    for gone in &abandoned {
        // From here on it cannot commit, so its files may be removed even if its owner was only asleep.
        abandon(write, *gone).await?;
        tracing::warn!(transaction = %gone, database = %database.name, "transaction abandoned by its owner");
    }
    let now = now_unix_ms();
    sqlx::query(
        "INSERT INTO transactions (id, database_id, base_snapshot, state, owner_host, owner_pid, owner_program, \
         opened_unix_ms, heartbeat_unix_ms) VALUES ($1, $2, $3, 'open', $4, $5, $6, $7, $7)",
    )
    .bind(id)
    .bind(database.id.0)
    .bind(database.current.map(|snapshot| snapshot.0))
    .bind(&owner.host)
    .bind(i64::from(owner.pid))
    .bind(&owner.program)
    .bind(now)
    .execute(write)
    .await?;
    Ok(OpenedTransaction { id: TransactionId(id), base: database.current, abandoned })
}

/// False where it is not open.
pub(super) async fn abandon(write: &mut SqliteConnection, id: TransactionId) -> Result<bool> {
    let abandoned = sqlx::query("UPDATE transactions SET state = 'abandoned' WHERE id = $1 AND state = 'open'")
        .bind(id.0)
        .execute(write)
        .await?;
    Ok(abandoned.rows_affected() == 1)
}

/// Refuses what would change the database under a running ingest.
pub(super) async fn refuse_if_busy(write: &mut SqliteConnection, database: &Database) -> Result<()> {
    let this_process = Owner::this_process("skyflight");
    for other in unfinished(write, database).await? {
        if other.is_alive(&this_process).await {
            return Err(other.busy(database));
        }
    }
    Ok(())
}

/// The transactions of the database that are open or abandoned, and those that dropped databases left behind,
/// whose leftovers nobody else would ask for.
async fn unfinished(connection: &mut SqliteConnection, database: &Database) -> Result<Vec<Unfinished>> {
    type Row = (i64, bool, String, i64, String, i64);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT t.id, t.state = 'abandoned' OR d.dropped_unix_ms IS NOT NULL, \
                t.owner_host, t.owner_pid, t.owner_program, t.heartbeat_unix_ms \
         FROM transactions t JOIN databases d ON d.id = t.database_id \
         WHERE t.state IN ('open', 'abandoned') AND (d.id = $1 OR d.dropped_unix_ms IS NOT NULL) ORDER BY t.id",
    )
    .bind(database.id.0)
    .fetch_all(connection)
    .await?;
    let now = now_unix_ms();
    rows.into_iter()
        .map(|(id, abandoned, host, pid, program, heartbeat)| {
            let pid =
                u32::try_from(pid).map_err(|_| corrupt(format!("transaction {id}"), format!("process id {pid}")))?;
            let owner = Owner { host, pid, program };
            Ok(Unfinished {
                id: TransactionId(id),
                abandoned,
                owner,
                heartbeat_age_ms: now.saturating_sub(heartbeat).max(0),
            })
        })
        .collect()
}

pub(super) async fn heartbeat(connection: &mut SqliteConnection, id: TransactionId) -> Result<()> {
    let beaten = sqlx::query("UPDATE transactions SET heartbeat_unix_ms = $2 WHERE id = $1 AND state = 'open'")
        .bind(id.0)
        .bind(now_unix_ms())
        .execute(&mut *connection)
        .await?
        .rows_affected();
    if beaten == 1 { Ok(()) } else { Err(closed(connection, id).await?) }
}

pub(super) async fn forget(write: &mut SqliteConnection, id: TransactionId) -> Result<()> {
    let forgotten = sqlx::query(
        "UPDATE transactions SET state = 'aborted', closed_unix_ms = $2 WHERE id = $1 AND state IN ('open', 'abandoned')",
    )
    .bind(id.0)
    .bind(now_unix_ms())
    .execute(&mut *write)
    .await?
    .rows_affected();
    if forgotten == 1 {
        return Ok(());
    }
    match closed(write, id).await? {
        CatalogError::TransactionClosed { state, .. } if state == "aborted" => Ok(()),
        error => Err(error),
    }
}

/// Why the transaction cannot be written: it does not exist, or the state it is in.
pub(super) async fn closed(connection: &mut SqliteConnection, id: TransactionId) -> Result<CatalogError> {
    let state: Option<String> = sqlx::query_scalar("SELECT state FROM transactions WHERE id = $1")
        .bind(id.0)
        .fetch_optional(connection)
        .await?;
    Ok(match state {
        Some(state) => CatalogError::TransactionClosed { transaction: id, state },
        None => names::not_found("transaction", &id.to_string(), []),
    })
}
