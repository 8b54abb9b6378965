//! The chart's README, values.yaml and values.schema.json speak of the same values.

use crate::tools::*;
use serde_json::Value;

const BEGIN: &str = "<!-- values: made from values.schema.json and values.yaml; THESEUS_UPDATE=1 cargo test --test chart readme -->\n";
const END: &str = "<!-- end of values -->";

/// Every value that a person sets as one thing, with its default and its description.
fn leaves(path: &str, schema: &Value, default: &Value, rows: &mut Vec<(String, String, String)>) {
    let properties = schema["properties"].as_object();
    match (schema["description"].as_str(), properties) {
        (Some(description), _) => rows.push((path.to_owned(), default.to_string(), description.to_owned())),
        (None, Some(properties)) => {
            let defaults = default.as_object().unwrap_or_else(|| panic!("{path} is not an object in values.yaml"));
            // The order of values.yaml is the order for people.
            for (name, default) in defaults {
                let schema = properties.get(name).unwrap_or_else(|| panic!("{path}.{name} is in values.yaml, not in the schema"));
                leaves(&format!("{path}.{name}"), schema, default, rows);
            }
            for name in properties.keys().filter(|name| *name != "global") {
                assert!(defaults.contains_key(name), "{path}.{name} is in the schema, not in values.yaml");
            }
        }
        (None, None) => panic!("{path} has no description in values.schema.json"),
    }
}

#[test]
fn readme_lists_every_value_with_its_default() {
    let schema: Value = serde_json::from_str(&read("charts/theseus/values.schema.json")).unwrap();
    let values = documents(&read("charts/theseus/values.yaml")).remove(0);
    let mut rows = Vec::new();
    leaves("", &schema, &values, &mut rows);
    let mut table = String::from("| value | default | what |\n|---|---|---|\n");
    for (path, default, description) in rows {
        table += &format!("| `{}` | `{}` | {} |\n", path.trim_start_matches('.'), default, description.replace('|', "\\|"));
    }
    let readme = read("charts/theseus/README.md");
    let (before, rest) = readme.split_once(BEGIN).unwrap_or_else(|| panic!("charts/theseus/README.md has no line {BEGIN}"));
    let (present, after) = rest.split_once(END).unwrap_or_else(|| panic!("charts/theseus/README.md has no line {END}"));
    if std::env::var_os("THESEUS_UPDATE").is_some() {
        std::fs::write(root().join("charts/theseus/README.md"), format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
    } else {
        assert!(present == table, "charts/theseus/README.md is out of date: THESEUS_UPDATE=1 cargo test --test chart readme\n{table}");
    }
}
