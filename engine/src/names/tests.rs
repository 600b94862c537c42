//! What each name becomes, and that DataFusion finds it then.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::{CATALOG, NameCatalog, NameDatabase, NameTable, resolve, suggest};
use crate::error::EngineError;
use crate::guard::{SqlLimits, parse_guarded};

const TABLES: [(&str, &str, &[&str]); 7] = [
    ("dr1", "Object", &["objectId", "ra_PS", "decl_PS", "zMag", "chunkId"]),
    ("dr1", "Source", &["sourceId", "objectId", "ra", "decl", "psfFlux"]),
    ("dr1", "Twins", &["id", "Mag", "mag"]),
    ("dr1", "ForcedSource", &["objectID", "flux"]),
    ("dr2", "Object", &["objectId", "ra", "dec"]),
    ("dr2", "Gaia", &["source_id", "ra", "dec", "pmRA"]),
    ("Survey_3", "Filters", &["name", "type"]),
];

fn catalog() -> NameCatalog {
    let mut databases: Vec<NameDatabase> = Vec::new();
    for (database, table, columns) in TABLES {
        let table = Arc::new(NameTable {
            name: table.to_owned(),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        });
        match databases.iter_mut().find(|known| known.name == database) {
            Some(known) => known.tables.push(table),
            None => databases.push(NameDatabase { name: database.to_owned(), tables: vec![table] }),
        }
    }
    NameCatalog {
        databases: databases.into_iter().map(Arc::new).collect(),
        default_database: Some("dr1".to_owned()),
        own_database: Some("user_vera".to_owned()),
    }
}

fn rewritten(sql: &str) -> Result<String, EngineError> {
    let mut statement = parse_guarded(sql, &SqlLimits::default())?;
    resolve(&mut statement, &catalog())?;
    Ok(statement.to_string())
}

#[track_caller]
fn check(sql: &str, expect: &str) {
    assert_eq!(rewritten(sql).unwrap(), expect, "{sql}");
}

#[track_caller]
fn fails(sql: &str, expect: &str) {
    let error = rewritten(sql).unwrap_err();
    assert!(matches!(error, EngineError::NotFound(_) | EngineError::Invalid(_)), "{sql}: {error:?}");
    assert_eq!(error.to_string(), expect, "{sql}");
}

#[test]
fn tables_are_found_in_any_case() {
    check("SELECT 1 FROM object", "SELECT 1 FROM dr1.Object");
    check("SELECT 1 FROM OBJECT AS o", "SELECT 1 FROM dr1.Object AS o");
    check("SELECT 1 FROM DR2.oBJECT", "SELECT 1 FROM dr2.Object");
    check("SELECT 1 FROM SkyFlight.Dr2.object", "SELECT 1 FROM dr2.Object");
    check("SELECT 1 FROM gaia", "SELECT 1 FROM dr2.Gaia");
    check("SELECT 1 FROM \"Object\"", "SELECT 1 FROM dr1.Object");
    check("SELECT 1 FROM `dr2`.`Object`", "SELECT 1 FROM dr2.Object");
    check("SELECT 1 FROM survey_3.filters", "SELECT 1 FROM Survey_3.Filters");
    check("SELECT 1 FROM object, dr2.object", "SELECT 1 FROM dr1.Object, dr2.Object");
    check("DESCRIBE object", "DESCRIBE dr1.Object");
    check("SHOW COLUMNS FROM dr2.gaia", "SHOW COLUMNS FROM dr2.Gaia");
    check("EXPLAIN SELECT RA FROM source", "EXPLAIN SELECT ra FROM dr1.Source");
    check("EXPLAIN ANALYZE SELECT RA FROM source", "EXPLAIN ANALYZE SELECT ra FROM dr1.Source");
    check("SHOW TABLES", "SHOW TABLES");
}

