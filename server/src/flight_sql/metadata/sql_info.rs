//! GetSqlInfo: every standard code with the type the specification gives it, and none of our own:
//! JDBC asks for all and fails on a code it does not know.

use std::collections::BTreeMap;

use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity, SqlSupportedGroupBy,
    SqlSupportedResultSetConcurrency, SqlSupportedResultSetType, SqlSupportedSubqueries, SqlSupportedTransaction,
    SqlSupportedUnions, SqlSupportsConvert, SqlTransactionIsolationLevel, SupportedSqlGrammar,
};
use skyflight_engine::guard::SqlLimits;

use crate::flight_sql::statement::HANDLE_TTL;

/// Longest name of a database or table, in bytes.
const NAME_BYTES: i64 = skyflight_catalog::MAX_NAME_BYTES as i64;

/// Longest name of a user, in bytes.
const USER_BYTES: i64 = skyflight_catalog::MAX_USER_BYTES as i64;

/// Stands for a number without a limit.
const UNLIMITED: i64 = 0;

/// Words with a meaning of their own beyond those of SQL-92.
const KEYWORDS: [&str; 8] = ["ANTI", "EXCLUDE", "EXPLAIN", "ILIKE", "LIMIT", "OFFSET", "QUALIFY", "SEMI"];

const NUMERIC_FUNCTIONS: [&str; 28] = [
    "abs",
    "acos",
    "asin",
    "atan",
    "atan2",
    "cbrt",
    "ceil",
    "cos",
    "cot",
    "degrees",
    "exp",
    "factorial",
    "floor",
    "gcd",
    "isnan",
    "lcm",
    "ln",
    "log",
    "log10",
    "log2",
    "pi",
    "power",
    "radians",
    "round",
    "sin",
    "sqrt",
    "tan",
    "trunc",
];

const STRING_FUNCTIONS: [&str; 20] = [
    "ascii",
    "btrim",
    "character_length",
    "chr",
    "concat",
    "initcap",
    "left",
    "lower",
    "lpad",
    "ltrim",
    "octet_length",
    "replace",
    "reverse",
    "right",
    "rpad",
    "rtrim",
    "split_part",
    "substr",
    "translate",
    "upper",
];

const SYSTEM_FUNCTIONS: [&str; 5] = ["arrow_typeof", "coalesce", "nullif", "nvl", "version"];

const DATETIME_FUNCTIONS: [&str; 9] = [
    "current_date",
    "date_bin",
    "date_part",
    "date_trunc",
    "from_unixtime",
    "make_date",
    "now",
    "to_date",
    "to_timestamp",
];

/// All codes and their values.
pub(super) fn all() -> Result<SqlInfoData, FlightError> {
    let mut info = SqlInfoDataBuilder::new();
    server(&mut info);
    names(&mut info);
    grammar(&mut info);
    queries(&mut info);
    limits(&mut info);
    transactions(&mut info);
    results(&mut info);
    info.build()
}

fn server(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::FlightSqlServerName, "Skyflight");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    // The version of the Arrow columnar format.
    info.append(SqlInfo::FlightSqlServerArrowVersion, "1.5.0");
    info.append(SqlInfo::FlightSqlServerReadOnly, false);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    // The specification asks for null here, which its own union cannot hold.
    info.append(SqlInfo::FlightSqlServerSubstraitMinVersion, "");
    info.append(SqlInfo::FlightSqlServerSubstraitMaxVersion, "");
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, true);
    info.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    info.append(SqlInfo::FlightSqlServerStatementTimeout, i32::try_from(HANDLE_TTL.as_millis()).unwrap_or(i32::MAX));
    info.append(SqlInfo::FlightSqlServerTransactionTimeout, 0_i32);
}

fn names(info: &mut SqlInfoDataBuilder) {
    let insensitive = SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32;
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, false);
    info.append(SqlInfo::SqlDdlTable, true);
    info.append(SqlInfo::SqlIdentifierCase, insensitive);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    // Quotes decide between columns that differ in case alone, for which the enum has no word.
    info.append(SqlInfo::SqlQuotedIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i32);
    info.append(SqlInfo::SqlAllTablesAreSelectable, true);
    info.append(SqlInfo::SqlSearchStringEscape, "\\");
    info.append(SqlInfo::SqlExtraNameCharacters, "");
    info.append(SqlInfo::SqlSchemaTerm, "database");
    info.append(SqlInfo::SqlProcedureTerm, "procedure");
    info.append(SqlInfo::SqlCatalogTerm, "catalog");
    info.append(SqlInfo::SqlCatalogAtStart, true);
    info.append(SqlInfo::SqlSchemasSupportedActions, 0_i32);
    info.append(SqlInfo::SqlCatalogsSupportedActions, 0_i32);
}

