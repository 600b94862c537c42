//! What the guard lets through, what it stops, and that neither costs the process.

use std::thread;
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};

use super::{SqlLimits, check_constants, limited_functions, parse_guarded};
use crate::error::EngineError;

/// Runs on a stack of the given size, as a small or a generous thread would.
fn on_stack<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    thread::Builder::new().stack_size(bytes).spawn(work).unwrap().join().unwrap()
}

fn parse(sql: &str) -> Result<String, EngineError> {
    parse_guarded(sql, &SqlLimits::default()).map(|statement| statement.to_string())
}

/// The error of a statement parsed on the 2 MiB stack of an ordinary thread, and quickly.
fn error_of(sql: String) -> EngineError {
    let start = Instant::now();
    let short: String = sql.chars().take(60).collect();
    let error = on_stack(2 << 20, move || parse_guarded(&sql, &SqlLimits::default()).err());
    assert!(start.elapsed() < Duration::from_secs(10), "took {:?}: {short}", start.elapsed());
    error.unwrap_or_else(|| panic!("must be stopped: {short}"))
}

#[track_caller]
fn too_large(sql: String) {
    let short: String = sql.chars().take(60).collect();
    match error_of(sql) {
        EngineError::TooLarge(message) => assert!(message.len() < 200, "{message}"),
        other => panic!("{short}: {other:?}"),
    }
}

#[track_caller]
fn passes(sql: &str) {
    let short: String = sql.chars().take(60).collect();
    assert!(parse_guarded(sql, &SqlLimits::default()).is_ok(), "{short}");
}

#[track_caller]
fn refused(sql: &str, expect: &str) {
    match error_of(sql.to_owned()) {
        EngineError::Refused(message) => assert!(message.contains(expect), "{sql}: {message}"),
        other => panic!("{sql}: {other:?}"),
    }
}

#[track_caller]
fn syntax(sql: &str, expect: &str) {
    match error_of(sql.to_owned()) {
        EngineError::Syntax(message) => assert!(message.contains(expect), "{sql}: {message}"),
        other => panic!("{sql}: {other:?}"),
    }
}

/// Parses, plans, optimizes and makes the physical plan on a 16 MiB stack.
#[track_caller]
fn plans(sql: String) {
    let short: String = sql.chars().take(60).collect();
    let start = Instant::now();
    let planned = on_stack(16 << 20, move || {
        let statement = parse_guarded(&sql, &SqlLimits::default()).map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
            let state = context.state();
            let plan = state.statement_to_plan(statement).await.map_err(|error| error.to_string())?;
            state.create_physical_plan(&plan).await.map(|_| ()).map_err(|error| error.to_string())
        })
    });
    if let Err(error) = planned {
        panic!("{short}: {}", error.chars().take(300).collect::<String>());
    }
    println!("{short}: {:?}", start.elapsed());
}

fn joined(terms: usize, term: &str, operator: &str) -> String {
    vec![term; terms].join(operator)
}