#[test]
fn tables_that_are_not_there_are_named_with_the_nearest() {
    fails("SELECT 1 FROM objct", "no table \"objct\"; did you mean \"dr1.Object\"?");
    fails("SELECT 1 FROM dr2.sorce", "no table \"dr2.sorce\"; did you mean \"dr1.Source\"?");
    fails("SELECT 1 FROM \"object\"", "no table \"object\"; did you mean \"dr1.Object\"?");
    fails("SELECT 1 FROM dr3.object", "no database \"dr3\"; did you mean \"dr1\"?");
    fails("SELECT 1 FROM nothing.alike", "no database \"nothing\"; there are dr1, dr2, Survey_3");
    fails("SELECT 1 FROM other.dr1.object", "no table \"other.dr1.object\"; names are database.table");
    fails(
        "SELECT 1 FROM '/etc/passwd'",
        "no table \"/etc/passwd\"; there are dr1.Object, dr1.Source, dr1.Twins, dr1.ForcedSource, dr2.Object, …",
    );
    fails("SELECT (SELECT max(x) FROM objct)", "no table \"objct\"; did you mean \"dr1.Object\"?");
}

#[test]
fn a_table_of_several_databases_must_say_which() {
    let mut catalog = catalog();
    catalog.default_database = None;
    let mut statement = parse_guarded("SELECT 1 FROM object", &SqlLimits::default()).unwrap();
    let error = resolve(&mut statement, &catalog).unwrap_err();
    assert_eq!(error.to_string(), "table \"object\" is in several databases; say which: dr1.Object, dr2.Object");
    let mut statement = parse_guarded("SELECT 1 FROM twins", &SqlLimits::default()).unwrap();
    resolve(&mut statement, &catalog).unwrap();
    assert_eq!(statement.to_string(), "SELECT 1 FROM dr1.Twins");
}

#[test]
fn columns_take_their_declared_case() {
    check(
        "SELECT OBJECTID, RA_ps AS Ra FROM object WHERE ZMAG < 20 AND DECL_PS BETWEEN 0 AND 1",
        "SELECT objectId, ra_PS AS Ra FROM dr1.Object WHERE zMag < 20 AND decl_PS BETWEEN 0 AND 1",
    );
    check("SELECT \"objectId\" FROM object", "SELECT \"objectId\" FROM dr1.Object");
    check("SELECT \"OBJECTID\" FROM object", "SELECT \"OBJECTID\" FROM dr1.Object");
    check("SELECT nosuch FROM object", "SELECT nosuch FROM dr1.Object");
    check(
        "SELECT count(*), CHUNKID FROM object GROUP BY CHUNKID HAVING max(ZMAG) > 3 ORDER BY ChunkId DESC",
        "SELECT count(*), chunkId FROM dr1.Object GROUP BY chunkId HAVING max(zMag) > 3 ORDER BY chunkId DESC",
    );
    check(
        "SELECT CASE WHEN zmag > 1 THEN ra_ps ELSE CAST(OBJECTID AS DOUBLE) END FROM object",
        "SELECT CASE WHEN zMag > 1 THEN ra_PS ELSE CAST(objectId AS DOUBLE) END FROM dr1.Object",
    );
}

#[test]
fn qualifiers_are_found_in_any_case() {
    for name in ["object.RA_PS", "Object.ra_ps", "dr1.object.ra_PS", "DR1.OBJECT.RA_PS", "Skyflight.dr1.Object.ra_ps"] {
        check(&format!("SELECT {name} FROM object"), "SELECT dr1.Object.ra_PS FROM dr1.Object");
    }
    check("SELECT O.ra_ps FROM object o", "SELECT o.ra_PS FROM dr1.Object o");
    check("SELECT object.nosuch FROM object", "SELECT dr1.Object.nosuch FROM dr1.Object");
    check("SELECT x.ra FROM object", "SELECT x.ra FROM dr1.Object");
    check("SELECT object.ra_ps FROM object o", "SELECT object.ra_ps FROM dr1.Object o");
    check(
        "SELECT a.objectid, B.RA FROM dr1.object A JOIN dr2.object b ON A.OBJECTID = b.ObjectId",
        "SELECT A.objectId, b.ra FROM dr1.Object A JOIN dr2.Object b ON A.objectId = b.objectId",
    );
    check(
        "SELECT dr1.object.OBJECTID, dr2.object.ra FROM dr1.object, dr2.object",
        "SELECT dr1.Object.objectId, dr2.Object.ra FROM dr1.Object, dr2.Object",
    );
    fails(
        "SELECT object.objectid FROM dr1.object, dr2.object",
        "table \"object\" is ambiguous: it could be dr1.Object or dr2.Object",
    );
}

