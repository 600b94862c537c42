//! Does with this client what lines on the input say, and answers each with a line: the Rust part of
//! `integration/clients` (the words are in `spoken.py` there).

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, NullArray, RecordBatch, StringArray,
};
use arrow::datatypes::{DataType, Int64Type, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::{StreamExt, TryStreamExt};
use serde_json::{Map, Value, json};
use skyflight_client::{ClientError, Connection, Result, Rows, TlsOptions, UploadMode};

// Not a single thread, which would read its input while the connection has something to say.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> std::io::Result<()> {
    let mut sessions = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let answer = match answer(&mut sessions, &request).await {
            Ok(answer) => answer,
            Err(error) => json!({ "error": failure(&error) }),
        };
        let mut output = std::io::stdout().lock();
        serde_json::to_writer(&mut output, &answer)?;
        output.write_all(b"\n")?;
        output.flush()?;
    }
    Ok(())
}

async fn answer(sessions: &mut HashMap<u64, Connection>, request: &Value) -> Result<Value> {
    let id = request["session"].as_u64().unwrap_or_default();
    if request["do"] == "connect" {
        sessions.insert(id, connect(request).await?);
        return Ok(json!({}));
    }
    let Some(session) = sessions.get_mut(&id) else {
        return Err(ClientError::Protocol("there is no such session".into()));
    };
    let text = |name: &str| request[name].as_str().unwrap_or_default();
    let (sql, database, table) = (text("sql"), text("database"), text("table"));
    Ok(match text("do") {
        "query" => read(session.query(sql).await?).await?,
        "bind" => read(session.query_with(sql, parameters(&request["parameters"])?).await?).await?,
        "update" if request["parameters"].is_array() => {
            json!({ "count": session.update_with(sql, parameters(&request["parameters"])?).await? })
        }
        "update" => json!({ "count": session.update(sql).await? }),
        "schema" => described(session.schema(sql).await?.as_ref()),
        "databases" => json!({ "names": session.databases().await? }),
        "tables" => {
            let tables = session.tables().await?.into_iter().filter(|t| t.database == database);
            json!({ "tables": tables.map(|t| (t.table, Value::from(t.kind))).collect::<Map<_, _>>() })
        }
        "columns" => described(session.columns(database, table).await?.as_ref()),
        "keys" => keys(session, database, table).await?,
        "upload" => upload(session, request).await?,
        "count" => count(session.query(sql).await?).await?,
        "cancel" => {
            let patience = Duration::from_millis(request["after_ms"].as_u64().unwrap_or_default());
            let rows = session.query(sql).await?;
            // Dropping the rows cancels the query.
            json!({ "in_time": tokio::time::timeout(patience, count(rows)).await.is_ok() })
        }
        "time" => {
            let mut seconds = Vec::new();
            for _ in 0..request["times"].as_u64().unwrap_or_default() {
                let started = Instant::now();
                count(session.query(sql).await?).await?;
                seconds.push(started.elapsed().as_secs_f64());
            }
            json!({ "seconds": seconds })
        }
        "close" => {
            sessions.remove(&id);
            json!({})
        }
        other => return Err(ClientError::Protocol(format!("nobody here can {other}"))),
    })
}

async fn connect(request: &Value) -> Result<Connection> {
    let text = |name: &str| request[name].as_str();
    let tls = match text("ca") {
        Some(path) => {
            let authorities =
                std::fs::read(path).map_err(|cause| ClientError::File { path: path.to_string(), cause })?;
            Some(TlsOptions { authorities, identity: None })
        }
        None => None,
    };
    let mut connection = Connection::open_with(text("url").unwrap_or_default(), tls.as_ref()).await?;
    if let Some(user) = text("user") {
        connection.log_in(user, text("password").unwrap_or_default()).await?;
    }
    if let Some(token) = text("token") {
        connection.set_header("authorization", &format!("Bearer {token}"));
    }
    if let Some(database) = text("database") {
        connection.set_header("x-skyflight-schema", database);
    }
    Ok(connection)
}

