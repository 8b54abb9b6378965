//! Holds the arrows between the rooms under `src/`: who may use whom, and which libraries belong where.
//!
//! It reads the sources as text with comments and strings taken out, so it also sees what the compiler has no opinion on: a path in a test
//! module, in a macro's argument, behind a `cfg`. What it must find and what it must leave alone is tested with samples at the end.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
};

/// One folder under `src/` (or `main` for the programs' own files): which rooms it may use, and which libraries it must not.
struct Room {
    name: &'static str,
    may_use: &'static [&'static str],
    without: &'static [&'static str],
}

/// Libraries that talk to Kubernetes, and those that are only about its types.
const KUBERNETES: [&str; 4] = ["kube", "k8s_openapi", "kube_runtime", "kube_client"];

/// From top to bottom: a room may only use rooms that stand below it, so there is no cycle (a test holds that too).
const ROOMS: &[Room] = &[
    Room { name: "main", may_use: &["cli", "telemetry"], without: &["kube", "k8s_openapi", "mysql_async", "axum"] },
    Room { name: "cli", may_use: &["controller", "api", "engine", "mysql", "sql", "http", "telemetry"], without: &[] },
    Room { name: "controller", may_use: &["api", "engine", "mysql", "sql", "http", "telemetry"], without: &["clap", "indicatif", "axum"] },
    // What people type and read: types and pure functions.
    Room { name: "api", may_use: &[], without: &["tokio", "tokio_util", "futures", "mysql_async", "axum", "clap", "prometheus_client"] },
    // The engine knows no Kubernetes: `theseus run` is a second front end to it.
    Room {
        name: "engine",
        may_use: &["mysql", "sql", "telemetry"],
        without: &["kube", "k8s_openapi", "schemars", "clap", "indicatif", "axum", "prometheus_client"],
    },
    Room {
        name: "mysql",
        may_use: &["sql", "telemetry"],
        without: &["kube", "k8s_openapi", "schemars", "clap", "indicatif", "axum", "prometheus_client"],
    },
    // Pure: nothing waits, nothing connects.
    Room {
        name: "sql",
        may_use: &[],
        without: &["tokio", "tokio_util", "futures", "kube", "k8s_openapi", "schemars", "clap", "axum", "tracing"],
    },
    Room { name: "http", may_use: &["telemetry"], without: &["kube", "k8s_openapi", "mysql_async", "clap"] },
    Room {
        name: "telemetry",
        may_use: &[],
        without: &["tokio", "tokio_util", "futures", "kube", "k8s_openapi", "mysql_async", "axum", "clap"],
    },
];

/// The rooms inside a room, from top to bottom: each may use those below it and nothing of the folder's own `mod.rs`, so there is no circle.
const INNER: &[(&str, &[&str])] = &[
    ("engine", &["lifecycle", "preflight", "cutover", "rows", "throttle", "state", "table", "outside", "contract"]),
    ("controller", &["lead", "visit", "fleet", "intake"]),
];

/// What a file in an inner room breaks by using `name` of the room around it.
fn inner_violation(file: &str, name: &str) -> Option<String> {
    let mut parts = file.split('/');
    let (outer, inner) = (parts.next()?, parts.next()?);
    let order = INNER.iter().find(|(room, _)| *room == outer)?.1;
    if inner == "mod.rs" {
        return None;
    }
    let Some(here) = order.iter().position(|room| *room == inner) else {
        return Some(format!(
            "{file}: {outer}/{inner} is no room of {outer}; put it into one, or say in tests/architecture.rs where it stands"
        ));
    };
    match order.iter().position(|room| *room == name) {
        Some(there) if there >= here => None,
        Some(_) => Some(format!("{file}: {outer}/{inner} must not use {outer}/{name}, which stands above it")),
        None => Some(format!("{file}: {outer}/{inner} must not use {outer}::{name}, which is not in a room below it")),
    }
}

/// Parts of the crate `kube` that reach a cluster. Everybody else who may use `kube` uses its derives and traits.
const KUBE_CLIENT: [&str; 10] = ["Client", "Api", "client", "api", "runtime", "Config", "config", "Discovery", "discovery", "Error"];

/// The only places that reach a cluster.
fn may_reach_a_cluster(file: &str) -> bool {
    file.starts_with("controller/") || file == "cli/operator.rs" || file.starts_with("cli/operator/") || file == "bin/kubectl-theseus.rs"
}

fn room(name: &str) -> Option<&'static Room> {
    ROOMS.iter().find(|room| room.name == name)
}

// --- reading a source -------------------------------------------------------------------------------------

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `::`
    Path,
    Open,
    Close,
    Comma,
    /// `>`, which may end the arguments of a generic before `::`.
    Angle,
    Other,
}

/// Words and punctuation without comments, strings, characters and lifetimes. What it does not understand is `Other`.
fn tokens(source: &str) -> Vec<Token> {
    read(source).0
}

/// The texts of strings, as they are written.
fn strings(source: &str) -> Vec<String> {
    read(source).1
}

