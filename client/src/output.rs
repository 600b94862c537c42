//! Rows as a person or another program wants them: a table, CSV, JSON lines, Parquet, Arrow.

use std::fmt;
use std::io::Write;
use std::str::FromStr;

use arrow::csv::WriterBuilder;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use arrow::json::LineDelimitedWriter;
use arrow::record_batch::RecordBatch;
use arrow::util::pretty::pretty_format_batches_with_schema;
use futures::{Stream, StreamExt};
use parquet::arrow::ArrowWriter;

use crate::{ClientError, Result};

/// Rows that a table prints at most before it is cut: a table needs all its rows in memory.
const TABLE_ROWS: usize = 10_000;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Aligned columns; the first 10,000 rows.
    #[default]
    Table,
    /// CSV with a header.
    Csv,
    /// One JSON object a line.
    Json,
    /// A Parquet file.
    Parquet,
    /// An Arrow IPC stream.
    Arrow,
}

impl Format {
    /// All formats, in the order shown to users.
    pub const ALL: [Format; 5] = [Format::Table, Format::Csv, Format::Json, Format::Parquet, Format::Arrow];

    /// True for formats that would garble a terminal.
    pub fn is_binary(self) -> bool {
        matches!(self, Format::Parquet | Format::Arrow)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Table => "table",
            Format::Csv => "csv",
            Format::Json => "json",
            Format::Parquet => "parquet",
            Format::Arrow => "arrow",
        })
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        Format::ALL
            .into_iter()
            .find(|f| f.to_string().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("no format {text:?}; the formats are table, csv, json, parquet, arrow"))
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rows received, all of them written except where a table was cut.
    pub rows: usize,
}

/// Writes a stream of batches of `schema`, calling `seen` with the rows so far. All formats but
/// the table hold one batch at a time (Parquet: one row group).
///
/// # Errors
/// The first error of the stream or of the writer; what was written before it stays written, and
/// a Parquet file is then unfinished.
pub async fn write_rows(
    format: Format,
    schema: SchemaRef,
    mut rows: impl Stream<Item = Result<RecordBatch>> + Unpin,
    out: &mut (dyn Write + Send),
    mut seen: impl FnMut(usize),
) -> Result<Summary> {
    let mut writer = RowWriter::new(format, schema, out)?;
    let mut summary = Summary::default();
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        summary.rows += batch.num_rows();
        writer.write(&batch)?;
        seen(summary.rows);
    }
    writer.finish(summary.rows)?;
    Ok(summary)
}

