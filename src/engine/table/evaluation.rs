//! In which settings rows are copied and compared: what of a new row depends on the time zone, on the present time, or on which dates the
//! server takes. Pure.
//!
//! Whatever is not sure counts as depending: that costs a little, and is never wrong.

use super::inspector::Inspected;
use crate::mysql::{RowSettings, ServerValues};
use crate::sql::key::Zone;
use crate::sql::mapping::{ColumnMapping, FilledColumn};
use crate::sql::table::{Column, ColumnType, Generated, TableDefinition};

/// A column that the change adds with `DEFAULT CURRENT_TIMESTAMP`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NowDefault {
    /// Its name on the ghost.
    pub column: String,
    /// TIMESTAMP, else DATETIME.
    pub timestamp: bool,
    /// Its digits after the point.
    pub fsp: u8,
}

/// How rows of this migration are evaluated.
pub fn row_settings(values: &ServerValues, original: &TableDefinition, ghost: &Inspected, mapping: &ColumnMapping) -> RowSettings {
    use ColumnType as T;
    let new = &ghost.definition;
    let pairs: Vec<(&Column, &Column)> =
        mapping.shared.iter().filter_map(|c| Some((original.column(&c.original)?, new.column(&c.ghost)?))).collect();
    let any = |of: fn(&T) -> bool| original.columns.iter().chain(&new.columns).any(|c| of(&c.column_type));
    let is_timestamp = |t: &T| matches!(t, T::Timestamp { .. });
    let computed =
        new.columns.iter().any(|c| c.generated != Generated::No) || new.indexes.iter().any(|i| i.parts.iter().any(|p| p.column.is_none()));
    let added_expression = mapping.added.iter().any(|name| has_default_expression(&ghost.show_create, name));
    let evaluated = computed || added_expression || ghost.show_create.contains("CHECK (");
    let with_date = |t: &T| matches!(t, T::Date | T::DateTime { .. } | T::Timestamp { .. });
    let is_time = |t: &T| matches!(t, T::Time { .. });
    // A TIME becomes a moment of today.
    let dated =
        pairs.iter().any(|(from, to)| is_time(&from.column_type) && (with_date(&to.column_type) || matches!(to.column_type, T::Year)));
    let fixed_time = dated || added_expression || evaluated && any(|t| matches!(t, T::Time { .. }));
    let moved = pairs.iter().any(|(from, to)| is_timestamp(&from.column_type) != is_timestamp(&to.column_type));
    let in_zone = moved || fixed_time || evaluated && any(|t| matches!(t, T::Timestamp { .. }));
    let made = computed
        || added_expression
        || pairs.iter().any(|(from, to)| with_date(&to.column_type) && from.column_type != to.column_type)
        || mapping.filled.iter().any(|c| new.column(&c.ghost).is_some_and(|c| with_date(&c.column_type)));
    // A zone that never shifts costs nothing, so nothing is left to be sure of.
    RowSettings { values: values.clone(), in_servers_zone: in_zone || values.offset.is_some(), any_date: !made, fixed_time }
}

/// The zone that keys are written in.
pub fn zone(rows: &RowSettings) -> Zone {
    match (rows.in_servers_zone, rows.values.offset) {
        (false, _) => Zone::UTC,
        (true, Some(offset)) => Zone::Fixed(offset),
        (true, None) => Zone::Shifting,
    }
}

/// The value of such a column in every row that is there: the moment at which the migration began.
pub fn filled(rows: &RowSettings, default: &NowDefault) -> FilledColumn {
    let fsp = usize::from(default.fsp);
    let cut = |text: &str| match text.split_once('.') {
        Some((whole, _)) if fsp == 0 => whole.to_owned(),
        Some((whole, fraction)) => format!("{whole}.{}", fraction.get(..fsp).unwrap_or(fraction)),
        None => text.to_owned(),
    };
    let value = if !default.timestamp {
        format!("'{}'", cut(&rows.values.now_there))
    } else if zone(rows) == Zone::Shifting {
        let (seconds, fraction) = rows.values.now.split_once('.').unwrap_or((&rows.values.now, ""));
        let micros = format!("{:0<6}", fraction.get(..fsp).unwrap_or(fraction));
        format!("CONCAT(TIMESTAMPADD(MICROSECOND, {seconds}{micros}, '1970-01-01 00:00:00'), '+00:00')")
    } else {
        format!("FROM_UNIXTIME({})", cut(&rows.values.now))
    };
    FilledColumn { ghost: default.column.clone(), value }
}

