//! The tables that DataFusion's runner makes in Rust before it runs a file, with the rows that the file
//! expects; after `test_context.rs` of `datafusion-sqllogictest`.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, DictionaryArray, Float64Array, Int32Array, LargeBinaryArray, LargeStringArray,
    StringArray, StructArray, TimestampNanosecondArray, UInt32Array, UInt64Array, UnionArray, new_empty_array,
};
use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit, UInt32Type, UnionFields};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider};
use datafusion::prelude::SessionContext;

/// Makes what the file of this name (without its ending) expects.
pub(super) fn register(context: &SessionContext, file_stem: &str) {
    match file_stem {
        "cte" => {
            let catalog = context.catalog("datafusion").unwrap();
            catalog.register_schema("strict_schema", Arc::new(MemorySchemaProvider::new())).unwrap();
            table(context, "strict_schema.orders", vec![("order_id", false, ints([1, 2]))]);
        }
        "information_schema_columns" => many_types(context),
        "joins" => {
            many_types(context);
            partition_table(context);
        }
        "map" => map(context),
        "metadata" | "arrow_field" => metadata(context),
        "union_function" => union_table(context),
        "aggregate" => union_groups(context),
        "dictionary_struct" => dictionaries(context),
        _ => {}
    }
}

fn table(context: &SessionContext, name: &str, columns: Vec<(&str, bool, ArrayRef)>) {
    let columns = columns
        .into_iter()
        .map(|(name, nullable, values)| (Field::new(name, values.data_type().clone(), nullable), values));
    with_fields(context, name, columns.collect(), HashMap::new());
}

fn with_fields(
    context: &SessionContext,
    name: &str,
    columns: Vec<(Field, ArrayRef)>,
    metadata: HashMap<String, String>,
) {
    let (fields, values): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields).with_metadata(metadata)), values).unwrap();
    context.register_batch(name, batch).unwrap();
}

fn ints<const N: usize>(values: [i32; N]) -> ArrayRef {
    Arc::new(Int32Array::from(values.to_vec()))
}

fn texts<const N: usize>(values: [&str; N]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn many_types(context: &SessionContext) {
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema("my_schema", Arc::new(MemorySchemaProvider::new())).unwrap();
    context.register_catalog("my_catalog", Arc::new(catalog));
    let columns: Vec<(&str, bool, ArrayRef)> = vec![
        ("int32_col", false, ints([1])),
        ("float64_col", true, Arc::new(Float64Array::from(vec![1.0]))),
        ("utf8_col", true, texts(["foo"])),
        ("large_utf8_col", false, Arc::new(LargeStringArray::from(vec!["bar"]))),
        ("binary_col", false, Arc::new(BinaryArray::from(vec![b"foo" as &[u8]]))),
        ("large_binary_col", false, Arc::new(LargeBinaryArray::from(vec![b"foo" as &[u8]]))),
        ("timestamp_nanos", false, Arc::new(TimestampNanosecondArray::from(vec![123]))),
    ];
    table(context, "my_catalog.my_schema.table_with_many_types", columns);
}

/// There a CSV file, whose first row is taken for a header.
fn partition_table(context: &SessionContext) {
    let columns: Vec<(&str, bool, ArrayRef)> = vec![
        ("c1", false, Arc::new(UInt32Array::from(vec![0; 10]))),
        ("c2", false, Arc::new(UInt64Array::from_iter_values(1..11))),
        ("c3", false, Arc::new((1..11).map(|i| Some(i % 2 == 0)).collect::<BooleanArray>())),
    ];
    table(context, "test_partition_table", columns);
}

fn map(context: &SessionContext) {
    let entry =
        Fields::from(vec![Field::new("key", DataType::Int64, false), Field::new("value", DataType::Int64, true)]);
    let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry), false)), false);
    let columns =
        vec![("int_field", true, new_empty_array(&DataType::Int64)), ("map_field", true, new_empty_array(&map))];
    table(context, "table_with_map", columns);
}