fn read(source: &str) -> (Vec<Token>, Vec<String>) {
    let text: Vec<char> = source.chars().collect();
    let at = |i: usize| text.get(i).copied().unwrap_or('\0');
    let (mut tokens, mut strings) = (Vec::new(), Vec::new());
    let of = |from: usize, to: usize| text[from.min(text.len())..to.min(text.len())].iter().collect::<String>();
    let mut i = 0;
    while i < text.len() {
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < text.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= text.len() {
                        break;
                    }
                }
            }
            '"' => {
                let start = i + 1;
                i = after_string(&text, i);
                strings.push(of(start, i - 1));
            }
            'r' | 'b' | 'c' if raw_string_hashes(&text, i).is_some() => {
                let (start, hashes) = raw_string_hashes(&text, i).unwrap();
                let end: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                i = start;
                while i < text.len() && !end.chars().enumerate().all(|(k, c)| at(i + k) == c) {
                    i += 1;
                }
                strings.push(of(start, i));
                i += end.len();
            }
            'b' | 'c' if at(i + 1) == '"' => {
                let start = i + 2;
                i = after_string(&text, i + 1);
                strings.push(of(start, i - 1));
            }
            // 'a' and '\n' are characters, 'a without an end is a lifetime.
            '\'' if at(i + 1) == '\\' => {
                i += 3;
                while i < text.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            '\'' if at(i + 2) == '\'' => i += 3,
            '\'' => i += 1,
            c if c.is_alphabetic() || c == '_' => {
                let start = i;
                while at(i).is_alphanumeric() || at(i) == '_' {
                    i += 1;
                }
                tokens.push(Token::Word(text[start..i].iter().collect()));
            }
            ':' if at(i + 1) == ':' => {
                tokens.push(Token::Path);
                i += 2;
            }
            c => {
                match c {
                    '{' => tokens.push(Token::Open),
                    '}' => tokens.push(Token::Close),
                    ',' => tokens.push(Token::Comma),
                    '>' => tokens.push(Token::Angle),
                    c if c.is_whitespace() => {}
                    _ => tokens.push(Token::Other),
                }
                i += 1;
            }
        }
    }
    (tokens, strings)
}

