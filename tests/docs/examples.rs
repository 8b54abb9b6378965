//! `examples/`: every document is one that the program understands, to the last field.
//! (That the API server takes them is tested in the suite `chart`, which has a cluster with the CRDs.)

use crate::{page, root};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use theseus::api::{MySQLServer, SchemaMigration};

fn examples() -> Vec<(String, Vec<Value>)> {
    let mut files: Vec<String> = std::fs::read_dir(root().join("examples"))
        .unwrap()
        .map(|entry| format!("examples/{}", entry.unwrap().file_name().into_string().unwrap()))
        .filter(|file| file.ends_with(".yaml"))
        .collect();
    files.sort();
    assert!(files.len() > 3, "{files:?}");
    files
        .into_iter()
        .map(|file| {
            let text = page(&file);
            (file, serde_yaml::from_multiple(&text).unwrap())
        })
        .collect()
}

/// Reads a document as `T`, writes it again, and looks for everything that was in it.
fn understood<T: DeserializeOwned + Serialize>(file: &str, document: &Value) {
    let typed: T = serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{file}: {error}"));
    fn missing(path: &str, wanted: &Value, found: &Value) -> Option<String> {
        match (wanted, found) {
            (Value::Object(wanted), Value::Object(found)) => wanted.iter().find_map(|(name, value)| match found.get(name) {
                Some(found) => missing(&format!("{path}.{name}"), value, found),
                None => Some(format!("{path}.{name} is not known")),
            }),
            (wanted, found) if wanted == found => None,
            (wanted, found) => Some(format!("{path}: {wanted} became {found}")),
        }
    }
    let written = serde_json::to_value(&typed).unwrap();
    assert_eq!(missing("", document, &written), None, "{file}");
}

#[test]
fn every_document_is_understood_to_the_last_field() {
    let mut kinds = Vec::new();
    for (file, documents) in examples() {
        for document in documents {
            match document["kind"].as_str().unwrap() {
                "SchemaMigration" => understood::<SchemaMigration>(&file, &document),
                "MySQLServer" => understood::<MySQLServer>(&file, &document),
                "Secret" => understood::<k8s_openapi::api::core::v1::Secret>(&file, &document),
                other => panic!("{file}: {other}"),
            }
            kinds.push(document["kind"].as_str().unwrap().to_owned());
        }
    }
    for kind in ["SchemaMigration", "MySQLServer", "Secret"] {
        assert!(kinds.iter().any(|k| k == kind), "no example of {kind}");
    }
}

/// Whatever an example refers to is in the same file, or in `server.yaml`, in the same namespace.
#[test]
fn every_reference_leads_to_a_document() {
    let all = examples();
    let shared = &all.iter().find(|(file, _)| file == "examples/server.yaml").unwrap().1;
    for (file, documents) in &all {
        for document in documents {
            for (pointer, kind) in [
                ("/spec/target/serverRef/name", "MySQLServer"),
                ("/spec/target/credentialsSecretRef/name", "Secret"),
                ("/spec/target/tls/secretRef/name", "Secret"),
                ("/spec/credentialsSecretRef/name", "Secret"),
            ] {
                let Some(name) = document.pointer(pointer) else { continue };
                let found = documents.iter().chain(shared).any(|other| {
                    other["kind"] == kind
                        && other["metadata"]["name"] == *name
                        && other["metadata"].get("namespace") == document["metadata"].get("namespace")
                });
                assert!(found, "{file}: {pointer} {name} is nowhere");
            }
        }
    }
}
