//! One column's value of a key: bytes in memory, from a row or the binary log, to a literal.
//!
//! Integers, ENUM and SET numbers, BIT, YEAR and temporal values take 8 bytes, big-endian, so that memcmp is the server's
//! order; DECIMAL 8 or more; BINARY its length. Strings are the stored bytes in the column's own character set: no conversion
//! anywhere, hence no loss, and no comparison here either (but for binary ones).

use mysql_async::Value;

use super::super::quote;
use super::super::table::{Column, ColumnType};
use super::Zone;

/// A DECIMAL of up to this many digits fits an i64 scaled to an integer.
const SMALL_DECIMAL: u8 = 18;

/// Longest list of numbers that stands for a bound: all ENUMs one meets, SETs of eight members.
const MAX_ENUMERATED: u64 = 256;

/// 838:59:59.999999, the largest TIME, in microseconds.
const MAX_TIME: i64 = 3_020_399_999_999;

/// How a column's values are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// TINYINT … BIGINT.
    Integer {
        /// 8 … 64.
        bits: u8,
        /// UNSIGNED.
        unsigned: bool,
    },
    /// DECIMAL.
    Decimal {
        /// All digits.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// ENUM: the index of its label, 0 for the empty error value.
    Enum {
        /// How many there are.
        labels: usize,
    },
    /// SET: a bit for each of its members.
    Set {
        /// How many there are.
        labels: usize,
    },
    /// BIT: a number.
    Bit,
    /// YEAR.
    Year,
    /// DATE.
    Date,
    /// TIME.
    Time {
        /// Fractional digits.
        fsp: u8,
    },
    /// DATETIME.
    DateTime {
        /// Fractional digits.
        fsp: u8,
    },
    /// TIMESTAMP, in UTC.
    Timestamp {
        /// Fractional digits.
        fsp: u8,
        /// Of the sessions that it is written in.
        zone: Zone,
    },
    /// CHAR and VARCHAR.
    Text {
        /// For the introducer of literals.
        charset: String,
        /// What the server compares by.
        collation: String,
        /// The padding of a CHAR, which is no part of its value.
        pad: Option<Vec<u8>>,
    },
    /// BINARY.
    Binary {
        /// In bytes.
        length: u32,
    },
    /// VARBINARY.
    VarBinary,
}

/// Where a value was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A SELECT of `KeyCodec::select_list`.
    Row,
    /// A row event.
    Log,
}

impl Kind {
    /// The kind of a column; `None` if its type cannot be part of a key.
    pub fn of(column: &Column) -> Option<Kind> {
        Some(match &column.column_type {
            ColumnType::Integer { bits, unsigned } => Kind::Integer { bits: *bits, unsigned: *unsigned },
            ColumnType::Decimal { precision, scale, .. } => Kind::Decimal { precision: *precision, scale: *scale },
            ColumnType::Bit { .. } => Kind::Bit,
            ColumnType::Enum { labels } => Kind::Enum { labels: labels.len() },
            ColumnType::Set { labels } => Kind::Set { labels: labels.len() },
            ColumnType::Year => Kind::Year,
            ColumnType::Date => Kind::Date,
            ColumnType::Time { fsp } => Kind::Time { fsp: *fsp },
            ColumnType::DateTime { fsp } => Kind::DateTime { fsp: *fsp },
            ColumnType::Timestamp { fsp } => Kind::Timestamp { fsp: *fsp, zone: Zone::UTC },
            ColumnType::Char { .. } | ColumnType::VarChar { .. } => {
                let (charset, collation) = (column.charset.clone()?, column.collation.clone()?);
                let pad = matches!(column.column_type, ColumnType::Char { .. }).then(|| blank(&charset).to_vec());
                Kind::Text { charset, collation, pad }
            }
            ColumnType::Binary { length } => Kind::Binary { length: *length },
            ColumnType::VarBinary { .. } => Kind::VarBinary,
            _ => return None,
        })
    }

    /// Whether the order of the encoded bytes is the server's.
    pub fn comparable(&self) -> bool {
        match self {
            // The one collation that compares by bytes without padding.
            Kind::Text { collation, .. } => collation == "utf8mb4_0900_bin",
            _ => true,
        }
    }