fn after_string(text: &[char], mut i: usize) -> usize {
    i += 1;
    while i < text.len() && text[i] != '"' {
        i += if text[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// `r"`, `r#"`, `br##"` …: where its content begins, and how many hashes end it.
fn raw_string_hashes(text: &[char], i: usize) -> Option<(usize, usize)> {
    if i > 0 && (text[i - 1].is_alphanumeric() || text[i - 1] == '_') {
        return None;
    }
    let mut j = if matches!(text[i], 'b' | 'c') { i + 1 } else { i };
    if text.get(j) != Some(&'r') {
        return None;
    }
    j += 1;
    let hashes = text[j..].iter().take_while(|c| **c == '#').count();
    (text.get(j + hashes) == Some(&'"')).then_some((j + hashes + 1, hashes))
}

/// The first names after a path's beginning: `a` of `::a::b`, `a` and `c` of `::{a::b, c}`.
fn names_after(tokens: &[Token], mut i: usize) -> Vec<&str> {
    if tokens.get(i) != Some(&Token::Path) {
        return Vec::new();
    }
    i += 1;
    match tokens.get(i) {
        Some(Token::Word(name)) => vec![name],
        Some(Token::Open) => {
            let (mut names, mut depth, mut fresh) = (Vec::new(), 0, false);
            for token in &tokens[i..] {
                match token {
                    Token::Open => (depth, fresh) = (depth + 1, depth == 0),
                    Token::Close => depth -= 1,
                    Token::Comma => fresh = depth == 1,
                    Token::Word(name) if fresh => {
                        names.push(name.as_str());
                        fresh = false;
                    }
                    _ => fresh = false,
                }
                if depth == 0 {
                    break;
                }
            }
            names
        }
        _ => Vec::new(),
    }
}

/// The names one step further: `b` of `::a::b` and of `::a::{b}`, where the first name is `room`.
fn names_inside(tokens: &[Token], i: usize, room: &str) -> Vec<String> {
    match (tokens.get(i), tokens.get(i + 1)) {
        (Some(Token::Path), Some(Token::Word(word))) if word == room => names_after(tokens, i + 2).into_iter().map(str::to_owned).collect(),
        // `crate::{engine::{a, b::c}, mysql}`
        (Some(Token::Path), Some(Token::Open)) => {
            let mut names = Vec::new();
            let mut depth = 0;
            for (k, token) in tokens.iter().enumerate().skip(i + 1) {
                match token {
                    Token::Open => depth += 1,
                    Token::Close => depth -= 1,
                    Token::Word(word) if depth == 1 && word == room && matches!(tokens[k - 1], Token::Open | Token::Comma) => {
                        names.extend(names_after(tokens, k + 1).into_iter().map(str::to_owned));
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
            names
        }
        _ => Vec::new(),
    }
}

/// The path that begins at `i`, once for each name in its braces.
fn paths(tokens: &[Token], i: usize) -> Vec<Vec<String>> {
    fn part(tokens: &[Token], i: &mut usize) -> Vec<Vec<String>> {
        match tokens.get(*i) {
            Some(Token::Word(word)) => {
                *i += 1;
                if tokens.get(*i) != Some(&Token::Path) {
                    return vec![vec![word.clone()]];
                }
                *i += 1;
                let rest = part(tokens, i);
                let all = rest.into_iter().map(|rest| [vec![word.clone()], rest].concat()).collect::<Vec<_>>();
                if all.is_empty() { vec![vec![word.clone()]] } else { all }
            }
            Some(Token::Open) => {
                *i += 1;
                let mut all = Vec::new();
                while !matches!(tokens.get(*i), None | Some(Token::Close)) {
                    let before = *i;
                    all.extend(part(tokens, i));
                    if *i == before {
                        *i += 1;
                    }
                }
                *i += 1;
                all
            }
            _ => Vec::new(),
        }
    }
    let mut at = i;
    part(tokens, &mut at)
}

/// Which of the other files of `outer` the file uses; `file` and what is returned are like `visit/plan`.
fn files_used(outer: &str, file: &str, source: &str, all: &BTreeSet<String>) -> BTreeSet<String> {
    let tokens = tokens(source);
    let (here, name) = file.split_once('/').unwrap_or(("", file));
    let mut used = BTreeSet::new();
    for i in (0..tokens.len()).filter(|i| path_begins(&tokens, *i)) {
        for path in paths(&tokens, i) {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let found = match path.as_slice() {
                ["crate" | "theseus", room, inner, file, ..] if *room == outer => format!("{inner}/{file}"),
                ["super", "super", inner, file, ..] => format!("{inner}/{file}"),
                ["super", file, ..] => format!("{here}/{file}"),
                _ => continue,
            };
            if found != format!("{here}/{name}") && all.contains(&found) {
                used.insert(found);
            }
        }
    }
    used
}

#[test]
fn no_two_files_of_the_controller_need_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/controller");
    let mut found = Vec::new();
    sources(&root, &mut found);
    let name = |path: &Path| path.strip_prefix(&root).unwrap().with_extension("").to_str().unwrap().replace('\\', "/");
    let files: Vec<(String, String)> = found
        .iter()
        .filter(|path| !path.ends_with("mod.rs") && !name(path).ends_with("_tests"))
        .map(|path| (name(path), std::fs::read_to_string(path).unwrap()))
        .collect();
    let all: BTreeSet<String> = files.iter().map(|(name, _)| name.clone()).collect();
    assert!(all.len() > 15, "only {all:?}");
    let mut left: Vec<(String, BTreeSet<String>)> =
        files.iter().map(|(name, source)| (name.clone(), files_used("controller", name, source, &all))).collect();
    assert!(left.iter().map(|(_, used)| used.len()).sum::<usize>() > 30, "hardly any arrow was seen: {left:?}");
    // What uses nothing that is left goes, until nothing is left.
    while !left.is_empty() {
        let names: BTreeSet<String> = left.iter().map(|(name, _)| name.clone()).collect();
        let before = left.len();
        left.retain(|(_, used)| used.iter().any(|name| names.contains(name)));
        assert!(left.len() < before, "these files use each other in a circle: {left:#?}");
    }
}

/// Whether the word at `i` is the first of its path; a path may also begin with `::`.
fn path_begins(tokens: &[Token], i: usize) -> bool {
    match tokens[..i] {
        [.., Token::Word(ref word), Token::Path] => word == "use",
        [.., Token::Angle, Token::Path] => false,
        _ => true,
    }
}

/// What one file breaks. `file` is relative to `src/`.
fn violations(file: &str, source: &str) -> Vec<String> {
    let parts: Vec<&str> = file.split('/').collect();
    let here = match parts.as_slice() {
        ["lib.rs"] => return Vec::new(),
        ["main.rs"] | ["bin", ..] => "main",
        [folder, _, ..] => *folder,
        _ => return vec![format!("{file} is in no room: put it into one of the folders under src/")],
    };
    let Some(this) = room(here) else {
        return vec![format!("{file}: src/{here}/ is a new room; say in tests/architecture.rs what it may use")];
    };
    // How many `super` lead from the file's own module to the crate's root: room, then a level for each folder and for the file itself.
    let depth = parts.len() - usize::from(parts.last() == Some(&"mod.rs"));

    let tokens = tokens(source);
    let mut found = BTreeSet::new();
    let mut use_room = |name: &str| {
        if name != here && room(name).is_some() && !this.may_use.contains(&name) {
            found.insert(format!("{file}: {here} must not use {name}"));
        }
    };
    let mut libraries: BTreeSet<(String, Option<String>)> = BTreeSet::new();
    let mut inside = BTreeSet::new();
    let mut i = 0;
    while i < tokens.len() {
        let begins = path_begins(&tokens, i);
        if let (Token::Word(word), true) = (&tokens[i], begins) {
            match word.as_str() {
                "crate" | "theseus" => {
                    names_after(&tokens, i + 1).into_iter().for_each(&mut use_room);
                    inside.extend(names_inside(&tokens, i + 1, here));
                }
                "super" => {
                    let mut supers = 1;
                    while matches!((tokens.get(i + 1), tokens.get(i + 2)), (Some(Token::Path), Some(Token::Word(word))) if word == "super")
                    {
                        supers += 1;
                        i += 2;
                    }
                    if supers >= depth {
                        names_after(&tokens, i + 1).into_iter().for_each(&mut use_room);
                        inside.extend(names_inside(&tokens, i + 1, here));
                    } else if supers + 1 == depth {
                        inside.extend(names_after(&tokens, i + 1).into_iter().map(str::to_owned));
                    }
                }
                library => {
                    let after_use = matches!(i.checked_sub(1).and_then(|before| tokens.get(before)), Some(Token::Word(w)) if w == "use" || w == "crate");
                    let names = names_after(&tokens, i + 1);
                    if names.is_empty() && after_use {
                        libraries.insert((library.to_owned(), None));
                    }
                    libraries.extend(names.into_iter().map(|name| (library.to_owned(), Some(name.to_owned()))));
                }
            }
        }
        i += 1;
    }
    found.extend(inside.iter().filter_map(|name| inner_violation(file, name)));
    for (library, part) in libraries {
        if this.without.contains(&library.as_str()) {
            found.insert(format!("{file}: {here} must not use the library {library}"));
        }
        let reaches = library == "kube" && part.as_deref().is_none_or(|part| KUBE_CLIENT.contains(&part));
        if reaches && !may_reach_a_cluster(file) {
            let part = part.map(|part| format!("::{part}")).unwrap_or_default();
            found.insert(format!("{file}: only the controller and cli/operator.rs reach a cluster, not {here} ({library}{part})"));
        }
    }
    found.into_iter().collect()
}

// --- the sources ------------------------------------------------------------------------------------------

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn every_arrow_points_downwards() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 10, "only {} files under {}", files.len(), src.display());
    let mut report = String::new();
    for path in files {
        let file = path.strip_prefix(&src).unwrap().to_str().unwrap().replace('\\', "/");
        for violation in violations(&file, &std::fs::read_to_string(&path).unwrap()) {
            writeln!(report, "  {violation}").unwrap();
        }
    }
    assert!(report.is_empty(), "arrows that must not be there (docs/architecture.md says why):\n{report}");
}

#[test]
fn the_rooms_have_no_cycle() {
    for (i, this) in ROOMS.iter().enumerate() {
        for used in this.may_use {
            let below = ROOMS.iter().position(|room| room.name == *used).unwrap_or_else(|| panic!("{used} is no room"));
            assert!(below > i, "{} may use {used}, which does not stand below it", this.name);
        }
    }
    for (outer, order) in INNER {
        assert!(room(outer).is_some(), "{outer} is no room");
        assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), order.len(), "a room of {outer} twice");
        let there: BTreeSet<String> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(outer))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "mod.rs")
            .collect();
        assert_eq!(there, order.iter().map(|room| (*room).to_owned()).collect(), "the rooms of {outer}");
    }
    for library in KUBERNETES {
        for pure in ["engine", "mysql", "sql", "telemetry", "http"] {
            let without = room(pure).unwrap().without;
            assert!(without.contains(&library) || ["kube_runtime", "kube_client"].contains(&library), "{pure} may use {library}");
        }
    }
}