fn metadata(context: &SessionContext) {
    let said = |text: &str| HashMap::from([("metadata_key".to_string(), text.to_string())]);
    let field = |name: &str, data_type, nullable, text| Field::new(name, data_type, nullable).with_metadata(said(text));
    let timestamp = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let columns: Vec<(Field, ArrayRef)> = vec![
        (field("id", DataType::Int32, true, "the id field"), Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]))),
        (
            field("name", DataType::Utf8, true, "the name field"),
            Arc::new(StringArray::from(vec![None, Some("bar"), Some("baz")])),
        ),
        (
            field("l_name", DataType::Utf8, true, "the l_name field"),
            Arc::new(StringArray::from(vec![None, Some("l_bar"), Some("l_baz")])),
        ),
        (
            field("ts", timestamp, false, "ts non-nullable field"),
            Arc::new(TimestampNanosecondArray::from(vec![1_599_572_549_190_855_123; 3])),
        ),
        (field("nonnull_name", DataType::Utf8, false, "the nonnull_name field"), texts(["no_foo", "no_bar", "no_baz"])),
    ];
    with_fields(context, "table_with_metadata", columns, said("the entire schema"));
    let larger = vec![(Field::new("a", DataType::Int32, false), ints([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]))];
    with_fields(context, "larger_table", larger, said("left"));
    with_fields(context, "smaller_table", vec![(Field::new("b", DataType::Int32, false), ints([1]))], said("right"));
}

fn union_table(context: &SessionContext) {
    let fields = vec![Field::new("int", DataType::Int32, false), Field::new("string", DataType::Utf8, false)];
    let values = vec![ints([1, 2, 3, 1, 5, 3]), texts(["foo", "bar", "baz", "qux", "bar", "quux"])];
    let of = ScalarBuffer::from(vec![3, 1, 3, 3, 1, 3]);
    let union = UnionArray::try_new(UnionFields::try_new(vec![3, 1], fields).unwrap(), of, None, values).unwrap();
    table(context, "union_table", vec![("union_column", false, Arc::new(union))]);
}

fn union_groups(context: &SessionContext) {
    let fields = vec![Field::new("i", DataType::Int32, true), Field::new("s", DataType::Utf8, true)];
    let values: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![Some(1), Some(1), None, None, Some(5)])),
        Arc::new(StringArray::from(vec![Some("x"), Some("y"), None])),
    ];
    let of = ScalarBuffer::from(vec![0_i8, 0, 1, 1, 0, 0, 1, 0]);
    let at = ScalarBuffer::from(vec![0, 1, 0, 1, 2, 3, 2, 4]);
    let union = UnionArray::try_new(UnionFields::try_new(vec![0, 1], fields).unwrap(), of, Some(at), values).unwrap();
    let columns: Vec<(&str, bool, ArrayRef)> =
        vec![("g", false, ints([1, 1, 1, 2, 2, 3, 3, 4])), ("u", false, Arc::new(union))];
    table(context, "approx_distinct_union_test", columns);
}

fn dictionaries(context: &SessionContext) {
    let fields =
        Fields::from(vec![Field::new("name", DataType::Utf8, false), Field::new("id", DataType::Int32, false)]);
    let people = |names: ArrayRef, ids: ArrayRef| -> ArrayRef {
        Arc::new(StructArray::try_new(fields.clone(), vec![names, ids], None).unwrap())
    };
    let dictionary = |keys: Vec<Option<u32>>, values: ArrayRef| -> ArrayRef {
        Arc::new(DictionaryArray::<UInt32Type>::try_new(UInt32Array::from(keys), values).unwrap())
    };
    let keys = vec![Some(0), Some(1), Some(2), Some(0), Some(1)];
    let encoded = dictionary(keys, people(texts(["Alice", "Bob", "Carol"]), ints([1, 2, 3])));
    let plain = people(texts(["Alice", "Bob", "Carol", "Alice", "Bob"]), ints([1, 2, 3, 1, 2]));
    table(context, "dict_struct_table", vec![("dict_struct", false, encoded), ("plain_struct", false, plain)]);
    let nullable = dictionary(vec![Some(0), None, Some(1), None], people(texts(["X", "Y"]), ints([10, 20])));
    table(context, "dict_struct_nullable", vec![("ds", true, nullable)]);
}
