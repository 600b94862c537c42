//! Values for the parameters of prepared statements, as each kind of client binds them.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, NullArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow_flight::IpcMessage;
use arrow_flight::sql::ActionCreatePreparedStatementResult;
use bytes::Bytes;
use tonic::Code;

use super::coordinator::{Client, TestCoordinator, fetch, integers, prepare, status, texts};
use super::prepared::{bind, command};

/// Columns called "0", "1", …, as ADBC has them.
pub(crate) fn values(columns: Vec<ArrayRef>) -> RecordBatch {
    let field = |(at, column): (usize, &ArrayRef)| Field::new(at.to_string(), column.data_type().clone(), true);
    let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn types(prepared: &ActionCreatePreparedStatementResult) -> Vec<DataType> {
    let schema = Schema::try_from(IpcMessage(prepared.parameter_schema.clone())).unwrap();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let expected: Vec<String> = (1..=names.len()).map(|n| format!("${n}")).collect();
    assert_eq!(names, expected);
    assert!(schema.fields().iter().all(|field| field.is_nullable()));
    schema.fields().iter().map(|field| field.data_type().clone()).collect()
}

async fn run(client: &mut Client, handle: &Bytes) -> Result<Vec<RecordBatch>, tonic::Status> {
    let info = client.inner_mut().get_flight_info(command(handle)).await?.into_inner();
    Ok(fetch(client, info).await.1)
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_have_the_types_of_what_they_stand_beside() {
    let coordinator = TestCoordinator::start().await;
    coordinator.add_tables().await;
    let mut client = coordinator.client().await;
    let (int, float, text) = (DataType::Int64, DataType::Float64, DataType::Utf8);
    for (sql, expect) in [
        ("SELECT * FROM Sky.Object WHERE objectId = ?", vec![&int]),
        ("SELECT * FROM Sky.Object WHERE objectId IN ($2, $1)", vec![&int, &int]),
        ("SELECT * FROM Sky.Object WHERE ra_PS BETWEEN ? AND ? AND name LIKE ?", vec![&float, &float, &text]),
        ("SELECT ra_PS + ? FROM Sky.Object LIMIT ?", vec![&float, &int]),
        ("SELECT * FROM Sky.Object WHERE separation(ra_PS, decl_PS, ?, ?) < ?", vec![&float; 3]),
        (
            "SELECT * FROM Sky.Object WHERE CONTAINS(POINT('ICRS', ra_PS, decl_PS), CIRCLE('ICRS', ?, ?, ?)) = 1",
            vec![&float; 3],
        ),
        ("SELECT * FROM Sky.Object WHERE scisql_s2PtInBox(ra_PS, decl_PS, ?, ?, ?, ?) = 1", vec![&float; 4]),
        ("SELECT * FROM Sky.Object WHERE qserv_areaspec_circle(?, ?, ?)", vec![&float; 3]),
        (
            "SELECT * FROM Sky.Object WHERE healpix_index(?, ra_PS, decl_PS) = healpix_index(?, ?, ?)",
            vec![&int, &int, &float, &float],
        ),
        ("SELECT * FROM Sky.Object WHERE DISTANCE(POINT(?, ?), POINT(ra_PS, decl_PS)) < ?", vec![&float; 3]),
        ("SELECT * FROM Sky.Object WHERE scisql_angSep(?, ?, ra_PS, decl_PS) < ?", vec![&float; 3]),
        ("SELECT concat(?, ?), substr(?, ?), power(?, ?)", vec![&text, &text, &text, &int, &float, &float]),
        ("SELECT ?", vec![&text]),
        ("SELECT CAST(? AS BIGINT), -?, ? + ?", vec![&int, &float, &float, &float]),
        ("SELECT upper(?), substr(name, ?), coalesce(objectId, ?) FROM Sky.Object", vec![&text, &int, &int]),
        ("SELECT CASE WHEN objectId = $1 THEN $2 ELSE name END FROM Sky.Object WHERE objectId < $1", vec![&int, &text]),
        (
            "SELECT count(*) FROM Sky.Object WHERE objectId IN (SELECT objectId FROM Sky.Source WHERE sourceId > ?)",
            vec![&int],
        ),
        ("WITH o AS (SELECT * FROM Sky.Object WHERE ra_PS > ?) SELECT * FROM o WHERE name = ?", vec![&float, &text]),
        ("EXPLAIN SELECT * FROM Sky.Object WHERE objectId = ?", vec![&int]),
    ] {
        let (prepared, unknown) = prepare(&mut client, sql).await;
        assert_eq!(types(&prepared).iter().collect::<Vec<_>>(), expect, "{sql}");
        assert_eq!(unknown, [0x20, 0x00], "{sql}");
        // The schema is the same at every step, whatever is bound.
        let dataset = Schema::try_from(IpcMessage(prepared.dataset_schema.clone())).unwrap();
        let handle = prepared.prepared_statement_handle.clone();
        let told = client.inner_mut().get_schema(command(&handle)).await.unwrap().into_inner();
        assert_eq!(Schema::try_from(IpcMessage(told.schema)).unwrap(), dataset, "{sql}");
        let columns = expect.iter().map(|data_type| -> ArrayRef {
            match data_type {
                DataType::Int64 => Arc::new(Int64Array::from(vec![3])),
                DataType::Float64 => Arc::new(Float64Array::from(vec![3.5])),
                _ => Arc::new(StringArray::from(vec!["3"])),
            }
        });
        let bound = bind(&mut client, &handle, Some(values(columns.collect()))).await.unwrap().unwrap();
        let info = client.inner_mut().get_flight_info(command(&bound)).await.unwrap().into_inner();
        assert_eq!(info.clone().try_decode_schema().unwrap(), dataset, "{sql}");
        // `fetch` compares FlightInfo with DoGet.
        fetch(&mut client, info).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_bound_to_a_new_handle_and_to_the_old_one() {
    let coordinator = TestCoordinator::start().await;
    let other = TestCoordinator::start_on(coordinator.store.clone(), coordinator.keys.clone(), |_| ()).await;
    let mut client = coordinator.client().await;
    let sql = "SELECT value, $2 AS t FROM generate_series(1, 9) WHERE value = $1 OR value = $1 + 1";
    let (prepared, _) = prepare(&mut client, sql).await;
    let old = prepared.prepared_statement_handle;
    let unbound = run(&mut client, &old).await.unwrap_err();
    assert!(unbound.code() == Code::InvalidArgument && unbound.message().contains("2 parameters"), "{unbound}");
    let row = |n: i64, text: &str| {
        Some(values(vec![Arc::new(Int64Array::from(vec![n])), Arc::new(StringArray::from(vec![text]))]))
    };
    let new = bind(&mut client, &old, row(3, "a")).await.unwrap().unwrap();
    assert_ne!(new, old);
    for handle in [&new, &old, &new] {
        let batches = run(&mut client, handle).await.unwrap();
        assert_eq!((integers(&batches, 0), texts(&batches, "t")), (vec![3, 4], vec!["a".into(), "a".into()]));
    }
    // The last binding counts for the old handle; each new one keeps its own.
    let newer = bind(&mut client, &old, row(7, "é")).await.unwrap().unwrap();
    assert_eq!(integers(&run(&mut client, &old).await.unwrap(), 0), [7, 8]);
    assert_eq!(integers(&run(&mut client, &new).await.unwrap(), 0), [3, 4]);
    let again = bind(&mut client, &newer, row(1, "x")).await.unwrap().unwrap();
    assert_eq!(integers(&run(&mut client, &again).await.unwrap(), 0), [1, 2]);
    // A handle holds its values, so any coordinator serves it, and its ticket.
    let mut elsewhere = other.client().await;
    assert_eq!(integers(&run(&mut elsewhere, &newer).await.unwrap(), 0), [7, 8]);
    let info = client.inner_mut().get_flight_info(command(&newer)).await.unwrap().into_inner();
    assert_eq!(integers(&fetch(&mut elsewhere, info).await.1, 0), [7, 8]);
    // The same text prepared twice is two statements.
    let (twin, _) = prepare(&mut client, sql).await;
    assert_eq!(run(&mut client, &twin.prepared_statement_handle).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rows_of_values_give_the_rows_of_each_in_order() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    let (prepared, _) = prepare(&mut client, "SELECT value FROM generate_series(1, 4) WHERE value <= ?").await;
    let many = values(vec![Arc::new(Int64Array::from(vec![Some(2), Some(0), Some(3), None, Some(1)]))]);
    let bound = bind(&mut client, &prepared.prepared_statement_handle, Some(many)).await.unwrap().unwrap();
    assert_eq!(integers(&run(&mut client, &bound).await.unwrap(), 0), [1, 2, 1, 2, 3, 1]);
    let too_many = values(vec![Arc::new(Int64Array::from_iter_values(0..1_001))]);
    let bound = bind(&mut client, &prepared.prepared_statement_handle, Some(too_many)).await.unwrap().unwrap();
    let refused = run(&mut client, &bound).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("1000"), "{refused}");
    let too_large = values(vec![Arc::new(Int64Array::from_iter_values(0..200_000))]);
    let refused = bind(&mut client, &prepared.prepared_statement_handle, Some(too_large)).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && refused.message().contains("1048576"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_become_their_parameters_types_or_are_refused() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    let sql = "SELECT value FROM generate_series(1, 4) WHERE value = ? OR CAST(value AS VARCHAR) = ?";
    let (prepared, _) = prepare(&mut client, sql).await;
    let handle = prepared.prepared_statement_handle;
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    let null = || -> ArrayRef { Arc::new(NullArray::new(1)) };
    for (columns, expect) in [
        (vec![Arc::new(Float64Array::from(vec![2.0])) as ArrayRef, text("4")], vec![2, 4]),
        (vec![text("3"), Arc::new(Int64Array::from(vec![1]))], vec![1, 3]),
        (vec![null(), text("4")], vec![4]),
        (vec![null(), null()], vec![]),
    ] {
        let bound = bind(&mut client, &handle, Some(values(columns))).await.unwrap().unwrap();
        let mut found = integers(&run(&mut client, &bound).await.unwrap(), 0);
        found.sort_unstable();
        assert_eq!(found, expect);
    }
    for (columns, expect) in [
        (vec![text("2")], "2 parameters, but 1 values"),
        (vec![text("2"), text("2"), text("2")], "2 parameters, but 3 values"),
        (vec![Arc::new(Float64Array::from(vec![2.5])) as ArrayRef, text("4")], "parameter $1 is Int64"),
        (vec![text("two"), text("4")], "parameter $1 is Int64"),
    ] {
        let refused = bind(&mut client, &handle, Some(values(columns))).await.unwrap_err();
        assert!(refused.code() == Code::InvalidArgument && refused.message().contains(expect), "{refused}");
    }
    for (sql, code) in [
        ("SELECT $1, ?", Code::InvalidArgument),
        ("SELECT $name", Code::Unimplemented),
        ("SELECT * FROM ?", Code::InvalidArgument),
        ("SELECT $0", Code::Unimplemented),
        ("SELECT $99999999", Code::InvalidArgument),
        ("SUBMIT CREATE TABLE mydb.t AS SELECT 1", Code::Unimplemented),
    ] {
        let refused = client.prepare(sql.into(), None).await.map(drop).unwrap_err();
        assert_eq!(status(&refused).0, code, "{sql}: {}", status(&refused).1);
    }
    let (booleans, _) = prepare(&mut client, "SELECT value FROM generate_series(1, 2) WHERE (value = 1) = ?").await;
    assert_eq!(types(&booleans), [DataType::Boolean]);
    let yes = values(vec![Arc::new(BooleanArray::from(vec![true]))]);
    let bound = bind(&mut client, &booleans.prepared_statement_handle, Some(yes)).await.unwrap().unwrap();
    assert_eq!(integers(&run(&mut client, &bound).await.unwrap(), 0), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_client_binds_too() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    let sql = "SELECT value FROM generate_series(1, 9) WHERE value > $1";
    let mut statement = client.prepare(sql.into(), None).await.unwrap();
    for n in [7_i64, 8] {
        statement.set_parameters(values(vec![Arc::new(Int64Array::from(vec![n]))])).unwrap();
        let info = statement.execute().await.unwrap();
        assert_eq!(integers(&fetch(&mut client, info).await.1, 0), (n + 1..=9).collect::<Vec<_>>());
    }
}