// --- does it bite? ----------------------------------------------------------------------------------------

#[test]
fn it_finds_what_must_not_be() {
    for (file, source, expected) in [
        ("sql/alter.rs", "use crate::engine::Handle;", "sql must not use engine"),
        ("sql/alter.rs", "fn f() { crate::mysql::quote(); }", "sql must not use mysql"),
        ("sql/alter.rs", "use crate::{\n    sql::names,\n    mysql::{self, Session},\n};", "sql must not use mysql"),
        ("sql/alter.rs", "use tokio::sync::watch;", "must not use the library tokio"),
        ("sql/alter.rs", "#[cfg(test)] mod tests { #[tokio::test] async fn t() {} }", "must not use the library tokio"),
        ("sql/key/codec.rs", "use super::super::super::engine::Handle;", "sql must not use engine"),
        ("sql/key/mod.rs", "use super::super::engine::Handle;", "sql must not use engine"),
        ("sql/mod.rs", "use super::engine::Handle;", "sql must not use engine"),
        ("sql/mod.rs", "mod tests { use super::super::engine::Handle; }", "sql must not use engine"),
        ("engine/lifecycle/migrator.rs", "use crate::api::SchemaMigration;", "engine must not use api"),
        ("engine/lifecycle/migrator.rs", "use theseus::controller::Registry;", "engine must not use controller"),
        ("engine/lifecycle/migrator.rs", "use kube::ResourceExt;", "must not use the library kube"),
        ("engine/lifecycle/migrator.rs", "let t = k8s_openapi::jiff::Timestamp::now();", "must not use the library k8s_openapi"),
        ("engine/lifecycle/migrator.rs", "use ::kube::ResourceExt;", "must not use the library kube"),
        ("engine/lifecycle/migrator.rs", "extern crate kube;", "must not use the library kube"),
        ("mysql/session.rs", "use crate::engine::contract::spec::Tls;", "mysql must not use engine"),
        ("api/status.rs", "use crate::engine::contract::snapshot::Snapshot;", "api must not use engine"),
        ("api/status.rs", "use mysql_async::Value;", "must not use the library mysql_async"),
        ("api/status.rs", "use kube::{CustomResource, Client};", "only the controller and cli/operator.rs reach a cluster"),
        ("api/status.rs", "use kube;", "only the controller and cli/operator.rs reach a cluster"),
        ("cli/run.rs", "use kube::runtime::watcher;", "only the controller and cli/operator.rs reach a cluster"),
        ("cli/run.rs", "let x: kube::Api<Secret>;", "only the controller and cli/operator.rs reach a cluster"),
        ("controller/visit/plan.rs", "use crate::cli::Args;", "controller must not use cli"),
        ("telemetry/metrics.rs", "use crate::http::Readiness;", "telemetry must not use http"),
        ("http/mod.rs", "use crate::engine;", "http must not use engine"),
        ("main.rs", "use theseus::engine;", "main must not use engine"),
        ("bin/kubectl-theseus.rs", "use theseus::engine;", "main must not use engine"),
        ("engine/rows/copier.rs", "use crate::engine::cutover::gate;", "engine/rows must not use engine/cutover"),
        ("engine/rows/copier.rs", "use crate::{mysql::Session, engine::{contract::spec, lifecycle}};", "must not use engine/lifecycle"),
        ("engine/rows/copier.rs", "use theseus::engine::{table, preflight::Look};", "engine/rows must not use engine/preflight"),
        ("engine/rows/copier.rs", "fn f() { super::super::cutover::attempt(); }", "engine/rows must not use engine/cutover"),
        ("engine/rows/streamer/rows.rs", "use super::super::super::lifecycle::run;", "must not use engine/lifecycle"),
        ("engine/rows/mod.rs", "use super::cutover;", "engine/rows must not use engine/cutover"),
        ("engine/contract/spec.rs", "use crate::engine::Handle;", "must not use engine::Handle"),
        ("engine/applier.rs", "use crate::engine::contract::spec;", "is no room of engine"),
        ("controller/fleet/queue.rs", "use crate::controller::visit::plan;", "controller/fleet must not use controller/visit"),
        ("controller/visit/plan.rs", "use crate::controller::Options;", "must not use controller::Options"),
        ("util/mod.rs", "", "is a new room"),
        ("util.rs", "", "is in no room"),
        // The next two hide it behind what looks like the beginning of a string or a comment.
        ("sql/alter.rs", "let c = '\"'; use crate::engine; let d = '\"';", "sql must not use engine"),
        ("sql/alter.rs", "let s = r#\"// \"#; use crate::engine;", "sql must not use engine"),
    ] {
        let found = violations(file, source);
        assert!(found.iter().any(|violation| violation.contains(expected)), "{file}: {source}\nfound {found:?}");
    }
}