    /// Whether its literal is a number of seconds, which the column itself is not to be compared with.
    pub(super) fn is_instant(&self) -> bool {
        matches!(self, Kind::Timestamp { zone: Zone::Shifting, .. })
    }

    /// Whether the server compares the column as text inside a row constructor, where a number then matches nothing:
    /// `(a, e) IN ((1, 2))` finds no row though `a = 1 AND e = 2` does (MySQL 9.7, ENUM and SET).
    pub(super) fn is_text_in_rows(&self) -> bool {
        matches!(self, Kind::Enum { .. } | Kind::Set { .. })
    }

    /// The largest number of a type whose `<` and `>` no index serves (ENUM and SET: their numbers are compared after the
    /// fact), if there are few: then a bound is better written as a list.
    pub(super) fn enumerable(&self) -> Option<u64> {
        let largest = match self {
            Kind::Enum { labels } => u64::try_from(*labels).ok()?,
            Kind::Set { labels } => 1_u64.checked_shl(u32::try_from(*labels).ok()?)?.checked_sub(1)?,
            _ => return None,
        };
        (largest <= MAX_ENUMERATED).then_some(largest)
    }

    /// Length of the encoding, if it is always the same.
    pub(super) fn fixed_length(&self) -> Option<usize> {
        match self {
            Kind::Decimal { precision, .. } if *precision > SMALL_DECIMAL => Some(1 + usize::from(*precision)),
            Kind::Text { .. } | Kind::VarBinary => None,
            Kind::Binary { length } => usize::try_from(*length).ok(),
            _ => Some(8),
        }
    }

    /// The expression that reads the column without a conversion of characters.
    pub fn select(&self, quoted_column: &str) -> String {
        match self {
            // Adding zero would go through DOUBLE, which has 53 bits and a SET 64.
            Kind::Enum { .. } | Kind::Set { .. } | Kind::Bit => format!("CAST({quoted_column} AS UNSIGNED)"),
            Kind::Text { .. } => format!("CAST({quoted_column} AS BINARY)"),
            // The instant, whatever the session's zone calls it.
            Kind::Timestamp { .. } => format!("UNIX_TIMESTAMP({quoted_column})"),
            _ => quoted_column.to_owned(),
        }
    }

    /// The encoding of a value; `None` if it is not one of this kind.
    pub fn encode(&self, value: &Value, origin: Origin) -> Option<Vec<u8>> {
        match self {
            Kind::Integer { bits, unsigned } => encode_integer(value, *bits, *unsigned, origin),
            Kind::Decimal { precision, scale } => encode_decimal(text(value)?, *precision, *scale),
            Kind::Enum { .. } | Kind::Set { .. } | Kind::Bit => {
                let number = match (self, value) {
                    (Kind::Set { .. }, Value::Bytes(b)) if origin == Origin::Log => from_bytes(b.iter().rev())?,
                    (Kind::Bit, Value::Bytes(b)) if origin == Origin::Log => from_bytes(b.iter())?,
                    _ => u64::try_from(integer(value)?).ok()?,
                };
                Some(number.to_be_bytes().to_vec())
            }
            Kind::Year => {
                let year = u64::try_from(integer(value)?).ok()?;
                // The binary log's decoder adds 1900 to what is stored, and 0000 is stored as 0.
                let year = if origin == Origin::Log && year == 1900 { 0 } else { year };
                (year < 10_000).then(|| year.to_be_bytes().to_vec())
            }
            Kind::Date => Some(Civil { hour: 0, minute: 0, second: 0, micro: 0, ..Civil::read(value)? }.pack().to_be_bytes().to_vec()),
            Kind::DateTime { .. } => Some(Civil::read(value)?.pack().to_be_bytes().to_vec()),
            Kind::Timestamp { .. } => Some(Civil::from_epoch(value)?.pack().to_be_bytes().to_vec()),
            Kind::Time { .. } => Some(flip_sign(read_time(value)?).to_be_bytes().to_vec()),
            Kind::Text { pad, .. } => {
                let mut bytes = bytes(value)?;
                if let Some(pad) = pad {
                    while let Some(shorter) = bytes.strip_suffix(pad.as_slice()) {
                        bytes = shorter;
                    }
                }
                Some(bytes.to_vec())
            }
            Kind::Binary { length } => {
                let length = usize::try_from(*length).ok()?;
                let mut bytes = bytes(value)?.to_vec();
                if bytes.len() > length {
                    return None;
                }
                // The binary log leaves out trailing zeros.
                bytes.resize(length, 0);
                Some(bytes)
            }
            Kind::VarBinary => Some(bytes(value)?.to_vec()),
        }
    }

