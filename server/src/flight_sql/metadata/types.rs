//! Types as SQL tools know them: the names of GetXdbcTypeInfo, and what a column of each Arrow type
//! is called there.

use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode};
use datafusion::arrow::datatypes::{DataType, TimeUnit};

/// What a column's type is called and how wide it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SqlType {
    /// A name that SQL takes in a CAST, where there is one.
    pub(super) name: &'static str,
    /// Digits of a number, characters of a date or time; as JDBC counts them.
    pub(super) precision: Option<i32>,
    /// Digits behind the point.
    pub(super) scale: Option<i32>,
    /// Text, and so compared with regard to case.
    pub(super) is_text: bool,
}

/// The SQL type of a column of the client profile.
pub(super) fn type_of(data_type: &DataType) -> SqlType {
    let number = |name, precision| SqlType { name, precision: Some(precision), scale: Some(0), is_text: false };
    let plain = |name, precision| SqlType { name, precision, scale: None, is_text: false };
    match data_type {
        DataType::Boolean => plain("BOOLEAN", Some(1)),
        DataType::Int8 => number("TINYINT", 3),
        DataType::Int16 => number("SMALLINT", 5),
        DataType::Int32 => number("INTEGER", 10),
        DataType::Int64 => number("BIGINT", 19),
        DataType::UInt8 => number("TINYINT UNSIGNED", 3),
        DataType::UInt16 => number("SMALLINT UNSIGNED", 5),
        DataType::UInt32 => number("INTEGER UNSIGNED", 10),
        DataType::UInt64 => number("BIGINT UNSIGNED", 20),
        DataType::Float32 => plain("REAL", Some(7)),
        DataType::Float64 => plain("DOUBLE", Some(15)),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => SqlType {
            name: "DECIMAL",
            precision: Some(i32::from(*precision)),
            scale: Some(i32::from(*scale)),
            is_text: false,
        },
        DataType::Utf8 | DataType::LargeUtf8 => {
            SqlType { name: "VARCHAR", precision: None, scale: None, is_text: true }
        }
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => plain("BYTEA", None),
        DataType::Date32 | DataType::Date64 => plain("DATE", Some(10)),
        DataType::Time32(_) | DataType::Time64(_) => plain("TIME", Some(18)),
        DataType::Timestamp(unit, _) => {
            let digits = match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 3,
                TimeUnit::Microsecond => 6,
                TimeUnit::Nanosecond => 9,
            };
            let point = i32::from(digits > 0);
            SqlType { name: "TIMESTAMP", precision: Some(19 + point + digits), scale: Some(digits), is_text: false }
        }
        DataType::Interval(_) | DataType::Duration(_) => plain("INTERVAL", None),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => plain("ARRAY", None),
        DataType::Struct(_) => plain("STRUCT", None),
        DataType::Map(..) => plain("MAP", None),
        // None of these is in the client profile.
        _ => plain("OTHER", None),
    }
}

/// The types that SQL takes here, as GetXdbcTypeInfo tells them.
pub(super) fn all() -> Result<XdbcTypeInfoData, FlightError> {
    let mut types = XdbcTypeInfoDataBuilder::new();
    for (name, data_type, digits, unsigned) in [
        ("TINYINT", XdbcDataType::XdbcTinyint, 3, false),
        ("SMALLINT", XdbcDataType::XdbcSmallint, 5, false),
        ("INTEGER", XdbcDataType::XdbcInteger, 10, false),
        ("BIGINT", XdbcDataType::XdbcBigint, 19, false),
        ("TINYINT UNSIGNED", XdbcDataType::XdbcTinyint, 3, true),
        ("SMALLINT UNSIGNED", XdbcDataType::XdbcSmallint, 5, true),
        ("INTEGER UNSIGNED", XdbcDataType::XdbcInteger, 10, true),
        ("BIGINT UNSIGNED", XdbcDataType::XdbcBigint, 20, true),
    ] {
        types.append(XdbcTypeInfo {
            unsigned_attribute: Some(unsigned),
            auto_increment: Some(false),
            minimum_scale: Some(0),
            maximum_scale: Some(0),
            num_prec_radix: Some(10),
            ..simple(name, data_type, Some(digits))
        });
    }
    for (name, data_type, bits) in [
        ("REAL", XdbcDataType::XdbcReal, 24),
        ("FLOAT", XdbcDataType::XdbcFloat, 24),
        ("DOUBLE", XdbcDataType::XdbcDouble, 53),
    ] {
        types.append(XdbcTypeInfo {
            unsigned_attribute: Some(false),
            auto_increment: Some(false),
            num_prec_radix: Some(2),
            ..simple(name, data_type, Some(bits))
        });
    }
    types.append(XdbcTypeInfo {
        create_params: Some(vec!["precision".into(), "scale".into()]),
        unsigned_attribute: Some(false),
        auto_increment: Some(false),
        minimum_scale: Some(0),
        maximum_scale: Some(38),
        num_prec_radix: Some(10),
        ..simple("DECIMAL", XdbcDataType::XdbcDecimal, Some(38))
    });
    types.append(simple("BOOLEAN", XdbcDataType::XdbcBit, Some(1)));
    for name in ["VARCHAR", "TEXT"] {
        types.append(XdbcTypeInfo {
            literal_prefix: Some("'".into()),
            literal_suffix: Some("'".into()),
            case_sensitive: true,
            ..simple(name, XdbcDataType::XdbcVarchar, Some(i32::MAX))
        });
    }
    types.append(XdbcTypeInfo {
        literal_prefix: Some("X'".into()),
        literal_suffix: Some("'".into()),
        ..simple("BYTEA", XdbcDataType::XdbcVarbinary, Some(i32::MAX))
    });
    for (name, data_type, characters, subcode) in [
        ("DATE", XdbcDataType::XdbcDate, 10, XdbcDatetimeSubcode::XdbcSubcodeYear),
        ("TIME", XdbcDataType::XdbcTime, 18, XdbcDatetimeSubcode::XdbcSubcodeTime),
        ("TIMESTAMP", XdbcDataType::XdbcTimestamp, 29, XdbcDatetimeSubcode::XdbcSubcodeTimestamp),
    ] {
        types.append(XdbcTypeInfo {
            literal_prefix: Some(format!("{name} '")),
            literal_suffix: Some("'".into()),
            sql_data_type: XdbcDataType::XdbcDatetime,
            datetime_subcode: Some(subcode),
            ..simple(name, data_type, Some(characters))
        });
    }
    types.build()
}

fn simple(name: &str, data_type: XdbcDataType, size: Option<i32>) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.to_owned(),
        data_type,
        column_size: size,
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        local_type_name: Some(name.to_owned()),
        sql_data_type: data_type,
        ..XdbcTypeInfo::default()
    }
}