#[test]
fn it_sees_which_files_are_used() {
    let all: BTreeSet<String> = ["visit/plan", "visit/drive", "fleet/queue", "fleet/entry"].map(str::to_owned).into();
    let source =
        "use super::drive; use crate::controller::{fleet::{entry::Entry, queue}, visit::plan}; fn f() { super::super::fleet::queue::g() }";
    let used = files_used("controller", "visit/plan", source, &all);
    assert_eq!(used, ["fleet/entry", "fleet/queue", "visit/drive"].map(str::to_owned).into());
}

#[test]
fn it_leaves_alone_what_may_be() {
    for (file, source) in [
        ("sql/alter.rs", "//! See [`crate::engine`].\n/* crate::engine /* nested */ use tokio::x; */ fn f() {}"),
        (
            "sql/alter.rs",
            r##"const S: &str = "use crate::engine;"; const R: &str = r#"tokio::x " crate::engine"#; const B: &[u8] = b"tokio::x";"##,
        ),
        ("sql/alter.rs", r#"const S: &str = "a \" crate::engine "; fn f<'a>(x: &'a str) -> &'a str { x }"#),
        ("sql/alter.rs", "use super::engine_names; use crate::sql::engine; mod tests { use super::*; use super::super::names; }"),
        ("sql/key/codec.rs", "use super::super::table; use super::engine;"),
        ("sql/alter.rs", "let tokio = 1; let x = self.engine::<u8>(); foo::tokio::bar();"),
        ("engine/lifecycle/migrator.rs", "use crate::{mysql::Session, sql::{key, names}, telemetry}; use tokio::sync::watch;"),
        (
            "engine/rows/streamer/mod.rs",
            "use super::super::super::mysql::Session; use super::super::contract::reason::Reason; use super::inbox::Inbox;",
        ),
        ("engine/lifecycle/migrator/swapping.rs", "use super::Run; use super::super::super::cutover::swap; use super::super::prepare;"),
        (
            "engine/rows/copier.rs",
            "use super::board::Board; use crate::engine::{contract::{spec, cutover}, table::definition}; mod tests { use super::*; }",
        ),
        ("engine/mod.rs", "use contract::spec; pub use cutover::Clock; use self::lifecycle::migrator;"),
        ("api/status.rs", "use kube::{CustomResource, KubeSchema, CustomResourceExt}; use k8s_openapi::jiff::Timestamp;"),
        ("controller/mod.rs", "use kube::{Api, Client, runtime::watcher}; use crate::{api, engine, telemetry::Metrics};"),
        ("cli/operator.rs", "use kube::Client; use crate::{controller, http, telemetry};"),
        ("http/mod.rs", "use crate::telemetry::metrics::Metrics; use axum::Router; use tokio::net::TcpListener;"),
        ("main.rs", "fn main() -> ExitCode { theseus::cli::run(theseus::cli::Cli::parse()) }"),
        ("lib.rs", "pub mod engine; pub use engine::Handle;"),
    ] {
        assert_eq!(violations(file, source), Vec::<String>::new(), "{file}: {source}");
    }
}

// --- versions ---------------------------------------------------------------------------------------------

/// The one file that compares versions of servers.
const VERSIONS: &str = "mysql/versions.rs";

/// Lines, outside of comments and tests, that hold a version as three numbers or compare one.
fn compared_versions(source: &str) -> Vec<&str> {
    let is_version = |inner: &str| {
        let numbers: Vec<&str> = inner.split(',').map(str::trim).collect();
        numbers.len() == 3 && numbers.iter().all(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
    };
    let suspicious = |line: &&str| {
        let tuple = line.split('(').skip(1).any(|rest| rest.split_once(')').is_some_and(|(inner, _)| is_version(inner)));
        let compared = ["version", "version()"].iter().any(|word| {
            ["<", ">", "=="].iter().any(|sign| line.contains(&format!(".{word} {sign}")) || line.contains(&format!(" {word} {sign}")))
        });
        !line.trim_start().starts_with("//") && (tuple || compared)
    };
    source.split("#[cfg(test)]").next().unwrap().lines().filter(suspicious).collect()
}

#[test]
fn versions_of_servers_are_compared_in_one_place() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut found) = (Vec::new(), Vec::new());
    sources(&src, &mut files);
    for path in files {
        let file = path.strip_prefix(&src).unwrap().to_str().unwrap().replace('\\', "/");
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = compared_versions(&text);
        if file == VERSIONS {
            assert!(!lines.is_empty(), "{VERSIONS} compares nothing");
        } else {
            found.extend(lines.iter().map(|line| format!("{file}: {}", line.trim())));
        }
    }
    assert!(
        found.is_empty(),
        "make it a `Feature` in src/{VERSIONS}, with its source, and ask `FEATURE.of(version)`: docs/reference/versions.md is made from there\n{}",
        found.join("\n")
    );
    for (line, bad) in [
        ("if session.version() >= (8, 0, 26) {", true),
        ("const FROM: (u16, u16, u16) = (8, 0, 27);", true),
        ("if facts.version < OLDEST {", true),
        ("/// E.g. `(9, 7, 4)`.", false),
        ("if LAZY_DROP.of(version) && total < SMALL {", false),
        ("let x = (1, 2);", false),
    ] {
        assert_eq!(!compared_versions(line).is_empty(), bad, "{line}");
    }
}

// --- the suites -------------------------------------------------------------------------------------------

