//! The span of a query or a job, from its acceptance to its one closing record.

use opentelemetry::trace::{SpanKind, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use uuid::Uuid;

/// Begins the span of a query or a job, below the client's where it sent one.
pub(crate) fn begin(name: &'static str, client: Option<&str>, id: &Uuid, user: &str) -> Context {
    let context = skyflight_engine::trace::begin(name, SpanKind::Server, client.unwrap_or_default());
    context.span().set_attributes([
        KeyValue::new("skyflight.query_id", id.to_string()),
        KeyValue::new("enduser.id", user.to_owned()),
    ]);
    context
}

/// Ends it, with what the closing record says.
pub(crate) fn end(context: &Context, outcome: &'static str, rows: u64, bytes: u64, chunks: u64, error: Option<&str>) {
    let span = context.span();
    if !span.is_recording() {
        return;
    }
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    span.set_attributes([
        KeyValue::new("skyflight.outcome", outcome),
        KeyValue::new("skyflight.rows", count(rows)),
        KeyValue::new("skyflight.bytes", count(bytes)),
        KeyValue::new("skyflight.chunks", count(chunks)),
    ]);
    if let Some(error) = error {
        span.set_status(Status::error(error.to_owned()));
    }
    span.end();
}
