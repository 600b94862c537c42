//! What JDBC and ODBC show of a column beside its name and type: field metadata of Flight SQL, the same
//! wherever the column is told of.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};

use super::types::type_of;

/// How the keys of Flight SQL's field metadata begin.
pub(super) const PREFIX: &str = "ARROW:FLIGHT:SQL:";

/// A schema of rows as clients are told it.
pub(crate) fn result_schema(schema: &SchemaRef) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(described).collect::<Vec<_>>()))
}

fn described(field: &FieldRef) -> Field {
    let mut metadata = field.metadata().clone();
    let remarks = remarks(field);
    let mut tell = |key: &str, value: String| metadata.insert(format!("{PREFIX}{key}"), value);
    let described = type_of(field.data_type());
    tell("TYPE_NAME", described.name.to_owned());
    if let Some(precision) = described.precision {
        tell("PRECISION", precision.to_string());
    }
    if let Some(scale) = described.scale {
        tell("SCALE", scale.to_string());
    }
    tell("IS_AUTO_INCREMENT", "0".to_owned());
    tell("IS_CASE_SENSITIVE", if described.is_text { "1" } else { "0" }.to_owned());
    tell("IS_READ_ONLY", "1".to_owned());
    tell("IS_SEARCHABLE", "1".to_owned());
    if let Some(remarks) = remarks {
        tell("REMARKS", remarks);
    }
    field.as_ref().clone().with_metadata(metadata)
}

/// Description and unit, as people read them: `right ascension [deg]`.
fn remarks(field: &Field) -> Option<String> {
    match (field.metadata().get("description"), field.metadata().get("unit")) {
        (Some(description), Some(unit)) => Some(format!("{description} [{unit}]")),
        (Some(description), None) => Some(description.clone()),
        (None, Some(unit)) => Some(format!("[{unit}]")),
        (None, None) => None,
    }
}