/// Files below `tests` that are compiled into no suite, as nobody declares them as a module: their tests would not run, and nobody would miss them.
fn orphans(tests: &Path) -> Vec<String> {
    let mut files = Vec::new();
    sources(tests, &mut files);
    let text = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    // Cargo makes a program of each of these.
    let root = |path: &Path| path.parent() == Some(tests) || path.ends_with("main.rs");
    // Whoever includes a file of another folder does it from the top of a suite.
    let tops: String = files.iter().filter(|path| root(path)).map(|path| text(path)).collect();
    let declared = |path: &Path| {
        let file_name = path.file_name().unwrap().to_str().unwrap();
        let folder = path.parent().unwrap();
        let (name, folder) = match file_name {
            "mod.rs" => (folder.file_name().unwrap().to_str().unwrap(), folder.parent().unwrap()),
            _ => (path.file_stem().unwrap().to_str().unwrap(), folder),
        };
        let line = |text: String| text.lines().any(|line| line == format!("mod {name};") || line == format!("pub mod {name};"));
        let parents = [folder.join("main.rs"), folder.join("mod.rs"), folder.with_extension("rs")];
        let relative = path.strip_prefix(tests).unwrap().to_str().unwrap().replace('\\', "/");
        parents.iter().any(|parent| line(text(parent))) || tops.contains(&format!("#[path = \"../{relative}\"]"))
    };
    files.iter().filter(|path| !root(path) && !declared(path)).map(|path| path.display().to_string()).collect()
}

#[test]
fn every_file_of_the_tests_belongs_to_a_suite() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    assert!(orphans(&tests).is_empty(), "nobody declares these as a module, so their tests never run: {:#?}", orphans(&tests));
    // Does it bite?
    let sample = tempfile::tempdir().unwrap();
    for (file, text) in [
        ("alone.rs", ""),
        ("suite/main.rs", "#[path = \"../support/shared.rs\"]\nmod shared;\nmod one;\nmod two;\n// mod forgotten;\n"),
        ("suite/one.rs", "mod part;"),
        ("suite/one/part.rs", ""),
        ("suite/one/other.rs", ""),
        ("suite/two/mod.rs", "pub mod part;"),
        ("suite/two/part.rs", ""),
        ("suite/forgotten.rs", ""),
        ("support/shared.rs", ""),
        ("support/unused.rs", ""),
    ] {
        let path = sample.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let mut found = orphans(sample.path());
    found.sort();
    let expected =
        ["suite/forgotten.rs", "suite/one/other.rs", "support/unused.rs"].map(|file| sample.path().join(file).display().to_string());
    assert_eq!(found, expected);
}

// --- who writes rows --------------------------------------------------------------------------------------

/// Who writes rows or ends transactions, and of what. The ghost's are written in one file.
const WRITES: &[(&str, &[&str], &str)] = &[
    ("engine/rows/transaction.rs", &["INSERT {ghost}", "DELETE {ghost}", "COMMIT", "ROLLBACK"], "the ghost"),
    (
        "engine/rows/numbers.rs",
        &["REPLACE {kept}", "DELETE {}"],
        "a temporary table; the statements are sent by the transaction on the ghost",
    ),
    (
        "engine/rows/turned.rs",
        &["REPLACE {kept}", "DELETE {}"],
        "a temporary table; the statements are sent by the transaction on the ghost",
    ),
    ("engine/rows/migration.rs", &["DELETE {scratch}", "INSERT {scratch}"], "a temporary table"),
    (
        "engine/state/store.rs",
        &["INSERT {t}", "INSERT {}", "REPLACE {t}", "REPLACE {}", "UPDATE {t}", "DELETE {t}", "START TRANSACTION", "COMMIT"],
        "the state table",
    ),
    ("engine/table/chooser.rs", &["START TRANSACTION"], "reads"),
    ("engine/table/inspector.rs", &["START TRANSACTION", "ROLLBACK"], "reads"),
    ("engine/rows/streamer/statement.rs", &["BEGIN", "START TRANSACTION", "COMMIT", "ROLLBACK"], "understands statements of others"),
];

/// What a text, if it is SQL, writes or ends: `INSERT {t}`, `COMMIT`. A placeholder before a statement may be another statement.
fn writes(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for statement in text.split(';') {
        let mut statement = statement.trim();
        while let Some((_, rest)) = statement.strip_prefix('{').and_then(|s| s.split_once('}')) {
            statement = rest.trim();
        }
        // Also where a hint follows the verb: `INSERT{} INTO`.
        let words: Vec<&str> = statement.split(|c: char| c.is_whitespace() || c == '(' || c == '\\').filter(|w| !w.is_empty()).collect();
        let after = |word: &str| words.iter().take(5).position(|w| *w == word).and_then(|at| words.get(at + 1)).map(|w| (*w).to_owned());
        let target = match words.first().map(|w| w.split('{').next().unwrap()) {
            Some(verb @ ("INSERT" | "REPLACE")) => after("INTO").map(|table| format!("{verb} {table}")),
            Some(verb @ "DELETE") => after("FROM").map(|table| format!("{verb} {table}")),
            Some(verb @ "UPDATE") if words.contains(&"SET") => words.get(1).map(|table| format!("{verb} {table}")),
            Some(verb @ "TRUNCATE") => after("TABLE").map(|table| format!("{verb} {table}")),
            Some("START") if words.get(1) == Some(&"TRANSACTION") => Some("START TRANSACTION".to_owned()),
            Some(verb @ ("BEGIN" | "COMMIT" | "ROLLBACK")) if words.len() == 1 => Some(verb.to_owned()),
            _ => None,
        };
        found.extend(target);
    }
    found
}

