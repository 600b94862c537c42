//! Statements told by their heads.

use super::{Command, CreateTable, Existing, Name, SetOption, TableName, classify};
use crate::error::EngineError;
use crate::guard::SqlLimits;

fn told(sql: &str) -> Command {
    classify(sql, &SqlLimits::default()).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn name(text: &str) -> Name {
    Name { text: text.into(), quoted: false }
}

fn table(database: Option<&str>, table: &str) -> TableName {
    TableName { database: database.map(name), table: name(table) }
}

/// The query within, without the blanks in place of the head.
fn query_of(sql: &str) -> String {
    match told(sql) {
        Command::Query(query)
        | Command::Submit { query }
        | Command::CreateTable(CreateTable { query, .. })
        | Command::Insert { query, .. } => query.trim().to_owned(),
        other => panic!("{sql}: {other:?}"),
    }
}

#[test]
fn what_reads_is_a_query() {
    for sql in [
        "SELECT 1",
        " -- a comment\n select 1;",
        "/* c */ WITH a AS (SELECT 1) SELECT * FROM a ; ",
        "(SELECT 1)",
        "VALUES (1), (2)",
        "EXPLAIN SELECT 1",
        "SHOW TABLES",
        "SELECT submit FROM t",
        "",
        ";",
        // Refused by the guard, not here.
        "DELETE FROM t",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TEMPORARY TABLE t AS SELECT 1",
        "DROP VIEW v",
        "INSERT OVERWRITE t SELECT 1",
    ] {
        assert_eq!(told(sql), Command::Query(sql.into()), "{sql}");
    }
}

#[test]
fn options_of_the_session_are_set() {
    for sql in [
        "USE dr1",
        "use dr1;",
        "USE SCHEMA dr1",
        "USE DATABASE \"dr1\"",
        "USE skyflight.dr1",
        "USE SkyFlight.dr1 -- here",
        "SET SCHEMA 'dr1'",
        "SET SCHEMA dr1",
        "SET schema = dr1",
        "SET SESSION schema TO 'dr1'",
        "SET search_path = dr1",
    ] {
        assert_eq!(told(sql), Command::SetOption(SetOption::Schema("dr1".into())), "{sql}");
    }
    assert_eq!(told("SET shuffle = 'never'"), Command::SetOption(SetOption::Shuffle("never".into())));
    for sql in
        ["SET timezone = 'UTC'", "SET", "SET x", "SET TIME ZONE LOCAL", "SET datafusion.runtime.memory_limit = '1G'"]
    {
        assert_eq!(told(sql), Command::Query(sql.into()), "{sql}");
    }
    for sql in
        ["USE", "USE 'dr1'", "USE a.b.c", "USE milkyway.dr1", "USE dr1 now", "SET SCHEMA", "SET search_path = a, b"]
    {
        let refused = classify(sql, &SqlLimits::default());
        assert!(matches!(refused, Err(EngineError::Syntax(_))), "{sql}: {refused:?}");
    }
}

#[test]
fn jobs_write_no_tables() {
    for sql in ["SUBMIT CREATE TABLE mydb.t AS SELECT 1", "SUBMIT INSERT INTO mydb.t SELECT 1"] {
        let refused = classify(sql, &SqlLimits::default());
        assert!(
            matches!(&refused, Err(EngineError::Unsupported(why)) if why.contains("job('<its id>')")),
            "{refused:?}"
        );
    }
}

#[test]
fn jobs_are_submitted_and_cancelled() {
    assert_eq!(query_of("SUBMIT SELECT 1"), "SELECT 1");
    assert_eq!(query_of("-- c\n/* d */ submit\n WITH a AS (SELECT 1) SELECT * FROM a;"), {
        "WITH a AS (SELECT 1) SELECT * FROM a;"
    });
    let cancel = Command::Cancel { id: "0197-é".into() };
    for sql in ["CANCEL '0197-é'", "cancel query '0197-é' ;", ";CANCEL -- c\n'0197-é'"] {
        assert_eq!(told(sql), cancel, "{sql}");
    }
}

#[test]
fn tables_are_made_dropped_and_filled() {
    let Command::CreateTable(made) = told("CREATE TABLE mydb.t AS SELECT 1 AS a") else { panic!() };
    assert_eq!((made.table, made.existing), (table(Some("mydb"), "t"), Existing::Fail));
    let made = told("create or replace table \"T t\" with (ra = ra_deg, DEC='dec', id = 'n', rows = 7) as select 1");
    let Command::CreateTable(made) = made else { panic!() };
    assert_eq!(made.table.table, Name { text: "T t".into(), quoted: true });
    assert_eq!(made.existing, Existing::Replace);
    let options: Vec<_> = made.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(options, ["ra=ra_deg", "dec=dec", "id=n", "rows=7"]);
    let Command::CreateTable(made) = told("CREATE TABLE IF NOT EXISTS skyflight.mydb.t AS (SELECT 1)") else {
        panic!()
    };
    assert_eq!((made.table, made.existing), (table(Some("mydb"), "t"), Existing::Keep));
    assert_eq!(
        query_of("CREATE TABLE t (a BIGINT, \"b\"\"c\" DECIMAL(10, 2) NULL, d DOUBLE PRECISION) WITH (id = a)"),
        "SELECT CAST(NULL AS BIGINT) AS \"a\", CAST(NULL AS DECIMAL ( 10 , 2 )) AS \"b\"\"c\", \
         CAST(NULL AS DOUBLE PRECISION) AS \"d\" LIMIT 0"
    );
    assert_eq!(told("DROP TABLE mydb.t;"), Command::DropTable { table: table(Some("mydb"), "t"), if_exists: false });
    assert_eq!(told("drop table if exists t"), Command::DropTable { table: table(None, "t"), if_exists: true });
    let Command::Insert { table: into, columns, query } = told("INSERT INTO mydb.t (a, b) VALUES (?, ?)") else {
        panic!()
    };
    assert_eq!((into, columns, query.trim()), (table(Some("mydb"), "t"), vec![name("a"), name("b")], "VALUES (?, ?)"));
    for sql in ["INSERT INTO t SELECT 1", "INSERT INTO TABLE t (SELECT 1)", "INSERT INTO t WITH a AS (SELECT 1) FROM a"]
    {
        assert!(matches!(told(sql), Command::Insert { columns, .. } if columns.is_empty()), "{sql}");
    }
}

#[test]
fn positions_in_a_query_are_those_in_the_statement() {
    let sql = "CREATE TABLE é -- c\n AS  SELECT x";
    let Command::CreateTable(made) = told(sql) else { panic!() };
    let column = sql.lines().nth(1).unwrap().find("SELECT").unwrap();
    assert_eq!(made.query.lines().nth(1).unwrap().find("SELECT").unwrap(), column);
}

#[test]
fn heads_that_break_off_say_what_is_missing() {
    for (sql, expect) in [
        ("SUBMIT", "a query after SUBMIT"),
        ("SUBMIT DROP TABLE t", "a query after SUBMIT, found DROP at line 1, column 8"),
        ("SUBMIT SUBMIT SELECT 1", "a query"),
        ("CANCEL 17", "single quotes"),
        ("CANCEL 'a' 'b'", "end of the statement"),
        ("CREATE TABLE", "the name of a table"),
        ("CREATE TABLE t", "AS and a query"),
        ("CREATE TABLE t AS", "a query"),
        ("CREATE TABLE t () AS SELECT 1", "name of a column"),
        ("CREATE TABLE t (a BIGINT) AS SELECT 1", "columns are those of the query"),
        ("CREATE TABLE t WITH (ra) AS SELECT 1", "= and the option's value"),
        ("CREATE OR REPLACE TABLE IF NOT EXISTS t AS SELECT 1", "contradict"),
        ("CREATE TABLE a.b.c.d AS SELECT 1", "database.table"),
        ("DROP TABLE t CASCADE", "end of the statement"),
        ("DROP TABLE a, b", "end of the statement"),
        ("INSERT INTO t", "a query"),
        ("INSERT INTO t DEFAULT VALUES", "a query"),
    ] {
        match classify(sql, &SqlLimits::default()) {
            Err(EngineError::Syntax(message)) => assert!(message.contains(expect), "{sql}: {message}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
    let refused = classify("CREATE TABLE t (a BIGINT PRIMARY KEY)", &SqlLimits::default()).unwrap_err();
    assert!(matches!(&refused, EngineError::Unsupported(message) if message.contains("PRIMARY")), "{refused}");
    let large = classify(&format!("SUBMIT SELECT '{}'", "x".repeat(4 << 20)), &SqlLimits::default()).unwrap_err();
    assert!(matches!(large, EngineError::TooLarge(_)));
}