#[test]
fn long_chains_are_stopped_before_they_become_trees() {
    too_large(format!("SELECT {}", joined(2_000, "1", "+")));
    too_large(format!("SELECT {}", joined(100_000, "1", "+")));
    too_large(format!("SELECT 1 WHERE {}", joined(10_000, "x = 1", " OR ")));
    too_large(format!("SELECT 1 WHERE {}", joined(10_000, "x = 1", " AND ")));
    too_large(format!("SELECT {}", joined(2_000, "'a'", " || ")));
    too_large(format!("SELECT 1{}", "::int".repeat(5_000)));
    too_large(format!("SELECT {}true", "NOT ".repeat(5_000)));
    too_large(format!("SELECT {}1", "- ".repeat(5_000)));
    too_large(format!("SELECT {}1", "+ ".repeat(5_000)));
    too_large(format!("SELECT a{}", "[1]".repeat(5_000)));
    too_large(format!("SELECT a{}", "[1:2]".repeat(5_000)));
    too_large(format!("SELECT {}", joined(5_000, "a", ".")));
    too_large(format!("SELECT x{}", " IS NULL".repeat(5_000)));
    too_large(format!("SELECT x{}", " BETWEEN 1 AND 2".repeat(5_000)));
    too_large(format!("SELECT x{}", " LIKE 'a'".repeat(5_000)));
    too_large(format!("SELECT x{}", " COLLATE b".repeat(5_000)));
    too_large(format!("SELECT x{}", " AT TIME ZONE 'UTC'".repeat(5_000)));
    too_large(format!("SELECT x{}", " IS DISTINCT FROM y".repeat(5_000)));
    too_large(format!("SELECT x{}", " IN (1)".repeat(5_000)));
    too_large(format!("SELECT {}'1'", "INTERVAL ".repeat(5_000)));
    too_large(format!("SELECT f{}", "(1)".repeat(5_000)));
    too_large(joined(2_000, "SELECT 1", " UNION ALL "));
    too_large(joined(2_000, "SELECT 1", " EXCEPT "));
    too_large(format!("SELECT * FROM t {}", "JOIN t ON true ".repeat(2_000)));
    too_large(format!("SELECT * FROM {}", joined(2_000, "t", ", ")));
    too_large(format!("SELECT CAST(1 AS {}INT{})", "ARRAY<".repeat(600), ">".repeat(600)));
}

// A keyword where an operand is due is a column of that name, not the end of the chain.
#[test]
fn columns_named_like_keywords_do_not_hide_a_chain() {
    let chain = joined(400, "1", " + ");
    for word in ["and", "or", "from", "when", "then", "else", "where", "end", "union", "join", "on", "t.from", "t.and"]
    {
        too_large(format!("SELECT {}", joined(40, &chain, &format!(" + {word} + "))));
    }
    // BETWEEN takes a column named AND as its lower bound.
    too_large(format!("SELECT 1{}", format!(" BETWEEN and AND 5{}", " IS NULL".repeat(400)).repeat(40)));
    // A chain on each side of a real separator is two chains, but around a parenthesis it is one.
    too_large(format!("SELECT {}{}{}", "(".repeat(40), chain, format!(") + {chain}").repeat(40)));
    too_large(format!("SELECT {}1{}", "CASE WHEN ".repeat(40), format!(" = end THEN 2 END + {chain}").repeat(40)));
    too_large(format!("SELECT {}1{}", "CASE WHEN ".repeat(40), format!(" THEN day END + {chain}").repeat(40)));
}

#[test]
fn deep_nesting_is_stopped() {
    too_large(format!("SELECT {}1{}", "(".repeat(1_000), ")".repeat(1_000)));
    too_large(format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)));
    too_large(format!("SELECT {}1{}", "[".repeat(1_000), "]".repeat(1_000)));
    too_large(format!("SELECT {}1{}", "abs(".repeat(1_000), ")".repeat(1_000)));
    too_large(format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(1_000), " END".repeat(1_000)));
    too_large(format!("SELECT * FROM {}t{}", "(".repeat(1_000), ")".repeat(1_000)));
    too_large(format!("{}SELECT 1{}", "SELECT * FROM (".repeat(1_000), ")".repeat(1_000)));
    too_large(format!("SELECT {}1{}", "(SELECT ".repeat(1_000), ")".repeat(1_000)));
}

// sqlparser tries again at every level: 2^40 attempts without the bound.
#[test]
fn errors_in_nested_sql_are_found_quickly() {
    for (open, close) in [
        ("NOT(", ")"),
        ("CASE WHEN ", " THEN 1 END"),
        ("CAST(", " AS INT)"),
        ("ceil(", ")"),
        ("substring(", ")"),
        ("INTERVAL ", ""),
        ("extract(day from ", ")"),
        ("overlay(", ")"),
        ("struct(", ")"),
        ("position(", " in 'a')"),
        ("f(", ")"),
    ] {
        for error in ["1 +", "1 1 1", ""] {
            let sql = format!("SELECT {}{error}{}", open.repeat(40), close.repeat(40));
            let start = Instant::now();
            match on_stack(2 << 20, move || parse_guarded(&sql, &SqlLimits::default()).map(|_| ())) {
                Ok(()) | Err(EngineError::Syntax(_) | EngineError::TooLarge(_)) => {}
                Err(other) => panic!("{open} {error}: {other:?}"),
            }
            assert!(start.elapsed() < Duration::from_secs(10), "{open} {error}: {:?}", start.elapsed());
        }
    }
}

