//! Functions whose result can be far larger than their arguments, with a bound.
//!
//! DataFusion's memory pool does not see what a function allocates: `repeat('x', 1e9)` on one
//! batch ends the process. Each function here is wrapped: same name, types and behaviour, but the
//! size of the result is computed from the arguments before the function runs. Constants are
//! folded at planning through the same call, so they are covered too.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{ExprSchema, Result, ScalarValue, resources_err};
use datafusion::logical_expr::expr::Expr;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ExpressionPlacement, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, StructFieldMapping,
};

use super::estimate::{Estimate, fixed_width};

/// Bytes that one call (one batch of rows) of a limited function may give.
pub const RESULT_BYTES_LIMIT: u64 = 64 << 20;

/// Bytes that one value of a fixed-width type may have: even a null takes them.
const FIXED_WIDTH_LIMIT: u64 = 8 << 10;

/// Bounded versions of those registered functions whose result can be much larger than their
/// arguments; registering them replaces the originals. In the order of the table in
/// `guard::estimate`; functions that are not registered are left out.
pub fn limited_functions(registered: &HashMap<String, Arc<ScalarUDF>>) -> Vec<Arc<ScalarUDF>> {
    Estimate::ALL
        .iter()
        .flat_map(|(estimate, names)| names.iter().map(move |name| (*estimate, *name)))
        .filter_map(|(estimate, name)| registered.get(name).map(|inner| (estimate, inner)))
        // Registered again, a wrapper stays as it is.
        .filter(|(_, inner)| !inner.inner().is::<Limited>())
        .map(|(estimate, inner)| {
            let limited = ScalarUDF::new_from_impl(Limited { inner: Arc::clone(inner), estimate });
            Arc::new(limited)
        })
        .collect()
}

/// A function that refuses to give more than [`RESULT_BYTES_LIMIT`] at once.
#[derive(Debug)]
struct Limited {
    inner: Arc<ScalarUDF>,
    estimate: Estimate,
}

impl PartialEq for Limited {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Limited {}

impl Hash for Limited {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl Limited {
    fn check(&self, args: &ScalarFunctionArgs) -> Result<()> {
        let bytes = self.estimate.result_bytes(args)?;
        if bytes > RESULT_BYTES_LIMIT {
            return resources_err!(
                "{} would make up to {bytes} bytes of one batch of rows; at most {RESULT_BYTES_LIMIT} are made",
                self.name()
            );
        }
        Ok(())
    }
}

impl ScalarUDFImpl for Limited {
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.check(&args)?;
        self.inner.invoke_with_args(args)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let field = self.inner.return_field_from_args(args)?;
        let width = fixed_width(field.data_type());
        if width > FIXED_WIDTH_LIMIT {
            return resources_err!(
                "{} to a type of {width} bytes per value; at most {FIXED_WIDTH_LIMIT} are made",
                self.name()
            );
        }
        Ok(field)
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let inner = self.inner.inner().with_updated_config(config)?;
        Some(ScalarUDF::new_from_impl(Limited { inner: Arc::new(inner), estimate: self.estimate }))
    }

    #[expect(deprecated, reason = "passes on what the wrapped function still answers")]
    fn is_nullable(&self, args: &[Expr], schema: &dyn ExprSchema) -> bool {
        self.inner.inner().is_nullable(args, schema)
    }

    fn is_strict(&self) -> bool {
        self.inner.inner().is_strict()
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, info)
    }

    fn preimage(&self, args: &[Expr], literal: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        self.inner.inner().preimage(args, literal, info)
    }

    fn short_circuits(&self) -> bool {
        self.inner.inner().short_circuits()
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.inner().conditional_arguments(args)
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        self.inner.inner().evaluate_bounds(inputs)
    }

    fn propagate_constraints(&self, interval: &Interval, inputs: &[&Interval]) -> Result<Option<Vec<Interval>>> {
        self.inner.inner().propagate_constraints(interval, inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.inner().output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.inner().preserves_lex_ordering(inputs)
    }

    fn strictly_order_preserving(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.inner().strictly_order_preserving(inputs)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(arg_types)
    }

    fn struct_field_mapping(&self, literals: &[Option<ScalarValue>]) -> Option<StructFieldMapping> {
        self.inner.inner().struct_field_mapping(literals)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        self.inner.inner().placement(args)
    }
}
