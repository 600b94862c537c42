//! The columns of a table as they will be stored, found in its input and its description.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use skyflight_catalog::{Column, NewTable, TableKind};

use crate::description::TableDescription;
use crate::error::Result;
use crate::types::{is_number, parse_type, stored_type};

/// The column every partitioned table ends with: nested HEALPix index at order 29 of the row's position.
pub const HEALPIX_COLUMN: &str = "_healpix_29";

/// A column as it will be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnPlan {
    /// The name as declared.
    pub name: String,
    /// The type found in the input, before any override.
    pub found_type: String,
    /// The type stored.
    pub data_type: DataType,
    /// Whether nulls may occur.
    pub nullable: bool,
    /// Unit in VOUnit spelling.
    pub unit: Option<String>,
    /// IVOA unified content descriptor.
    pub ucd: Option<String>,
    /// One sentence for people.
    pub description: Option<String>,
}

/// A table as it would be ingested; `Display` shows it as text.
#[derive(Clone, Debug, PartialEq)]
pub struct TableSchema {
    /// The table's name.
    pub table: String,
    /// What it is to the others.
    pub kind: TableKind,
    /// Its columns in order, without `_healpix_29`.
    pub columns: Vec<ColumnPlan>,
    /// The index in `columns` of the column that identifies a row.
    pub id: Option<usize>,
    /// The index of right ascension.
    pub ra: Option<usize>,
    /// The index of declination.
    pub dec: Option<usize>,
    /// The index of the director's id.
    pub director_key: Option<usize>,
    /// The index of the second director's id.
    pub second_director_key: Option<usize>,
}

impl TableSchema {
    /// Puts together what was found in the input (fields of any types, with unit, ucd and description in
    /// their metadata where known) and what the description says.
    pub(crate) fn resolve(found: &[Field], description: &TableDescription) -> Result<TableSchema> {
        let mut columns = found.iter().map(found_column).collect::<Vec<_>>();
        for (name, said) in &description.columns {
            let at = find_column(description, &columns, name)?;
            let Some(column) = columns.get_mut(at) else { continue };
            if let Some(text) = &said.data_type {
                column.data_type =
                    parse_type(text).map_err(|reason| description.error(format!("column {name}: {reason}")))?;
            }
            said.unit.iter().for_each(|unit| column.unit = Some(unit.clone()));
            said.ucd.iter().for_each(|ucd| column.ucd = Some(ucd.clone()));
            said.description.iter().for_each(|text| column.description = Some(text.clone()));
        }
        let find = |name: Option<&String>| name.map(|name| find_column(description, &columns, name)).transpose();
        let schema = TableSchema {
            id: find(description.id.as_ref())?,
            ra: find(description.position.as_ref().map(|position| &position.ra))?,
            dec: find(description.position.as_ref().map(|position| &position.dec))?,
            director_key: find(description.director_key.as_ref())?,
            second_director_key: find(description.second_director_key.as_ref())?,
            table: description.name.clone(),
            kind: description.kind,
            columns,
        };
        schema.check_keys(description)?;
        Ok(schema)
    }

    fn check_keys(&self, description: &TableDescription) -> Result<()> {
        for at in [self.ra, self.dec].into_iter().flatten() {
            if let Some(column) = self.columns.get(at).filter(|column| !is_number(&column.data_type)) {
                return Err(description.error(format!(
                    "column {} holds positions but has the type {}; set its `type` to float64",
                    column.name, column.data_type
                )));
            }
        }
        let director_id = self.id.filter(|_| self.kind == TableKind::Director);
        for at in [director_id, self.director_key, self.second_director_key].into_iter().flatten() {
            if let Some(column) = self.columns.get(at).filter(|column| !is_id(&column.data_type)) {
                return Err(description.error(format!(
                    "column {} identifies rows but has the type {}; ids are integers or strings",
                    column.name, column.data_type
                )));
            }
        }
        Ok(())
    }

    /// The Arrow schema of the user's columns.
    pub(crate) fn arrow(&self) -> SchemaRef {
        let field = |column: &ColumnPlan| Field::new(&column.name, column.data_type.clone(), column.nullable);
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }

