//! An OpenTelemetry collector for tests: prints a line for each span it is sent, with tabs between the name of its
//! service, its own, its trace, its id, its parent's id, and its attributes.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use anyhow::Result;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

struct Printer;

#[tonic::async_trait]
impl TraceService for Printer {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_resource in request.into_inner().resource_spans {
            let attributes = of_resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            let service =
                attributes.iter().find(|attribute| attribute.key == "service.name").map(text).unwrap_or_default();
            for span in of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans) {
                let [trace, id, parent] = [&span.trace_id, &span.span_id, &span.parent_span_id].map(|id| digits(id));
                let attributes: Vec<String> =
                    span.attributes.iter().map(|it| format!("{}={}", it.key, text(it))).collect();
                println!("{service}\t{}\t{trace}\t{id}\t{parent}\t{}", span.name, attributes.join(";"));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn text(attribute: &KeyValue) -> String {
    match &attribute.value {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => text.clone(),
        Some(AnyValue { value: Some(Value::IntValue(number)) }) => number.to_string(),
        _ => String::new(),
    }
}

fn digits(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn main() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?;
        println!("listening on http://{}", incoming.local_addr()?);
        Ok(Server::builder().add_service(TraceServiceServer::new(Printer)).serve_with_incoming(incoming).await?)
    })
}