    /// The SQL literal of an encoding; `None` if it is not one of this kind.
    pub fn literal(&self, encoded: &[u8]) -> Option<String> {
        let number = || Some(u64::from_be_bytes(encoded.try_into().ok()?));
        Some(match self {
            Kind::Integer { unsigned: true, .. } | Kind::Enum { .. } | Kind::Set { .. } | Kind::Bit => number()?.to_string(),
            Kind::Integer { .. } => unflip_sign(number()?).to_string(),
            Kind::Decimal { precision, scale } => decode_decimal(encoded, *precision, *scale)?,
            // Text: the number 0 would be taken for 2000.
            Kind::Year => {
                let year = number()?;
                if year >= 10_000 {
                    return None;
                }
                format!("'{year:04}'")
            }
            Kind::Date => format!("'{}'", Civil::unpack(number()?).date()),
            Kind::DateTime { fsp } => format!("'{}'", Civil::unpack(number()?).date_time(*fsp)),
            Kind::Timestamp { fsp, zone } => {
                let civil = Civil::unpack(number()?);
                match zone {
                    Zone::Fixed(offset) => format!("'{}'", civil.moved(*offset)?.date_time(*fsp)),
                    Zone::Shifting => format!("{}{}", civil.epoch()?, fraction(civil.micro, *fsp)),
                }
            }
            Kind::Time { fsp } => format!("'{}'", write_time(unflip_sign(number()?), *fsp)?),
            Kind::Text { charset, .. } => format!("_{charset} X'{}'", quote::hex(encoded)),
            Kind::Binary { length } => {
                if usize::try_from(*length).ok()? != encoded.len() {
                    return None;
                }
                format!("_binary X'{}'", quote::hex(encoded))
            }
            Kind::VarBinary => format!("_binary X'{}'", quote::hex(encoded)),
        })
    }
}

/// The blank that pads CHAR in a character set.
fn blank(charset: &str) -> &'static [u8] {
    match charset {
        "ucs2" | "utf16" => b"\0 ",
        "utf16le" => b" \0",
        "utf32" => b"\0\0\0 ",
        _ => b" ",
    }
}

fn flip_sign(number: i64) -> u64 {
    (number as u64) ^ (1 << 63)
}

fn unflip_sign(number: u64) -> i64 {
    (number ^ (1 << 63)) as i64
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    std::str::from_utf8(bytes(value)?).ok()
}

fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Int(n) => Some(i128::from(*n)),
        Value::UInt(n) => Some(i128::from(*n)),
        Value::Bytes(_) => text(value)?.parse().ok(),
        _ => None,
    }
}

/// At most 8 bytes, most significant first.
fn from_bytes<'b>(bytes: impl ExactSizeIterator<Item = &'b u8>) -> Option<u64> {
    (bytes.len() <= 8).then(|| bytes.fold(0, |n, b| n << 8 | u64::from(*b)))
}

fn encode_integer(value: &Value, bits: u8, unsigned: bool, origin: Origin) -> Option<Vec<u8>> {
    let number = integer(value)?;
    let spare = 64_u32.checked_sub(u32::from(bits))?;
    let (least, most) = match unsigned {
        true => (0, i128::from(u64::MAX >> spare)),
        false => (i128::from(i64::MIN >> spare), i128::from(i64::MAX >> spare)),
    };
    let number = if (least..=most).contains(&number) {
        number
    } else if origin == Origin::Log {
        // Without the log's signedness metadata an unsigned value arrives as a negative one of the same bits, or the reverse.
        let raw = (number as u64) << spare;
        let read = if unsigned { i128::from(raw >> spare) } else { i128::from((raw as i64) >> spare) };
        if read.abs_diff(number) != 1 << bits {
            return None;
        }
        read
    } else {
        return None;
    };
    let encoded = if unsigned { u64::try_from(number).ok()? } else { flip_sign(i64::try_from(number).ok()?) };
    Some(encoded.to_be_bytes().to_vec())
}

