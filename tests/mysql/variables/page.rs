//! `docs/reference/session-variables.md`: what was tried, and how it ended.

use super::expected::{End, exception_for};
use super::trial::Ended;
use super::values::Scope;
use super::{Not, Tried, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use theseus::engine::contract::spec::Algorithm;

const PATH: &str = "docs/reference/session-variables.md";
const SEEN_ON: &str = "Seen on MySQL ";

/// The page's lists, by variable; the empty name is a server as it starts.
#[derive(Default)]
struct Lists {
    tried: BTreeMap<String, Vec<String>>,
    not: BTreeMap<String, String>,
    fixed: BTreeSet<String>,
}

/// Says what is out of date, or writes it anew: of the variables that were tried, all or some. On another version the page is somebody
/// else's: only how things end counts there.
pub fn compare(tried: &[Tried], all: bool, version: &str) -> Option<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(PATH);
    let present = std::fs::read_to_string(&path).unwrap_or_default();
    let mut lists = if all { Lists::default() } else { read(&present) };
    for one in tried {
        put(&mut lists, one);
    }
    let made = make(&lists, version);
    if std::env::var_os("THESEUS_UPDATE").is_some() {
        std::fs::write(&path, made).expect("write the page");
        return None;
    }
    let of = present.split(SEEN_ON).nth(1).and_then(|rest| rest.split([',', ' ', '\n']).next()).unwrap_or_default();
    if !present.is_empty() && of != version {
        eprintln!("{PATH} is of MySQL {of}, this server is {version}: how the trials ended is compared, the page is not");
        return None;
    }
    if present == made {
        return None;
    }
    let lines = |a: &str, b: &str| {
        a.lines().filter(|line| !b.lines().any(|other| other == *line)).map(|l| format!("\n    {l}")).collect::<String>()
    };
    Some(format!(
        "{PATH} is out of date: THESEUS_UPDATE=1 hack/with-parts --mysql -- cargo test --test mysql variables::\n  only in the page:{}\n  only now:{}",
        lines(&present, &made),
        lines(&made, &present)
    ))
}

/// The same for the part of a page between two marks.
pub fn part(path: &str, name: &str, made: &str, version: &str) -> Option<String> {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = std::fs::read_to_string(&file).expect("the page");
    let begin = format!("<!-- {name}: made by THESEUS_UPDATE=1 cargo test --test mysql variables:: -->\n");
    let end = format!("<!-- end of {name} -->");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{path} has no line {begin}"));
    let (present, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{path} has no line {end}"));
    if std::env::var_os("THESEUS_UPDATE").is_some() {
        std::fs::write(&file, format!("{before}{begin}{made}{end}{after}")).expect("write the page");
        return None;
    }
    if present == made || !(present.is_empty() || present.contains(&format!("MySQL {version}."))) {
        return None;
    }
    Some(format!(
        "{path}: the part {name} is out of date: THESEUS_UPDATE=1 hack/with-parts --mysql -- cargo test --test mysql variables::\nit should be:\n{made}"
    ))
}

fn cell(text: &str) -> String {
    let text: String = text.chars().take(70).collect();
    format!("`{}`", text.replace('|', "\\|"))
}

/// What a trial's end is called.
fn words(variable: &str, value: &str, subject: &str, ended: &Ended) -> String {
    match (ended, exception_for(variable, value, subject, ended)) {
        (Ended::Equal, _) => "equal".to_owned(),
        (Ended::BothRefuse(code, reason), _) => format!("both refuse ({code}, {reason})"),
        (_, Some(exception)) => match exception.end {
            End::Refuses(reason) => format!("refused ({reason}): {}", exception.why),
            End::Changes => format!("changed, natively refused: {}", exception.why),
            End::Differs(_) => format!("equal but for this: {}", exception.why),
        },
        (other, None) => format!("{other:?}"),
    }
}

const NONE: &str = "(none)";

/// What a page says.
fn read(page: &str) -> Lists {
    let mut lists = Lists::default();
    let (mut section, mut fixed) = ("", false);
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading;
        }
        fixed = fixed || section == FIXED;
        if fixed && line.starts_with('`') {
            lists.fixed = line.trim_end_matches('.').split(", ").map(|name| name.trim_matches('`').to_owned()).collect();
        }
        let Some(name) = line.strip_prefix("| ").and_then(|rest| rest.split(" | ").next()) else { continue };
        let name = match name {
            NONE => "",
            name if name.starts_with('`') => name.trim_matches('`'),
            _ => continue,
        };
        if section == NOT_TRIED {
            lists.not.insert(name.to_owned(), line.to_owned());
        } else {
            lists.tried.entry(name.to_owned()).or_default().push(line.to_owned());
        }
    }
    lists
}

