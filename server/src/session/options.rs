//! Session options as in Flight.proto, which arrow-flight 59.3 does not generate. A session has no
//! state on the server: setting an option gives the client a new token that carries it.

use std::collections::HashMap;

use prost::Message;
use skyflight_catalog::{CatalogError, CatalogStore};
use skyflight_engine::guard::SetOption;
use skyflight_engine::own::{OWN_ALIAS, sees};
use skyflight_engine::shuffle::ShuffleMode;
use skyflight_engine::{EngineError, SYSTEM};
use tonic::Status;

use super::Caller;
use crate::error::{bad_request, status_of, unsupported};

/// Name of the action that sets options.
pub(crate) const SET: &str = "SetSessionOptions";
/// Name of the action that reads them.
pub(crate) const GET: &str = "GetSessionOptions";
/// Name of the action that ends a session.
pub(crate) const CLOSE: &str = "CloseSession";

/// The one Flight SQL catalog.
pub(crate) const CATALOG: &str = "skyflight";

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(oneof = "OptionValue", tags = "1, 2, 3, 4, 5")]
    option_value: Option<OptionValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum OptionValue {
    #[prost(string, tag = "1")]
    String(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(sfixed64, tag = "3")]
    Int64(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    StringList(StringList),
}

#[derive(Clone, PartialEq, Message)]
struct StringList {
    #[prost(string, repeated, tag = "1")]
    values: Vec<String>,
}

/// Options by name: the request of `SetSessionOptions` and the answer of `GetSessionOptions`.
#[derive(Clone, PartialEq, Message)]
struct Options {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, Value>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
enum ErrorValue {
    Unspecified = 0,
    InvalidName = 1,
    InvalidValue = 2,
    Error = 3,
}

#[derive(Clone, PartialEq, Message)]
struct OptionError {
    #[prost(enumeration = "ErrorValue", tag = "1")]
    value: i32,
}

#[derive(Clone, PartialEq, Message)]
struct SetResult {
    #[prost(map = "string, message", tag = "1")]
    errors: HashMap<String, OptionError>,
}

#[derive(Clone, PartialEq, Message)]
struct CloseResult {
    /// 1: closed.
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Sets `schema`, `catalog`, `shuffle` and `endpoints`. Gives the caller with the options set, where any was, and the
/// encoded answer, which names each option that is unknown or has a wrong value.
///
/// Errors: `InvalidArgument` when the body is not the protocol's message.
pub(crate) async fn set(
    caller: &Caller,
    body: &[u8],
    store: &dyn CatalogStore,
) -> Result<(Option<Caller>, Vec<u8>), Status> {
    let request =
        Options::decode(body).map_err(|e| bad_request(format!("this is no SetSessionOptionsRequest: {e}")))?;
    let mut changed: Option<Caller> = None;
    let mut errors = HashMap::new();
    for (name, value) in request.session_options {
        let found = match (name.as_str(), value.option_value) {
            ("catalog", Some(OptionValue::String(catalog))) => {
                if catalog.is_empty() || catalog.eq_ignore_ascii_case(CATALOG) {
                    Ok(())
                } else {
                    Err(ErrorValue::InvalidValue)
                }
            }
            // An option without a value is unset.
            ("catalog", None) => Ok(()),
            ("schema", None) => {
                changed.get_or_insert_with(|| caller.clone()).default_database = None;
                Ok(())
            }
            ("schema", Some(OptionValue::String(schema))) => match database_of(caller, &schema, store).await? {
                Some(database) => {
                    changed.get_or_insert_with(|| caller.clone()).default_database = Some(database);
                    Ok(())
                }
                None => Err(ErrorValue::InvalidValue),
            },
            ("shuffle", None) => {
                changed.get_or_insert_with(|| caller.clone()).shuffle = None;
                Ok(())
            }
            ("shuffle", Some(OptionValue::String(mode))) => match mode.parse() {
                Ok(mode) => {
                    changed.get_or_insert_with(|| caller.clone()).shuffle = Some(mode);
                    Ok(())
                }
                Err(_) => Err(ErrorValue::InvalidValue),
            },
            ("endpoints", None) => {
                changed.get_or_insert_with(|| caller.clone()).endpoints = None;
                Ok(())
            }
            ("endpoints", Some(OptionValue::String(mode))) => match mode.parse() {
                Ok(mode) => {
                    changed.get_or_insert_with(|| caller.clone()).endpoints = Some(mode);
                    Ok(())
                }
                Err(_) => Err(ErrorValue::InvalidValue),
            },
            ("catalog" | "schema" | "shuffle" | "endpoints", Some(_)) => Err(ErrorValue::InvalidValue),
            _ => Err(ErrorValue::InvalidName),
        };
        if let Err(value) = found {
            errors.insert(name, OptionError { value: value as i32 });
        }
    }
    Ok((changed, SetResult { errors }.encode_to_vec()))
}

/// Lets a statement pass that sets an option to what it is.
///
/// Errors: `NotFound` for a database that the caller does not see; `InvalidArgument` for a mode that is none;
/// `Unimplemented` for any other change, with the way to make it. A session is nothing but its client's token, and
/// drivers do not go on with one that comes in the answer to a statement: to say that it is done would be a lie.
pub(crate) async fn check_set(caller: &Caller, option: &SetOption, store: &dyn CatalogStore) -> Result<(), Status> {
    match option {
        SetOption::Schema(name) => {
            let database = database_of(caller, name, store).await?;
            let absent = || CatalogError::NotFound { what: "database", name: name.clone(), suggestion: None };
            let database = database.ok_or_else(|| status_of(&EngineError::Catalog(absent()), None))?;
            let current = caller.default_database.as_deref();
            if current.is_some_and(|current| current.eq_ignore_ascii_case(&database)) {
                return Ok(());
            }
            Err(unsupported(format!(
                "a statement does not change the database of a session; connect with schema={database} in a JDBC URL, set \
                 adbc.connection.db_schema (in Python connection.adbc_current_db_schema) to it, send the header \
                 x-skyflight-schema, or write {database}.table"
            )))
        }
        SetOption::Shuffle(mode) => {
            let mode = mode.parse::<ShuffleMode>().map_err(|error| bad_request(format!("shuffle: {error}")))?;
            if caller.shuffle == Some(mode) {
                return Ok(());
            }
            Err(unsupported(format!(
                "a statement does not change the options of a session; send the header x-skyflight-shuffle: {0}, or set the \
                 session option shuffle to {0}",
                mode.name()
            )))
        }
    }
}

/// The database that a caller means by a name, in its declared case; `None` where the caller sees none.
async fn database_of(caller: &Caller, name: &str, store: &dyn CatalogStore) -> Result<Option<String>, Status> {
    if name.eq_ignore_ascii_case(OWN_ALIAS) {
        // There may be no table in it yet.
        return Ok(Some(OWN_ALIAS.to_owned()));
    }
    if name.eq_ignore_ascii_case(SYSTEM) {
        // It is in no store.
        return Ok(Some(SYSTEM.to_owned()));
    }
    match store.database(name).await {
        Ok(database) => Ok(Some(database.name).filter(|name| sees(&caller.user, name))),
        Err(CatalogError::NotFound { .. }) => Ok(None),
        Err(error) => Err(status_of(&EngineError::Catalog(error), None)),
    }
}

/// The encoded answer of `GetSessionOptions`: `catalog`, and the others where they are set.
pub(crate) fn get(caller: &Caller) -> Vec<u8> {
    let text = |value: &str| Value { option_value: Some(OptionValue::String(value.to_owned())) };
    let mut session_options = HashMap::from([("catalog".to_owned(), text(CATALOG))]);
    if let Some(database) = &caller.default_database {
        session_options.insert("schema".to_owned(), text(database));
    }
    if let Some(mode) = caller.shuffle {
        session_options.insert("shuffle".to_owned(), text(mode.name()));
    }
    if let Some(mode) = caller.endpoints {
        session_options.insert("endpoints".to_owned(), text(mode.name()));
    }
    Options { session_options }.encode_to_vec()
}

/// The encoded answer of `CloseSession`: closed, for there is nothing to close.
pub(crate) fn close() -> Vec<u8> {
    CloseResult { status: 1 }.encode_to_vec()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use skyflight_catalog::SqliteStore;

    use super::*;

    fn request(pairs: &[(&str, OptionValue)]) -> Vec<u8> {
        let session_options = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Value { option_value: Some(value.clone()) }))
            .collect();
        Options { session_options }.encode_to_vec()
    }

    #[tokio::test]
    async fn a_known_schema_is_set_in_its_declared_case_and_others_are_named() {
        let store = SqliteStore::in_memory().await.unwrap();
        store.create_database("Dr1", None).await.unwrap();
        let caller = Caller::of("vera".into());

        let body = request(&[
            ("schema", OptionValue::String("dR1".into())),
            ("catalog", OptionValue::String("skyflight".into())),
            ("shuffle", OptionValue::String("always".into())),
            ("endpoints", OptionValue::String("direct".into())),
        ]);
        let (changed, answer) = set(&caller, &body, &store).await.unwrap();
        let changed = changed.unwrap();
        assert_eq!(changed.default_database.as_deref(), Some("Dr1"));
        assert_eq!(changed.shuffle, Some(skyflight_engine::shuffle::ShuffleMode::Always));
        assert_eq!(changed.endpoints, Some(crate::session::EndpointMode::Direct));
        assert_eq!(Options::decode(get(&changed).as_slice()).unwrap().session_options.len(), 4);
        assert_eq!(SetResult::decode(answer.as_slice()).unwrap().errors.len(), 0);

        let system = request(&[("schema", OptionValue::String("System".into()))]);
        let (changed, _) = set(&caller, &system, &store).await.unwrap();
        assert_eq!(changed.unwrap().default_database.as_deref(), Some("system"));

        let body = request(&[
            ("schema", OptionValue::String("dr2".into())),
            ("catalog", OptionValue::Bool(true)),
            ("timezone", OptionValue::String("UTC".into())),
            ("shuffle", OptionValue::String("sometimes".into())),
            ("endpoints", OptionValue::String("many".into())),
        ]);
        let (changed, answer) = set(&caller, &body, &store).await.unwrap();
        assert_eq!(changed, None);
        let errors = SetResult::decode(answer.as_slice()).unwrap().errors;
        let of = |name: &str| errors[name].value();
        assert_eq!(of("schema"), ErrorValue::InvalidValue);
        assert_eq!(of("catalog"), ErrorValue::InvalidValue);
        assert_eq!(of("shuffle"), ErrorValue::InvalidValue);
        assert_eq!(of("endpoints"), ErrorValue::InvalidValue);
        assert_eq!(of("timezone"), ErrorValue::InvalidName);
        assert_eq!(set(&caller, &[0xff], &store).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    }

    #[tokio::test]
    async fn a_statement_that_would_change_a_session_says_how_to() {
        let store = SqliteStore::in_memory().await.unwrap();
        store.create_database("Dr1", None).await.unwrap();
        store.create_database("user_ada", None).await.unwrap();
        let schema = |name: &str| SetOption::Schema(name.into());
        let shuffle = |mode: &str| SetOption::Shuffle(mode.into());
        let caller = Caller {
            default_database: Some("dr1".into()),
            shuffle: Some(ShuffleMode::Never),
            ..Caller::of("vera".into())
        };
        for option in [schema("DR1"), shuffle("Never")] {
            assert!(check_set(&caller, &option, &store).await.is_ok(), "{option:?}");
        }
        for (option, code, said) in [
            (schema("mydb"), tonic::Code::Unimplemented, "mydb.table"),
            (schema("dr2"), tonic::Code::NotFound, "dr2"),
            (schema("user_ada"), tonic::Code::NotFound, "user_ada"),
            (shuffle("auto"), tonic::Code::Unimplemented, "x-skyflight-shuffle: auto"),
            (shuffle("sometimes"), tonic::Code::InvalidArgument, "shuffle"),
        ] {
            let refused = check_set(&caller, &option, &store).await.unwrap_err();
            assert_eq!(refused.code(), code, "{option:?}");
            assert!(refused.message().contains(said), "{refused}");
        }
    }

    #[test]
    fn bytes_are_those_of_flight_proto() {
        // Field 1 (map entry): key "schema", value {string_value: "a"}; by the protobuf encoding guide.
        let bytes = [0x0a, 13, 0x0a, 6, b's', b'c', b'h', b'e', b'm', b'a', 0x12, 3, 0x0a, 1, b'a'];
        assert_eq!(request(&[("schema", OptionValue::String("a".into()))]), bytes);
        assert_eq!(close(), [0x08, 1]);
        let got = Options::decode(get(&Caller::of(String::new())).as_slice()).unwrap();
        assert_eq!(got.session_options.len(), 1);
    }
}
