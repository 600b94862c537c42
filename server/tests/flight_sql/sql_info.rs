//! GetSqlInfo: all codes of the specification, each with its type, and no others.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::UInt32Type;
use arrow_flight::sql::{CommandGetSqlInfo, SqlInfo};
use tonic::Code;

use super::coordinator::{Client, TestCoordinator, fetch, status};

async fn ask(client: &mut Client, codes: Vec<u32>) -> RecordBatch {
    // The client's own call takes the enum, which has no unknown codes.
    use arrow_flight::FlightDescriptor;
    use arrow_flight::sql::ProstMessageExt;
    use prost::Message;
    let command = CommandGetSqlInfo { info: codes }.as_any().encode_to_vec();
    let info = client.inner_mut().get_flight_info(FlightDescriptor::new_cmd(command)).await.unwrap().into_inner();
    let (schema, batches) = fetch(client, info).await;
    arrow::compute::concat_batches(&schema, &batches).unwrap()
}

fn codes(batch: &RecordBatch) -> Vec<u32> {
    batch.column(0).as_primitive::<UInt32Type>().values().to_vec()
}

/// The names of the union's members, by type id.
const MEMBERS: [&str; 6] =
    ["string_value", "bool_value", "bigint_value", "int32_bitmask", "string_list", "int32_to_int32_list_map"];

/// The type that FlightSql.proto's comment on each code demands.
fn demanded(code: u32) -> &'static str {
    match code {
        0..=2 | 6 | 7 | 504 | 513 | 514 | 529..=531 => "string_value",
        3..=5
        | 9..=11
        | 500..=502
        | 506
        | 515
        | 516
        | 518..=521
        | 523
        | 524
        | 527
        | 532
        | 536
        | 537
        | 539
        | 556
        | 563
        | 565
        | 566
        | 572..=576 => "bool_value",
        541..=555 | 557..=561 => "bigint_value",
        8 | 100 | 101 | 503 | 505 | 507 | 522 | 525 | 526 | 528 | 533..=535 | 538 | 540 | 564 | 567..=571 => {
            "int32_bitmask"
        }
        // By the comment an int32; JDBC reads a long.
        562 => "bigint_value",
        508..=512 => "string_list",
        517 => "int32_to_int32_list_map",
        _ => "nothing",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_standard_codes_with_their_types_and_no_others() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    let all = ask(&mut client, vec![]).await;
    let standard: Vec<u32> =
        (0..=20_000).filter(|code| SqlInfo::try_from(*code).is_ok()).map(|code| code as u32).collect();
    assert_eq!(standard.len(), 14 + 77, "the specification's codes are 0 to 11, 100, 101 and 500 to 576");
    assert_eq!(codes(&all), standard);
    let values = all.column(1).as_union();
    for (row, code) in standard.iter().enumerate() {
        let member = MEMBERS[usize::try_from(values.type_id(row)).unwrap()];
        assert_eq!(member, demanded(*code), "code {code}");
        assert!(!values.value(row).is_null(0), "code {code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chosen_codes_and_what_they_say() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    let some = ask(&mut client, vec![8, 3, 0]).await;
    assert_eq!(codes(&some), [0, 3, 8]);
    let values = some.column(1).as_union();
    assert_eq!(values.value(0).as_string::<i32>().value(0), "Skyflight");
    assert!(!values.value(1).as_boolean().value(0), "tables of one's own are written");
    assert_eq!(values.value(2).as_primitive::<arrow::datatypes::Int32Type>().value(0), 0, "no transactions");
    assert_eq!(ask(&mut client, vec![10_000]).await.num_rows(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_functions_it_names_exist() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    let lists = ask(&mut client, vec![509, 510, 511, 512]).await;
    let values = lists.column(1).as_union();
    let mut names = Vec::new();
    for row in 0..lists.num_rows() {
        let list = values.value(row);
        let list = list.as_list::<i32>().value(0);
        names.extend(list.as_string::<i32>().iter().map(|name| name.unwrap().to_owned()));
    }
    assert!(names.len() > 50);
    for name in names {
        // Whatever is wrong with a call without arguments, it must not be that the name is unknown.
        let Err(error) = client.execute(format!("SELECT {name}()"), None).await else { continue };
        let (code, message) = status(&error);
        let unknown =
            message.contains("Invalid function") || message.contains("did you mean") || code == Code::NotFound;
        assert!(!unknown, "{name}: {message}");
    }
}