#[test]
fn rows_of_the_ghost_are_written_in_one_place() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut found) = (Vec::new(), BTreeSet::new());
    sources(&src, &mut files);
    for path in files {
        let file = path.strip_prefix(&src).unwrap().to_str().unwrap().replace('\\', "/");
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        found.extend(strings(code).iter().flat_map(|text| writes(text)).map(|what| (file.clone(), what)));
    }
    let known: BTreeSet<(String, String)> =
        WRITES.iter().flat_map(|(file, all, _)| all.iter().map(|what| ((*file).to_owned(), (*what).to_owned()))).collect();
    let other: Vec<_> = found.difference(&known).collect();
    assert!(
        other.is_empty(),
        "rows of the ghost are written by src/{} alone, behind the fence; if these write something else, say so in tests/architecture.rs: {other:#?}",
        WRITES[0].0
    );
    let gone: Vec<_> = known.difference(&found).collect();
    assert!(gone.is_empty(), "tests/architecture.rs knows of statements that are no more: {gone:#?}");
    for (text, expected) in [
        ("INSERT INTO {ghost} ({into}) SELECT 1", &["INSERT {ghost}"][..]),
        ("{before}INSERT{} IGNORE INTO {ghost} VALUES", &["INSERT {ghost}"]),
        ("SET @a = 1; {}REPLACE INTO {} (a) VALUES (1); COMMIT", &["REPLACE {}", "COMMIT"]),
        ("DELETE FROM {ghost} WHERE 1", &["DELETE {ghost}"]),
        ("DELETE QUICK FROM {ghost}", &["DELETE {ghost}"]),
        ("UPDATE {ghost} SET a = 1", &["UPDATE {ghost}"]),
        ("TRUNCATE TABLE {}", &["TRUNCATE {}"]),
        ("{}COMMIT", &["COMMIT"]),
        ("START TRANSACTION; SELECT 1 FOR SHARE", &["START TRANSACTION"]),
        ("EXPLAIN INSERT INTO {ghost} VALUES (1)", &[]),
        ("INSERT", &[]),
        ("COMMIT neither begins another transaction", &[]),
        ("give them numbers first (UPDATE … SET {column} = …)", &[]),
    ] {
        assert_eq!(writes(text), expected, "{text}");
    }
    assert_eq!(strings(r###"f("a \" b", r#"c " d"#, b"e"); // "no""###), [r#"a \" b"#, "c \" d", "e"]);
}

// --- the map ----------------------------------------------------------------------------------------------

/// The files below a folder, by the names that a map has for them: `rows/streamer` and `rows/streamer/statement`.
fn on_the_map(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    sources(folder, &mut found);
    let name = |path: &PathBuf| path.strip_prefix(folder).unwrap().with_extension("").to_str().unwrap().replace('\\', "/");
    let names = found.iter().map(name).map(|name| name.strip_suffix("/mod").map_or(name.clone(), str::to_owned));
    names.filter(|name| name != "mod" && !name.ends_with("tests")).collect()
}

/// Who looks for the code of something finds its file in the map: each file of the engine stands in the row of its room, and each part of
/// `sql` in its table.
#[test]
fn every_file_of_the_engine_is_on_the_map() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let map = std::fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let rooms = INNER.iter().find(|(room, _)| *room == "engine").unwrap().1;
    let (mut missing, mut known) = (Vec::new(), 0);
    for room in rooms {
        let row = map.lines().rfind(|line| line.starts_with(&format!("| `{room}` |"))).unwrap_or_else(|| panic!("{room} has no row"));
        for file in on_the_map(&root.join("src/engine").join(room)) {
            let named = row.contains(&format!("`{file}`"));
            known += usize::from(named);
            if !named {
                missing.push(format!("docs/architecture.md, in the row of {room}: `{file}`"));
            }
        }
    }
    let table = std::fs::read_to_string(root.join("src/sql/mod.rs")).unwrap();
    let table: String = table.lines().filter(|line| line.starts_with("//!")).collect();
    for file in on_the_map(&root.join("src/sql")).iter().filter(|file| !file.contains('/')) {
        let named = table.contains(&format!("[`{file}`]")) || table.contains(&format!("[`{file}::"));
        known += usize::from(named);
        if !named {
            missing.push(format!("src/sql/mod.rs: [`{file}`]"));
        }
    }
    assert!(missing.is_empty(), "these files are on no map: {missing:#?}");
    assert!(known > 70, "hardly any file was seen: {known}");
}

// --- make test --------------------------------------------------------------------------------------------

/// Programs of `sh` in a folder. Another process writes them: a file that this one, or a child of a test beside, still has open cannot be run.
fn programs(folder: &Path, texts: &[(&str, &str)]) {
    std::fs::create_dir_all(folder).unwrap();
    for (name, text) in texts {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$2\" >\"$1\" && chmod +x \"$1\"", "sh"]).arg(folder.join(name)).arg(text);
        assert!(run(&mut command).0, "{name}");
    }
}

/// Whether a command succeeded, and what it said.
fn run(command: &mut std::process::Command) -> (bool, String) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

/// `make test` takes nothing for passed that has not said so.
#[test]
fn a_test_that_does_not_say_that_it_passed_did_not() {
    let folder = tempfile::tempdir().unwrap();
    // As Rust's test harness prints it.
    let one = r#"case "$*" in
*--list*) printf 'm::good: test\nm::bad: test\nm::dies: test\nm::hangs: test\nm::ignored: test\nm::panics: test\n' ;;
*m::good*) echo 'noise test m::good ... ok <0.123s>' ;;
*m::bad*) echo 'test m::bad ... FAILED <1.500s>' && exit 101 ;;
*m::dies*) kill -9 $$ ;;
*m::hangs*) exec sleep 100 ;;
*m::ignored*) echo 'test m::ignored ... ignored, for a reason' ;;
*m::panics*) echo 'test m::panics - should panic ... ok <2.000s>' ;;
esac"#;
    let whole = r#"case "$*" in
