//! Whether a commit may become a snapshot. A record that contradicts another is a wrong answer later,
//! so it is refused here, with what to do about it.

use std::collections::{HashMap, HashSet};

use skyflight_sky::{ChunkId, SchemeSpec};

use crate::commit::{Commit, CommitMode, NewTable, TableCommit};
use crate::error::{CatalogError, Result};
use crate::ids::TransactionId;
use crate::names;
use crate::records::{FileKind, Table, TableFacts, TableKind};

/// Checks a commit against the tables and the scheme its database has now.
pub(crate) fn check(
    transaction: TransactionId,
    commit: &Commit,
    existing: &[(Table, TableFacts)],
    scheme: Option<&SchemeSpec>,
) -> Result<()> {
    check_scheme(commit, scheme)?;
    let mut named = HashSet::new();
    let mut files = HashSet::new();
    for write in &commit.tables {
        let table = &write.table;
        if !named.insert(names::key(&table.name)) {
            return invalid(format!("table \"{}\" occurs twice in one commit; name it once", table.name));
        }
        check_table(table)?;
        let old = existing.iter().find(|(old, _)| old.name.eq_ignore_ascii_case(&table.name));
        let kept = old.filter(|_| write.mode == CommitMode::Append);
        if let Some((old, _)) = kept {
            check_agrees(table, old)?;
        }
        if !write.ended.is_empty() && kept.is_none() {
            return invalid(format!("table \"{}\" keeps no files, so none can be ended; name none", table.name));
        }
        check_files(transaction, write, &mut files)?;
        check_facts(write, kept.map_or(0, |(_, facts)| facts.rows))?;
    }
    check_directors(commit, existing)
}

fn check_scheme(commit: &Commit, scheme: Option<&SchemeSpec>) -> Result<()> {
    let partitioned = commit.tables.iter().find(|write| write.table.kind != TableKind::Replicated);
    match (scheme, &commit.scheme, partitioned) {
        (Some(old), Some(new), _) if old != new => invalid(
            "the commit cuts the sky otherwise than the database does; use the database's scheme or another database",
        ),
        (None, None, Some(write)) => invalid(format!(
            "table \"{}\" is partitioned but neither the database nor the commit has a scheme; commit one with it",
            write.table.name
        )),
        _ => Ok(()),
    }
}

fn check_table(table: &NewTable) -> Result<()> {
    names::check_name("table", &table.name)?;
    let name = &table.name;
    if table.columns.is_empty() {
        return invalid(format!("table \"{name}\" has no columns; declare at least one"));
    }
    let mut columns = HashSet::new();
    for column in &table.columns {
        if column.name.is_empty() || column.name.contains('\0') {
            return invalid(format!("table \"{name}\" has a column without a usable name; name it"));
        }
        if !columns.insert(column.name.as_str()) {
            return invalid(format!("table \"{name}\" has two columns \"{}\"; rename one", column.name));
        }
    }
    let roles = [
        ("an id", &table.id_column, table.kind == TableKind::Director),
        ("a right ascension", &table.ra_column, table.kind == TableKind::Director),
        ("a declination", &table.dec_column, table.kind == TableKind::Director),
        ("a director key", &table.director_key, needs_director(table.kind)),
        ("a second director key", &table.second_director_key, table.kind == TableKind::Match),
    ];
    for (role, column, required) in roles {
        match column {
            Some(column) if !columns.contains(column.as_str()) => {
                return Err(names::not_found("column", column, columns.iter().copied()));
            }
            None if required => {
                return invalid(format!("{} table \"{name}\" needs {role} column; declare it", table.kind));
            }
            _ => {}
        }
    }
    let kind = table.kind;
    if needs_director(kind) && table.director.is_none() {
        return invalid(format!("{kind} table \"{name}\" needs a director; declare which table it belongs to"));
    }
    if kind == TableKind::Match && table.second_director.is_none() {
        return invalid(format!("match table \"{name}\" needs a second director; declare which table it pairs with"));
    }
    if kind != TableKind::Match && (table.second_director.is_some() || table.second_director_key.is_some()) {
        return invalid(format!("{kind} table \"{name}\" cannot have a second director; only a match has two"));
    }
    Ok(())
}

fn needs_director(kind: TableKind) -> bool {
    match kind {
        TableKind::Child | TableKind::Companion | TableKind::Match => true,
        TableKind::Director | TableKind::Replicated => false,
    }
}