#[test]
fn long_lists_and_texts_are_stopped() {
    too_large(format!("SELECT 1 IN ({})", joined(110_000, "1", ",")));
    too_large(format!("VALUES {}", joined(110_000, "(1)", ",")));
    too_large(format!("SELECT {}", joined(60_000, "1", ",")));
    too_large(format!("SELECT {}", joined(3_000, "a", ",")));
    too_large(format!("SELECT 1 GROUP BY {}", joined(3_000, "a", ",")));
    too_large(format!("SELECT 1 ORDER BY {}", joined(3_000, "a", ",")));
    too_large(format!("SELECT f({})", joined(3_000, "a", ",")));
    too_large(format!("SELECT '{}'", "x".repeat(4 << 20)));
    too_large(format!("SELECT '{}'", "x".repeat(200 << 10)));
    too_large("SELECT CAST(NULL AS INT[1000000000])".to_owned());
    too_large("SELECT NULL::INT[1000][1000]".to_owned());
    let with: Vec<String> = (0..300).map(|i| format!("t{i} AS (SELECT 1)")).collect();
    too_large(format!("WITH {} SELECT 1", with.join(", ")));
}

// Each level is planned twice, so these would plan for days.
#[test]
fn what_doubles_at_every_level_is_stopped() {
    too_large(format!("SELECT {}1{}", "(SELECT ".repeat(45), ")".repeat(45)));
    too_large(format!("SELECT {}1{}", "(SELECT max(x) + ".repeat(40), " FROM t)".repeat(40)));
    too_large(format!("SELECT 1 {}{}", "WHERE EXISTS (SELECT 1 ".repeat(40), ")".repeat(40)));
    too_large(format!("SELECT {}x{}", "(".repeat(40), " BETWEEN 1 AND 2)::int".repeat(40)));
    too_large(format!("SELECT {}x{}", "(".repeat(40), " IS DISTINCT FROM 1)::int".repeat(40)));
    too_large(format!("SELECT {}x{}", "coalesce(".repeat(40), ",x)".repeat(40)));
    // Rows are written out value by value, each of a list with the whole row beside it.
    let listed = format!(", 1) IN ({})", vec!["(1, 2)"; 100].join(", "));
    too_large(format!("SELECT {}x{}", "(".repeat(5), listed.repeat(5)));
    too_large(format!("SELECT {}x{}", "(".repeat(20), ", 1) < (1, 2)".repeat(20)));
    too_large(format!("SELECT {}1{}", "NULL IN (SELECT ".repeat(14), ")".repeat(14)));
    let many: Vec<String> = (0..5_000).map(|i| format!("(-{i}, CAST('{i}' AS INT))")).collect();
    passes(&format!("SELECT (x, y) IN ({}) FROM t", many.join(", ")));
    passes(&format!("SELECT (x, y) IN ({}) FROM t", many[..100].join(", ")));
    passes(&format!("SELECT {}1{}", "x IN (SELECT ".repeat(5), ")".repeat(5)));
    let with: Vec<String> =
        (1..40).map(|i| format!("t{i} AS (SELECT a.x FROM t{} a JOIN t{} b ON a.x = b.x)", i - 1, i - 1)).collect();
    too_large(format!("WITH t0 AS (SELECT 1 AS x), {} SELECT * FROM t39", with.join(", ")));
    let columns: Vec<String> = (0..30).map(|i| format!("c{i}")).collect();
    too_large(format!("SELECT 1 FROM t GROUP BY CUBE({})", columns.join(", ")));
    too_large(format!("SELECT 1 FROM t GROUP BY {}", joined(7, "ROLLUP(a, b, c, d)", ", ")));
}