/// The digits before and after the point, as many as the type has, and whether the value is below zero.
fn decimal_digits(text: &str, precision: u8, scale: u8) -> Option<(String, bool)> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let are_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !are_digits(whole) || !are_digits(fraction) {
        return None;
    }
    let (whole, scale) = (whole.trim_start_matches('0'), usize::from(scale));
    let room = usize::from(precision).checked_sub(scale)?;
    // The ghost may have more places; beyond the original's there are only zeros.
    let (kept, beyond) = fraction.split_at(fraction.len().min(scale));
    if whole.len() > room || beyond.bytes().any(|b| b != b'0') {
        return None;
    }
    let digits = format!("{whole:0>room$}{kept:0<scale$}");
    let zero = digits.bytes().all(|b| b == b'0');
    Some((digits, negative && !zero))
}

fn encode_decimal(text: &str, precision: u8, scale: u8) -> Option<Vec<u8>> {
    let (digits, negative) = decimal_digits(text, precision, scale)?;
    if precision <= SMALL_DECIMAL {
        let number: i64 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
        return Some(flip_sign(if negative { -number } else { number }).to_be_bytes().to_vec());
    }
    let mut out = vec![u8::from(!negative)];
    out.extend(digits.bytes().map(|b| if negative { !b } else { b }));
    Some(out)
}

fn decode_decimal(encoded: &[u8], precision: u8, scale: u8) -> Option<String> {
    let (negative, digits) = if precision <= SMALL_DECIMAL {
        let number = unflip_sign(u64::from_be_bytes(encoded.try_into().ok()?));
        (number < 0, number.unsigned_abs().to_string())
    } else {
        let (sign, rest) = encoded.split_first()?;
        let negative = *sign == 0;
        let digits: Vec<u8> = rest.iter().map(|b| if negative { !b } else { *b }).collect();
        (negative, String::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?)
    };
    let scale = usize::from(scale);
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let point = if scale > 0 { "." } else { "" };
    Some(format!("{}{whole}{point}{fraction}", if negative { "-" } else { "" }))
}

/// A date and time without a zone; zeros in any part are allowed, as MySQL does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Civil {
    year: u16,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    micro: u32,
}

impl Civil {
    const ZERO: Civil = Civil { year: 0, month: 0, day: 0, hour: 0, minute: 0, second: 0, micro: 0 };

    fn read(value: &Value) -> Option<Civil> {
        let civil = match value {
            Value::Date(year, month, day, hour, minute, second, micro) => {
                Civil { year: *year, month: *month, day: *day, hour: *hour, minute: *minute, second: *second, micro: *micro }
            }
            _ => Civil::parse(text(value)?)?,
        };
        let valid = civil.year <= 9999
            && civil.month <= 12
            && civil.day <= 31
            && civil.hour < 24
            && civil.minute < 60
            && civil.second < 60
            && civil.micro < 1_000_000;
        valid.then_some(civil)
    }

    /// `2020-01-02` or `2020-01-02 03:04:05.678`
    fn parse(text: &str) -> Option<Civil> {
        let (date, time) = text.split_once([' ', 'T']).unwrap_or((text, ""));
        let mut parts = date.splitn(3, '-');
        let mut next = || parts.next().filter(|p| p.bytes().all(|b| b.is_ascii_digit()));
        let (year, month, day) = (next()?.parse().ok()?, next()?.parse().ok()?, next()?.parse().ok()?);
        let date = Civil { year, month, day, ..Civil::ZERO };
        if time.is_empty() {
            return Some(date);
        }
        let (hours, minute, second, micro) = parse_clock(time)?;
        Some(Civil { hour: u8::try_from(hours).ok()?, minute, second, micro, ..date })
    }

