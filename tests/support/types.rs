//! The column types of the conversion matrix, and values at the edges of each.
#![allow(dead_code, reason = "each suite uses its own part")]

/// A column type with SQL expressions for values that it may hold. A value that does not fit is left out by whoever inserts it.
pub struct TypeCase {
    /// Its definition, without NULL and DEFAULT.
    pub ddl: &'static str,
    /// SQL expressions.
    pub values: &'static [&'static str],
}

const INTEGERS: &[&str] = &[
    "0", "1", "-1", "2", "3", "7", "9", "12", "49", "70", "97", "99", "100", "127", "128", "-128", "-129", "255", "256", "1901", "2024", "2155", "2156",
    "32767", "-32768", "65535", "101112", "8388607", "-8388608", "16777215", "240131", "20240131", "20240231", "2147483647", "-2147483648", "4294967295",
    "20240131123456", "9223372036854775807", "-9223372036854775808", "18446744073709551615",
];
const DECIMALS: &[&str] = &[
    "0", "1", "-1", "0.5", "1.5", "2.50", "-2.5", "-1.49", "0.005", "-0.4", "12.75", "99.99", "255.5", "-99999", "99999", "2024.4", "101112.75", "20240131.5",
    "20240131123456.789", "99999999.99", "-99999999.99", "18446744073709551615", "9223372036854775808.5", "0.123456789012345678901234567891",
    "99999999999999999999999999999999999.999999999999999999999999999999",
];
const FLOATS: &[&str] = &[
    "0", "1", "-1", "0.5", "1.5", "2.5", "3.5", "-2.5", "0.1", "0.30000000000000004", "1e10", "1e15", "1e16", "123456789", "1234567.891", "1e-5", "1e20", "-1e20",
    "1e38", "3.4028235e38", "1.7976931348623157e308", "2.2250738585072014e-308", "255.4", "255.6", "2024", "101112.75", "20240131", "20240131123456",
    "9223372036854775807", "1.8446744073709552e19", "-0e0",
];
const BITS: &[&str] = &["b'0'", "b'1'", "b'110001'", "b'1100001'", "b'11111111'", "b'0110000101100010'", "2024", "20240131", "18446744073709551615", "9223372036854775808"];
const YEARS: &[&str] = &["'0000'", "1901", "1970", "2024", "2155"];
const DATES: &[&str] = &["'0000-00-00'", "'1000-01-01'", "'1970-01-01'", "'2024-02-29'", "'2024-00-00'", "'2024-01-31'", "'2038-01-20'", "'9999-12-31'"];
const TIMES: &[&str] = &[
    "'00:00:00'", "'00:00:01'", "'12:34:56'", "'12:34:56.5'", "'12:34:56.789123'", "'23:59:59.999999'", "'24:00:00'", "'838:59:59'", "'-838:59:59'", "'-00:00:01'",
    "'-12:34:56.789123'", "'00:00:00.000001'", "'10:11:12'",
];
const DATE_TIMES: &[&str] = &[
    "'0000-00-00 00:00:00'", "'1000-01-01 00:00:00'", "'1969-12-31 23:59:59'", "'1970-01-01 00:00:00'", "'1970-01-01 00:00:01'", "'2024-01-31 00:00:00'",
    "'2024-01-31 12:34:56'", "'2024-01-31 12:34:56.5'", "'2024-01-31 12:34:56.789123'", "'2024-12-31 23:59:59.999999'", "'2024-00-00 00:00:00'",
    "'2038-01-19 03:14:07.999999'", "'2038-01-19 03:14:08'", "'9999-12-31 23:59:59'", "'9999-12-31 23:59:59.999999'",
];
const STRINGS: &[&str] = &[
    "''", "' '", "'a'", "'A'", "'a '", "'ab  '", "'b'", "'c'", "'a,b'", "'b,a'", "'0'", "'1'", "'2'", "'01'", "'+1'", "'-1'", "'1.5'", "'2.5'", "'-0.5'", "' 12'", "'12 '", "'12abc'", "'1e3'",
    "'1e400'", "'127'", "'128'", "'255'", "'256'", "'-129'", "'2147483648'", "'18446744073709551615'", "'18446744073709551616'", "'99999999999999999999'", "'0.1'",
    "'2024-01-31'", "'2024-1-31'", "'24-01-31'", "'2024-02-31'", "'2024-01-31 12:34:56'", "'2024-01-31T12:34:56'", "'2024-01-31 12:34:56.789'",
    "'2024-01-31 12:34:56+01:00'", "'2038-01-19 03:14:08'", "'12:34:56'", "'12:34:56.5'", "'-12:34:56'", "'839:00:00'", "'20240131'", "'20240131123456'", "'2024'", "'99'",
    "'70'", "'1900'", "'0000'", "'0000-00-00'", "'0000-00-00 00:00:00'", "'{\"a\": 1}'", "'{\"a\":1}'", "'[1, 2.50]'", "'\"x\"'", "'null'", "'true'", "'{'", "'é'", "'ß'", "'日'", "'😀'", "'\\0'",
    "'a\\0'", "REPEAT('x', 20)", "REPEAT('é', 20)", "REPEAT('x', 255)", "REPEAT('日', 300)", "REPEAT('x', 65535)", "REPEAT('x', 70000)", "CONCAT('a', REPEAT(' ', 30))",
];
const BINARIES: &[&str] = &[
    "x''", "x'00'", "x'20'", "x'61'", "x'6100'", "x'6120'", "x'30'", "x'31'", "x'3031'", "x'312E35'", "x'FF'", "x'C3A9'", "x'C3'", "x'E9'", "x'F09F9880'", "x'00000000'", "x'0061'",
    "x'323032342D30312D3331'", "x'31323A33343A3536'", "x'3230323430313331'", "x'7B7D'", "x'5B315D'", "x'32303234'", "x'0102030405060708'",
    "x'00000000010100000000000000000000F03F0000000000000040'", "x'0000803F0000004000004040'", "REPEAT(x'41', 255)", "REPEAT(x'41', 65535)", "REPEAT(x'FF', 20)",
];
const LABELS: &[&str] = &["''", "'a'", "'b'", "'1'", "'2'", "'01'", "'é'", "'x y'", "'2024-01-31'", "'12:34:56'", "'2024'", "'1.5'", "'[1]'", "1", "3"];
const MEMBERS: &[&str] = &["''", "'a'", "'b'", "'a,b'", "'1'", "'2'", "'a,1'", "'é'", "'2024'", "'a,b,1,2,é,2024'"];
const JSONS: &[&str] = &[
    "'1'", "'0'", "'-1'", "'1.0'", "'1.5'", "'2.5'", "'1e3'", "'255'", "'300'", "'2024'", "'20240131'", "'9223372036854775807'", "'18446744073709551615'", "'1e300'", "'true'", "'false'", "'null'", "'\"a\"'",
    "'\"A\"'", "'\"\"'", "'\"1\"'", "'\"01\"'", "'\"a,b\"'", "'\"2024-01-31\"'", "'\"12:34:56\"'", "'\"é\"'", "'\"😀\"'", "'{}'", "'{\"b\": 1, \"a\": [1, 2.50, null]}'", "'[]'", "'[1]'",
    "CAST(CAST('2024-01-31' AS DATE) AS JSON)", "CAST(CAST('12:34:56.5' AS TIME(6)) AS JSON)", "CAST(CAST('2024-01-31 12:34:56.789' AS DATETIME(6)) AS JSON)",
    "CAST(CAST(1.50 AS DECIMAL(5,2)) AS JSON)", "CAST(x'00FF' AS JSON)", "CAST(CAST(2024 AS YEAR) AS JSON)", "JSON_OBJECT('k', REPEAT('x', 300))",
];
const GEOMETRIES: &[&str] = &["ST_GeomFromText('POINT(1 2)')", "ST_GeomFromText('POINT(1 2)', 4326)", "ST_GeomFromText('LINESTRING(0 0, 1 1)')", "ST_GeomFromText('GEOMETRYCOLLECTION EMPTY')"];
const VECTORS: &[&str] = &["TO_VECTOR('[1,2,3]')", "TO_VECTOR('[0]')", "TO_VECTOR('[-1.5,1e30]')"];