const NOT_TRIED: &str = "Not tried";
const FIXED: &str = "Not settable at run time";

/// Puts a variable where it belongs, and nowhere else.
fn put(lists: &mut Lists, Tried { name, values, not, scope }: &Tried) {
    lists.tried.remove(name);
    lists.not.remove(name);
    lists.fixed.remove(name);
    if !values.is_empty() {
        lists.tried.insert(name.clone(), values.iter().map(|value| row(name, value)).collect());
        return;
    }
    let why = match not {
        Not::Why(why) => (*why).to_owned(),
        Not::Refused(sql, code) if *scope == Scope::Session => {
            format!("only a session has it, and the account may not set it to {} ({code})", cell(sql))
        }
        Not::Refused(sql, code) => format!("the server refuses {} ({code})", cell(sql)),
        Not::Tried => "it has no other value".to_owned(),
        Not::ReadOnly => {
            lists.fixed.insert(name.clone());
            return;
        }
    };
    lists.not.insert(name.clone(), format!("| `{name}` | {why} |"));
}

fn row(name: &str, value: &Value) -> String {
    let variable = if name.is_empty() { NONE.to_owned() } else { format!("`{name}`") };
    let mut ends: Vec<(String, Vec<&str>)> = Vec::new();
    for (subject, algorithm, ended) in &value.ends {
        let words = words(name, &value.shown, subject, ended);
        let called = match (*subject, algorithm) {
            ("everything", _) => "copy",
            ("at once", Algorithm::Auto) => "Auto",
            (rule, _) => rule,
        };
        match ends.iter_mut().find(|(other, _)| *other == words) {
            Some((_, subjects)) => subjects.push(called),
            None => ends.push((words, vec![called])),
        }
    }
    let ends = match ends.as_slice() {
        [(words, subjects)] if subjects.len() == 2 => words.clone(),
        _ => ends.iter().map(|(words, subjects)| format!("{words}: {}", subjects.join(", "))).collect::<Vec<_>>().join("; "),
    };
    format!("| {variable} | {} | {} | {ends} |", class(name), cell(&value.shown))
}

fn make(lists: &Lists, version: &str) -> String {
    let mut page = format!(
        "<!-- made by THESEUS_UPDATE=1 cargo test --test mysql variables:: -->\n# Session variables, tried\n\n\
         What a migration does on a server with other settings. {SEEN_ON}{version}, by `tests/variables`: each variable that the server \
         lets one set while it runs is set globally, or in `init_connect` where it is a session's alone: one at a time, but those that no \
         session has, or that are without effect, up to ten together, and each alone where that is not equal. Then a table with \
         every type, generated columns, checks and indexes over expressions is migrated under writes, once by a copy and once with algorithm \
         Auto, by the account of [MySQLServer](mysqlserver.md#the-account). Its twin has the same rows and writes, and is altered by the `mysql` client. \
         *Equal*: definition and rows are the native ALTER's, read by a session that has none of the engine's code or settings.\n\n\
         ## With another value\n\n\
         Numbers get the least that they may be; those of sessions a larger one too, unless they are sizes. Rules that a single variable or mode decides have tables of their \
         own; they are named.\n\n\
         | variable | class | value | ends |\n|---|---|---|---|\n"
    );
    for line in lists.tried.values().flatten() {
        let _ = writeln!(page, "{line}");
    }
    let _ = write!(page, "\n## {NOT_TRIED}\n\n| variable | why |\n|---|---|\n");
    for line in lists.not.values() {
        let _ = writeln!(page, "{line}");
    }
    let fixed: Vec<String> = lists.fixed.iter().map(|name| format!("`{name}`")).collect();
    let _ = write!(
        page,
        "\n## {FIXED}\n\nGiven at the start, or told by the server. Those that matter to a migration are in the profiles of \
         [managed servers](managed-servers.md).\n\n{}.\n",
        fixed.join(", ")
    );
    page
}

/// The product's class of a variable.
fn class(name: &str) -> String {
    theseus::mysql::variables::class_of(name).map_or_else(String::new, |class| class.words().replace('|', "\\|"))
}