#[test]
fn names_that_differ_only_in_case_need_quotes() {
    fails(
        "SELECT MAG FROM twins",
        "columns \"Mag\" and \"mag\" of dr1.Twins differ only in case; write the one you mean in double quotes",
    );
    fails(
        "SELECT t.mag FROM twins t",
        "columns \"Mag\" and \"mag\" of t differ only in case; write the one you mean in double quotes",
    );
    check("SELECT \"mag\", t.\"Mag\" FROM twins t", "SELECT \"mag\", t.\"Mag\" FROM dr1.Twins t");
    check("SELECT ID FROM twins ORDER BY \"Mag\"", "SELECT id FROM dr1.Twins ORDER BY \"Mag\"");
    fails(
        "SELECT objectid FROM source, forcedsource",
        "column \"objectid\" is ambiguous: it could be dr1.Source.\"objectId\" or dr1.ForcedSource.\"objectID\"; \
         put the table before it",
    );
    fails(
        "SELECT ra_ps AS x, zmag AS \"X\" FROM object ORDER BY x",
        "columns \"x\" and \"X\" of the result differ only in case; write the one you mean in double quotes",
    );
    fails(
        "WITH a AS (SELECT 1), A AS (SELECT 2) SELECT * FROM a",
        "WITH has \"a\" and \"A\"; give each entry a name of its own",
    );
}

#[test]
fn aliases_keep_the_case_they_are_declared_with() {
    check("SELECT ra_ps AS MyRa FROM object ORDER BY MYRA", "SELECT ra_PS AS MyRa FROM dr1.Object ORDER BY MyRa");
    check(
        "SELECT floor(ra_ps) AS Bin, count(*) AS N FROM object GROUP BY BIN HAVING n > 2 ORDER BY n DESC, bin",
        "SELECT FLOOR(ra_PS) AS Bin, count(*) AS N FROM dr1.Object GROUP BY Bin HAVING N > 2 ORDER BY N DESC, Bin",
    );
    // The table's column comes first in GROUP BY, the result's in ORDER BY.
    check(
        "SELECT objectid % 10 AS OBJECTID FROM object GROUP BY objectid ORDER BY objectId",
        "SELECT objectId % 10 AS OBJECTID FROM dr1.Object GROUP BY objectId ORDER BY OBJECTID",
    );
    check(
        "SELECT ra AS Alpha FROM source UNION ALL SELECT ra_ps FROM object ORDER BY ALPHA",
        "SELECT ra AS Alpha FROM dr1.Source UNION ALL SELECT ra_PS FROM dr1.Object ORDER BY Alpha",
    );
    check("SELECT DISTINCT ON (R) ra AS r FROM source", "SELECT DISTINCT ON (r) ra AS r FROM dr1.Source");
}