const fn case(ddl: &'static str, values: &'static [&'static str]) -> TypeCase {
    TypeCase { ddl, values }
}

/// Every type of the matrix.
pub const TYPES: &[TypeCase] = &[
    case("TINYINT", INTEGERS),
    case("TINYINT UNSIGNED", INTEGERS),
    case("SMALLINT", INTEGERS),
    case("SMALLINT UNSIGNED", INTEGERS),
    case("MEDIUMINT", INTEGERS),
    case("MEDIUMINT UNSIGNED", INTEGERS),
    case("INT", INTEGERS),
    case("INT UNSIGNED", INTEGERS),
    case("INT(9) UNSIGNED ZEROFILL", INTEGERS),
    case("BIGINT", INTEGERS),
    case("BIGINT UNSIGNED", INTEGERS),
    case("DECIMAL(5,0)", DECIMALS),
    case("DECIMAL(10,2)", DECIMALS),
    case("DECIMAL(10,2) UNSIGNED", DECIMALS),
    case("DECIMAL(12,4) ZEROFILL", DECIMALS),
    case("DECIMAL(65,30)", DECIMALS),
    case("FLOAT", FLOATS),
    case("FLOAT(9,2)", FLOATS),
    case("DOUBLE", FLOATS),
    case("DOUBLE UNSIGNED", FLOATS),
    case("DOUBLE(12,3)", FLOATS),
    case("BIT(1)", BITS),
    case("BIT(8)", BITS),
    case("BIT(33)", BITS),
    case("BIT(64)", BITS),
    case("YEAR", YEARS),
    case("DATE", DATES),
    case("TIME", TIMES),
    case("TIME(3)", TIMES),
    case("TIME(6)", TIMES),
    case("DATETIME", DATE_TIMES),
    case("DATETIME(3)", DATE_TIMES),
    case("DATETIME(6)", DATE_TIMES),
    case("TIMESTAMP", DATE_TIMES),
    case("TIMESTAMP(6)", DATE_TIMES),
    case("CHAR(3) CHARACTER SET utf8mb4", STRINGS),
    case("CHAR(20) CHARACTER SET utf8mb4", STRINGS),
    case("CHAR(20) CHARACTER SET latin1", STRINGS),
    case("CHAR(20) CHARACTER SET utf16", STRINGS),
    case("VARCHAR(2) CHARACTER SET utf8mb4", STRINGS),
    case("VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci", STRINGS),
    case("VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", STRINGS),
    case("VARCHAR(400) CHARACTER SET latin1 COLLATE latin1_swedish_ci", STRINGS),
    case("VARCHAR(40) CHARACTER SET latin1 COLLATE latin1_bin", STRINGS),
    case("VARCHAR(40) CHARACTER SET utf16", STRINGS),
    case("VARCHAR(40) CHARACTER SET ascii", STRINGS),
    case("TINYTEXT CHARACTER SET utf8mb4", STRINGS),
    case("TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", STRINGS),
    case("TEXT CHARACTER SET latin1", STRINGS),
    case("MEDIUMTEXT CHARACTER SET utf16", STRINGS),
    case("BINARY(4)", BINARIES),
    case("BINARY(20)", BINARIES),
    case("VARBINARY(40)", BINARIES),
    case("TINYBLOB", BINARIES),
    case("BLOB", BINARIES),
    case("ENUM('a','b','1','2','01','','é','x y','2024-01-31','12:34:56','2024','1.5','[1]') CHARACTER SET utf8mb4", LABELS),
    case("ENUM('b','a','1') CHARACTER SET latin1", LABELS),
    case("SET('a','b','1','2','é','2024') CHARACTER SET utf8mb4", MEMBERS),
    case("SET('2','1','b','a') CHARACTER SET latin1", MEMBERS),
    case("JSON", JSONS),
    case("GEOMETRY", GEOMETRIES),
    case("POINT", GEOMETRIES),
    case("VECTOR(3)", VECTORS),
];
