//! The functions and options that coordinator and workers must agree on.

use std::sync::Arc;

use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::SessionConfig;

use crate::functions::{aggregate_functions, scalar_functions};
use crate::guard::limited_functions;
use crate::repair::physical_rules;

/// A state with DataFusion's rules for physical plans, mended, with its functions, bounded where their result can
/// outgrow their input, and with the functions of the sky, aggregates among them.
pub(crate) fn state_builder(config: SessionConfig) -> SessionStateBuilder {
    let mut builder = SessionStateBuilder::new_with_default_features()
        .with_config(plain_types(config))
        .with_physical_optimizer_rules(physical_rules());
    // Neither files nor formats are reachable from SQL.
    builder.table_factories().take();
    builder.file_formats().take();
    let functions = builder.scalar_functions().get_or_insert_default();
    let registered = functions.iter().map(|f| (f.name().to_string(), Arc::clone(f))).collect();
    functions.extend(limited_functions(&registered));
    functions.extend(scalar_functions());
    builder.aggregate_functions().get_or_insert_default().extend(aggregate_functions());
    builder
}

/// Plain strings and lists end to end: views must not reach clients, so they are not made.
fn plain_types(config: SessionConfig) -> SessionConfig {
    config
        .set_bool("datafusion.execution.parquet.schema_force_view_types", false)
        .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false)
        .set_bool("datafusion.execution.parquet.pushdown_filters", false)
        .set_bool("datafusion.execution.enable_file_stream_work_stealing", false)
}
