//! Functions whose result can be far larger than their arguments, with a bound.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

/// Bytes that one call (one batch of rows) of a limited function may give.
pub const RESULT_BYTES_LIMIT: usize = 64 << 20;

/// Wrappers.
pub fn limited_functions(registered: &HashMap<String, Arc<ScalarUDF>>) -> Vec<Arc<ScalarUDF>> {
    let _ = registered;
    Vec::new()
}