#[test]
fn subqueries_and_with_entries_are_scopes() {
    check(
        "SELECT Q.objectID, T FROM (SELECT OBJECTID, ra_ps + 1 AS t FROM object) q",
        "SELECT q.objectId, t FROM (SELECT objectId, ra_PS + 1 AS t FROM dr1.Object) q",
    );
    check(
        "WITH Near AS (SELECT objectid, RA_PS AS Alpha FROM object) SELECT NEAR.ALPHA, n.OBJECTID FROM near, NEAR AS n",
        "WITH Near AS (SELECT objectId, ra_PS AS Alpha FROM dr1.Object) SELECT Near.Alpha, n.objectId FROM Near, Near AS n",
    );
    check(
        "WITH object AS (SELECT 1 AS One) SELECT ONE FROM Object",
        "WITH object AS (SELECT 1 AS One) SELECT One FROM object",
    );
    check(
        "WITH object AS (SELECT * FROM object) SELECT OBJECTID FROM Object",
        "WITH object AS (SELECT * FROM dr1.Object) SELECT objectId FROM object",
    );
    check(
        "WITH t (Aa, Bb) AS (SELECT ra, decl FROM source) SELECT AA, t.bb FROM T",
        "WITH t (Aa, Bb) AS (SELECT ra, decl FROM dr1.Source) SELECT Aa, t.Bb FROM t",
    );
    check(
        "WITH RECURSIVE Steps (N) AS (SELECT 1 UNION ALL SELECT n + 1 FROM steps WHERE n < 5) SELECT n FROM STEPS",
        "WITH RECURSIVE Steps (N) AS (SELECT 1 UNION ALL SELECT N + 1 FROM Steps WHERE N < 5) SELECT N FROM Steps",
    );
    check(
        "WITH t AS (SELECT ra FROM source) SELECT 1 FROM (WITH t AS (SELECT RA FROM T) SELECT t.RA FROM T) AS q, t",
        "WITH t AS (SELECT ra FROM dr1.Source) SELECT 1 FROM (WITH t_2 AS (SELECT ra FROM t) SELECT t.ra FROM t_2 AS t) AS q, t",
    );
    // The inner query first, then the one around it.
    check(
        "SELECT objectid FROM object o WHERE EXISTS (SELECT 1 FROM source s WHERE S.objectid = O.OBJECTID AND RA > ZMAG)",
        "SELECT objectId FROM dr1.Object o WHERE EXISTS (SELECT 1 FROM dr1.Source s WHERE s.objectId = o.objectId AND ra > zMag)",
    );
    check(
        "SELECT (SELECT MAX(PSFFLUX) FROM source WHERE source.objectid = object.objectid) FROM object",
        "SELECT (SELECT max(psfFlux) FROM dr1.Source WHERE dr1.Source.objectId = dr1.Object.objectId) FROM dr1.Object",
    );
    check(
        "SELECT 1 FROM object WHERE OBJECTID IN (SELECT objectID FROM forcedsource WHERE FLUX > 1)",
        "SELECT 1 FROM dr1.Object WHERE objectId IN (SELECT objectID FROM dr1.ForcedSource WHERE flux > 1)",
    );
    check(
        "SELECT 1 FROM object o, LATERAL (SELECT RA FROM source WHERE objectid = O.OBJECTID) s",
        "SELECT 1 FROM dr1.Object o, LATERAL (SELECT ra FROM dr1.Source WHERE objectId = o.objectId) s",
    );
    check(
        "SELECT COLUMN1, t.B FROM (VALUES (1)), (VALUES (2)) AS t(b)",
        "SELECT column1, t.b FROM (VALUES (1)), (VALUES (2)) AS t (b)",
    );
    check("SELECT X FROM (SELECT ra FROM source) AS s(x)", "SELECT x FROM (SELECT ra FROM dr1.Source) AS s (x)");
}

#[test]
fn joins_name_columns_of_both_sides() {
    check(
        "SELECT OBJECTID, RA FROM object JOIN source USING (ObjectID)",
        "SELECT \"dr1\".\"Object\".\"objectId\", ra FROM dr1.Object JOIN dr1.Source USING(objectId)",
    );
    check(
        "SELECT 1 FROM object NATURAL JOIN source WHERE PSFFLUX > ZMAG",
        "SELECT 1 FROM dr1.Object NATURAL JOIN dr1.Source WHERE psfFlux > zMag",
    );
    check(
        "SELECT ObjectId FROM object AS o FULL JOIN source AS s USING (OBJECTID)",
        "SELECT coalesce(o.\"objectId\", s.\"objectId\") AS objectId FROM dr1.Object AS o FULL JOIN dr1.Source AS s USING(objectId)",
    );
    check(
        "SELECT * FROM object AS o RIGHT JOIN source AS s USING (objectId)",
        "SELECT * REPLACE (\"s\".\"objectId\" AS \"objectId\") FROM dr1.Object AS o RIGHT JOIN dr1.Source AS s USING(objectId)",
    );
    check(
        "SELECT 1 FROM (SELECT objectid FROM object) JOIN source s USING (objectid) WHERE objectid = 1",
        "SELECT 1 FROM (SELECT objectId FROM dr1.Object) AS subquery_1 JOIN dr1.Source s USING(objectId) WHERE \"subquery_1\".\"objectId\" = 1",
    );
    check(
        "SELECT * FROM object o FULL JOIN source s USING (objectId) JOIN dr2.object USING (objectId)",
        "SELECT o.* REPLACE (coalesce(o.\"objectId\", s.\"objectId\") AS \"objectId\"), \
         s.* EXCLUDE (\"objectId\"), dr2.Object.* EXCLUDE (\"objectId\") \
         FROM dr1.Object o FULL JOIN dr1.Source s USING(objectId) \
         JOIN dr2.Object ON coalesce(\"o\".\"objectId\", \"s\".\"objectId\") = \"dr2\".\"Object\".\"objectId\"",
    );
    fails(
        "SELECT 1 FROM source JOIN forcedsource USING (objectid)",
        "USING (objectid): the column is \"objectId\" on one side and \"objectID\" on the other; join with ON",
    );
    fails(
        "SELECT 1 FROM source NATURAL JOIN forcedsource",
        "NATURAL JOIN: the column is \"objectId\" on one side and \"objectID\" on the other; join with ON",
    );
    check(
        "SELECT 1 FROM (object o JOIN source s ON O.objectid = S.objectid) LEFT JOIN dr2.gaia g ON g.RA = S.RA",
        "SELECT 1 FROM (dr1.Object o JOIN dr1.Source s ON o.objectId = s.objectId) LEFT JOIN dr2.Gaia g ON g.ra = s.ra",
    );
}

