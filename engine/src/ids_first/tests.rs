//! Where a list of ids goes in a plan.

#![expect(clippy::unwrap_used, reason = "tests")]

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::SessionContext;

use super::*;

/// The optimized plan of a query over tables of ids, with the list for its first semi join.
async fn listed_for(sql: &str, ids: &[i64]) -> String {
    let state = SessionStateBuilder::new().with_default_features().with_optimizer_rules(optimizer_rules()).build();
    let context = SessionContext::new_with_state(state);
    for table in ["object", "source", "target"] {
        let fields = ["id", "x"].map(|name| Field::new(name, DataType::Int64, true));
        let schema = Arc::new(Schema::new(fields.to_vec()));
        context.register_table(table, Arc::new(EmptyTable::new(schema))).unwrap();
    }
    let plan = context.sql(sql).await.unwrap().into_optimized_plan().unwrap();
    let mut semi = None;
    plan.apply(|node| {
        if let LogicalPlan::Join(join) = node
            && join.join_type == JoinType::LeftSemi
        {
            semi = Some(join.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .unwrap();
    let join = semi.unwrap();
    let (large_key, small_key) = join.on[0].clone();
    let small = Arc::clone(&join.right);
    let seen = Seen::from([(Arc::clone(&small), large_key.clone())]);
    let found = Narrowing { join, small, small_key, large_key, large_is_left: true, large_rows: 0 };
    let ids = ids.iter().map(|id| ScalarValue::from(*id)).collect();
    listed(&context.state(), plan, &found, ids, &seen).unwrap().display_indent().to_string()
}

#[tokio::test]
async fn a_list_goes_to_what_is_joined_above_but_not_to_the_side_that_gave_it() {
    let sql = "SELECT o.id, (SELECT max(s.x) FROM source s WHERE s.id = o.id) FROM object o \
               WHERE o.id IN (SELECT id FROM target)";
    let plan = listed_for(sql, &[4, 7]).await;
    assert!(plan.contains("Filter: source.id IN ([Int64(4), Int64(7)])"), "{plan}");
    assert!(plan.contains("Filter: object.id IN ([Int64(4), Int64(7)])"), "{plan}");
    assert_eq!(plan.matches(" IN ").count(), 2, "{plan}");
}

#[tokio::test]
async fn a_list_stays_below_a_join_that_gives_all_rows_of_its_other_side() {
    let sql = "SELECT s.x, t.id FROM source s LEFT JOIN (SELECT * FROM object o \
               WHERE o.id IN (SELECT id FROM target)) t ON t.id = s.id";
    let plan = listed_for(sql, &[4, 7]).await;
    assert!(plan.contains("Filter: object.id IN ([Int64(4), Int64(7)])"), "{plan}");
    assert_eq!(plan.matches(" IN ").count(), 1, "{plan}");
}