    /// The Arrow schema of a stored file: the user's columns with what is known of them in field metadata,
    /// and `_healpix_29` where the table is partitioned.
    pub(crate) fn stored(&self) -> SchemaRef {
        let mut fields: Vec<Field> = self.columns.iter().map(described_field).collect();
        if self.kind != TableKind::Replicated {
            fields.push(Field::new(HEALPIX_COLUMN, DataType::Int64, false));
        }
        Arc::new(Schema::new(fields))
    }

    /// The catalog's record of the table.
    pub(crate) fn declare(&self, description: &TableDescription) -> NewTable {
        let mut columns: Vec<Column> = self.columns.iter().map(catalog_column).collect();
        if self.kind != TableKind::Replicated {
            columns.push(Column {
                name: HEALPIX_COLUMN.to_owned(),
                data_type: DataType::Int64.to_string(),
                nullable: false,
                unit: None,
                ucd: Some("pos.healpix".to_owned()),
                description: Some("nested HEALPix index of the position at order 29".to_owned()),
            });
        }
        NewTable {
            name: self.table.clone(),
            kind: self.kind,
            columns,
            id_column: self.name_of(self.id),
            ra_column: self.name_of(self.ra),
            dec_column: self.name_of(self.dec),
            director: description.director.clone(),
            director_key: self.name_of(self.director_key),
            second_director: description.second_director.clone(),
            second_director_key: self.name_of(self.second_director_key),
            description: description.description.clone(),
        }
    }

    fn name_of(&self, at: Option<usize>) -> Option<String> {
        at.and_then(|at| self.columns.get(at)).map(|column| column.name.clone())
    }
}

fn found_column(field: &Field) -> ColumnPlan {
    let known = |key: &str| field.metadata().get(key).filter(|text| !text.is_empty()).cloned();
    ColumnPlan {
        name: field.name().clone(),
        found_type: field.data_type().to_string(),
        data_type: stored_type(field.data_type()),
        nullable: field.is_nullable(),
        unit: known("unit"),
        ucd: known("ucd"),
        description: known("description"),
    }
}

fn described_field(column: &ColumnPlan) -> Field {
    let said = [("unit", &column.unit), ("ucd", &column.ucd), ("description", &column.description)];
    let metadata: HashMap<String, String> = said
        .into_iter()
        .filter_map(|(key, value)| value.as_ref().map(|value| (key.to_owned(), value.clone())))
        .collect();
    Field::new(&column.name, column.data_type.clone(), column.nullable).with_metadata(metadata)
}

fn catalog_column(column: &ColumnPlan) -> Column {
    Column {
        name: column.name.clone(),
        data_type: column.data_type.to_string(),
        nullable: column.nullable,
        unit: column.unit.clone(),
        ucd: column.ucd.clone(),
        description: column.description.clone(),
    }
}

fn is_id(data_type: &DataType) -> bool {
    data_type.is_integer() || *data_type == DataType::Utf8
}

/// A column by its name; where no column has it, the only one that has it in another case.
fn find_column(description: &TableDescription, columns: &[ColumnPlan], name: &str) -> Result<usize> {
    let exact = columns.iter().position(|column| column.name == name);
    let mut others = columns.iter().enumerate().filter(|(_, column)| column.name.eq_ignore_ascii_case(name));
    match (exact, others.next(), others.next()) {
        (Some(at), _, _) | (None, Some((at, _)), None) => Ok(at),
        _ => {
            let names: Vec<&str> = columns.iter().take(40).map(|column| column.name.as_str()).collect();
            Err(description.error(format!("the input has no column \"{name}\"; it has {}", names.join(", "))))
        }
    }
}

impl fmt::Display for TableSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({})", self.table, self.kind)?;
        let width = self.columns.iter().map(|column| column.name.chars().count()).max().unwrap_or(0);
        for (at, column) in self.columns.iter().enumerate() {
            let stored = column.data_type.to_string();
            write!(f, "  {:width$}  {stored}", column.name)?;
            if stored != column.found_type {
                write!(f, " (input: {})", column.found_type)?;
            }
            if !column.nullable {
                write!(f, ", not null")?;
            }
            let roles = [
                (self.id, "id"),
                (self.ra, "ra"),
                (self.dec, "dec"),
                (self.director_key, "director key"),
                (self.second_director_key, "second director key"),
            ];
            for (_, role) in roles.iter().filter(|(index, _)| *index == Some(at)) {
                write!(f, ", {role}")?;
            }
            if let Some(unit) = &column.unit {
                write!(f, ", in {unit}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
