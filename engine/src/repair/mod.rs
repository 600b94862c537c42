//! Where DataFusion plans a statement into another one, and what is done about it.
//!
//! Each file here names a fault seen in DataFusion 55.2, or a form of SQL that it does not plan, and goes
//! away with it; `integration`'s random queries find the fault again where it is not mended.

mod computed_keys;
mod each;
mod empty_union;
mod exists_value;
mod in_subquery;
mod join_keys;
mod lateral;
mod missing_order;
mod multiset;
mod offset;
mod padded;
mod push_down;
mod recursive;
mod set_comparison;
mod syntax;
mod windows;

use std::sync::Arc;

use datafusion::optimizer::{AnalyzerRule, Optimizer, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;

use computed_keys::ComputedKeysRule;
use each::WindowsOfEachRule;
use empty_union::KeepNames;
use exists_value::JoinForValue;
use in_subquery::InSubqueryRule;
use join_keys::JoinKeysRule;
pub(crate) use join_keys::share_key_conditions;
use lateral::LateralLimitRule;
use missing_order::MissingOrderRule;
pub(crate) use missing_order::{missing_order, sorted};
use multiset::MultisetRule;
use offset::OffsetRule;
pub(crate) use padded::ForgetExec;
use padded::PaddedSidesRule;
use push_down::KeepAboveTotals;
use recursive::RecursiveRule;
use set_comparison::SetComparisonRule;
pub(crate) use syntax::{ROWS_COMPARED, write_out};

/// What is done to a plan once its types are known.
pub(crate) fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    vec![
        Arc::new(RecursiveRule),
        Arc::new(LateralLimitRule),
        Arc::new(OffsetRule),
        Arc::new(MultisetRule),
        Arc::new(WindowsOfEachRule),
        Arc::new(InSubqueryRule),
        Arc::new(SetComparisonRule),
        Arc::new(ComputedKeysRule),
    ]
}

/// DataFusion's optimizer rules, mended.
pub(crate) fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let rules = Optimizer::new().rules.into_iter();
    rules
        .flat_map(|rule| match rule.name() {
            "propagate_empty_relation" => vec![Arc::new(KeepNames(rule)) as _],
            "push_down_filter" => vec![Arc::new(JoinKeysRule) as _, Arc::new(KeepAboveTotals(rule)) as _],
            "decorrelate_predicate_subquery" => vec![Arc::new(JoinForValue(rule)) as _],
            _ => vec![rule],
        })
        .collect()
}

/// DataFusion's rules for physical plans, mended.
///
/// Those that hand conditions down by the names of columns are left out: where two columns have one name
/// they mean the first of them, and in `f RIGHT JOIN s … WHERE s.band < f.band` with more asked of s alone
/// s.band is compared with itself. All that our leaves take is handed to them by the logical rule.
pub(crate) fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    rules.retain(|rule| !rule.name().starts_with("FilterPushdown"));
    let check = rules.iter().position(|rule| rule.name() == "SanityCheckPlan").unwrap_or(rules.len());
    rules.insert(check, Arc::new(MissingOrderRule));
    rules.insert(0, Arc::new(PaddedSidesRule));
    rules
}
