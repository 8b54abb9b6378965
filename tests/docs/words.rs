//! Words that a program may read: phases and Event reasons on the page are those of the code. And words that people read are plain ones.

use crate::{page, root, section_of};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};
use theseus::controller::visit::status::PHASES;

/// Turns that read as a translation, and what to write. Small, so that nothing right is ever on it.
const TURNS: &[(&str, &str)] = &[
    ("anew", "again, from the start, recreated"),
    ("afresh", "again, from the start"),
    ("of no use", "not usable"),
    ("whoever", "the session, client or user that"),
    ("somebody", "someone, or who it is"),
    ("nobody", "no session, no client, no user"),
    ("everybody", "all users, all accounts"),
    ("makes no sense", "is not valid"),
    ("make no sense", "are not valid"),
    ("mend", "fix"),
    ("let go", "released, removed"),
    ("goes on with", "continues with, resumes"),
    ("go on with", "continue with, resume"),
    ("goes on from there", "resumes"),
    ("goes by", "uses, is based on"),
    ("is looked at", "is checked, is read"),
    ("are looked at", "are checked, are read"),
    ("not looked at", "not checked, ignored"),
    ("looks after", "manages, watches"),
    ("look whether", "check whether"),
    ("see whether", "check whether"),
    ("is told", "is reported, is notified"),
    ("are told", "are reported, are notified"),
    ("nothing tells", "nothing shows"),
    ("taken up", "resumed"),
    ("took up", "resumed"),
    ("takes up the work", "resumes"),
    ("held back", "throttled, blocked"),
    ("holds the copying", "throttles the copy"),
    ("holds copying", "stops copying"),
    ("as it was", "unchanged"),
    ("is of another", "has a different"),
    ("stop for good", "cancel"),
    ("failed for good", "failed"),
    ("was given up", "was abandoned"),
    ("is in the way", "blocks"),
    ("are in the way", "block"),
    ("without a word", "silently"),
];

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

/// The turns in a text, each as "where: turn (instead: …)".
fn turns<'a>(place: &'a str, text: &str) -> impl Iterator<Item = String> + 'a {
    let text = text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    TURNS.iter().filter_map(move |(turn, instead)| {
        let whole = text.match_indices(turn).any(|(at, _)| {
            let beside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            !beside(text[..at].chars().next_back()) && !beside(text[at + turn.len()..].chars().next())
        });
        whole.then(|| format!("{place}: {turn} (instead: {instead})"))
    })
}

/// What stands between double quotes in a source, without comments.
fn strings(source: &str) -> String {
    let (mut found, mut rest) = (String::new(), source);
    while let Some(at) = rest.find(['"', '/', '\'']) {
        rest = &rest[at..];
        if rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if rest.starts_with("'\"'") {
            rest = &rest[3..];
        } else if let Some(text) = rest.strip_prefix('"') {
            let mut escaped = false;
            let end = text.find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            let end = end.expect("a string ends");
            found += &text[..end].replace('\\', " ");
            found.push('\n');
            rest = &text[end + 1..];
        } else {
            rest = &rest[1..];
        }
    }
    found
}

fn pages(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages(&path, endings, found);
        } else if path.extension().is_some_and(|extension| endings.iter().any(|ending| extension == *ending)) {
            found.push(path);
        }
    }
}

/// What a DBA reads is written as a DBA writes: the pages, the CRDs, the chart, the examples, `--help`, and every string in the sources.
#[test]
fn what_people_read_is_in_plain_words() {
    assert_eq!(
        turns("here", "The\n  copy starts anew; remaining manew").collect::<Vec<_>>().len(),
        1,
        "a turn is found, a part of a word is not"
    );
    let mut found = Vec::new();
    let mut files: Vec<PathBuf> = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root().join(name)).into();
    pages(&root().join("docs"), &["md"], &mut files);
    pages(&root().join("charts"), &["md", "txt", "json"], &mut files);
    for folder in ["examples", "crds"] {
        pages(&root().join(folder), &["yaml"], &mut files);
    }
    for file in &files {
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        found.extend(turns(&name, &std::fs::read_to_string(file).unwrap()));
    }
    let mut command = <theseus::cli::Cli as clap::CommandFactory>::command();
    for command in std::iter::once(command.clone()).chain(command.get_subcommands_mut().map(|sub| sub.clone())) {
        let name = format!("theseus {} --help", command.get_name());
        found.extend(turns(&name, &command.clone().render_long_help().to_string()));
    }
    let mut sources = Vec::new();
    pages(&root().join("src"), &["rs"], &mut sources);
    for file in sources.iter().filter(|file| !file.to_string_lossy().ends_with("tests.rs")) {
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        // Test modules come last in a file.
        let text = std::fs::read_to_string(file).unwrap();
        found.extend(turns(&name, &strings(text.split("#[cfg(test)]").next().unwrap())));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// What follows where an account is not shown something, as the program knows it.
#[test]
fn the_server_page_lists_what_is_not_seen() {
    use theseus::engine::table::sight::{Fact, Without};
    let mut table = String::from("| what | needed privileges | without them |\n|---|---|---|\n");
    for fact in Fact::ALL {
        let then = match fact.without() {
            Without::Refused => format!("refused: {}", fact.consequence()),
            Without::Said => format!("reported once: {}", fact.consequence()),
        };
        table += &format!("| {} | {} | {then} |\n", fact.what(), fact.privileges());
    }
    crate::made_part("docs/reference/mysqlserver.md", "sight", &table);
}
