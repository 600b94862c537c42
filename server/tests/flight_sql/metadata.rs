//! The schemas of metadata commands, written out from FlightSql.proto, and the simple answers.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use arrow_flight::FlightDescriptor;
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo, ProstMessageExt,
};
use prost::Message;

use super::coordinator::{TestCoordinator, fetch, texts};

/// A schema in the notation of FlightSql.proto: `name: type` with `not null` where it says so.
fn schema(text: &str) -> Schema {
    let fields = text.split(", ").map(|field| {
        let (name, rest) = field.split_once(": ").unwrap();
        let (data_type, nullable) = match rest.strip_suffix(" not null") {
            Some(data_type) => (data_type, false),
            None => (rest, true),
        };
        let data_type = match data_type {
            "utf8" => DataType::Utf8,
            "bytes" => DataType::Binary,
            "int32" => DataType::Int32,
            "uint8" => DataType::UInt8,
            "bool" => DataType::Boolean,
            "list<utf8 not null>" => DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, false))),
            other => panic!("unknown type {other}"),
        };
        Field::new(name, data_type, nullable)
    });
    Schema::new(fields.collect::<Vec<_>>())
}

const TABLES: &str = "catalog_name: utf8, db_schema_name: utf8, table_name: utf8 not null, table_type: utf8 not null";
const FOREIGN: &str = "pk_catalog_name: utf8, pk_db_schema_name: utf8, pk_table_name: utf8 not null, \
    pk_column_name: utf8 not null, fk_catalog_name: utf8, fk_db_schema_name: utf8, fk_table_name: utf8 not null, \
    fk_column_name: utf8 not null, key_sequence: int32 not null, fk_key_name: utf8, pk_key_name: utf8, \
    update_rule: uint8 not null, delete_rule: uint8 not null";

#[tokio::test(flavor = "multi_thread")]
async fn schemas_are_the_specifications_to_the_letter() {
    let coordinator = TestCoordinator::start().await;
    coordinator.add_tables().await;
    let mut client = coordinator.client().await;
    let tables_with_schema = format!("{TABLES}, table_schema: bytes not null");
    let primary = "catalog_name: utf8, db_schema_name: utf8, table_name: utf8 not null, column_name: utf8 not null, \
        key_name: utf8, key_sequence: int32 not null";
    let xdbc = "type_name: utf8 not null, data_type: int32 not null, column_size: int32, literal_prefix: utf8, \
        literal_suffix: utf8, create_params: list<utf8 not null>, nullable: int32 not null, \
        case_sensitive: bool not null, searchable: int32 not null, unsigned_attribute: bool, \
        fixed_prec_scale: bool not null, auto_increment: bool, local_type_name: utf8, minimum_scale: int32, \
        maximum_scale: int32, sql_data_type: int32 not null, datetime_subcode: int32, num_prec_radix: int32, \
        interval_precision: int32";
    let cases = [
        (CommandGetCatalogs {}.as_any(), "catalog_name: utf8 not null"),
        (CommandGetDbSchemas::default().as_any(), "catalog_name: utf8, db_schema_name: utf8 not null"),
        (CommandGetTables::default().as_any(), TABLES),
        (CommandGetTables { include_schema: true, ..Default::default() }.as_any(), tables_with_schema.as_str()),
        (CommandGetTableTypes {}.as_any(), "table_type: utf8 not null"),
        (CommandGetPrimaryKeys { table: "object".into(), ..Default::default() }.as_any(), primary),
        (CommandGetExportedKeys { table: "object".into(), ..Default::default() }.as_any(), FOREIGN),
        (CommandGetImportedKeys { table: "source".into(), ..Default::default() }.as_any(), FOREIGN),
        (
            CommandGetCrossReference { pk_table: "object".into(), fk_table: "source".into(), ..Default::default() }
                .as_any(),
            FOREIGN,
        ),
        (CommandGetXdbcTypeInfo { data_type: None }.as_any(), xdbc),
    ];
    for (command, expected) in cases {
        let name = command.type_url.clone();
        let descriptor = FlightDescriptor::new_cmd(command.encode_to_vec());
        let told = client.inner_mut().get_schema(descriptor.clone()).await.unwrap().into_inner();
        let told = Schema::try_from(arrow_flight::IpcMessage(told.schema)).unwrap();
        assert_eq!(told, schema(expected), "{name}");
        let info = client.inner_mut().get_flight_info(descriptor).await.unwrap().into_inner();
        let (found, batches) = fetch(&mut client, info).await;
        assert_eq!(*found, schema(expected), "{name}");
        assert!(batches.iter().any(|batch| batch.num_rows() > 0), "{name} gave nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn catalogs_schemas_and_types() {
    let coordinator = TestCoordinator::start().await;
    coordinator.add_tables().await;
    let mut client = coordinator.client().await;
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(texts(&fetch(&mut client, info).await.1, "catalog_name"), ["skyflight"]);
    let info = client.get_table_types().await.unwrap();
    assert_eq!(texts(&fetch(&mut client, info).await.1, "table_type"), ["TABLE", "VIEW"]);

    let cases: [(Option<&str>, Option<&str>, &[&str]); 6] = [
        (None, None, &["Sky", "information_schema", "system"]),
        (Some("skyflight"), None, &["Sky", "information_schema", "system"]),
        (Some(""), None, &[]),
        (Some("other"), None, &[]),
        (None, Some("s%"), &["Sky", "system"]),
        (None, Some("information\\_%"), &["information_schema"]),
    ];
    for (catalog, pattern, expected) in cases {
        let command = CommandGetDbSchemas {
            catalog: catalog.map(str::to_owned),
            db_schema_filter_pattern: pattern.map(str::to_owned),
        };
        let info = client.get_db_schemas(command).await.unwrap();
        assert_eq!(texts(&fetch(&mut client, info).await.1, "db_schema_name"), expected, "{catalog:?} {pattern:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn types_by_their_number() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    // -5 is BIGINT, 8 DOUBLE, 12 VARCHAR in ODBC and JDBC alike.
    for (number, expected) in
        [(-5, vec!["BIGINT", "BIGINT UNSIGNED"]), (8, vec!["DOUBLE"]), (12, vec!["TEXT", "VARCHAR"]), (1_000, vec![])]
    {
        let info = client.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: Some(number) }).await.unwrap();
        assert_eq!(texts(&fetch(&mut client, info).await.1, "type_name"), expected);
    }
    let info = client.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: None }).await.unwrap();
    for name in texts(&fetch(&mut client, info).await.1, "type_name") {
        client.execute(format!("SELECT CAST(NULL AS {name})"), None).await.unwrap();
    }
}
