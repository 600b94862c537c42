//! Spans on their way to an OpenTelemetry collector, where one is configured.

use std::time::Duration;

use anyhow::{Context, Result};
use opentelemetry::global;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;

/// How long the last spans may take to leave.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Sends spans until it is dropped, and then those that wait.
pub(crate) struct Telemetry(SdkTracerProvider);

impl Telemetry {
    /// Sends the spans of this process, as `service`, to the collector at `endpoint` (OTLP over gRPC,
    /// `http://host:port`). To be called on the runtime.
    pub(crate) fn start(endpoint: &str, service: &'static str) -> Result<Telemetry> {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .build()
            .with_context(|| format!("operations.otlp_endpoint = \"{endpoint}\" cannot be used"))?;
        let resource = Resource::builder().with_service_name(service).build();
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        global::set_tracer_provider(provider.clone());
        Ok(Telemetry(provider))
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST_SPANS) {
            tracing::warn!(%error, "the last spans did not reach the collector");
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use opentelemetry::trace::{Span, Tracer};
    use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
    use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
    use tokio::sync::mpsc;
    use tonic::transport::server::TcpIncoming;
    use tonic::{Request, Response, Status};

    use super::*;

    struct Collector(mpsc::Sender<ExportTraceServiceRequest>);

    #[tonic::async_trait]
    impl TraceService for Collector {
        async fn export(
            &self,
            request: Request<ExportTraceServiceRequest>,
        ) -> Result<Response<ExportTraceServiceResponse>, Status> {
            self.0.send(request.into_inner()).await.unwrap();
            Ok(Response::new(ExportTraceServiceResponse::default()))
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn spans_reach_the_collector_at_the_latest_when_the_process_ends() {
        let (send, mut received) = mpsc::channel(8);
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        let service = TraceServiceServer::new(Collector(send));
        let server = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
        let _server = tokio_util::task::AbortOnDropHandle::new(tokio::runtime::Handle::current().spawn(server));

        let telemetry = Telemetry::start(&format!("http://{address}"), "skyflight-test").unwrap();
        let mut span = opentelemetry::global::tracer("skyflight").start("query");
        let trace = span.span_context().trace_id();
        span.end();
        tokio::task::spawn_blocking(move || drop(telemetry)).await.unwrap();
        let request = received.recv().await.unwrap();
        let spans = &request.resource_spans[0].scope_spans[0].spans;
        assert_eq!((spans.len(), spans[0].name.as_str()), (1, "query"));
        assert_eq!(spans[0].trace_id, trace.to_bytes());
        let resource = request.resource_spans[0].resource.as_ref().unwrap();
        assert!(resource.attributes.iter().any(|attribute| attribute.key == "service.name"));
    }
}