/// All rows, as JSON has them.
async fn read(rows: Rows) -> Result<Value> {
    let mut answer = described(rows.schema().as_ref());
    let mut read = Vec::new();
    for batch in rows.try_collect::<Vec<_>>().await? {
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter().map(|column| plain(column, row));
            read.push(Value::Array(values.collect::<Result<_>>()?));
        }
    }
    answer["rows"] = read.into();
    Ok(answer)
}

/// A value as JSON has it; what it has no word for becomes text.
fn plain(column: &ArrayRef, row: usize) -> Result<Value> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    let display = || -> Result<String> {
        let formatter = ArrayFormatter::try_new(column, &FormatOptions::default())?;
        Ok(formatter.value(row).to_string())
    };
    Ok(match column.data_type() {
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            (0..items.len()).map(|item| plain(&items, item)).collect::<Result<Vec<_>>>()?.into()
        }
        kind if kind.is_numeric() && !matches!(kind, DataType::Decimal128(..)) => {
            serde_json::from_str(&display()?).unwrap_or(Value::Null)
        }
        DataType::Boolean => column.as_boolean().value(row).into(),
        _ => display()?.into(),
    })
}

/// How many rows there are, and the sum of the first column where it is of 64-bit integers.
async fn count(mut rows: Rows) -> Result<Value> {
    let (mut found, mut sum) = (0, 0_i64);
    while let Some(batch) = rows.next().await.transpose()? {
        found += batch.num_rows();
        if let Some(column) = batch.columns().first().and_then(|c| c.as_primitive_opt::<Int64Type>()) {
            sum += arrow::compute::sum(column).unwrap_or_default();
        }
    }
    Ok(json!({ "rows": found, "sum": sum }))
}

async fn keys(session: &mut Connection, database: &str, table: &str) -> Result<Value> {
    let mut found = Vec::new();
    for key in session.foreign_keys(database, table).await? {
        let primary = session.primary_key(database, &key.of_table).await?;
        found.push(json!([key.column, key.of_table, key.of_column, primary.first()]));
    }
    Ok(json!({ "keys": found }))
}

async fn upload(session: &mut Connection, request: &Value) -> Result<Value> {
    let text = |name: &str| request[name].as_str().unwrap_or_default();
    let path = text("file").to_string();
    let file = std::fs::File::open(&path).map_err(|cause| ClientError::File { path, cause })?;
    let batches = StreamReader::try_new(file, None)?.collect::<Vec<_>>();
    let mode = match text("mode") {
        "create" => UploadMode::Create,
        "append" => UploadMode::Append,
        "replace" => UploadMode::Replace,
        _ => UploadMode::CreateAppend,
    };
    let written = session.upload(text("database"), text("table"), mode, futures::stream::iter(batches)).await?;
    Ok(json!({ "count": written }))
}

/// Rows of parameters as a batch with columns "0", "1", …
fn parameters(rows: &Value) -> Result<RecordBatch> {
    let rows: Vec<&Vec<Value>> = rows.as_array().into_iter().flatten().filter_map(Value::as_array).collect();
    let width = rows.first().map_or(0, |row| row.len());
    let columns = (0..width).map(|column| {
        let values = || rows.iter().map(move |row| &row[column]);
        let array: ArrayRef = if values().any(Value::is_string) {
            Arc::new(values().map(Value::as_str).collect::<StringArray>())
        } else if values().any(Value::is_boolean) {
            Arc::new(values().map(Value::as_bool).collect::<BooleanArray>())
        } else if values().any(Value::is_f64) {
            Arc::new(values().map(Value::as_f64).collect::<Float64Array>())
        } else if values().any(Value::is_i64) {
            Arc::new(values().map(Value::as_i64).collect::<Int64Array>())
        } else {
            Arc::new(NullArray::new(rows.len()))
        };
        (column.to_string(), array, true)
    });
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

fn described(schema: &Schema) -> Value {
    let names: Vec<_> = schema.fields().iter().map(|field| field.name()).collect();
    json!({ "columns": names })
}

/// A failure as this client's user meets it: variant, code, message.
fn failure(error: &ClientError) -> Value {
    let variant = format!("{error:?}");
    let variant = variant.split([' ', '(', '{']).next().unwrap_or_default();
    json!({ "exception": variant, "code": error.code().map(|c| format!("{c:?}")), "message": error.to_string() })
}
