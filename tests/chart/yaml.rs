//! Whatever YAML the documents show, the real kubectl reads as we meant it, and the API server takes.
//!
//! kubectl reads YAML 1.1, to which the words `on`, `y` or `no` are booleans, and our own reader YAML 1.2: what the one understands says
//! nothing about the other. Objects are put to the server as they stand (in a namespace of the test's own); a part of an object is put
//! where it belongs first. What is none of these fails the test: then say here what it is.

use crate::tools::*;
use serde_json::Value;
use std::path::Path;

/// All Markdown files of the project.
fn markdown_files(folder: &Path, files: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            markdown_files(&path, files);
        } else if name.ends_with(".md") {
            files.push(path.strip_prefix(root()).unwrap().display().to_string());
        }
    }
}

/// A piece of YAML and where it stands.
type Piece = (String, String);

/// The blocks of YAML, and what stands in `code` font and begins with one of the fields.
fn pieces(file: &str, text: &str, fields: &[&str]) -> (Vec<Piece>, Vec<Piece>) {
    let (mut blocks, mut spans) = (Vec::new(), Vec::new());
    for (number, part) in text.split("\n```").enumerate() {
        if number % 2 == 1 {
            let (language, block) = part.split_once('\n').unwrap_or((part, ""));
            if ["yaml", "yml"].contains(&language.trim()) {
                blocks.push((format!("{file}, block {}", number / 2 + 1), block.to_owned()));
            }
            continue;
        }
        for code in part.split('`').skip(1).step_by(2) {
            let key = code.split(':').next().unwrap_or_default();
            if code.contains(": ") && fields.contains(&key) {
                spans.push((format!("{file}, `{code}`"), code.to_owned()));
            }
        }
    }
    (blocks, spans)
}

/// The names of the fields of a kind's spec.
fn spec_fields(crd: &str) -> Vec<String> {
    let crd = documents(&read(crd)).remove(0);
    let spec = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties").unwrap();
    spec.as_object().unwrap().keys().cloned().collect()
}

/// A SchemaMigration that this part makes whole.
fn around(part: &str) -> String {
    let indented: String = part.lines().map(|line| format!("  {line}\n")).collect();
    let mut whole =
        String::from("apiVersion: theseus.dev/v1alpha1\nkind: SchemaMigration\nmetadata: {name: part, namespace: shop}\nspec:\n");
    for (field, value) in [("target", "{serverRef: {name: s}}"), ("database", "shop"), ("table", "orders"), ("alter", "ADD COLUMN z INT")] {
        if !part.lines().any(|line| line.starts_with(&format!("{field}:"))) {
            whole += &format!("  {field}: {value}\n");
        }
    }
    whole + &indented
}

struct Shop {
    kubectl: Kubectl,
    namespace: String,
}

impl Shop {
    fn new() -> Self {
        let kubectl = Kubectl::of_the_run();
        kubectl.run(&["apply", "--server-side", "--force-conflicts", "-f", "crds"], "").stdout();
        kubectl.run(&["wait", "--for=condition=Established", "--timeout=180s", "-f", "crds"], "").stdout();
        let namespace = unique("yaml");
        kubectl.run(&["create", "namespace", &namespace], "").stdout();
        Self { kubectl, namespace }
    }

    /// What kubectl says to a text, as a person applies it; nothing is kept, since several documents name the same object.
    fn apply(&self, yaml: &str) -> Output {
        let mut parts = yaml.split("namespace: ");
        let mut own = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            own += &format!("namespace: {}", self.namespace);
            own += part.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '-');
        }
        // A definition that is new to the server may be unknown for a moment.
        for attempt in 0.. {
            let output = self.kubectl.run(&["apply", "--namespace", &self.namespace, "--dry-run=server", "-f", "-"], &own);
            if !output.stderr.contains("no matches for kind") || attempt > 100 {
                return output;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        unreachable!()
    }

    fn takes(&self, place: &str, yaml: &str) {
        let output = self.apply(yaml);
        assert!(output.ok && !output.stderr.contains("Warning"), "{place}: {}\n{yaml}", output.stderr);
    }
}