#[test]
fn what_is_allowed_parses_and_plans() {
    plans(format!("SELECT {}", joined(499, "1", "+")));
    plans(format!("SELECT {} FROM (VALUES (1)) AS t(x)", joined(499, "x", "+")));
    let either: Vec<String> = (0..499).map(|i| format!("x = {i}")).collect();
    plans(format!("SELECT 1 FROM (VALUES (1)) AS t(x) WHERE {}", either.join(" OR ")));
    let both: Vec<String> = (0..499).map(|i| format!("x <> {i}")).collect();
    plans(format!("SELECT 1 FROM (VALUES (1)) AS t(x) WHERE {}", both.join(" AND ")));
    plans(
        format!("SELECT {}", joined(499, "x", " || ")).replace("SELECT", "SELECT y || ")
            + " FROM (VALUES ('a', 'b')) AS t(x, y)",
    );
    plans(joined(499, "SELECT 1 AS x", " UNION ALL "));
    plans(joined(199, "SELECT 1 AS x", " UNION "));
    plans(format!("SELECT {}1{}", "(".repeat(50), ")".repeat(50)));
    plans(format!("SELECT {}x{} FROM (VALUES (1)) AS t(x)", "abs(".repeat(50), ")".repeat(50)));
    plans(format!("SELECT {}x{} FROM (VALUES (1)) AS t(x)", "CASE WHEN x > 1 THEN ".repeat(50), " END".repeat(50)));
    plans(format!("SELECT {} FROM (VALUES (1)) AS t(x)", "NOT ".repeat(90) + "x = 1"));
    plans(format!("{}SELECT 1 AS x{}", "SELECT * FROM (".repeat(50), ")".repeat(50)));
    plans(format!("SELECT {}1{}", "(SELECT ".repeat(8), ")".repeat(8)));
    plans(format!("SELECT {}x{} FROM (VALUES (1)) AS t(x)", "(".repeat(8), " BETWEEN 1 AND 2)::int".repeat(8)));
    plans(format!(
        "SELECT * FROM {}",
        (0..50).map(|i| format!("(VALUES (1)) AS t{i}(x{i})")).collect::<Vec<_>>().join(", ")
    ));
    plans(
        "SELECT CASE ".to_owned()
            + &"WHEN x > 1 AND x < 2 OR x = 7 THEN x + 1 * 2 ".repeat(200)
            + "END FROM (VALUES (1)) AS t(x)",
    );
}

#[test]
fn the_longest_list_parses_and_plans() {
    let items: Vec<String> = (0..100_000).map(|i| i.to_string()).collect();
    plans(format!("SELECT 1 FROM (VALUES (1)) AS t(x) WHERE x IN ({})", items.join(",")));
    plans(format!("VALUES {}", items.iter().map(|i| format!("({i})")).collect::<Vec<_>>().join(",")));
    plans(format!("SELECT [{}]", items.join(",")));
    plans(
        format!("SELECT {}", items.iter().take(2_000).map(|i| format!("x AS c{i}")).collect::<Vec<_>>().join(","))
            + " FROM (VALUES (1)) AS t(x)",
    );
}

