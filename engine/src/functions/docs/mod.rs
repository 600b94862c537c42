//! What each sky function does, for `information_schema.routines` and the documentation.

mod astrometry;
mod cells;
mod geometry;
mod scisql;

use std::collections::HashMap;
use std::sync::LazyLock;

use datafusion::logical_expr::{DocSection, Documentation};

/// The user's documentation of a function.
pub(super) fn documentation(name: &str) -> Option<&'static Documentation> {
    DOCUMENTATION.get(name)
}

const SECTION: DocSection = DocSection {
    include: true,
    label: "Sky Functions",
    description: Some("Positions are ICRS and angles are degrees unless said otherwise."),
};

/// Further names of functions above.
const ALIASES: &[(&str, &str)] = &[
    ("s2ptincircle", "scisql_s2ptincircle"),
    ("s2ptinbox", "scisql_s2ptinbox"),
    ("s2ptinellipse", "scisql_s2ptinellipse"),
    ("s2ptincpoly", "scisql_s2ptincpoly"),
    ("hpx_nest", "healpix_index"),
];

static DOCUMENTATION: LazyLock<HashMap<&'static str, Documentation>> = LazyLock::new(|| {
    let lists = [geometry::FUNCTIONS, cells::FUNCTIONS, astrometry::FUNCTIONS, scisql::FUNCTIONS];
    let documented = |(name, syntax, description): &(&'static str, &str, &str)| {
        (*name, Documentation::builder(SECTION, *description, *syntax).build())
    };
    let mut all: HashMap<&'static str, Documentation> = lists.into_iter().flatten().map(documented).collect();
    for (alias, name) in ALIASES {
        if let Some(documentation) = all.get(name) {
            let documentation = documentation.clone();
            all.insert(alias, documentation);
        }
    }
    all
});