    /// Seconds since 1970, with a fraction; 0 is the zero date, which TIMESTAMP stores so.
    fn from_epoch(value: &Value) -> Option<Civil> {
        let (seconds, micro) = match value {
            Value::Int(n) => (*n, 0),
            Value::UInt(n) => (i64::try_from(*n).ok()?, 0),
            _ => {
                let (seconds, fraction) = text(value)?.split_once('.').unwrap_or((text(value)?, ""));
                (seconds.parse().ok()?, parse_fraction(fraction)?)
            }
        };
        if seconds == 0 && micro == 0 {
            return Some(Civil::ZERO);
        }
        // Stored without a sign; the decoder reads 32 bits with one.
        let seconds = if seconds < 0 { seconds.checked_add(1 << 32)? } else { seconds };
        Civil::from_seconds(seconds, micro)
    }

    fn from_seconds(seconds: i64, micro: u32) -> Option<Civil> {
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Days to a date: Howard Hinnant's civil_from_days, for days since 0000-03-01.
        let z = days.checked_add(719_468)?;
        let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Some(Civil {
            year: u16::try_from(year).ok().filter(|y| *y <= 9999)?,
            month: u8::try_from(month).ok()?,
            day: u8::try_from(day).ok()?,
            hour: u8::try_from(rest / 3600).ok()?,
            minute: u8::try_from(rest / 60 % 60).ok()?,
            second: u8::try_from(rest % 60).ok()?,
            micro,
        })
    }

    /// Seconds since 1970; 0 for the zero date. `None` for what TIMESTAMP cannot be: a date with zeros in it.
    fn epoch(self) -> Option<i64> {
        if self == Civil::ZERO {
            return Some(0);
        }
        if self.month == 0 || self.day == 0 {
            return None;
        }
        // Howard Hinnant's days_from_civil.
        let year = i64::from(self.year) - i64::from(self.month <= 2);
        let (era, month) = (year.div_euclid(400), (i64::from(self.month) + 9) % 12);
        let year_of_era = year.rem_euclid(400);
        let day_of_year = (153 * month + 2) / 5 + i64::from(self.day) - 1;
        let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
        Some(days * 86_400 + i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second))
    }

    /// The same instant so many seconds east.
    fn moved(self, offset: i32) -> Option<Civil> {
        if offset == 0 || self == Civil::ZERO {
            return Some(self);
        }
        Civil::from_seconds(self.epoch()?.checked_add(i64::from(offset))?, self.micro)
    }

    fn pack(self) -> u64 {
        let mut out = u64::from(self.year);
        for (part, bits) in [(self.month, 4), (self.day, 5), (self.hour, 5), (self.minute, 6), (self.second, 6)] {
            out = out << bits | u64::from(part);
        }
        out << 20 | u64::from(self.micro)
    }

    fn unpack(packed: u64) -> Civil {
        let field = |shift: u32, bits: u32| packed >> shift & ((1 << bits) - 1);
        // Each mask is narrower than the type.
        Civil {
            year: field(46, 16) as u16,
            month: field(42, 4) as u8,
            day: field(37, 5) as u8,
            hour: field(32, 5) as u8,
            minute: field(26, 6) as u8,
            second: field(20, 6) as u8,
            micro: field(0, 20) as u32,
        }
    }

    fn date(self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    fn date_time(self, fsp: u8) -> String {
        format!("{} {:02}:{:02}:{:02}{}", self.date(), self.hour, self.minute, self.second, fraction(self.micro, fsp))
    }
}

/// `.678` for three digits.
fn fraction(micro: u32, fsp: u8) -> String {
    if fsp == 0 {
        return String::new();
    }
    let digits = format!("{micro:06}");
    format!(".{}", digits.get(..usize::from(fsp)).unwrap_or(&digits))
}

/// Microseconds of `678`.
fn parse_fraction(digits: &str) -> Option<u32> {
    if digits.len() > 6 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    format!("{digits:0<6}").parse().ok()
}

/// Hours, minutes, seconds, microseconds of `838:59:59.999999`.
fn parse_clock(text: &str) -> Option<(u16, u8, u8, u32)> {
    let (clock, digits) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.splitn(3, ':');
    let mut next = || parts.next().filter(|p| p.bytes().all(|b| b.is_ascii_digit()));
    Some((next()?.parse().ok()?, next()?.parse().ok()?, next()?.parse().ok()?, parse_fraction(digits)?))
}

