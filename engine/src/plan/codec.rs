//! How a fragment travels: DataFusion's protobuf, plus our one leaf.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::ipc;
use datafusion::arrow::ipc::convert::fb_to_schema;
use datafusion::common::{Result, exec_datafusion_err, internal_err};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_proto_converter, physical_plan_to_bytes_with_proto_converter,
};
use datafusion_proto::physical_plan::{
    DeduplicatingProtoConverter, PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::PhysicalExprNode;
use prost::Message;
use sha2::{Digest, Sha256};

use super::scan::{ChunkScan, ChunkScanExec};
use crate::dispatch::EncodedFragment;
use crate::frames::encode_schema;

/// A chunk scan on the wire.
#[derive(Clone, PartialEq, Message)]
struct ScanMessage {
    #[prost(string, tag = "1")]
    database: String,
    #[prost(string, tag = "2")]
    table: String,
    #[prost(bool, tag = "3")]
    replicated: bool,
    #[prost(bool, tag = "4")]
    overlap: bool,
    /// The table's schema as an IPC message.
    #[prost(bytes = "bytes", tag = "5")]
    schema: Bytes,
    #[prost(uint32, repeated, tag = "6")]
    projection: Vec<u32>,
    #[prost(message, optional, tag = "7")]
    predicate: Option<PhysicalExprNode>,
    #[prost(uint64, optional, tag = "8")]
    limit: Option<u64>,
}

/// Encodes a fragment and names it by its digest.
pub(crate) fn encode_fragment(plan: &Arc<dyn ExecutionPlan>) -> Result<EncodedFragment> {
    let bytes =
        physical_plan_to_bytes_with_proto_converter(Arc::clone(plan), &FragmentCodec, &DeduplicatingProtoConverter {})?;
    Ok(EncodedFragment { hash: Sha256::digest(&bytes).into(), bytes })
}

/// Decodes a fragment with the functions of `context`.
pub(crate) fn decode_fragment(bytes: &[u8], context: &TaskContext) -> Result<Arc<dyn ExecutionPlan>> {
    physical_plan_from_bytes_with_proto_converter(bytes, context, &FragmentCodec, &DeduplicatingProtoConverter {})
}

/// Knows [`ChunkScanExec`]; functions travel by name and are found in the worker's registry.
#[derive(Debug)]
struct FragmentCodec;

impl PhysicalExtensionCodec for FragmentCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if !inputs.is_empty() {
            return internal_err!("a chunk scan with inputs");
        }
        let message = ScanMessage::decode(buf).map_err(|e| exec_datafusion_err!("cannot read a chunk scan: {e}"))?;
        let schema = ipc::root_as_message(&message.schema)
            .map_err(|e| exec_datafusion_err!("cannot read a chunk scan's schema: {e}"))?
            .header_as_schema()
            .map(fb_to_schema)
            .ok_or_else(|| exec_datafusion_err!("a chunk scan without a schema"))?;
        let projection: Vec<usize> = message.projection.iter().map(|i| *i as usize).collect();
        let predicate = message
            .predicate
            .as_ref()
            .map(|p| converter.proto_to_physical_expr(p, &schema, &PhysicalPlanDecodeContext::new(ctx, self)))
            .transpose()?;
        Ok(Arc::new(ChunkScanExec::try_new(ChunkScan {
            database: message.database,
            table: message.table,
            replicated: message.replicated,
            overlap: message.overlap,
            table_schema: Arc::new(schema),
            projection,
            predicate,
            limit: message.limit.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
        })?))
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let Some(leaf) = node.downcast_ref::<ChunkScanExec>() else {
            return internal_err!("{} cannot run beside a chunk", node.name());
        };
        let scan = leaf.scan();
        let predicate = scan.predicate.as_ref().map(|p| converter.physical_expr_to_proto(p, self)).transpose()?;
        let message = ScanMessage {
            database: scan.database.clone(),
            table: scan.table.clone(),
            replicated: scan.replicated,
            overlap: scan.overlap,
            schema: encode_schema(&scan.table_schema),
            projection: scan.projection.iter().map(|i| *i as u32).collect(),
            predicate,
            limit: scan.limit.map(|n| n as u64),
        };
        message.encode(buf).map_err(|e| exec_datafusion_err!("cannot write a chunk scan: {e}"))
    }

    fn try_encode_udf(&self, _: &ScalarUDF, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    fn try_encode_udaf(&self, _: &AggregateUDF, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    fn try_encode_udwf(&self, _: &WindowUDF, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}
