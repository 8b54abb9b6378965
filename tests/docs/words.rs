//! Words that a program may read: phases and Event reasons on the page are those of the code.

use crate::{page, root, section_of};
use std::{collections::BTreeSet, path::Path};
use theseus::controller::visit::status::PHASES;

/// What stands in `code` font.
fn code(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_page_has_every_phase_and_no_other() {
    let page = page("docs/reference/schemamigration.md");
    let (_, rest) = page.split_once("is one of these words:\n").unwrap();
    let words = code(rest.split("\n\n").next().unwrap());
    assert_eq!(words, PHASES.iter().map(|word| (*word).to_owned()).collect());
}

fn sources(folder: &Path, texts: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            // Test modules come last in a file.
            let text = std::fs::read_to_string(&path).unwrap();
            texts.push(text.split("#[cfg(test)]").next().unwrap().to_owned());
        }
    }
}

#[test]
fn the_page_has_every_event_and_no_other() {
    let mut texts = Vec::new();
    for room in ["src/controller", "src/engine"] {
        sources(&root().join(room), &mut texts);
    }
    let mut used = BTreeSet::new();
    for text in &texts {
        // rustfmt may put the reason on the next line.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ").replace("( ", "(");
        for call in ["Note::normal(\"", "Note::warning(\""] {
            used.extend(text.split(call).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
    }
    // The engine's own have one place.
    assert!(texts.iter().all(|text| !text.contains(".notice(\"")), "a notice whose word is not in engine::contract::notice");
    used.extend(theseus::engine::contract::notice::ALL.iter().map(|word| (*word).to_owned()));
    assert!(used.contains("Swapped") && used.contains("Queued"), "{used:?}");
    let page = page("docs/reference/schemamigration.md");
    let table: String = section_of(&page, "## Events")
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split('|').next())
        .map(|cell| format!("`{cell}"))
        .collect();
    assert_eq!(code(&table), used);
}

/// What follows where an account is not shown something, as the program knows it.
#[test]
fn the_server_page_tells_what_is_not_seen() {
    use theseus::engine::table::sight::{Fact, Without};
    let mut table = String::from("| what | what shows it | without it |\n|---|---|---|\n");
    for fact in Fact::ALL {
        let then = match fact.without() {
            Without::Refused => format!("refused: {}", fact.consequence()),
            Without::Said => format!("said once: {}", fact.consequence()),
        };
        table += &format!("| {} | {} | {then} |\n", fact.what(), fact.privileges());
    }
    crate::made_part("docs/reference/mysqlserver.md", "sight", &table);
}