// Rows can join a table only if its readers find the same columns with the same meaning in them.
fn check_agrees(new: &NewTable, old: &Table) -> Result<()> {
    let differs = |what: &str| {
        invalid(format!(
            "the rows for table \"{}\" have another {what} than the table; replace the table instead",
            old.name
        ))
    };
    if new.kind != old.kind {
        return differs("kind");
    }
    if new.columns.len() != old.columns.len() {
        return differs("number of columns");
    }
    for (new, old) in new.columns.iter().zip(&old.columns) {
        if new.name != old.name {
            return differs(&format!("column \"{}\" in the place of \"{}\",", new.name, old.name));
        }
        if new.data_type != old.data_type {
            return differs(&format!("type of column \"{}\" ({}, not {})", old.name, new.data_type, old.data_type));
        }
        if new.nullable && !old.nullable {
            return differs(&format!("column \"{}\", which may be null,", old.name));
        }
    }
    let director = |name: &Option<String>| name.as_deref().map(names::key);
    let keys_agree = new.id_column == old.id_column
        && new.ra_column == old.ra_column
        && new.dec_column == old.dec_column
        && director(&new.director) == director(&old.director)
        && new.director_key == old.director_key
        && director(&new.second_director) == director(&old.second_director)
        && new.second_director_key == old.second_director_key;
    if keys_agree { Ok(()) } else { differs("id, position or director key") }
}

fn check_files(transaction: TransactionId, write: &TableCommit, seen: &mut HashSet<i64>) -> Result<()> {
    let name = &write.table.name;
    let everywhere = write.table.kind == TableKind::Replicated;
    for file in &write.files {
        if file.id.0 <= 0 || file.id.transaction() != transaction {
            return invalid(format!("file {} is not of transaction {transaction}; commit only what it wrote", file.id));
        }
        if !seen.insert(file.id.0) {
            return invalid(format!("file {} occurs twice in one commit; give each file its own sequence", file.id));
        }
        if file.kind != FileKind::DirectorIndex && (file.chunk == ChunkId::EVERYWHERE) != everywhere {
            return invalid(format!(
                "file {} of {} table \"{name}\" cannot be in chunk {}; only replicated tables are everywhere",
                file.id, write.table.kind, file.chunk
            ));
        }
        if matches!(file.kind, FileKind::FirstOnly | FileKind::SecondOnly) && write.table.kind != TableKind::Match {
            return invalid(format!(
                "file {} of {} table \"{name}\" is said to hold pairs; only a match has them",
                file.id, write.table.kind
            ));
        }
        for (place, worker) in file.workers.iter().enumerate() {
            names::check_worker_id(&worker.0)?;
            if file.workers.iter().take(place).any(|earlier| earlier == worker) {
                return invalid(format!("file {} is twice on worker {worker}; count each copy once", file.id));
            }
        }
    }
    Ok(())
}

fn check_facts(write: &TableCommit, kept_rows: u64) -> Result<()> {
    let rows_files = write.files.iter().filter(|file| file.kind.counts());
    let rows = rows_files.fold(kept_rows, |rows, file| rows.saturating_add(file.rows));
    if rows != write.facts.rows {
        return invalid(format!(
            "table \"{}\" is said to have {} rows after the commit, its files hold {rows}; count them again",
            write.table.name, write.facts.rows
        ));
    }
    if write.facts.orphans.max(write.facts.pairs.second_orphans) > rows {
        return invalid(format!("table \"{}\" is said to have more orphans than rows; count again", write.table.name));
    }
    // A pair that is missing in one of its two chunks is missing in every answer that is asked there.
    let of = |kind| write.files.iter().filter(|file| file.kind == kind).map(|file| file.rows).sum::<u64>();
    let (first, second) = (of(FileKind::FirstOnly), of(FileKind::SecondOnly));
    if first != second {
        return invalid(format!(
            "table \"{}\" has {first} pairs of two chunks in that of the first and {second} in that of the second; \
             store each in both",
            write.table.name
        ));
    }
    Ok(())
}

// Of the tables as they will be: every child, companion and match has its directors, which are such.
fn check_directors(commit: &Commit, existing: &[(Table, TableFacts)]) -> Result<()> {
    let mut kinds: HashMap<String, (&str, TableKind)> = HashMap::new();
    let mut needed: HashMap<String, (&str, Vec<&str>)> = HashMap::new();
    let old = existing.iter().map(|(t, _)| (&t.name, t.kind, [&t.director, &t.second_director]));
    let written = commit.tables.iter().map(|write| &write.table);
    let new = written.map(|t| (&t.name, t.kind, [&t.director, &t.second_director]));
    for (name, kind, directors) in old.chain(new) {
        kinds.insert(names::key(name), (name, kind));
        let directors = if needs_director(kind) {
            directors.into_iter().flatten().map(String::as_str).collect()
        } else {
            Vec::new()
        };
        needed.insert(names::key(name), (name, directors));
    }
    let needed = needed.values().flat_map(|(name, directors)| directors.iter().map(move |director| (name, director)));
    for (name, director) in needed {
        match kinds.get(&names::key(director)) {
            Some((_, TableKind::Director)) => {}
            Some((_, kind)) => {
                return invalid(format!(
                    "table \"{director}\", the director of \"{name}\", is {kind}; a table can only belong to a director"
                ));
            }
            None => {
                return Err(names::not_found("director table", director, kinds.values().map(|(name, _)| *name)));
            }
        }
    }
    Ok(())
}

fn invalid(reason: impl Into<String>) -> Result<()> {
    Err(CatalogError::Invalid(reason.into()))
}
