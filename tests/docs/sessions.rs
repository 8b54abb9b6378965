//! The page of session variables has each of them, as the engine treats it.

use crate::made_part;
use std::fmt::Write as _;
use theseus::mysql::variables::GROUPS;

#[test]
fn the_page_has_every_variable() {
    let mut table = String::from("| variables | class | why |\n|---|---|---|\n");
    for group in GROUPS {
        let names: Vec<String> = group.names.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(table, "| {} | {} | {} |", names.join(", "), group.class.words(), group.why);
    }
    made_part("docs/reference/sessions.md", "variables", &table);
}