fn grammar(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32);
    info.append(SqlInfo::SqlKeywords, KEYWORDS.as_slice());
    info.append(SqlInfo::SqlNumericFunctions, NUMERIC_FUNCTIONS.as_slice());
    info.append(SqlInfo::SqlStringFunctions, STRING_FUNCTIONS.as_slice());
    info.append(SqlInfo::SqlSystemFunctions, SYSTEM_FUNCTIONS.as_slice());
    info.append(SqlInfo::SqlDatetimeFunctions, DATETIME_FUNCTIONS.as_slice());
    info.append(SqlInfo::SqlSupportsColumnAliasing, true);
    info.append(SqlInfo::SqlNullPlusNullIsNull, true);
    info.append(SqlInfo::SqlSupportsConvert, conversions());
    info.append(SqlInfo::SqlSupportsTableCorrelationNames, true);
    info.append(SqlInfo::SqlSupportsDifferentTableCorrelationNames, false);
    info.append(SqlInfo::SqlSupportsLikeEscapeClause, true);
    info.append(SqlInfo::SqlSupportsNonNullableColumns, false);
    info.append(
        SqlInfo::SqlSupportedGrammar,
        bits(&[SupportedSqlGrammar::SqlMinimumGrammar as i32, SupportedSqlGrammar::SqlCoreGrammar as i32]),
    );
    // Entry level asks for UPDATE and DELETE, which there are not.
    info.append(SqlInfo::SqlAnsi92SupportedLevel, 0_i32);
    info.append(SqlInfo::SqlSupportsIntegrityEnhancementFacility, false);
}

fn queries(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::SqlSupportsExpressionsInOrderBy, true);
    info.append(SqlInfo::SqlSupportsOrderByUnrelated, true);
    info.append(
        SqlInfo::SqlSupportedGroupBy,
        bits(&[SqlSupportedGroupBy::SqlGroupByUnrelated as i32, SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32]),
    );
    info.append(SqlInfo::SqlOuterJoinsSupportLevel, SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32);
    info.append(SqlInfo::SqlSupportedPositionedCommands, 0_i32);
    info.append(SqlInfo::SqlSelectForUpdateSupported, false);
    info.append(SqlInfo::SqlStoredProceduresSupported, false);
    info.append(
        SqlInfo::SqlSupportedSubqueries,
        bits(&[
            SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
            SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
            SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
        ]),
    );
    info.append(SqlInfo::SqlCorrelatedSubqueriesSupported, true);
    info.append(
        SqlInfo::SqlSupportedUnions,
        bits(&[SqlSupportedUnions::SqlUnion as i32, SqlSupportedUnions::SqlUnionAll as i32]),
    );
}

fn limits(info: &mut SqlInfoDataBuilder) {
    let sql = SqlLimits::default();
    let columns = i64::try_from(sql.columns).unwrap_or(UNLIMITED);
    let text = i64::try_from(sql.text_bytes).unwrap_or(UNLIMITED);
    let tables = i64::try_from(sql.tables).unwrap_or(UNLIMITED);
    let literal = i64::try_from(sql.literal_bytes).unwrap_or(UNLIMITED);
    for (code, value) in [
        (SqlInfo::SqlMaxBinaryLiteralLength, literal),
        (SqlInfo::SqlMaxCharLiteralLength, literal),
        (SqlInfo::SqlMaxColumnNameLength, UNLIMITED),
        (SqlInfo::SqlMaxColumnsInGroupBy, columns),
        (SqlInfo::SqlMaxColumnsInIndex, UNLIMITED),
        (SqlInfo::SqlMaxColumnsInOrderBy, columns),
        (SqlInfo::SqlMaxColumnsInSelect, columns),
        (SqlInfo::SqlMaxColumnsInTable, UNLIMITED),
        (SqlInfo::SqlMaxConnections, UNLIMITED),
        (SqlInfo::SqlMaxCursorNameLength, UNLIMITED),
        (SqlInfo::SqlMaxIndexLength, UNLIMITED),
        (SqlInfo::SqlDbSchemaNameLength, NAME_BYTES),
        (SqlInfo::SqlMaxProcedureNameLength, UNLIMITED),
        (SqlInfo::SqlMaxCatalogNameLength, NAME_BYTES),
        (SqlInfo::SqlMaxRowSize, UNLIMITED),
        (SqlInfo::SqlMaxStatementLength, text),
        (SqlInfo::SqlMaxStatements, UNLIMITED),
        (SqlInfo::SqlMaxTableNameLength, NAME_BYTES),
        (SqlInfo::SqlMaxTablesInSelect, tables),
        (SqlInfo::SqlMaxUsernameLength, USER_BYTES),
    ] {
        info.append(code, value);
    }
    info.append(SqlInfo::SqlMaxRowSizeIncludesBlobs, true);
}

