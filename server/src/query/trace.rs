//! The span of a query, from its acceptance to its one closing record.

use opentelemetry::trace::{SpanKind, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use skyflight_engine::dispatch::QueryContext;

/// Begins the span of a query, below the client's where it sent one.
pub(crate) fn begin(client: Option<&str>, query: &QueryContext) -> Context {
    let context = skyflight_engine::trace::begin("query", SpanKind::Server, client.unwrap_or_default());
    context.span().set_attributes([
        KeyValue::new("skyflight.query_id", query.id.to_string()),
        KeyValue::new("enduser.id", query.user.clone()),
    ]);
    context
}

/// Ends it, with what the closing record says.
pub(super) fn end(context: &Context, outcome: &'static str, rows: u64, bytes: u64, chunks: u64, error: Option<&str>) {
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