/// Microseconds, signed.
fn read_time(value: &Value) -> Option<i64> {
    let (negative, hours, minute, second, micro) = match value {
        Value::Time(negative, days, hours, minute, second, micro) => {
            (*negative, i64::from(*days) * 24 + i64::from(*hours), *minute, *second, *micro)
        }
        _ => {
            let text = text(value)?;
            let (hours, minute, second, micro) = parse_clock(text.strip_prefix('-').unwrap_or(text))?;
            (text.starts_with('-'), i64::from(hours), minute, second, micro)
        }
    };
    if minute > 59 || second > 59 || micro > 999_999 {
        return None;
    }
    let total = ((hours * 60 + i64::from(minute)) * 60 + i64::from(second)) * 1_000_000 + i64::from(micro);
    (total <= MAX_TIME).then_some(if negative { -total } else { total })
}

fn write_time(total: i64, fsp: u8) -> Option<String> {
    let micros = total.unsigned_abs();
    if micros > MAX_TIME.unsigned_abs() {
        return None;
    }
    let (seconds, micro) = (micros / 1_000_000, u32::try_from(micros % 1_000_000).ok()?);
    let sign = if total < 0 { "-" } else { "" };
    Some(format!("{sign}{:02}:{:02}:{:02}{}", seconds / 3600, seconds / 60 % 60, seconds % 60, fraction(micro, fsp)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Origin::{Log, Row};
    use proptest::prelude::*;

    fn b(bytes: &[u8]) -> Value {
        Value::Bytes(bytes.to_vec())
    }

    fn t(text: &str) -> Value {
        b(text.as_bytes())
    }

    fn text_kind(charset: &str, collation: &str, char: bool) -> Kind {
        Kind::Text { charset: charset.into(), collation: collation.into(), pad: char.then(|| blank(charset).to_vec()) }
    }

    #[test]
    fn literals_and_both_origins() {
        let int = |bits, unsigned| Kind::Integer { bits, unsigned };
        let decimal = |precision, scale| Kind::Decimal { precision, scale };
        let timestamp = |fsp, zone| Kind::Timestamp { fsp, zone };
        for (kind, row, log, literal) in [
            (int(32, false), Value::Int(-5), Value::Int(-5), "-5"),
            (int(64, false), t("-9223372036854775808"), Value::Int(i64::MIN), "-9223372036854775808"),
            (int(64, true), Value::UInt(u64::MAX), Value::Int(-1), "18446744073709551615"),
            (int(8, true), Value::Int(200), Value::Int(-56), "200"),
            (int(24, true), Value::Int(16_777_215), Value::Int(-1), "16777215"),
            (int(8, false), Value::Int(-56), Value::UInt(200), "-56"),
            (decimal(5, 2), t("-1.50"), t("-1.50"), "-1.50"),
            (decimal(5, 2), t("0.05"), t("+0.05"), "0.05"),
            (decimal(5, 0), t("0"), t("-0"), "0"),
            (decimal(30, 4), t("-12345678901234567890.0100"), t("-12345678901234567890.0100"), "-12345678901234567890.0100"),
            (
                decimal(30, 30),
                t("0.000000000000000000000000000001"),
                t("0.000000000000000000000000000001"),
                "0.000000000000000000000000000001",
            ),
            (Kind::Enum { labels: 3 }, Value::UInt(3), Value::Int(3), "3"),
            (Kind::Set { labels: 64 }, t("258"), b(&[2, 1]), "258"),
            (Kind::Bit, Value::UInt(258), b(&[1, 2]), "258"),
            (Kind::Set { labels: 64 }, Value::UInt(u64::MAX), b(&[255; 8]), "18446744073709551615"),
            (Kind::Year, Value::UInt(2024), t("2024"), "'2024'"),
            (Kind::Year, t("0000"), t("1900"), "'0000'"),
            (Kind::Date, t("2024-02-29"), Value::Date(2024, 2, 29, 0, 0, 0, 0), "'2024-02-29'"),
            (Kind::Date, Value::Date(0, 0, 0, 0, 0, 0, 0), t("0000-00-00"), "'0000-00-00'"),
            (Kind::DateTime { fsp: 0 }, t("2024-02-29 01:02:03"), Value::Date(2024, 2, 29, 1, 2, 3, 0), "'2024-02-29 01:02:03'"),
            (
                Kind::DateTime { fsp: 3 },
                t("9999-12-31 23:59:59.999"),
                Value::Date(9999, 12, 31, 23, 59, 59, 999_000),
                "'9999-12-31 23:59:59.999'",
            ),
            (timestamp(0, Zone::UTC), Value::Int(2_147_483_647), t("2147483647"), "'2038-01-19 03:14:07'"),
            (timestamp(6, Zone::UTC), t("1.000005"), t("1.000005"), "'1970-01-01 00:00:01.000005'"),
            (timestamp(0, Zone::UTC), Value::Int(0), t("0"), "'0000-00-00 00:00:00'"),
            (timestamp(0, Zone::Fixed(8 * 3600)), t("0"), t("0"), "'0000-00-00 00:00:00'"),
            (timestamp(3, Zone::UTC), t("1709208000.000"), Value::Int(1_709_208_000), "'2024-02-29 12:00:00.000'"),
            (timestamp(0, Zone::Fixed(13 * 3600)), t("1709208000"), Value::Int(1_709_208_000), "'2024-03-01 01:00:00'"),
            (timestamp(0, Zone::Fixed(-5 * 3600)), t("1704067200"), Value::Int(1_704_067_200), "'2023-12-31 19:00:00'"),
            (timestamp(6, Zone::Shifting), t("1709208000.123456"), t("1709208000.123456"), "1709208000.123456"),
            (timestamp(0, Zone::Shifting), t("0"), t("0"), "0"),
            (Kind::Time { fsp: 1 }, t("-838:59:59.0"), Value::Time(true, 34, 22, 59, 59, 0), "'-838:59:59.0'"),
            (Kind::Time { fsp: 0 }, Value::Time(false, 1, 1, 0, 0, 0), t("25:00:00"), "'25:00:00'"),
            (text_kind("latin1", "latin1_swedish_ci", false), b(b"\xe9 "), b(b"\xe9 "), "_latin1 X'E920'"),
            (text_kind("utf8mb4", "utf8mb4_bin", true), b(b"ab"), b(b"ab  "), "_utf8mb4 X'6162'"),
            (text_kind("utf16", "utf16_bin", true), b(b"\0a"), b(b"\0a\0 "), "_utf16 X'0061'"),
            (Kind::Binary { length: 4 }, b(b"a\0\0\0"), b(b"a"), "_binary X'61000000'"),
            (Kind::VarBinary, b(b"a\0"), b(b"a\0"), "_binary X'6100'"),
            (Kind::VarBinary, b(b""), b(b""), "_binary X''"),
        ] {
            let encoded = kind.encode(&row, Row).unwrap_or_else(|| panic!("{kind:?} {row:?}"));
            assert_eq!(Some(&encoded), kind.encode(&log, Log).as_ref(), "{kind:?} {row:?} {log:?}");
            assert_eq!(kind.literal(&encoded).as_deref(), Some(literal), "{kind:?}");
            if let Some(length) = kind.fixed_length() {
                assert_eq!(encoded.len(), length);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let int = Kind::Integer { bits: 8, unsigned: false };
        for (kind, value) in [
            (int.clone(), Value::Int(200)),
            (int, Value::NULL),
            (Kind::Decimal { precision: 5, scale: 2 }, t("1234.00")),
            (Kind::Decimal { precision: 5, scale: 2 }, t("1.005")),
            (Kind::Decimal { precision: 5, scale: 2 }, t("1e3")),
            (Kind::Decimal { precision: 5, scale: 2 }, t("-")),
            (Kind::Date, t("2024-13-01")),
            (Kind::Date, t("")),
            (Kind::Time { fsp: 0 }, t("839:00:00")),
            (Kind::Binary { length: 1 }, b(b"ab")),
            (Kind::Year, t("x")),
        ] {
            assert_eq!(kind.encode(&value, Row), None, "{kind:?} {value:?}");
        }
    }

    fn kinds() -> impl Strategy<Value = Kind> {
        prop_oneof![
            (prop::sample::select(vec![8_u8, 16, 24, 32, 64]), any::<bool>()).prop_map(|(bits, unsigned)| Kind::Integer { bits, unsigned }),
            (1_u8..=65, 0_u8..=30).prop_map(|(precision, scale)| Kind::Decimal { precision, scale: scale.min(precision) }),
            Just(Kind::Set { labels: 9 }),
            Just(Kind::Bit),
            Just(Kind::Year),
            Just(Kind::Date),
            (0_u8..=6).prop_map(|fsp| Kind::Time { fsp }),
            (0_u8..=6).prop_map(|fsp| Kind::DateTime { fsp }),
            (0_u8..=6).prop_map(|fsp| Kind::Timestamp { fsp, zone: Zone::UTC }),
            (0_u8..=6).prop_map(|fsp| Kind::Timestamp { fsp, zone: Zone::Fixed(-12_345) }),
            (0_u8..=6).prop_map(|fsp| Kind::Timestamp { fsp, zone: Zone::Shifting }),
            Just(Kind::Binary { length: 5 }),
            Just(Kind::VarBinary),
        ]
    }

    fn values() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::NULL),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::UInt),
            any::<f64>().prop_map(Value::Double),
            prop::collection::vec(any::<u8>(), 0..12).prop_map(Value::Bytes),
            "-?[0-9.:-]{0,24}".prop_map(|s| Value::Bytes(s.into_bytes())),
            any::<(u16, u8, u8, u8, u8, u8, u32)>().prop_map(|(a, b, c, d, e, f, g)| Value::Date(a, b, c, d, e, f, g)),
            any::<(bool, u32, u8, u8, u8, u32)>().prop_map(|(a, b, c, d, e, f)| Value::Time(a, b, c, d, e, f)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn never_panics(kind in kinds(), value in values(), raw in prop::collection::vec(any::<u8>(), 0..70)) {
            for origin in [Row, Log] {
                if let Some(encoded) = kind.encode(&value, origin) {
                    prop_assert!(kind.literal(&encoded).is_some());
                }
            }
            let _ = kind.literal(&raw);
        }

        #[test]
        fn integers_keep_their_order(a in any::<i64>(), b in any::<i64>()) {
            let kind = Kind::Integer { bits: 64, unsigned: false };
            prop_assert_eq!(kind.encode(&Value::Int(a), Row).cmp(&kind.encode(&Value::Int(b), Row)), a.cmp(&b));
            let kind = Kind::Integer { bits: 64, unsigned: true };
            prop_assert_eq!(kind.encode(&Value::UInt(a as u64), Row).cmp(&kind.encode(&Value::UInt(b as u64), Row)), (a as u64).cmp(&(b as u64)));
        }

        #[test]
        fn decimals_keep_their_order(a in -99_999_999_i64..=99_999_999, b in -99_999_999_i64..=99_999_999, precision in prop::sample::select(vec![8_u8, 18, 19, 65])) {
            let write = |n: i64| t(&format!("{}{}.{:03}", if n < 0 { "-" } else { "" }, n.abs() / 1000, n.abs() % 1000));
            let kind = Kind::Decimal { precision, scale: 3 };
            let (x, y) = (kind.encode(&write(a), Row).unwrap(), kind.encode(&write(b), Row).unwrap());
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(kind.literal(&x).map(|l| kind.encode(&t(&l), Row)), Some(Some(x.clone())));
        }

        #[test]
        fn times_keep_their_order(a in -MAX_TIME..=MAX_TIME, b in -MAX_TIME..=MAX_TIME) {
            let kind = Kind::Time { fsp: 6 };
            let encode = |n| kind.encode(&t(&write_time(n, 6).unwrap()), Row).unwrap();
            prop_assert_eq!(encode(a).cmp(&encode(b)), a.cmp(&b));
        }

        #[test]
        fn timestamps_keep_their_order(a in 1_i64..(1 << 32), b in 1_i64..(1 << 32)) {
            let kind = Kind::Timestamp { fsp: 0, zone: Zone::Shifting };
            let encode = |n: i64| kind.encode(&t(&n.to_string()), Log).unwrap();
            prop_assert_eq!(encode(a).cmp(&encode(b)), a.cmp(&b));
            prop_assert_eq!(kind.literal(&encode(a)).unwrap(), a.to_string());
            let civil = Civil::from_seconds(a, 0).unwrap();
            prop_assert_eq!(civil.epoch(), Some(a));
        }
    }
}