*--list*) printf 'x: test\ny: test\nz: test\n' ;;
*) echo 'test x ... ok' && echo 'test y ... ok' ;;
esac"#;
    let fine = r#"case "$*" in *--list*) echo 'x: test' ;; *) echo 'test x ... ok' ;; esac"#;
    programs(folder.path(), &[("one", one), ("whole", whole), ("fine", fine), ("mute", "exit 1")]);
    let suites = |named: &[(&str, &str)]| {
        let mut command = std::process::Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/suites"));
        command.args(named.iter().map(|(name, file)| format!("{name}={}", folder.path().join(file).display())));
        run(command.env("THESEUS_TEST_LIMIT", "2").env("THESEUS_TEST_LOGS", folder.path().join("logs")))
    };
    let (passed, said) = suites(&[("mysql", "one"), ("other", "whole")]);
    assert!(!passed && said.contains("4 passed, 1 failed, 4 skipped"), "{said}");
    for words in [
        "failed: mysql m::bad",
        "did not run to its end: mysql m::dies",
        "did not run to its end: mysql m::hangs",
        "did not run to its end: mysql m::ignored",
        "did not run to its end: other z",
        "it did not end within 2 s",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // The slowest first.
    let slowest = said.split("the slowest tests:").nth(1).unwrap();
    assert!(slowest.find("mysql m::panics").unwrap() < slowest.find("mysql m::bad").unwrap(), "{said}");
    let (passed, said) = suites(&[("mysql", "fine"), ("other", "fine")]);
    assert!(passed && said.contains("2 passed, 0 failed, 0 skipped"), "{said}");
    for broken in ["mute", "absent"] {
        let (passed, said) = suites(&[("mysql", "fine"), ("other", broken)]);
        assert!(!passed && said.contains("cannot say what its tests are"), "{said}");
    }
}

/// `target/last-green` names a commit when all of it, and nothing beside it, passed.
#[test]
fn a_commit_that_passed_is_named_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let hack = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack");
    let suites = "test -e fails && exit 1\ntest ! -e target/edit || echo x >>edited\necho '3 passed, 0 failed, 0 skipped'";
    programs(&root.join("hack"), &[("check-drift", ""), ("deny", ""), ("with-parts", suites)]);
    for file in ["lib.sh", "test"] {
        assert!(run(std::process::Command::new("cp").arg(hack.join(file)).arg(root.join("hack"))).0, "{file}");
    }
    std::fs::write(root.join("hack/tools.sh"), "get_tools() { :; }\n").unwrap();
    std::fs::create_dir_all(root.join(".ci")).unwrap();
    std::fs::create_dir_all(root.join("target")).unwrap();
    std::fs::write(root.join(".gitignore"), "target/\n").unwrap();
    programs(&root.join("target/bin"), &[("cargo", ""), ("shellcheck", "")]);
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]).args(arguments);
        let (done, said) = run(command.current_dir(root));
        assert!(done, "{arguments:?}: {said}");
        said.trim().to_owned()
    };
    let commit = |message| {
        git(&["add", "-A"]);
        git(&["commit", "-q", "--allow-empty", "-m", message]);
        git(&["rev-parse", "HEAD"])
    };
    let test = |arguments: &[&str], passes: bool| {
        let path = format!("{}:{}", root.join("target/bin").display(), std::env::var("PATH").unwrap());
        let mut command = std::process::Command::new(root.join("hack/test"));
        let (passed, said) = run(command.args(arguments).env("PATH", path).current_dir(root));
        assert_eq!(passed, passes, "{said}");
        std::fs::read_to_string(root.join("target/last-green")).unwrap_or_default().trim().to_owned()
    };
    git(&["init", "-q"]);
    let first = commit("first");
    assert_eq!(test(&["--checks"], true), "", "not all of it");
    assert_eq!(test(&["--test", "one"], true), "", "not all of it");
    assert_eq!(test(&[], true), first);
    // What is not committed: the commit that passed before stays the last one.
    std::fs::write(root.join("new"), "").unwrap();
    assert_eq!(test(&[], true), first);
    let second = commit("second");
    assert_ne!(first, second);
    // Edited meanwhile.
    std::fs::write(root.join("target/edit"), "").unwrap();
    assert_eq!(test(&[], true), first);
    std::fs::remove_file(root.join("target/edit")).unwrap();
    std::fs::remove_file(root.join("edited")).unwrap();
    assert_eq!(test(&[], true), second);
    // The same commit fails now.
    std::fs::write(root.join(".git/info/exclude"), "fails\n").unwrap();
    std::fs::write(root.join("fails"), "").unwrap();
    assert_eq!(test(&[], false), "");
}

// --- dependencies -----------------------------------------------------------------------------------------

/// Every package with the features that it is compiled with.
fn packages(edges: &str) -> std::collections::BTreeMap<String, BTreeSet<String>> {
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--offline", "--prefix", "none", "--edges", edges, "--format", "{p}|{f}"]);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut packages = std::collections::BTreeMap::<String, BTreeSet<String>>::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        if let Some((package, features)) = line.trim_end_matches(" (*)").split_once('|') {
            packages.entry(package.to_owned()).or_default().extend(features.split(',').map(str::to_owned));
        }
    }
    packages
}

/// `make build` and then `make demo` or `make test` compile each dependency once: what only tests use asks for no feature that the
/// programs do not have, or everything that depends on it would be compiled another time.
#[test]
fn what_only_tests_use_changes_no_feature() {
    let (programs, all) = (packages("normal,build"), packages("normal,build,dev"));
    assert!(programs.len() > 100 && all.len() > programs.len(), "{} {}", programs.len(), all.len());
    let differ: Vec<String> = programs
        .iter()
        .filter(|(package, features)| all.get(*package) != Some(features))
        .map(|(package, features)| format!("{package}: tests add {:?}", all[package].difference(features).collect::<Vec<_>>()))
        .collect();
    assert!(differ.is_empty(), "add these features in [dependencies] of Cargo.toml, too: {differ:#?}");
}