enum RowWriter<'a> {
    Table { schema: SchemaRef, kept: Vec<RecordBatch>, rows: usize, out: &'a mut (dyn Write + Send) },
    Csv(Box<arrow::csv::Writer<&'a mut (dyn Write + Send)>>),
    Json(LineDelimitedWriter<&'a mut (dyn Write + Send)>),
    Parquet(Box<ArrowWriter<&'a mut (dyn Write + Send)>>),
    Arrow(Box<StreamWriter<&'a mut (dyn Write + Send)>>),
}

fn failed(error: impl fmt::Display) -> ClientError {
    ClientError::Write(error.to_string())
}

impl<'a> RowWriter<'a> {
    fn new(format: Format, schema: SchemaRef, out: &'a mut (dyn Write + Send)) -> Result<Self> {
        Ok(match format {
            Format::Table => RowWriter::Table { schema, kept: Vec::new(), rows: 0, out },
            Format::Csv => {
                let mut writer = WriterBuilder::new().with_header(true).build(out);
                // The header of an empty answer too.
                writer.write(&RecordBatch::new_empty(schema)).map_err(failed)?;
                RowWriter::Csv(Box::new(writer))
            }
            Format::Json => RowWriter::Json(LineDelimitedWriter::new(out)),
            Format::Parquet => RowWriter::Parquet(Box::new(ArrowWriter::try_new(out, schema, None).map_err(failed)?)),
            Format::Arrow => RowWriter::Arrow(Box::new(StreamWriter::try_new(out, &schema).map_err(failed)?)),
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            RowWriter::Table { kept, rows, .. } => {
                let wanted = TABLE_ROWS.saturating_sub(*rows).min(batch.num_rows());
                if wanted > 0 {
                    kept.push(batch.slice(0, wanted));
                    *rows += wanted;
                }
                Ok(())
            }
            RowWriter::Csv(writer) => writer.write(batch).map_err(failed),
            RowWriter::Json(writer) => writer.write(batch).map_err(failed),
            RowWriter::Parquet(writer) => writer.write(batch).map_err(failed),
            RowWriter::Arrow(writer) => writer.write(batch).map_err(failed),
        }
    }

    fn finish(self, total: usize) -> Result<()> {
        match self {
            RowWriter::Table { schema, kept, rows, out } => {
                let table = pretty_format_batches_with_schema(schema, &kept).map_err(failed)?;
                writeln!(out, "{table}").map_err(failed)?;
                if rows < total {
                    writeln!(out, "the first {rows} of {total} rows; another format gives all").map_err(failed)?;
                }
                Ok(())
            }
            RowWriter::Csv(_) => Ok(()),
            RowWriter::Json(mut writer) => writer.finish().map_err(failed),
            RowWriter::Parquet(writer) => writer.close().map(drop).map_err(failed),
            RowWriter::Arrow(mut writer) => writer.finish().map_err(failed),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use arrow::array::{Float64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use futures::stream;

    use super::*;

    fn batch(rows: usize) -> RecordBatch {
        let schema =
            Schema::new(vec![Field::new("ra", DataType::Float64, true), Field::new("name", DataType::Utf8, true)]);
        let ra: Float64Array = (0..rows).map(|i| (i % 2 == 0).then_some(i as f64)).collect();
        let names: StringArray = (0..rows).map(|i| Some(format!("s,{i}"))).collect();
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ra), Arc::new(names)]).unwrap()
    }

    async fn written(format: Format, batches: Vec<RecordBatch>) -> Vec<u8> {
        let schema = batch(0).schema();
        let mut out = Vec::new();
        let rows = stream::iter(batches.into_iter().map(Ok));
        write_rows(format, schema, rows, &mut out, |_| {}).await.unwrap();
        out
    }

    #[tokio::test]
    async fn csv_quotes_leaves_nulls_empty_and_has_a_header_without_rows() {
        let text = String::from_utf8(written(Format::Csv, vec![batch(2)]).await).unwrap();
        assert_eq!(text, "ra,name\n0.0,\"s,0\"\n,\"s,1\"\n");
        let text = String::from_utf8(written(Format::Csv, vec![]).await).unwrap();
        assert_eq!(text, "ra,name\n");
    }

    #[tokio::test]
    async fn json_is_one_object_a_line() {
        let text = String::from_utf8(written(Format::Json, vec![batch(2)]).await).unwrap();
        assert_eq!(text, "{\"ra\":0.0,\"name\":\"s,0\"}\n{\"name\":\"s,1\"}\n");
    }

    #[tokio::test]
    async fn parquet_and_arrow_read_back_the_same() {
        let bytes = written(Format::Parquet, vec![batch(3), batch(5)]).await;
        let file = bytes::Bytes::from(bytes);
        let read = parquet::arrow::arrow_reader::ParquetRecordBatchReader::try_new(file, 100).unwrap();
        let rows: usize = read.map(|b| b.unwrap().num_rows()).sum();
        assert_eq!(rows, 8);
        let bytes = written(Format::Arrow, vec![batch(3)]).await;
        let read = arrow::ipc::reader::StreamReader::try_new(&bytes[..], None).unwrap();
        assert_eq!(read.map(|b| b.unwrap()).collect::<Vec<_>>(), vec![batch(3)]);
    }

    #[tokio::test]
    async fn a_long_table_is_cut_and_says_so() {
        let text = String::from_utf8(written(Format::Table, vec![batch(TABLE_ROWS), batch(7)]).await).unwrap();
        assert!(text.contains("the first 10000 of 10007 rows"), "{}", &text[text.len() - 100..]);
        assert_eq!(text.lines().count(), TABLE_ROWS + 5);
    }

    #[test]
    fn formats_are_found_by_name() {
        assert_eq!("JSON".parse::<Format>().unwrap(), Format::Json);
        assert!("xml".parse::<Format>().unwrap_err().contains("csv"));
    }
}
