//! Keys: a director's id is its primary key, a child's director key refers to it. They tell tools
//! how tables belong together; uniqueness is the catalog's affair, not enforced here.

use std::sync::{Arc, LazyLock};

use arrow_flight::sql::{
    CommandGetCrossReference, CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys,
};
use datafusion::arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray, UInt8Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use skyflight_catalog::{Snapshot, Table, TableKind};
use tonic::Status;

use super::in_catalog;
use crate::error::internal;
use crate::session::options::CATALOG;

/// Referential action of the specification: nothing is done, for nothing can be changed.
const NO_ACTION: u8 = 3;

static PRIMARY: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
});

static FOREIGN: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("pk_catalog_name", DataType::Utf8, true),
        Field::new("pk_db_schema_name", DataType::Utf8, true),
        Field::new("pk_table_name", DataType::Utf8, false),
        Field::new("pk_column_name", DataType::Utf8, false),
        Field::new("fk_catalog_name", DataType::Utf8, true),
        Field::new("fk_db_schema_name", DataType::Utf8, true),
        Field::new("fk_table_name", DataType::Utf8, false),
        Field::new("fk_column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("fk_key_name", DataType::Utf8, true),
        Field::new("pk_key_name", DataType::Utf8, true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
});

/// Schema of GetPrimaryKeys.
pub(super) fn primary_schema() -> SchemaRef {
    Arc::clone(&PRIMARY)
}

/// Schema of GetExportedKeys, GetImportedKeys and GetCrossReference.
pub(super) fn foreign_schema() -> SchemaRef {
    Arc::clone(&FOREIGN)
}

/// A table's reference to a director it belongs to.
struct Reference<'a> {
    database: &'a str,
    director: &'a str,
    id: &'a str,
    child: &'a str,
    key: &'a str,
}

/// A table named by a command. Names are exact but for their case; a missing one narrows nothing.
struct Named<'a> {
    catalog: Option<&'a str>,
    db_schema: Option<&'a str>,
    table: &'a str,
}

impl Named<'_> {
    fn is(&self, database: &str, table: &str) -> bool {
        in_catalog(self.catalog)
            && self.db_schema.is_none_or(|name| name.eq_ignore_ascii_case(database))
            && self.table.eq_ignore_ascii_case(table)
    }
}

pub(super) fn primary(command: &CommandGetPrimaryKeys, catalog: &[Arc<Snapshot>]) -> Result<RecordBatch, Status> {
    let wanted =
        Named { catalog: command.catalog.as_deref(), db_schema: command.db_schema.as_deref(), table: &command.table };
    let mut keys: Vec<(&str, &str, &str)> = Vec::new();
    for snapshot in catalog {
        for table in snapshot.tables.iter().map(|t| &t.table) {
            if let Some(id) = primary_key(table)
                && wanted.is(&snapshot.database.name, &table.name)
            {
                keys.push((&snapshot.database.name, &table.name, id));
            }
        }
    }
    keys.sort_unstable();
    let texts = |values: Vec<String>| Arc::new(StringArray::from(values)) as ArrayRef;
    batch(
        &PRIMARY,
        vec![
            texts(keys.iter().map(|_| CATALOG.to_owned()).collect()),
            texts(keys.iter().map(|key| key.0.to_owned()).collect()),
            texts(keys.iter().map(|key| key.1.to_owned()).collect()),
            texts(keys.iter().map(|key| key.2.to_owned()).collect()),
            texts(keys.iter().map(|key| primary_name(key.1)).collect()),
            Arc::new(Int32Array::from(vec![1; keys.len()])),
        ],
    )
}

pub(super) fn exported(command: &CommandGetExportedKeys, catalog: &[Arc<Snapshot>]) -> Result<RecordBatch, Status> {
    let parent =
        Named { catalog: command.catalog.as_deref(), db_schema: command.db_schema.as_deref(), table: &command.table };
    let mut found = references(catalog, |r| parent.is(r.database, r.director));
    found.sort_unstable_by_key(|r| (r.database, r.child, r.key));
    foreign(&found)
}

pub(super) fn imported(command: &CommandGetImportedKeys, catalog: &[Arc<Snapshot>]) -> Result<RecordBatch, Status> {
    let child =
        Named { catalog: command.catalog.as_deref(), db_schema: command.db_schema.as_deref(), table: &command.table };
    let mut found = references(catalog, |r| child.is(r.database, r.child));
    found.sort_unstable_by_key(|r| (r.database, r.director, r.key));
    foreign(&found)
}

pub(super) fn cross_reference(
    command: &CommandGetCrossReference,
    catalog: &[Arc<Snapshot>],
) -> Result<RecordBatch, Status> {
    let parent = Named {
        catalog: command.pk_catalog.as_deref(),
        db_schema: command.pk_db_schema.as_deref(),
        table: &command.pk_table,
    };
    let child = Named {
        catalog: command.fk_catalog.as_deref(),
        db_schema: command.fk_db_schema.as_deref(),
        table: &command.fk_table,
    };
    let mut found = references(catalog, |r| parent.is(r.database, r.director) && child.is(r.database, r.child));
    found.sort_unstable_by_key(|r| (r.database, r.director, r.key));
    foreign(&found)
}

fn references<'a>(catalog: &'a [Arc<Snapshot>], wanted: impl Fn(&Reference<'a>) -> bool) -> Vec<Reference<'a>> {
    let mut found = Vec::new();
    for snapshot in catalog {
        for child in snapshot.tables.iter().map(|t| &t.table) {
            for (director, key) in child.directors() {
                let Some(director) = snapshot.table(director).map(|t| &t.table) else { continue };
                let Some(id) = primary_key(director) else { continue };
                let database = snapshot.database.name.as_str();
                let reference = Reference { database, director: &director.name, id, child: &child.name, key };
                if wanted(&reference) {
                    found.push(reference);
                }
            }
        }
    }
    found
}

fn primary_key(table: &Table) -> Option<&str> {
    (table.kind == TableKind::Director).then_some(table.id_column.as_deref()).flatten()
}

fn primary_name(table: &str) -> String {
    format!("{table}_pk")
}

fn foreign(found: &[Reference<'_>]) -> Result<RecordBatch, Status> {
    let texts = |of: &dyn Fn(&Reference<'_>) -> String| -> ArrayRef {
        Arc::new(found.iter().map(|r| Some(of(r))).collect::<StringArray>())
    };
    let rule = || Arc::new(UInt8Array::from(vec![NO_ACTION; found.len()])) as ArrayRef;
    batch(
        &FOREIGN,
        vec![
            texts(&|_| CATALOG.to_owned()),
            texts(&|r| r.database.to_owned()),
            texts(&|r| r.director.to_owned()),
            texts(&|r| r.id.to_owned()),
            texts(&|_| CATALOG.to_owned()),
            texts(&|r| r.database.to_owned()),
            texts(&|r| r.child.to_owned()),
            texts(&|r| r.key.to_owned()),
            Arc::new(Int32Array::from(vec![1; found.len()])),
            texts(&|r| format!("{}_{}_fk", r.child, r.key)),
            texts(&|r| primary_name(r.director)),
            rule(),
            rule(),
        ],
    )
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch, Status> {
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|e| internal("a metadata answer cannot be built", e))
}