#[test]
fn wildcards_and_windows() {
    check("SELECT OBJECT.*, S.* FROM object, source s", "SELECT dr1.Object.*, s.* FROM dr1.Object, dr1.Source s");
    check("SELECT Dr1.Object.* FROM object", "SELECT dr1.Object.* FROM dr1.Object");
    check("SELECT * EXCEPT (RA_PS, zmag) FROM object", "SELECT * EXCEPT (ra_PS, zMag) FROM dr1.Object");
    check("SELECT o.* EXCLUDE (RA_PS) FROM object o", "SELECT o.* EXCLUDE (ra_PS) FROM dr1.Object o");
    check("SELECT * REPLACE (RA_PS + 1 AS Ra_ps) FROM object", "SELECT * REPLACE (ra_PS + 1 AS ra_PS) FROM dr1.Object");
    check(
        "SELECT ZMAG FROM (SELECT * EXCEPT (RA_PS) FROM object) AS q WHERE ra_ps = 1",
        "SELECT zMag FROM (SELECT * EXCEPT (ra_PS) FROM dr1.Object) AS q WHERE ra_ps = 1",
    );
    check("SELECT COUNT(O.*) FROM object o", "SELECT count(o.*) FROM dr1.Object o");
    check(
        "SELECT rank() OVER (PARTITION BY CHUNKID ORDER BY ZMAG) FROM object",
        "SELECT rank() OVER (PARTITION BY chunkId ORDER BY zMag) FROM dr1.Object",
    );
    check(
        "SELECT sum(zmag) OVER W FROM object WINDOW w AS (PARTITION BY ChunkID)",
        "SELECT sum(zMag) OVER w FROM dr1.Object WINDOW w AS (PARTITION BY chunkId)",
    );
    check(
        "SELECT array_agg(OBJECTID ORDER BY ZMAG) FILTER (WHERE RA_PS > 1) FROM object",
        "SELECT array_agg(objectId ORDER BY zMag) FILTER (WHERE ra_PS > 1) FROM dr1.Object",
    );
}

#[test]
fn functions_are_lower_case() {
    check(
        "SELECT COUNT(*), \"Max\"(RA), SciSQL_angSep(ra, decl, 0, 0) FROM source",
        "SELECT count(*), max(ra), scisql_angsep(ra, decl, 0, 0) FROM dr1.Source",
    );
    check(
        "SELECT VALUE, s.X FROM Generate_Series(1, 3), RANGE(1, 2) AS s(x)",
        "SELECT value, s.x FROM generate_series(1, 3), range(1, 2) AS s (x)",
    );
    check("SELECT U.X FROM UNNEST([1, 2]) AS u(x)", "SELECT u.x FROM UNNEST([1, 2]) AS u (x)");
}

#[test]
fn information_schema_is_lower_case() {
    check(
        "SELECT TABLE_NAME, Tables.Table_Type FROM Information_Schema.TABLES WHERE Table_Schema = 'dr1'",
        "SELECT table_name, information_schema.tables.table_type FROM information_schema.tables WHERE table_schema = 'dr1'",
    );
    check(
        "SELECT C.COLUMN_NAME FROM skyflight.INFORMATION_SCHEMA.COLUMNS C",
        "SELECT C.column_name FROM information_schema.columns C",
    );
}

