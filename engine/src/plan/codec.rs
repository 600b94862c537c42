//! How a fragment travels: DataFusion's protobuf, plus our own nodes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::Schema;
use datafusion::common::{JoinSide, JoinType, Result, exec_datafusion_err, exec_err, internal_err};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::utils::{ColumnIndex, JoinFilter};
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_proto_converter, physical_plan_to_bytes_with_proto_converter,
};
use datafusion_proto::physical_plan::to_proto::serialize_physical_expr_with_converter;
use datafusion_proto::physical_plan::{
    DeduplicatingProtoConverter, PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalPlanNodeExt,
    PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::{PhysicalExprNode, PhysicalPlanNode};
use prost::{Message, Oneof};
use sha2::{Digest, Sha256};
use skyflight_catalog::FileId;
use skyflight_proto::ChunkTask;
use skyflight_sky::ChunkId;

use super::maps::in_order;
use super::scan::{ChunkScan, ChunkScanExec};
use crate::dispatch::{EncodedFragment, PlannedChunk};
use crate::frames::{decode_schema, encode_schema};
use crate::repair::ForgetExec;
use crate::shuffle::leaf::StageLeafExec;
use crate::spherical::SphericalJoinExec;
use crate::spherical::best::{Best, Ties};
use crate::spherical::cells::{CellsExec, Role};
use crate::spherical::exec::{PlaceExprs, Residual, SphericalJoinSpec};
use crate::tables::PairSide;

/// A node of ours on the wire.
#[derive(Clone, PartialEq, Message)]
struct NodeMessage {
    #[prost(oneof = "Node", tags = "1, 2, 3, 4, 5")]
    node: Option<Node>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Node {
    #[prost(message, tag = "1")]
    Scan(Box<ScanMessage>),
    #[prost(message, tag = "2")]
    SphericalJoin(Box<SphericalJoinMessage>),
    #[prost(message, tag = "3")]
    StageLeaf(StageLeafMessage),
    #[prost(message, tag = "4")]
    Cells(Box<CellsMessage>),
    #[prost(message, tag = "5")]
    Forget(ForgetMessage),
}

/// Its input is all there is of it.
#[derive(Clone, PartialEq, Message)]
struct ForgetMessage {}

/// A division by cells on the wire.
#[derive(Clone, PartialEq, Message)]
struct CellsMessage {
    #[prost(message, optional, tag = "1")]
    places: Option<PlaceMessage>,
    #[prost(double, tag = "2")]
    radius_deg: f64,
    /// Whether rows go to the cells around them, not only to their own.
    #[prost(bool, tag = "3")]
    around: bool,
}

/// A leaf of a stage on the wire.
#[derive(Clone, PartialEq, Message)]
struct StageLeafMessage {
    /// The encoded fragment.
    #[prost(bytes = "bytes", tag = "1")]
    fragment: Bytes,
    /// The fragment's schema as an IPC message.
    #[prost(bytes = "bytes", tag = "2")]
    schema: Bytes,
    #[prost(message, repeated, tag = "3")]
    chunks: Vec<ChunkTask>,
    #[prost(uint32, tag = "4")]
    partitions: u32,
}

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
    #[prost(bool, tag = "9")]
    picks_rows: bool,
    #[prost(bool, tag = "10")]
    knows_cells: bool,
}

/// A spherical join on the wire; its inputs travel as its children.
#[derive(Clone, PartialEq, Message)]
struct SphericalJoinMessage {
    /// SQL's name of the type.
    #[prost(string, tag = "1")]
    join_type: String,
    #[prost(message, optional, tag = "2")]
    condition: Option<PairsMessage>,
    /// Whether pairs that are near for certain match, and if so what else is asked of them.
    #[prost(bool, tag = "3")]
    near_match: bool,
    #[prost(message, optional, tag = "4")]
    residual: Option<PairsMessage>,
    #[prost(message, optional, tag = "5")]
    left: Option<PlaceMessage>,
    #[prost(message, optional, tag = "6")]
    right: Option<PlaceMessage>,
    #[prost(double, tag = "7")]
    radius_deg: f64,
    /// Whether the right side is arranged, not the left one.
    #[prost(bool, tag = "8")]
    arranged_right: bool,
    #[prost(message, optional, tag = "9")]
    best: Option<BestMessage>,
    /// Whether only some of the join's columns come out, and which.
    #[prost(bool, tag = "10")]
    is_projected: bool,
    #[prost(uint32, repeated, tag = "11")]
    projection: Vec<u32>,
    #[prost(bool, tag = "12")]
    by_cell: bool,
}

/// An expression of pairs of rows.
#[derive(Clone, PartialEq, Message)]
struct PairsMessage {
    #[prost(message, optional, tag = "1")]
    expr: Option<PhysicalExprNode>,
    /// The schema of its columns as an IPC message, which columns of an input they are, and whether of the
    /// right one.
    #[prost(bytes = "bytes", tag = "2")]
    schema: Bytes,
    #[prost(uint32, repeated, tag = "3")]
    columns: Vec<u32>,
    #[prost(bool, repeated, tag = "4")]
    is_right: Vec<bool>,
}

/// The only pairs that are wanted of each row.
#[derive(Clone, PartialEq, Message)]
struct BestMessage {
    #[prost(message, repeated, tag = "1")]
    order: Vec<OrderMessage>,
    #[prost(uint64, tag = "2")]
    most: u64,
    /// 0 cuts them, 1 keeps them, 2 counts them once.
    #[prost(uint32, tag = "3")]
    ties: u32,
}

#[derive(Clone, PartialEq, Message)]
struct OrderMessage {
    #[prost(message, optional, tag = "1")]
    key: Option<PairsMessage>,
    #[prost(bool, tag = "2")]
    descending: bool,
    #[prost(bool, tag = "3")]
    nulls_first: bool,
}

#[derive(Clone, PartialEq, Message)]
struct PlaceMessage {
    #[prost(message, optional, tag = "1")]
    ra: Option<PhysicalExprNode>,
    #[prost(message, optional, tag = "2")]
    dec: Option<PhysicalExprNode>,
    #[prost(message, optional, tag = "3")]
    radius: Option<PhysicalExprNode>,
}

/// Encodes a fragment and names it by its digest.
pub(crate) fn encode_fragment(plan: &Arc<dyn ExecutionPlan>) -> Result<EncodedFragment> {
    let bytes =
        physical_plan_to_bytes_with_proto_converter(Arc::clone(plan), &FragmentCodec, &NumberingConverter::default())?;
    let bytes = Bytes::from(in_order::<PhysicalPlanNode>(bytes.into()));
    Ok(EncodedFragment { hash: Sha256::digest(&bytes).into(), bytes })
}

/// Decodes a fragment with the functions of `context`.
pub(crate) fn decode_fragment(bytes: &[u8], context: &TaskContext) -> Result<Arc<dyn ExecutionPlan>> {
    physical_plan_from_bytes_with_proto_converter(bytes, context, &FragmentCodec, &DeduplicatingProtoConverter {})
}

/// Encodes a plan, and numbers the expressions that know themselves again (dynamic filters) by their order
/// in it. DataFusion numbers them by their order in the process, so that the same statement, planned after
/// others or by another coordinator, would be another fragment, and a job would not find its finished chunks.
#[derive(Default)]
struct NumberingConverter(RefCell<HashMap<u64, u64>>);

impl PhysicalProtoConverterExtension for NumberingConverter {
    fn proto_to_execution_plan(
        &self,
        proto: &PhysicalPlanNode,
        context: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        DeduplicatingProtoConverter {}.proto_to_execution_plan(proto, context)
    }

    fn execution_plan_to_proto(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        codec: &dyn PhysicalExtensionCodec,
    ) -> Result<PhysicalPlanNode> {
        PhysicalPlanNode::try_from_physical_plan_with_converter(Arc::clone(plan), codec, self)
    }

    fn proto_to_physical_expr(
        &self,
        proto: &PhysicalExprNode,
        input_schema: &Schema,
        context: &PhysicalPlanDecodeContext<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        DeduplicatingProtoConverter {}.proto_to_physical_expr(proto, input_schema, context)
    }

    fn physical_expr_to_proto(
        &self,
        expr: &Arc<dyn PhysicalExpr>,
        codec: &dyn PhysicalExtensionCodec,
    ) -> Result<PhysicalExprNode> {
        // What is inside the expression comes back here by itself.
        let node = serialize_physical_expr_with_converter(expr, codec, self)?;
        let mut numbers = self.0.borrow_mut();
        let next = numbers.len() as u64 + 1;
        let expr_id = node.expr_id.map(|id| *numbers.entry(id).or_insert(next));
        Ok(PhysicalExprNode { expr_id, ..node })
    }
}

fn stage_leaf_message(leaf: &StageLeafExec) -> StageLeafMessage {
    let chunk = |chunk: &PlannedChunk| ChunkTask {
        chunk: chunk.chunk.0,
        files: chunk.files.iter().map(|file| file.0).collect(),
        files_per_scan: chunk.files_per_scan.clone(),
        skip_rows: 0,
    };
    StageLeafMessage {
        fragment: leaf.fragment.bytes.clone(),
        schema: encode_schema(&leaf.schema()),
        chunks: leaf.chunks.iter().map(chunk).collect(),
        partitions: leaf.properties().partitioning.partition_count() as u32,
    }
}

fn stage_leaf(message: StageLeafMessage) -> Result<StageLeafExec> {
    let schema = schema_of(&message.schema)?;
    let hash = Sha256::digest(&message.fragment).into();
    let fragment = Arc::new(EncodedFragment { hash, bytes: message.fragment });
    let chunk = |chunk: ChunkTask| PlannedChunk {
        chunk: ChunkId(chunk.chunk),
        files: chunk.files.into_iter().map(FileId).collect(),
        files_per_scan: chunk.files_per_scan,
        // The task's own worker, which need not know its number.
        workers: Vec::new(),
    };
    let chunks = message.chunks.into_iter().map(chunk).collect();
    Ok(StageLeafExec::new(fragment, Arc::new(schema), chunks, message.partitions as usize))
}

/// Knows our own nodes; functions travel by name and are found in the worker's registry.
#[derive(Debug)]
pub(crate) struct FragmentCodec;

impl PhysicalExtensionCodec for FragmentCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let message = NodeMessage::decode(buf).map_err(|e| exec_datafusion_err!("cannot read a plan node: {e}"))?;
        let reader = Reader { codec: self, ctx, converter };
        match (message.node, inputs) {
            (Some(Node::Scan(scan)), []) => Ok(Arc::new(reader.scan(*scan)?)),
            (Some(Node::StageLeaf(leaf)), []) => Ok(Arc::new(stage_leaf(leaf)?)),
            (Some(Node::Forget(_)), [input]) => Ok(Arc::new(ForgetExec::new(Arc::clone(input)))),
            (Some(Node::Cells(cells)), [input]) => Ok(Arc::new(reader.cells(&cells, input)?)),
            (Some(Node::SphericalJoin(join)), [left, right]) => Ok(Arc::new(reader.spherical(&join, left, right)?)),
            (Some(_), inputs) => exec_err!("a plan node cannot have {} inputs", inputs.len()),
            (None, _) => exec_err!("a plan node that this version does not know"),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let writer = Writer { codec: self, converter };
        let written = if let Some(leaf) = node.downcast_ref::<ChunkScanExec>() {
            Node::Scan(Box::new(writer.scan(leaf.scan())?))
        } else if let Some(join) = node.downcast_ref::<SphericalJoinExec>() {
            Node::SphericalJoin(Box::new(writer.spherical(join.spec())?))
        } else if let Some(cells) = node.downcast_ref::<CellsExec>() {
            Node::Cells(Box::new(writer.cells(cells)?))
        } else if let Some(leaf) = node.downcast_ref::<StageLeafExec>() {
            Node::StageLeaf(stage_leaf_message(leaf))
        } else if node.is::<ForgetExec>() {
            Node::Forget(ForgetMessage {})
        } else {
            return internal_err!("{} cannot run beside a chunk", node.name());
        };
        let message = NodeMessage { node: Some(written) };
        // Whoever compares the plan sees bytes here, not a message.
        buf.extend(in_order::<NodeMessage>(message.encode_to_vec()));
        Ok(())
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

struct Writer<'a> {
    codec: &'a FragmentCodec,
    converter: &'a dyn PhysicalProtoConverterExtension,
}

impl Writer<'_> {
    fn expr(&self, expr: &Arc<dyn PhysicalExpr>) -> Result<Option<PhysicalExprNode>> {
        self.converter.physical_expr_to_proto(expr, self.codec).map(Some)
    }

    fn scan(&self, scan: &ChunkScan) -> Result<ScanMessage> {
        Ok(ScanMessage {
            database: scan.database.clone(),
            table: scan.table.clone(),
            replicated: scan.replicated,
            overlap: scan.overlap,
            schema: encode_schema(&scan.table_schema),
            projection: scan.projection.iter().map(|i| *i as u32).collect(),
            predicate: scan.predicate.as_ref().map(|p| self.expr(p)).transpose()?.flatten(),
            limit: scan.limit.map(|n| n as u64),
            picks_rows: scan.picks_rows,
            knows_cells: scan.knows_cells,
        })
    }

    fn spherical(&self, spec: &SphericalJoinSpec) -> Result<SphericalJoinMessage> {
        let (near_match, residual) = match &spec.residual {
            Residual::Unknown => (false, None),
            Residual::Nothing => (true, None),
            Residual::Condition(condition) => (true, Some(self.pairs(condition)?)),
        };
        Ok(SphericalJoinMessage {
            join_type: spec.join_type.to_string(),
            condition: Some(self.pairs(&spec.condition)?),
            near_match,
            residual,
            left: Some(self.place(&spec.left)?),
            right: Some(self.place(&spec.right)?),
            radius_deg: spec.radius_deg,
            arranged_right: spec.arranged == JoinSide::Right,
            best: spec.best.as_ref().map(|best| self.best(best)).transpose()?,
            is_projected: spec.projection.is_some(),
            projection: spec.projection.iter().flatten().map(|at| *at as u32).collect(),
            by_cell: spec.by_cell,
        })
    }

    fn pairs(&self, expr: &JoinFilter) -> Result<PairsMessage> {
        let columns = expr.column_indices();
        Ok(PairsMessage {
            expr: self.expr(expr.expression())?,
            schema: encode_schema(expr.schema()),
            columns: columns.iter().map(|column| column.index as u32).collect(),
            is_right: columns.iter().map(|column| column.side == JoinSide::Right).collect(),
        })
    }

    fn best(&self, best: &Best) -> Result<BestMessage> {
        let order = best.order.iter().map(|(key, way)| {
            let SortOptions { descending, nulls_first } = *way;
            Ok(OrderMessage { key: Some(self.pairs(key)?), descending, nulls_first })
        });
        let ties = match best.ties {
            Ties::Cut => 0,
            Ties::Kept => 1,
            Ties::CountedOnce => 2,
        };
        Ok(BestMessage { order: order.collect::<Result<Vec<_>>>()?, most: best.most as u64, ties })
    }

    fn cells(&self, cells: &CellsExec) -> Result<CellsMessage> {
        let around = cells.role == Role::Beside;
        Ok(CellsMessage { places: Some(self.place(&cells.places)?), radius_deg: cells.radius_deg, around })
    }

    fn place(&self, place: &PlaceExprs) -> Result<PlaceMessage> {
        Ok(PlaceMessage {
            ra: self.expr(&place.ra)?,
            dec: self.expr(&place.dec)?,
            radius: place.radius.as_ref().map(|radius| self.expr(radius)).transpose()?.flatten(),
        })
    }
}

