//! The pages under `docs/`, the README and the examples say what the program does, no more and no less.
//!
//! Where a page holds a table made from the program, `THESEUS_UPDATE=1 cargo test --test docs` writes it again.
#![allow(clippy::unwrap_used)]

mod examples;
mod fields;
mod links;
mod metrics;
mod reasons;
mod sessions;
mod versions;
mod words;

use std::{collections::BTreeSet, path::Path};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands in `code` font in the headings of this level; each only once.
fn headings(page: &str, level: &str) -> BTreeSet<String> {
    let names: Vec<String> =
        page.lines().filter_map(|line| line.strip_prefix(level)?.strip_prefix(" `")?.strip_suffix('`')).map(str::to_owned).collect();
    let set: BTreeSet<String> = names.iter().cloned().collect();
    assert_eq!(set.len(), names.len(), "a heading is there twice: {names:?}");
    set
}

/// The text under a heading, up to the next one of the same or a higher level.
fn section<'a>(page: &'a str, level: &str, name: &str) -> &'a str {
    section_of(page, &format!("{level} `{name}`"))
}

/// The text under a heading that is written like this.
fn section_of<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    let level = heading.chars().take_while(|c| *c == '#').count();
    let end = (1..=level).filter_map(|depth| rest.find(&format!("\n{} ", "#".repeat(depth)))).min().unwrap_or(rest.len());
    &rest[..end]
}

/// Holds the text between the two marks called `name` equal to `made`, or writes it.
fn made_part(path: &str, name: &str, made: &str) {
    let text = page(path);
    let begin = format!("<!-- {name}: made by THESEUS_UPDATE=1 cargo test --test docs -->\n");
    let end = format!("<!-- end of {name} -->");
    let (_, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{path} has no line {begin}"));
    let (present, _) = rest.split_once(&end).unwrap_or_else(|| panic!("{path} has no line {end}"));
    if std::env::var_os("THESEUS_UPDATE").is_some() {
        // Put in place whole: the other tests read the page at the same time. Two parts of one page are written one after the other.
        static WRITING: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _one = WRITING.lock().unwrap();
        let text = page(path);
        let (before, rest) = text.split_once(&begin).unwrap();
        let (_, after) = rest.split_once(&end).unwrap();
        let written = root().join(format!("{path}.new"));
        std::fs::write(&written, format!("{before}{begin}{made}{end}{after}")).unwrap();
        std::fs::rename(written, root().join(path)).unwrap();
    } else {
        assert!(present == made, "{path}: the part {name} is out of date: THESEUS_UPDATE=1 cargo test --test docs\nit should be:\n{made}");
    }
}
