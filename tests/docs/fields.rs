//! The tables of fields in `docs/reference/`, made from the CRDs' schemas.

use crate::{made_part, page};
use serde_json::Value;

fn schema(crd: &str) -> Value {
    let crd: Value = serde_yaml::from_str(&page(&format!("crds/{crd}"))).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// What may be written there, in a word or two.
fn kind(schema: &Value) -> String {
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(|word| format!("`{}`", word.as_str().unwrap())).collect::<Vec<_>>().join(", ");
    }
    match (schema["type"].as_str().unwrap(), schema["format"].as_str(), schema["pattern"].as_str()) {
        ("string", Some("date-time"), _) => "time".to_owned(),
        ("string", _, Some(pattern)) if pattern.contains("(h|m|s|ms)") => match pattern {
            p if p.starts_with("^(Keep|") => "duration or `Keep`".to_owned(),
            p if p.starts_with("^(|") => "duration or empty".to_owned(),
            _ => "duration".to_owned(),
        },
        ("integer", _, _) => match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
            (Some(least), Some(most)) => format!("{least} to {most}"),
            _ => "integer".to_owned(),
        },
        (kind, _, _) => kind.to_owned(),
    }
}

fn rows(path: &str, schema: &Value, with_defaults: bool, table: &mut String) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in schema["properties"].as_object().unwrap() {
        let path = format!("{path}.{name}");
        let description = field["description"].as_str().unwrap_or_else(|| panic!("{path} has no description"));
        let description = description.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
        let is_object = field["properties"].is_object();
        let default = match field.get("default") {
            _ if required.contains(&name.as_str()) => "required".to_owned(),
            Some(default) if !is_object => format!("`{default}`"),
            _ => String::new(),
        };
        let default = if with_defaults { format!(" {default} |") } else { String::new() };
        let kind = if is_object { "object".to_owned() } else { kind(field) };
        *table += &format!("| `{path}` | {kind} |{default} {description} |\n");
        if is_object {
            rows(&path, field, with_defaults, table);
        }
    }
}

fn table(crd: &str, part: &str) -> String {
    let with_defaults = part == "spec";
    let mut table = String::from(if with_defaults {
        "| field | value | default | what |\n|---|---|---|---|\n"
    } else {
        "| field | value | what |\n|---|---|---|\n"
    });
    rows(part, &schema(crd)["properties"][part], with_defaults, &mut table);
    table
}

#[test]
fn the_page_of_each_kind_has_every_field() {
    for (crd, path) in [
        ("theseus.dev_schemamigrations.yaml", "docs/reference/schemamigration.md"),
        ("theseus.dev_mysqlservers.yaml", "docs/reference/mysqlserver.md"),
    ] {
        for part in ["spec", "status"] {
            made_part(path, part, &table(crd, part));
        }
    }
}

/// Fields in `code` font anywhere in the documents are fields that exist.
#[test]
fn prose_names_fields_that_exist() {
    let known = ["theseus.dev_schemamigrations.yaml", "theseus.dev_mysqlservers.yaml"]
        .map(|crd| table(crd, "spec") + &table(crd, "status"))
        .concat();
    for path in crate::links::markdown_files() {
        let text = page(&path);
        for code in text.split('`').skip(1).step_by(2) {
            let looks_like_a_field = |code: &str| {
                code.split('.').count() > 1
                    && ["spec.", "status.", "copy.", "cutOver.", "oldTable.", "throttle.", "target."]
                        .iter()
                        .any(|start| code.starts_with(start))
                    && code.chars().all(|c| c.is_alphanumeric() || c == '.')
            };
            if looks_like_a_field(code) {
                let found = [code.to_owned(), format!("spec.{code}"), format!("status.{code}")]
                    .iter()
                    .any(|path| known.contains(&format!("`{path}`")));
                assert!(found, "{path} speaks of {code}, which no CRD has");
            }
        }
    }
}
