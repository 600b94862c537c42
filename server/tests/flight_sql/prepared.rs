//! Prepared statements: self-contained handles that serve many executions anywhere.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any, CommandPreparedStatementQuery,
    CommandPreparedStatementUpdate, CommandStatementQuery, DoPutPreparedStatementResult, ProstMessageExt,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, IpcMessage, Ticket};
use bytes::Bytes;
use futures::TryStreamExt;
use prost::Message;
use tonic::Code;

use super::coordinator::{Client, TestCoordinator, fetch, integers, prepare, status};

pub(crate) fn command(handle: &Bytes) -> FlightDescriptor {
    let query = CommandPreparedStatementQuery { prepared_statement_handle: handle.clone() };
    FlightDescriptor::new_cmd(query.as_any().encode_to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_handle_serves_many_executions_on_any_coordinator() {
    let first = TestCoordinator::start().await;
    let second = TestCoordinator::start_on(first.store.clone(), first.keys.clone(), |_| ()).await;
    let mut client = first.client().await;
    let mut statement = client.prepare("SELECT value FROM generate_series(1, 4)".into(), None).await.unwrap();
    assert_eq!(statement.parameter_schema().unwrap().fields().len(), 0);
    assert_eq!(statement.dataset_schema().unwrap().field(0).name(), "value");
    for _ in 0..3 {
        let info = statement.execute().await.unwrap();
        let (schema, batches) = fetch(&mut client, info).await;
        assert_eq!(*schema, *statement.dataset_schema().unwrap());
        assert_eq!(integers(&batches, 0), [1, 2, 3, 4]);
    }
    statement.close().await.unwrap();

    let (prepared, _) = prepare(&mut client, "SELECT value FROM generate_series(1, 4)").await;
    let mut other = second.client().await;
    let info =
        other.inner_mut().get_flight_info(command(&prepared.prepared_statement_handle)).await.unwrap().into_inner();
    let (_, batches) = fetch(&mut other, info).await;
    assert_eq!(integers(&batches, 0), [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_is_its_users() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    // `ada:` and `eve:` in base64.
    let (ada, eve) = ("Basic YWRhOg==", "Basic ZXZlOg==");
    fn by<T>(user: &'static str, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", user.parse().unwrap());
        request
    }
    let request = ActionCreatePreparedStatementRequest { query: "SELECT 1".into(), transaction_id: None };
    let action = Action { r#type: "CreatePreparedStatement".into(), body: request.as_any().encode_to_vec().into() };
    let mut results = client.inner_mut().do_action(by(ada, action)).await.unwrap().into_inner();
    let any = Any::decode(results.message().await.unwrap().unwrap().body).unwrap();
    let handle = any.unpack::<ActionCreatePreparedStatementResult>().unwrap().unwrap().prepared_statement_handle;
    let update = CommandPreparedStatementUpdate { prepared_statement_handle: handle.clone() }.as_any().encode_to_vec();
    let put = |user, command| {
        let descriptor = Some(FlightDescriptor::new_cmd(command));
        by(user, futures::stream::iter([FlightData { flight_descriptor: descriptor, ..FlightData::default() }]))
    };
    let descriptor = command(&handle);
    for (user, expect) in [(ada, None), (eve, Some(Code::PermissionDenied))] {
        let service = client.inner_mut();
        assert_eq!(service.get_flight_info(by(user, descriptor.clone())).await.err().map(|e| e.code()), expect);
        assert_eq!(service.get_schema(by(user, descriptor.clone())).await.err().map(|e| e.code()), expect);
        assert_eq!(service.poll_flight_info(by(user, descriptor.clone())).await.err().map(|e| e.code()), expect);
        let ticket = Ticket::new(descriptor.cmd.clone());
        assert_eq!(service.do_get(by(user, ticket)).await.err().map(|e| e.code()), expect);
        assert_eq!(service.do_put(put(user, descriptor.cmd.to_vec())).await.err().map(|e| e.code()), expect);
        let updated = service.do_put(put(user, update.clone())).await.err().map(|e| e.code());
        assert_eq!(updated, expect.or(Some(Code::InvalidArgument)), "a query is no update");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_prepare_is_complete() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    let (prepared, unknown) = prepare(&mut client, "SELECT 1 AS a, 'b' AS b").await;
    // Field 4, `is_update`, false: newer JDBC drivers decide by it.
    assert_eq!(unknown, [0x20, 0x00]);
    let dataset = Schema::try_from(IpcMessage(prepared.dataset_schema)).unwrap();
    assert_eq!(dataset.fields().len(), 2);
    let parameters = Schema::try_from(IpcMessage(prepared.parameter_schema)).unwrap();
    assert_eq!(parameters.fields().len(), 0);
    let told = client.inner_mut().get_schema(command(&prepared.prepared_statement_handle)).await.unwrap().into_inner();
    assert_eq!(Schema::try_from(IpcMessage(told.schema)).unwrap(), dataset);
    // Some clients redeem the command itself.
    let query = CommandPreparedStatementQuery { prepared_statement_handle: prepared.prepared_statement_handle };
    let stream = client.do_get(Ticket::new(query.as_any().encode_to_vec())).await.unwrap();
    let batches: Vec<RecordBatch> = stream.try_collect().await.unwrap();
    assert_eq!(integers(&batches, 0), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_cannot_be_prepared() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    for (sql, code) in [
        ("SELEC 1", Code::InvalidArgument),
        ("SELECT * FROM nowhere", Code::NotFound),
        ("DELETE FROM Sky.Object", Code::PermissionDenied),
    ] {
        let refused = client.prepare(sql.into(), None).await.map(drop).unwrap_err();
        assert_eq!(status(&refused).0, code, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_handle_is_refused() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    let (prepared, _) = prepare(&mut client, "SELECT 1").await;
    let good = prepared.prepared_statement_handle;
    for at in (0..good.len()).step_by(3) {
        let mut altered = good.to_vec();
        altered[at] ^= 0x10;
        let refused = client.inner_mut().get_flight_info(command(&Bytes::from(altered))).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "byte {at}");
    }
}

/// DoPut of parameters to a handle; the handle in the answer.
pub(crate) async fn bind(
    client: &mut Client,
    handle: &Bytes,
    parameters: Option<RecordBatch>,
) -> Result<Option<Bytes>, tonic::Status> {
    let messages: Vec<FlightData> = match parameters {
        None => vec![FlightData { flight_descriptor: Some(command(handle)), ..FlightData::default() }],
        Some(batch) => FlightDataEncoderBuilder::new()
            .with_flight_descriptor(Some(command(handle)))
            .build(futures::stream::iter([Ok(batch)]))
            .try_collect()
            .await
            .unwrap(),
    };
    let mut results = client.inner_mut().do_put(futures::stream::iter(messages)).await?.into_inner();
    let result = results.message().await?.unwrap();
    Ok(DoPutPreparedStatementResult::decode(result.app_metadata).unwrap().prepared_statement_handle)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_values_can_be_bound_to_no_parameters() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    let (prepared, _) = prepare(&mut client, "SELECT 1").await;
    let handle = prepared.prepared_statement_handle;
    let schema = Arc::new(Schema::new(vec![Field::new("0", DataType::Int64, true)]));
    let none = RecordBatch::new_empty(Arc::new(Schema::empty()));
    let no_rows = RecordBatch::new_empty(Arc::clone(&schema));
    for parameters in [None, Some(none), Some(no_rows)] {
        assert_eq!(bind(&mut client, &handle, parameters).await.unwrap(), Some(handle.clone()));
    }
    let one = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![7]))]).unwrap();
    let refused = bind(&mut client, &handle, Some(one)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("has 0 parameters, but 1 values"), "{}", refused.message());
    assert_eq!(bind(&mut client, &Bytes::from_static(b"no"), None).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_no_update() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    let (prepared, _) = prepare(&mut client, "SELECT 1").await;
    let update = CommandPreparedStatementUpdate { prepared_statement_handle: prepared.prepared_statement_handle };
    let message = FlightData {
        flight_descriptor: Some(FlightDescriptor::new_cmd(update.as_any().encode_to_vec())),
        ..FlightData::default()
    };
    let refused = client.inner_mut().do_put(futures::stream::iter([message])).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("query"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_schema_everywhere() {
    let coordinator = TestCoordinator::start().await;
    coordinator.add_tables().await;
    let mut client = coordinator.client().await;
    for sql in [
        "SELECT * FROM Sky.Object",
        "SELECT o.objectId AS id, ra_PS + 1 AS shifted, o.name FROM Sky.Object o",
        "SELECT * FROM Sky.Object JOIN Sky.Source USING (objectId)",
        "SELECT name, count(*), avg(ra_PS), min(decl_PS) FROM Sky.Object GROUP BY name HAVING count(*) > 1",
        "SELECT objectId FROM Sky.Object UNION ALL SELECT objectId FROM Sky.Source ORDER BY 1 LIMIT 3",
        "SELECT objectId, row_number() OVER (ORDER BY ra_PS) FROM Sky.Object",
        "SELECT arrow_cast('a', 'Utf8View') AS v, arrow_cast('b', 'Dictionary(Int32, Utf8)') AS d, NULL AS n",
        "SELECT now(), current_date, INTERVAL '1 day', CAST(1 AS DECIMAL(10, 2)), make_array(1, 2), struct(1, 'a')",
        "WITH f AS (SELECT band FROM Sky.Filter_Names) SELECT f.band, o.name FROM f CROSS JOIN Sky.Object o",
        "SELECT count(*) FROM Sky.Object WHERE objectId IN (SELECT objectId FROM Sky.Source)",
        "SELECT * FROM Sky.Object WHERE 1 = 0",
        "VALUES (1, 'a'), (2, NULL)",
        "EXPLAIN SELECT * FROM Sky.Object",
        "SHOW TABLES",
        "SHOW COLUMNS FROM Sky.Object",
        "DESCRIBE Sky.Source",
        "SHOW DATABASES",
        "SELECT * FROM information_schema.columns",
    ] {
        let (prepared, _) = prepare(&mut client, sql).await;
        let told = Schema::try_from(IpcMessage(prepared.dataset_schema)).unwrap();
        let handle = prepared.prepared_statement_handle;
        let query = CommandStatementQuery { query: sql.into(), transaction_id: None };
        let plain = FlightDescriptor::new_cmd(query.as_any().encode_to_vec());
        for descriptor in [command(&handle), plain] {
            let schema = client.inner_mut().get_schema(descriptor.clone()).await.unwrap().into_inner();
            assert_eq!(Schema::try_from(IpcMessage(schema.schema)).unwrap(), told, "GetSchema of {sql}");
            let info = client.inner_mut().get_flight_info(descriptor).await.unwrap().into_inner();
            assert_eq!(info.clone().try_decode_schema().unwrap(), told, "GetFlightInfo of {sql}");
            // `fetch` compares the stream with the info.
            fetch(&mut client, info).await;
        }
        for field in told.fields() {
            assert!(field.metadata().contains_key("ARROW:FLIGHT:SQL:TYPE_NAME"), "{sql}: {field:?}");
        }
    }
    let (prepared, _) = prepare(&mut client, "SELECT ra_PS, ra_PS + 1 FROM Sky.Object").await;
    let told = Schema::try_from(IpcMessage(prepared.dataset_schema)).unwrap();
    let key = |field: usize, key: &str| told.field(field).metadata().get(&format!("ARROW:FLIGHT:SQL:{key}")).cloned();
    assert_eq!(key(0, "TABLE_NAME").as_deref(), Some("Object"));
    assert_eq!(key(0, "DB_SCHEMA_NAME").as_deref(), Some("Sky"));
    assert_eq!(key(0, "REMARKS").as_deref(), Some("right ascension [deg]"));
    assert_eq!(key(1, "TABLE_NAME"), None, "a computed column is no table's");
}