#[test]
fn fields_of_structures_stay_as_written() {
    check(
        "SELECT O.RA_PS[1], ra_ps[2].Field FROM object o",
        "SELECT \"o\".\"ra_PS\"[1], \"ra_PS\"[2].\"Field\" FROM dr1.Object o",
    );
    check("SELECT RA_PS.Field, o.ra_ps.Field FROM object o", "SELECT ra_PS.Field, o.ra_PS.Field FROM dr1.Object o");
}

#[test]
fn the_nearest_name_is_suggested() {
    let names = ["objectId", "ra_PS", "decl_PS", "zMag", "parallax", "pmra"];
    let near = |name: &str| suggest(name, names.into_iter());
    assert_eq!(near("objctid").as_deref(), Some("objectId"));
    assert_eq!(near("OBJECT_ID").as_deref(), Some("objectId"));
    assert_eq!(near("ra").as_deref(), Some("ra_PS"));
    assert_eq!(near("pm_ra").as_deref(), Some("pmra"));
    assert_eq!(near("paralax").as_deref(), Some("parallax"));
    assert_eq!(near("something_else"), None);
}

/// A session as the engine makes it, on tables of the names above with three rows each.
fn session() -> SessionContext {
    let mut config = SessionConfig::new().with_information_schema(true).with_default_catalog_and_schema(CATALOG, "dr1");
    config.options_mut().sql_parser.enable_ident_normalization = false;
    let context = SessionContext::new_with_config(config);
    let memory = MemoryCatalogProvider::new();
    for (database, table, columns) in TABLES {
        if memory.schema(database).is_none() {
            memory.register_schema(database, Arc::new(MemorySchemaProvider::new())).unwrap();
        }
        let batch = RecordBatch::try_from_iter(columns.iter().enumerate().map(|(index, column)| {
            let values: ArrayRef = if index == 0 || column.to_lowercase() == "objectid" {
                Arc::new(Int64Array::from(vec![1, 2, 3]))
            } else {
                Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0]))
            };
            (*column, values)
        }))
        .unwrap();
        let provider = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
        memory.schema(database).unwrap().register_table(table.to_owned(), Arc::new(provider)).unwrap();
    }
    context.register_catalog(CATALOG, Arc::new(memory));
    context
}

/// Column names and number of rows of the result.
async fn run(sql: &str) -> (Vec<String>, usize) {
    let context = session();
    let mut statement = parse_guarded(sql, &SqlLimits::default()).unwrap();
    resolve(&mut statement, &catalog()).unwrap();
    let shown = statement.to_string();
    let plan = context.state().statement_to_plan(statement).await.unwrap_or_else(|error| panic!("{shown}: {error}"));
    let frame = context.execute_logical_plan(plan).await.unwrap();
    let names = frame.schema().fields().iter().map(|field| field.name().clone()).collect();
    let batches = frame.collect().await.unwrap_or_else(|error| panic!("{shown}: {error}"));
    (names, batches.iter().map(RecordBatch::num_rows).sum())
}

