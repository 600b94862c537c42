//! Trace context (W3C) across the processes of a query: from the client's header to the query, and
//! by each ticket to the workers.
//!
//! Spans are OpenTelemetry's. Where nothing exports them they cost nothing and record nothing, and
//! the client's context travels on unchanged.

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use opentelemetry::{Context, global};

/// The name under which our spans are made.
const TRACER: &str = "skyflight";

/// Begins the span `name` below `parent` (a `traceparent` header), or as the first of its trace. It
/// lasts until [`TraceContextExt::span`] of what this gives is ended, or the last clone is dropped.
pub fn begin(name: &'static str, kind: opentelemetry::trace::SpanKind, parent: &str) -> Context {
    use opentelemetry::trace::Tracer;
    let parent = match parse(parent) {
        Some(remote) => Context::new().with_remote_span_context(remote),
        None => Context::new(),
    };
    let tracer = global::tracer(TRACER);
    let span = tracer.span_builder(name).with_kind(kind).start_with_context(&tracer, &parent);
    parent.with_span(span)
}

/// The `traceparent` header of what happens within `context`; `None` where there is no trace.
pub fn traceparent(context: &Context) -> Option<String> {
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8()))
}

/// The context that a `traceparent` header names (W3C Trace Context, 3.2). `None` for anything else.
fn parse(header: &str) -> Option<SpanContext> {
    let mut parts = header.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // A later version may have more parts; this one has not, and ff is none.
    let is_known = version.len() == 2 && version != "ff" && (version != "00" || parts.next().is_none());
    let is_lower_hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    if !(is_known
        && is_lower_hex(version, 2)
        && is_lower_hex(trace, 32)
        && is_lower_hex(span, 16)
        && is_lower_hex(flags, 2))
    {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()? & 1),
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::SpanKind;

    use super::*;

    #[test]
    fn the_clients_context_travels_on_where_nothing_exports() {
        // The example of W3C Trace Context, 3.2.4.
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(traceparent(&begin("query", SpanKind::Server, header)).as_deref(), Some(header));
        assert_eq!(traceparent(&begin("query", SpanKind::Server, "")), None);
        assert_eq!(traceparent(&Context::new()), None);
    }

    #[test]
    fn what_is_no_traceparent() {
        for header in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(parse(header), None, "{header}");
        }
        assert!(parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").is_some());
    }
}
