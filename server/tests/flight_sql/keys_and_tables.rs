//! What there is: tables by name and type, their schemas, and how they refer to each other.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Schema};
use arrow_flight::IpcMessage;
use arrow_flight::sql::{
    CommandGetCrossReference, CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetTables,
};
use bytes::Bytes;

use super::coordinator::{TestCoordinator, fetch, query, texts};

/// Filters of GetTables (catalog, schema, table, types) and the tables that pass them.
type Case = (
    Option<&'static str>,
    Option<&'static str>,
    Option<&'static str>,
    &'static [&'static str],
    &'static [&'static str],
);

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_found_by_patterns_and_types() {
    let coordinator = TestCoordinator::start().await;
    coordinator.add_tables().await;
    let mut client = coordinator.client().await;
    let of_sky: &'static [&'static str] = &["Filter_Names", "Object", "Source"];
    let views: &'static [&'static str] = &["columns", "parameters", "routines", "schemata", "tables", "views"];
    let tables: &'static [&'static str] = [of_sky, &["queries", "workers"]].concat().leak();
    let all: &'static [&'static str] = [of_sky, views, &["queries", "workers"]].concat().leak();
    let cases: [Case; 11] = [
        (None, None, None, &[], all),
        (Some("skyflight"), Some("Sky"), Some("%"), &["TABLE"], of_sky),
        (None, None, None, &["BASE TABLE"], tables),
        (None, None, None, &["table", "VIEW"], all),
        (None, None, None, &["VIEW"], views),
        (Some(""), None, None, &[], &[]),
        (None, Some("nowhere"), None, &[], &[]),
        (None, None, Some("%e%t"), &[], &["Object"]),
        (None, None, Some("object"), &[], &["Object"]),
        (None, None, Some("filter\\_names"), &[], &["Filter_Names"]),
        (None, None, Some("Filter\\%"), &[], &[]),
    ];
    for (catalog, schema, table, types, expected) in cases {
        let info = client
            .get_tables(CommandGetTables {
                catalog: catalog.map(str::to_owned),
                db_schema_filter_pattern: schema.map(str::to_owned),
                table_name_filter_pattern: table.map(str::to_owned),
                table_types: types.iter().map(|t| (*t).to_owned()).collect(),
                include_schema: false,
            })
            .await
            .unwrap();
        let (_, batches) = fetch(&mut client, info).await;
        assert_eq!(texts(&batches, "table_name"), expected, "{catalog:?} {schema:?} {table:?} {types:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tables_schema_is_that_of_its_rows_with_remarks() {
    let coordinator = TestCoordinator::start().await;
    coordinator.add_tables().await;
    let mut client = coordinator.client().await;
    let info = client
        .get_tables(CommandGetTables {
            table_name_filter_pattern: Some("Object".into()),
            include_schema: true,
            ..Default::default()
        })
        .await
        .unwrap();
    let (_, batches) = fetch(&mut client, info).await;
    let bytes = batches[0].column(4).as_binary::<i32>();
    assert_eq!(bytes.len(), 1);
    let schema = Schema::try_from(IpcMessage(Bytes::copy_from_slice(bytes.value(0)))).unwrap();

    let planned = client.execute("SELECT * FROM Sky.Object".into(), None).await.unwrap().try_decode_schema().unwrap();
    let shape = |schema: &Schema| -> Vec<(String, DataType, bool)> {
        schema.fields().iter().map(|f| (f.name().clone(), f.data_type().clone(), f.is_nullable())).collect()
    };
    assert_eq!(shape(&schema), shape(&planned), "GetTables and SELECT * agree");

    let right_ascension = schema.field_with_name("ra_PS").unwrap().metadata();
    assert_eq!(right_ascension["ARROW:FLIGHT:SQL:TYPE_NAME"], "DOUBLE");
    assert_eq!(right_ascension["ARROW:FLIGHT:SQL:PRECISION"], "15");
    assert_eq!(right_ascension["ARROW:FLIGHT:SQL:REMARKS"], "right ascension [deg]");
    assert_eq!(right_ascension["ARROW:FLIGHT:SQL:TABLE_NAME"], "Object");
    assert!(right_ascension.keys().all(|key| !key.starts_with("skyflight.")), "our own keys stay inside");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_tell_how_tables_belong_together() {
    let coordinator = TestCoordinator::start().await;
    coordinator.add_tables().await;
    let mut client = coordinator.client().await;
    let info = client
        .get_primary_keys(CommandGetPrimaryKeys {
            catalog: None,
            db_schema: Some("sky".into()),
            table: "object".into(),
        })
        .await
        .unwrap();
    let (_, batches) = fetch(&mut client, info).await;
    assert_eq!(texts(&batches, "column_name"), ["objectId"]);
    assert_eq!(texts(&batches, "table_name"), ["Object"]);

    let exported = client
        .get_exported_keys(CommandGetExportedKeys { catalog: None, db_schema: None, table: "Object".into() })
        .await
        .unwrap();
    let imported = client
        .get_imported_keys(CommandGetImportedKeys { catalog: None, db_schema: None, table: "Source".into() })
        .await
        .unwrap();
    let crossed = client
        .get_cross_reference(CommandGetCrossReference {
            pk_table: "Object".into(),
            fk_table: "Source".into(),
            ..Default::default()
        })
        .await
        .unwrap();
    for info in [exported, imported, crossed] {
        let (_, batches) = fetch(&mut client, info).await;
        assert_eq!(texts(&batches, "pk_table_name"), ["Object"]);
        assert_eq!(texts(&batches, "pk_column_name"), ["objectId"]);
        assert_eq!(texts(&batches, "fk_table_name"), ["Source"]);
        assert_eq!(texts(&batches, "fk_column_name"), ["objectId"]);
    }
    let none = client
        .get_imported_keys(CommandGetImportedKeys { catalog: None, db_schema: None, table: "Object".into() })
        .await
        .unwrap();
    assert_eq!(fetch(&mut client, none).await.1.iter().map(|b| b.num_rows()).sum::<usize>(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_tables_are_queried_without_workers() {
    let coordinator = TestCoordinator::start().await;
    coordinator.add_tables().await;
    let mut client = coordinator.client().await;
    let (schema, batches) = query(&mut client, "SELECT count(*) AS n FROM sky.object").await;
    assert_eq!(schema.field(0).name(), "n");
    assert_eq!(super::coordinator::integers(&batches, 0), [0]);
}
