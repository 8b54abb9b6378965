//! What gives a table without a usable key one: a statement that is ready to run.
use super::super::quote;
use super::super::table::{ColumnType, TableDefinition};
use super::choose::stands_alone;

/// As the server's own generated invisible primary key is called.
const COLUMN: &str = "my_row_id";

/// The statement; `None` for a table that has a usable key (the ALTER takes it away), or where no statement is sure to be accepted.
///
/// Mostly it adds a column of numbers that `SELECT *` and INSERT without a list of columns do not see; before MySQL 8.0.23 (`invisible` is
/// false) there are no such columns. A table has one AUTO_INCREMENT column at most: where there is one, it becomes the key.
pub fn propose(database: &str, table: &TableDefinition, partitioned: bool, invisible: bool) -> Option<String> {
    // Each unique key of a partitioned table has all columns that it is partitioned by.
    if partitioned || stands_alone(table) {
        return None;
    }
    let has_primary = table.indexes.iter().any(|i| i.name.eq_ignore_ascii_case("PRIMARY"));
    let statement = |clause: String| Some(format!("ALTER TABLE {} {clause}", quote::qualified(database, &table.name)));
    if let Some(numbered) = table.columns.iter().find(|c| c.auto_increment) {
        let integer = matches!(numbered.column_type, ColumnType::Integer { .. });
        let kind = if has_primary { "UNIQUE INDEX" } else { "PRIMARY KEY" };
        return if integer { statement(format!("ADD {kind} ({})", quote::identifier(&numbered.name))) } else { None };
    }
    let names = std::iter::once(COLUMN.to_owned()).chain((2..).map(|n| format!("{COLUMN}_{n}")));
    let name = names.into_iter().find(|name| table.column(name).is_none())?;
    let hidden = if invisible { " INVISIBLE" } else { "" };
    let kind = if has_primary { "UNIQUE KEY" } else { "PRIMARY KEY" };
    statement(format!("ADD COLUMN {} BIGINT UNSIGNED NOT NULL AUTO_INCREMENT{hidden} {kind}", quote::identifier(&name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::mapping::tests::{INT, column};
    use crate::sql::table::{Column, Index, IndexPart};

    #[test]
    fn the_statement_suits_the_table() {
        let not_null = |name: &str| Column { nullable: false, ..column(name, INT) };
        let numbered = |name: &str| Column { auto_increment: true, ..not_null(name) };
        let float = || Column { nullable: false, ..column("f", ColumnType::Float { double: true }) };
        let index = |name: &str, unique: bool, on: &str| {
            let parts = vec![IndexPart { column: Some(on.to_owned()), prefix: None, descending: false }];
            Index { name: name.to_owned(), unique, visible: true, kind: "BTREE".to_owned(), parts }
        };
        let of = |columns: Vec<Column>, indexes: Vec<Index>, partitioned, invisible| {
            propose("d", &TableDefinition { name: "t".to_owned(), columns, indexes }, partitioned, invisible)
        };
        let whole = |clause: &str| Some(format!("ALTER TABLE `d`.`t` {clause}"));
        let numbers = "BIGINT UNSIGNED NOT NULL AUTO_INCREMENT";
        assert_eq!(
            of(vec![column("a", INT)], vec![], false, true),
            whole(&format!("ADD COLUMN `my_row_id` {numbers} INVISIBLE PRIMARY KEY"))
        );
        assert_eq!(of(vec![column("a", INT)], vec![], false, false), whole(&format!("ADD COLUMN `my_row_id` {numbers} PRIMARY KEY")));
        assert_eq!(
            of(vec![column("My_Row_Id", INT)], vec![], false, true),
            whole(&format!("ADD COLUMN `my_row_id_2` {numbers} INVISIBLE PRIMARY KEY"))
        );
        assert_eq!(
            of(vec![float()], vec![index("PRIMARY", true, "f")], false, true),
            whole(&format!("ADD COLUMN `my_row_id` {numbers} INVISIBLE UNIQUE KEY"))
        );
        assert_eq!(of(vec![numbered("n")], vec![index("k", false, "n")], false, true), whole("ADD PRIMARY KEY (`n`)"));
        let both = vec![index("PRIMARY", true, "f"), index("k", false, "n")];
        assert_eq!(of(vec![float(), numbered("n")], both, false, true), whole("ADD UNIQUE INDEX (`n`)"));
        assert_eq!(of(vec![not_null("id")], vec![index("PRIMARY", true, "id")], false, true), None, "it has a key");
        assert_eq!(of(vec![column("a", INT)], vec![], true, true), None);
    }
}