#[test]
fn only_what_reads_is_run() {
    refused("COPY (SELECT 1) TO 'x.parquet'", "fetch the result over Flight SQL");
    refused("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '/etc'", "skyflight ingest");
    refused("CREATE TABLE t AS SELECT 1", "skyflight ingest");
    refused("CREATE VIEW v AS SELECT 1", "skyflight ingest");
    refused("create function f() returns int return 1", "skyflight ingest");
    refused("DROP TABLE t", "skyflight ingest");
    refused("INSERT INTO t VALUES (1)", "INSERT is not run here");
    refused("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", "within a query");
    refused("DELETE FROM t", "skyflight ingest");
    refused("UPDATE t SET a = 1", "skyflight ingest");
    refused("SET datafusion.runtime.memory_limit = '100G'", "configuration file");
    refused("RESET datafusion.runtime.memory_limit", "configuration file");
    refused("SHOW ALL", "the configuration is not shown");
    refused("SHOW datafusion.execution.batch_size", "the configuration is not shown");
    refused("SHOW TIMEZONE", "the configuration is not shown");
    refused("SHOW FUNCTIONS", "SHOW TABLES");
    refused("SHOW CREATE TABLE t", "SHOW TABLES");
    refused("PREPARE p AS SELECT 1", "prepared statements of Flight SQL");
    refused("EXECUTE p", "prepared statements");
    refused("BEGIN", "no transactions");
    refused("SELECT 1 INTO t", "SELECT INTO");
    refused("SELECT 1 FROM t FOR UPDATE", "FOR UPDATE");
    refused("EXPLAIN INSERT INTO t SELECT 1", "INSERT is not run here");
    refused("EXPLAIN ANALYZE COPY t TO 'x'", "COPY");
    refused("EXPLAIN EXPLAIN SELECT 1", "EXPLAIN takes a query");
    refused(&format!("{}SELECT 1", "EXPLAIN ".repeat(5_000)), "EXPLAIN takes a query");
    refused(&format!("{}t", "DESC ".repeat(5_000)), "EXPLAIN takes a query");
    refused("EXPLAIN SHOW TABLES", "EXPLAIN takes a query");
    refused("USE dr1", "configuration file");
    refused("ANALYZE TABLE t", "only queries");
    refused("SELECT * FROM information_schema.df_settings", "configuration");
    refused("SELECT * FROM Information_Schema.DF_Settings", "configuration");
    refused("SELECT (SELECT max(value) FROM skyflight.\"information_schema\".\"df_settings\")", "configuration");
    refused("DESCRIBE information_schema.df_settings", "configuration");
    refused("SELECT * FROM read_csv('/etc/passwd')", "table function");
    refused("SELECT * FROM LATERAL read_csv('/etc/passwd')", "table function");
    refused("SELECT * FROM parquet_metadata('x')", "table function");
}