#[tokio::test]
async fn datafusion_finds_what_was_rewritten() {
    for (sql, names, rows) in [
        (
            "SELECT OBJECTID, object.RA_PS, DR1.OBJECT.ZMAG, skyflight.dr1.object.decl_ps FROM object",
            "objectId ra_PS zMag decl_PS",
            3,
        ),
        ("SELECT OBJECT.* FROM object WHERE object.OBJECTID = 2", "objectId ra_PS decl_PS zMag chunkId", 1),
        ("SELECT * EXCEPT (RA_PS) FROM object", "objectId decl_PS zMag chunkId", 3),
        (
            "SELECT * FROM object JOIN source USING (OBJECTID)",
            "objectId ra_PS decl_PS zMag chunkId sourceId ra decl psfFlux",
            3,
        ),
        ("SELECT OBJECTID FROM object NATURAL JOIN source", "objectId", 3),
        (
            "SELECT o.objectid, dr2.object.RA FROM dr1.object o, dr2.object WHERE O.OBJECTID = dr2.object.objectid",
            "objectId ra",
            3,
        ),
        ("SELECT chunkid AS C, COUNT(*) AS N FROM object GROUP BY c HAVING n > 0 ORDER BY N, C LIMIT 2", "C N", 2),
        ("SELECT object.chunkid FROM object GROUP BY CHUNKID ORDER BY Object.ChunkId", "chunkId", 3),
        (
            "SELECT 1 AS one FROM object WHERE EXISTS (SELECT 1 FROM source WHERE source.objectid = object.OBJECTID AND ZMAG > 1)",
            "one",
            2,
        ),
        ("SELECT (SELECT max(psfflux) FROM source s WHERE s.objectid = object.objectid) AS m FROM object", "m", 3),
        (
            "WITH Near AS (SELECT objectid, ra_ps AS Alpha FROM object) SELECT NEAR.ALPHA FROM near WHERE alpha > 1",
            "Alpha",
            2,
        ),
        ("WITH RECURSIVE s (N) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 5) SELECT * FROM S", "N", 5),
        ("SELECT \"mag\", \"Mag\" FROM twins", "mag Mag", 3),
        ("SELECT SUM(zmag) OVER W AS s FROM object WINDOW w AS (PARTITION BY chunkid ORDER BY ZMAG)", "s", 3),
        ("SELECT ABS(ra) AS a, \"Round\"(ra) AS b, Count(*) OVER () AS c FROM source", "a b c", 3),
        ("SELECT s.X FROM GENERATE_SERIES(1, 4) AS s(x)", "x", 4),
        ("SELECT VALUE FROM Range(1, 3)", "value", 2),
        ("SELECT a.value FROM generate_series(1, 2) AS A", "value", 2),
        ("SELECT Table_Name FROM Information_Schema.Tables WHERE TABLE_NAME = 'Gaia'", "table_name", 1),
        ("SHOW COLUMNS FROM GAIA", "table_catalog table_schema table_name column_name data_type is_nullable", 4),
        ("DESCRIBE gaia", "column_name data_type is_nullable", 4),
        ("SELECT Alpha FROM (SELECT ra AS alpha FROM source ORDER BY RA LIMIT 1) AS q", "alpha", 1),
        ("SELECT ra FROM source UNION SELECT RA_PS FROM object ORDER BY RA", "ra", 3),
        ("SELECT DISTINCT ON (CHUNKID) objectid FROM object ORDER BY ChunkID, OBJECTID", "objectId", 3),
        ("SELECT s.ra FROM object o, LATERAL (SELECT RA FROM source WHERE objectid = O.OBJECTID) s", "ra", 3),
        ("SELECT [RA_PS, zmag][1] AS v FROM object", "v", 3),
        ("SELECT t.L[1] AS v FROM (SELECT [RA_PS, zmag] AS l FROM object) AS T", "v", 3),
        ("SELECT s.F FROM (SELECT named_struct('F', ra) AS S FROM source)", "s[F]", 3),
    ] {
        let (found, count) = run(sql).await;
        let expected: Vec<&str> = names.split(' ').collect();
        if names != "s[F]" {
            assert_eq!(found, expected, "{sql}");
        }
        assert_eq!(count, rows, "{sql}");
    }
}

#[test]
fn columns_of_one_name_get_names_apart() {
    check("SELECT ra, RA, decl AS Ra_1 FROM source", "SELECT ra, ra AS \"ra_1\", decl AS Ra_1 FROM dr1.Source");
    check(
        "SELECT source.ra, s.ra, s.RA FROM source, source s",
        "SELECT dr1.Source.ra, s.ra, s.ra AS \"ra_1\" FROM dr1.Source, dr1.Source s",
    );
    check("SELECT zmag, * FROM object", "SELECT zMag AS \"zMag_1\", * FROM dr1.Object");
    check("SELECT *, max(ra) OVER () AS ra FROM source", "SELECT *, max(ra) OVER () AS \"ra_1\" FROM dr1.Source");
    check("SELECT 1, 2, 1", "SELECT 1 AS \"1\", 2, 1 AS \"1_1\"");
    check(
        "SELECT max(ra), max(CAST(RA AS INT)) FROM source ORDER BY max(ra)",
        "SELECT max(ra) AS \"max(ra)\", max(CASE WHEN true THEN CAST(ra AS INT) END) AS \"max(ra)_1\" FROM dr1.Source ORDER BY max(ra)",
    );
    check("SELECT max(ra), min(CAST(ra AS INT)) FROM source", "SELECT max(ra), min(CAST(ra AS INT)) FROM dr1.Source");
}
