//! The rows of a finished job as a table that other queries read: `SELECT … FROM job('<id>')`.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{StreamExt, TryStreamExt};
use skyflight_engine::EngineError;
use skyflight_engine::frames::decode_frame;

use super::book::lost;
use super::result::ResultFile;

/// A table over `file`, the result of job `id`.
pub(super) fn job_table(id: &str, file: ResultFile) -> Result<Arc<dyn TableProvider>> {
    let schema = Arc::clone(file.schema());
    let rows = JobRows { id: id.to_owned(), file };
    Ok(Arc::new(StreamingTable::try_new(schema, vec![Arc::new(rows)])?))
}

struct JobRows {
    id: String,
    file: ResultFile,
}

impl fmt::Debug for JobRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {}, {} batches", self.id, self.file.batches())
    }
}

impl PartitionStream for JobRows {
    fn schema(&self) -> &SchemaRef {
        self.file.schema()
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(self.file.schema());
        let decoded = Arc::clone(&schema);
        let rows = frames(self.id.clone(), self.file.clone(), 0)
            .and_then(move |frame| std::future::ready(decode_frame(&frame, &decoded)))
            .map_err(|error| DataFusionError::External(Box::new(error)));
        Box::pin(RecordBatchStreamAdapter::new(schema, rows.boxed()))
    }
}

/// The batches of a result from number `first` on.
pub(crate) fn frames(
    id: String,
    file: ResultFile,
    first: usize,
) -> impl futures::Stream<Item = skyflight_engine::Result<skyflight_engine::frames::Frame>> + Send {
    futures::stream::iter(first..file.batches()).then(move |number| {
        let (id, file) = (id.clone(), file.clone());
        async move {
            let read = tokio::task::spawn_blocking(move || file.read(number)).await;
            let read = read.map_err(|e| EngineError::Internal(format!("a result cannot be read: {e}")))?;
            read.map_err(|error| lost(&id, &error))
        }
    })
}