struct Reader<'a> {
    codec: &'a FragmentCodec,
    ctx: &'a TaskContext,
    converter: &'a dyn PhysicalProtoConverterExtension,
}

impl Reader<'_> {
    fn expr(&self, node: &PhysicalExprNode, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
        let context = PhysicalPlanDecodeContext::new(self.ctx, self.codec);
        self.converter.proto_to_physical_expr(node, schema, &context)
    }

    fn needed(&self, node: &Option<PhysicalExprNode>, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
        match node {
            Some(node) => self.expr(node, schema),
            None => exec_err!("a plan node lacks an expression"),
        }
    }

    fn scan(&self, message: ScanMessage) -> Result<ChunkScanExec> {
        let schema = schema_of(&message.schema)?;
        let predicate = message.predicate.as_ref().map(|p| self.expr(p, &schema)).transpose()?;
        ChunkScanExec::try_new(ChunkScan {
            database: message.database,
            table: message.table,
            replicated: message.replicated,
            overlap: message.overlap,
            side: PairSide::First,
            table_schema: Arc::new(schema),
            projection: message.projection.iter().map(|i| *i as usize).collect(),
            predicate,
            picks_rows: message.picks_rows,
            knows_cells: message.knows_cells,
            limit: message.limit.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
        })
    }

    fn spherical(
        &self,
        message: &SphericalJoinMessage,
        left: &Arc<dyn ExecutionPlan>,
        right: &Arc<dyn ExecutionPlan>,
    ) -> Result<SphericalJoinExec> {
        let inputs = [left, right];
        let residual = match (message.near_match, &message.residual) {
            (false, _) => Residual::Unknown,
            (true, None) => Residual::Nothing,
            (true, residual) => Residual::Condition(self.pairs(residual, inputs)?),
        };
        let spec = SphericalJoinSpec {
            join_type: message.join_type.parse::<JoinType>()?,
            condition: self.pairs(&message.condition, inputs)?,
            residual,
            left: self.place(&message.left, &left.schema())?,
            right: self.place(&message.right, &right.schema())?,
            radius_deg: message.radius_deg,
            arranged: if message.arranged_right { JoinSide::Right } else { JoinSide::Left },
            best: message.best.as_ref().map(|best| self.best(best, inputs)).transpose()?,
            projection: message.is_projected.then(|| message.projection.iter().map(|at| *at as usize).collect()),
            by_cell: message.by_cell,
        };
        SphericalJoinExec::try_new(Arc::clone(left), Arc::clone(right), Arc::new(spec))
    }

    fn pairs(&self, message: &Option<PairsMessage>, inputs: [&Arc<dyn ExecutionPlan>; 2]) -> Result<JoinFilter> {
        let Some(message) = message else { return exec_err!("a spherical join lacks an expression") };
        let schema = schema_of(&message.schema)?;
        let column = |(index, is_right): (&u32, &bool)| ColumnIndex {
            index: *index as usize,
            side: if *is_right { JoinSide::Right } else { JoinSide::Left },
        };
        let columns: Vec<ColumnIndex> = message.columns.iter().zip(&message.is_right).map(column).collect();
        let known = columns.iter().all(|column| {
            let input = if column.side == JoinSide::Left { inputs[0] } else { inputs[1] };
            column.index < input.schema().fields().len()
        });
        if !known || columns.len() != schema.fields().len() {
            return exec_err!("an expression of a spherical join names columns that its inputs do not have");
        }
        let expression = self.needed(&message.expr, &schema)?;
        Ok(JoinFilter::new(expression, columns, Arc::new(schema)))
    }

    fn best(&self, message: &BestMessage, inputs: [&Arc<dyn ExecutionPlan>; 2]) -> Result<Best> {
        let order = message.order.iter().map(|by| {
            let way = SortOptions { descending: by.descending, nulls_first: by.nulls_first };
            Ok((self.pairs(&by.key, inputs)?, way))
        });
        let ties = match message.ties {
            0 => Ties::Cut,
            1 => Ties::Kept,
            2 => Ties::CountedOnce,
            other => return exec_err!("a spherical join does {other} with ties, which this version does not know"),
        };
        let most = usize::try_from(message.most).unwrap_or(usize::MAX);
        Ok(Best { order: order.collect::<Result<Vec<_>>>()?, most, ties })
    }

    fn cells(&self, message: &CellsMessage, input: &Arc<dyn ExecutionPlan>) -> Result<CellsExec> {
        let places = self.place(&message.places, &input.schema())?;
        let role = if message.around { Role::Beside } else { Role::Owner };
        Ok(CellsExec::new(Arc::clone(input), places, message.radius_deg, role))
    }

    fn place(&self, message: &Option<PlaceMessage>, schema: &Schema) -> Result<PlaceExprs> {
        let Some(message) = message else { return exec_err!("a spherical join lacks a place") };
        Ok(PlaceExprs {
            ra: self.needed(&message.ra, schema)?,
            dec: self.needed(&message.dec, schema)?,
            radius: message.radius.as_ref().map(|radius| self.expr(radius, schema)).transpose()?,
        })
    }
}

fn schema_of(bytes: &[u8]) -> Result<Schema> {
    let schema = decode_schema(bytes).map_err(|e| exec_datafusion_err!("cannot read a plan node's schema: {e}"))?;
    Ok(Arc::unwrap_or_clone(schema))
}