fn transactions(info: &mut SqlInfoDataBuilder) {
    let none = SqlTransactionIsolationLevel::SqlTransactionNone as i32;
    // An int32 by the specification, but JDBC reads it as a long and fails on anything else.
    info.append(SqlInfo::SqlDefaultTransactionIsolation, i64::from(none));
    info.append(SqlInfo::SqlTransactionsSupported, false);
    info.append(SqlInfo::SqlSupportedTransactionsIsolationLevels, bits(&[none]));
    info.append(SqlInfo::SqlDataDefinitionCausesTransactionCommit, false);
    info.append(SqlInfo::SqlDataDefinitionsInTransactionsIgnored, false);
    info.append(SqlInfo::SqlBatchUpdatesSupported, true);
    info.append(SqlInfo::SqlSavepointsSupported, false);
}

fn results(info: &mut SqlInfoDataBuilder) {
    let read_only = bits(&[SqlSupportedResultSetConcurrency::SqlResultSetConcurrencyReadOnly as i32]);
    info.append(
        SqlInfo::SqlSupportedResultSetTypes,
        bits(&[SqlSupportedResultSetType::SqlResultSetTypeForwardOnly as i32]),
    );
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified, 0_i32);
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly, read_only);
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive, 0_i32);
    info.append(SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive, 0_i32);
    info.append(SqlInfo::SqlNamedParametersSupported, false);
    info.append(SqlInfo::SqlLocatorsUpdateCopy, false);
    info.append(SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported, false);
}

/// What CAST converts into what.
fn conversions() -> BTreeMap<i32, Vec<i32>> {
    use SqlSupportsConvert::{
        SqlConvertBigint, SqlConvertBit, SqlConvertDate, SqlConvertDecimal, SqlConvertFloat, SqlConvertInteger,
        SqlConvertNumeric, SqlConvertReal, SqlConvertSmallint, SqlConvertTimestamp, SqlConvertTinyint,
        SqlConvertVarchar,
    };
    let numbers = [
        SqlConvertBigint,
        SqlConvertDecimal,
        SqlConvertFloat,
        SqlConvertInteger,
        SqlConvertNumeric,
        SqlConvertReal,
        SqlConvertSmallint,
        SqlConvertTinyint,
    ];
    let mut into = BTreeMap::new();
    for from in numbers {
        into.insert(from as i32, codes(&numbers, &[SqlConvertVarchar]));
    }
    into.insert(SqlConvertBit as i32, vec![SqlConvertInteger as i32, SqlConvertVarchar as i32]);
    into.insert(SqlConvertVarchar as i32, codes(&numbers, &[SqlConvertBit, SqlConvertDate, SqlConvertTimestamp]));
    into.insert(SqlConvertDate as i32, codes(&[SqlConvertTimestamp], &[SqlConvertVarchar]));
    into.insert(SqlConvertTimestamp as i32, codes(&[SqlConvertDate], &[SqlConvertVarchar]));
    into
}

fn codes(some: &[SqlSupportsConvert], more: &[SqlSupportsConvert]) -> Vec<i32> {
    some.iter().chain(more).map(|code| *code as i32).collect()
}

/// A bitmask of enum ordinals.
fn bits(ordinals: &[i32]) -> i32 {
    ordinals.iter().fold(0, |mask, ordinal| mask | 1 << ordinal)
}
