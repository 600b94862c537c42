//! Where DataFusion plans a statement into another one, and what is done about it.
//!
//! Each file here names a fault seen in DataFusion 55.2 and goes away with it; `integration`'s random
//! queries find the fault again where it is not mended.

mod in_subquery;
mod push_down;
mod set_comparison;

use std::sync::Arc;

use datafusion::optimizer::{Optimizer, OptimizerRule};

pub(crate) use in_subquery::InSubqueryRule;
use push_down::KeepAboveTotals;
pub(crate) use set_comparison::SetComparisonRule;

/// DataFusion's optimizer rules, mended.
pub(crate) fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let rules = Optimizer::new().rules.into_iter();
    rules
        .map(|rule| if rule.name() == "push_down_filter" { Arc::new(KeepAboveTotals(rule)) as _ } else { rule })
        .collect()
}