#[test]
fn kubectl_applies_every_yaml_of_the_documents() {
    let shop = Shop::new();
    let migration = spec_fields("crds/theseus.dev_schemamigrations.yaml");
    let values: Value = serde_json::from_str(&read("charts/theseus/values.schema.json")).unwrap();
    let values: Vec<&str> = values["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    let fields: Vec<&str> = migration.iter().map(String::as_str).collect();

    let mut files = Vec::new();
    markdown_files(root(), &mut files);
    let (mut objects, mut parts, mut of_the_chart) = (Vec::new(), Vec::new(), Vec::new());
    for file in &files {
        let (blocks, spans) = pieces(file, &read(file), &fields);
        parts.extend(spans);
        for (place, block) in blocks {
            // Read by our own reader only to see what it is.
            let first = documents(&block).remove(0);
            let keys: Vec<&str> = first.as_object().unwrap_or_else(|| panic!("{place} is no object")).keys().map(String::as_str).collect();
            if keys.contains(&"kind") {
                objects.push((place, block));
            } else if keys.iter().all(|key| fields.contains(key)) {
                parts.push((place, block));
            } else if keys.iter().all(|key| values.contains(key)) {
                of_the_chart.push((place, block));
            } else {
                panic!("{place}: what is it? An object, fields of a SchemaMigration's spec, or values of the chart are known.\n{block}");
            }
        }
    }
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let file = format!("examples/{}", entry.unwrap().file_name().into_string().unwrap());
        if file.ends_with(".yaml") {
            let text = read(&file);
            objects.push((file, text));
        }
    }
    assert!(objects.len() > 8 && parts.len() > 2 && !of_the_chart.is_empty(), "{objects:?} {parts:?} {of_the_chart:?}");
    eprintln!("{} texts with objects, {} parts of one, {} with values of the chart", objects.len(), parts.len(), of_the_chart.len());

    for (place, yaml) in &objects {
        shop.takes(place, yaml);
    }
    for (place, part) in &parts {
        shop.takes(place, &around(part));
    }
    for (place, yaml) in &of_the_chart {
        let file = crate::templates::values_file(yaml);
        let output = template(&["--values", file.path().to_str().unwrap()]);
        assert!(output.ok, "{place}: {}", output.stderr);
    }
}

/// The question above is one that can be answered no: this is how a key is read that YAML 1.1 has another meaning for.
#[test]
fn a_key_that_is_a_boolean_to_kubectl_is_refused() {
    let shop = Shop::new();
    let part = |key: &str| around(&format!("hooks:\n- {{{key}: [Failed], url: \"http://h/\"}}"));
    let refusal = shop.apply(&part("on")).refusal();
    assert!(refusal.contains("spec.hooks[0].true"), "{refusal}");
    shop.takes("the same with its real name", &part("when"));
}

/// Words that YAML 1.1 takes for a boolean or for nothing, whatever their case.
const NOT_STRINGS: [&str; 10] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~"];

/// Names of fields and words to choose from, anywhere in a schema.
fn words_of(path: &str, schema: &Value, words: &mut Vec<(String, String)>) {
    match schema {
        Value::Object(parts) => {
            for (name, part) in parts {
                match name.as_str() {
                    "properties" => {
                        for (field, schema) in part.as_object().into_iter().flatten() {
                            words.push((format!("{path}.{field}"), field.clone()));
                            words_of(&format!("{path}.{field}"), schema, words);
                        }
                    }
                    "enum" => {
                        let choices = part.as_array().unwrap().iter().filter_map(Value::as_str);
                        words.extend(choices.map(|word| (path.to_owned(), word.to_owned())));
                    }
                    // A default that is a word is one of the words that one writes.
                    "default" => words.extend(part.as_str().map(|word| (path.to_owned(), word.to_owned()))),
                    _ => words_of(path, part, words),
                }
            }
        }
        Value::Array(parts) => parts.iter().for_each(|part| words_of(path, part, words)),
        _ => {}
    }
}

#[test]
fn no_field_and_no_word_to_choose_means_something_else_in_yaml_1_1() {
    let mut words = Vec::new();
    for file in ["crds/theseus.dev_schemamigrations.yaml", "crds/theseus.dev_mysqlservers.yaml"] {
        let crd = documents(&read(file)).remove(0);
        for version in crd["spec"]["versions"].as_array().unwrap() {
            words_of(crd["spec"]["names"]["kind"].as_str().unwrap(), &version["schema"], &mut words);
        }
    }
    words_of("values", &serde_json::from_str(&read("charts/theseus/values.schema.json")).unwrap(), &mut words);
    for known in ["alter", "when", "LockAndRename", "serviceMonitor", "IfNotPresent"] {
        assert!(words.iter().any(|(_, word)| word == known), "{known} was not found");
    }
    let bad: Vec<_> = words.iter().filter(|(_, word)| NOT_STRINGS.contains(&word.to_lowercase().as_str())).collect();
    assert!(bad.is_empty(), "kubectl and helm do not read these as words: {bad:?}");
}