/// Whether a column's line has `DEFAULT (expression)`.
fn has_default_expression(show_create: &str, column: &str) -> bool {
    let begin = format!("  {} ", crate::sql::quote::identifier(column));
    show_create.lines().any(|line| line.starts_with(&begin) && line.contains(" DEFAULT ("))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::alter::Alter;
    use crate::sql::mapping::tests::column;

    fn settings(from: ColumnType, to: ColumnType, show_create: &str, alter: &str, offset: Option<i32>) -> RowSettings {
        let table = |t| TableDefinition { name: "t".into(), columns: vec![column("a", t)], indexes: vec![] };
        let (original, mut new) = (table(from), table(to));
        if alter.contains("ADD b") {
            new.columns.push(column("b", ColumnType::Text));
        }
        let mapping = ColumnMapping::new(&original, &new, &Alter::parse(alter).unwrap()).unwrap();
        let ghost = Inspected {
            definition: new,
            show_create: show_create.into(),
            rows_estimated: 0,
            bytes_estimated: 0,
            table_id: None,
            foreign_keys: Vec::new(),
            partitioned: false,
        };
        row_settings(&ServerValues { offset, ..ServerValues::default() }, &original, &ghost, &mapping)
    }

    #[test]
    fn what_a_value_depends_on() {
        use ColumnType as T;
        let (int, date, time) = (T::Integer { bits: 32, unsigned: false }, T::Date, T::Time { fsp: 0 });
        let (datetime, timestamp) = (T::DateTime { fsp: 0 }, T::Timestamp { fsp: 0 });
        // from, to, SHOW CREATE, ALTER → in the server's zone, any date, at a fixed time
        for (from, to, shown, alter, want) in [
            (&int, &int, "", "FORCE", (false, true, false)),
            (&timestamp, &timestamp, "", "FORCE", (false, true, false)),
            (&timestamp, &datetime, "", "MODIFY a DATETIME", (true, false, false)),
            (&timestamp, &timestamp, "  CONSTRAINT `c` CHECK (hour(`a`) > 1)", "FORCE", (true, true, false)),
            (&time, &datetime, "", "MODIFY a DATETIME", (true, false, true)),
            (&date, &datetime, "", "MODIFY a DATETIME", (false, false, false)),
            (&date, &date, "", "FORCE", (false, true, false)),
            (&int, &date, "", "MODIFY a DATE", (false, false, false)),
            (&int, &int, "  `b` text DEFAULT (now()),", "ADD b TEXT", (true, false, true)),
            (&int, &int, "  `a` int DEFAULT (1),\n  `b` text,", "ADD b TEXT", (false, true, false)),
        ] {
            let found = settings(from.clone(), to.clone(), shown, alter, None);
            assert_eq!((found.in_servers_zone, found.any_date, found.fixed_time), want, "{from:?} to {to:?}, {alter}, {shown}");
        }
        let fixed = settings(int.clone(), int, "", "FORCE", Some(28_800));
        assert_eq!(zone(&fixed), Zone::Fixed(28_800));
    }

    #[test]
    fn the_moment_of_the_beginning_is_cut_as_the_server_cuts_it() {
        let values =
            ServerValues { now: "1709208000.987654".into(), now_there: "2024-02-29 20:00:00.987654".into(), ..ServerValues::default() };
        let mut rows = RowSettings { values, in_servers_zone: true, any_date: true, fixed_time: false };
        let value = |rows: &RowSettings, timestamp, fsp| filled(rows, &NowDefault { column: "c".into(), timestamp, fsp }).value;
        assert_eq!(value(&rows, false, 0), "'2024-02-29 20:00:00'");
        assert_eq!(value(&rows, false, 3), "'2024-02-29 20:00:00.987'");
        assert_eq!(value(&rows, true, 3), "CONCAT(TIMESTAMPADD(MICROSECOND, 1709208000987000, '1970-01-01 00:00:00'), '+00:00')");
        rows.values.offset = Some(28_800);
        assert_eq!(value(&rows, true, 0), "FROM_UNIXTIME(1709208000)");
    }
}