#[test]
fn clauses_the_planner_would_drop_are_refused() {
    for sql in [
        "SELECT * FROM t TABLESAMPLE BERNOULLI (10)",
        "SELECT * FROM t PREWHERE a = 1",
        "SELECT a FROM t GROUP BY a WITH ROLLUP",
        "SELECT a FROM t SETTINGS x = 1",
        "SELECT a FROM t FORMAT JSON",
        "SELECT a FROM t |> WHERE a > 1",
        "SELECT * FROM t PIVOT(sum(a) FOR b IN (1, 2))",
    ] {
        match error_of(sql.to_owned()) {
            EngineError::Unsupported(message) => assert!(message.ends_with("supported"), "{message}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[test]
fn what_reads_passes() {
    for sql in [
        "SELECT 1",
        "SELECT 1;",
        " ;; SELECT 1 ; ; ",
        "-- a comment\nSELECT 1 /* and /* another */ */",
        "VALUES (1), (2)",
        "WITH a AS (SELECT 1) SELECT * FROM a UNION ALL SELECT 2",
        "(SELECT 1)",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE SELECT 1",
        "EXPLAIN VERBOSE SELECT 1",
        "EXPLAIN ANALYZE VERBOSE SELECT 1",
        "EXPLAIN FORMAT TREE SELECT 1",
        "EXPLAIN (ANALYZE, VERBOSE) SELECT 1",
        "EXPLAIN WITH a AS (SELECT 1) SELECT * FROM a",
        "SHOW TABLES",
        "SHOW COLUMNS FROM dr1.object",
        "SHOW DATABASES",
        "SHOW SCHEMAS",
        "DESCRIBE object",
        "DESC object",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM information_schema.routines",
        "SELECT * FROM generate_series(1, 10), range(1, 2), unnest([1, 2]) AS u(x)",
        "SELECT * FROM Generate_Series(1, 10)",
        "SELECT name, type, t.end, CASE name WHEN 'a' THEN value ELSE year END AS when FROM t ORDER BY name DESC",
        "SELECT a FROM t WHERE x BETWEEN 1 AND 2 AND NOT EXISTS (SELECT 1 FROM u WHERE u.x = t.x) LIMIT 5 OFFSET 2",
        "SELECT t.interval FROM t WHERE t.interval > 1",
    ] {
        assert!(parse(sql).is_ok(), "{sql}: {:?}", parse(sql));
    }
}

#[test]
fn errors_say_where() {
    syntax("SELEC 1", "found: SELEC at line 1, column 1");
    syntax("SELECT 1\nFROM t GROUP 5", "line 2, column 8");
    syntax("TABLE t", "found: TABLE");
    syntax("SELECT 'open", "line 1, column 8");
    syntax("SELECT NOT(1 + )", "at line 1, column 16");
    syntax("", "no statement");
    syntax(" ; -- nothing", "no statement");
    syntax("SELECT 1; SELECT 2", "2 statements");
    syntax("SELECT 1 SELECT 2", "found: SELECT");
    let error = error_of(format!("SELECT\n  {}", joined(600, "1", "+"))).to_string();
    assert_eq!(
        error,
        "the statement has a chain of more than 500 operators at line 2, column 1004; \
         use IN (…) or a join with VALUES instead of a long chain"
    );
}

/// A session whose functions are bounded, as the engine makes it.
fn bounded_session() -> SessionContext {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    for function in limited_functions(context.state().scalar_functions()) {
        context.register_udf(function.as_ref().clone());
    }
    context
}

async fn run(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>, EngineError> {
    let failed = |error: datafusion::error::DataFusionError| EngineError::ResourceExhausted(error.to_string());
    let state = context.state();
    let plan = state.statement_to_plan(parse_guarded(sql, &SqlLimits::default())?).await.map_err(failed)?;
    check_constants(&state.optimize(&plan).map_err(failed)?)?;
    DataFrame::new(state, plan).collect().await.map_err(failed)
}

#[tokio::test]
async fn functions_that_would_fill_memory_are_stopped() {
    let context = bounded_session();
    for call in [
        "repeat('x', 1000000000)",
        "repeat(x, 1000000000)",
        "lpad('x', 2000000000)",
        "rpad(x, 1000000000, 'yz')",
        "lpad(x, 100000000, 'é')",
        "replace(repeat(x, 1000000), 'x', repeat('y', 100000))",
        "regexp_replace(repeat(x, 1000000), 'x', repeat('y', 100000), 'g')",
        "regexp_match(repeat(x, 1000000), repeat('(', 500) || 'x*' || repeat(')', 500))",
        "concat(repeat(x, 40000000), repeat(x, 40000000))",
        "concat_ws(repeat(x, 1000000), x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x)",
        "range(1000000000)",
        "range(0, 1000000000000)",
        "range(-9223372036854775807, 9223372036854775807)",
        "range(i, 1000000000)",
        "generate_series(1, 1000000000)",
        "generate_series(1000000000, 1, -1)",
        "generate_series(timestamp '1970-01-01', timestamp '2024-01-01', interval '1 second')",
        "array_repeat(x, 100000000)",
        "array_repeat(range(1000), 100000)",
        "array_resize([1, 2], 1000000000)",
        "array_resize([1, 2], 1000000000, 7)",
        "array_replace_all(range(100000), 1, i)",
        "array_to_string(range(100000), repeat('x', 10000))",
        "levenshtein(repeat(x, 100000), repeat('y', 100000))",
        "arrow_cast(NULL, 'FixedSizeBinary(1000000000)')",
        "arrow_cast(NULL, 'FixedSizeList(1000000000, Int64)')",
    ] {
        let start = Instant::now();
        let sql = format!("SELECT {call} FROM (VALUES ('x', 1), ('y', 2)) AS t(x, i)");
        let result = run(&context, &sql).await;
        assert!(start.elapsed() < Duration::from_secs(5), "{call}: {:?}", start.elapsed());
        let expected = if call.contains("array_replace_all") { result.is_ok() } else { result.is_err() };
        assert!(expected, "{call}: {:?}", result.map(|batches| batches.len()));
        if let Err(error) = result {
            let message = error.to_string();
            assert!(message.contains("at most"), "{call}: {message}");
        }
    }
}

// 8,192 rows of 60 MB each, although one is within the bound of a call.
#[tokio::test]
async fn large_constants_do_not_stand_beside_many_rows() {
    let context = bounded_session();
    for sql in [
        "SELECT repeat('x', 60000000), value FROM generate_series(1, 100000)",
        "SELECT count(*) FROM generate_series(1, 100000) WHERE repeat('x', 60000000) > value::text",
    ] {
        let error = run(&context, sql).await.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("at most"), "{sql}: {error}");
    }
    let rows = run(&context, "SELECT length(repeat('x', 60000000)) AS n, unnest(range(1000000))").await.unwrap();
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 1_000_000);
}

#[tokio::test]
async fn bounded_functions_answer_as_before() {
    let context = bounded_session();
    let plain = SessionContext::new();
    for call in [
        "repeat(x, 3)",
        "repeat('ab', 2)",
        "repeat(x, i)",
        "repeat(x, -1)",
        "lpad(x, 5)",
        "rpad(x, i, 'yz')",
        "lpad('é', 4, 'ü')",
        "replace(x, 'b', 'cc')",
        "replace(x, '', 'c')",
        "regexp_replace(x, '(b+)', '[\\1]')",
        "regexp_replace(x, 'b', 'c', 'g')",
        "regexp_match(x, '(b)')",
        "concat(x, 1, NULL, 'c')",
        "concat_ws('-', x, 'c')",
        "overlay(x placing 'zz' from 1)",
        "[i, 2]",
        "array_concat([i], [2, 3])",
        "[1] || [2]",
        "array_append([1], i)",
        "array_prepend(i, [1])",
        "list_append([1], 2)",
        "array_union([1], [2])",
        "range(3)",
        "range(i, 5)",
        "range(5, 1, -2)",
        "generate_series(1, 3)",
        "generate_series(1, 9, 4)",
        "range(date '2024-01-01', date '2024-03-01', interval '1 month')",
        "array_repeat(x, 2)",
        "array_repeat([1], 2)",
        "array_resize([1, 2], 4, i)",
        "array_replace([1, 2, 1], 1, 9)",
        "array_to_string([1, NULL, 3], '-', '?')",
        "levenshtein(x, 'abd')",
        "arrow_cast(i, 'Int8')",
        "named_struct('a', i)",
        "struct(x, i)",
        "substr(x, 1, 1)",
        "repeat(NULL, 3)",
        "repeat(x, NULL)",
    ] {
        let sql = format!("SELECT {call} AS v FROM (VALUES ('abc', 1), ('b', 2), (NULL, 3)) AS t(x, i)");
        let ours = run(&context, &sql).await.unwrap();
        let theirs = run(&plain, &sql).await.unwrap();
        let format = |batches: &[RecordBatch]| {
            datafusion::arrow::util::pretty::pretty_format_batches(batches).unwrap().to_string()
        };
        assert_eq!(format(&ours), format(&theirs), "{call}");
    }
}

// A function of DataFusion that grows its argument and is not in the table shows here.
#[test]
fn the_table_names_functions_that_exist() {
    let state = SessionContext::new().state();
    let limited = limited_functions(state.scalar_functions());
    let expected: usize = super::estimate::Estimate::ALL.iter().map(|(_, names)| names.len()).sum();
    assert_eq!(limited.len(), expected);
    for function in limited {
        let original = &state.scalar_functions()[function.name()];
        assert_eq!(original.aliases(), function.aliases());
        assert_eq!(original.signature(), function.signature());
        assert!(function.documentation().is_some());
    }
}
