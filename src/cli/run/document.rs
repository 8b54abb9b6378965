//! From a file to what the engine takes: the same YAML as in a cluster, checked as the API server would check it.
//!
//! The schema is that of the custom resource definitions, walked here, so that an unknown field, a wrong type or a missing field is refused
//! with its path, and all of them at once. What only CEL says is said again in words. Nothing from a Secret is ever part of a message.
use crate::api::annotations::{Intents, InvalidAnnotation};
use crate::api::connection::LocalReference;
use crate::api::duration::{KubeDuration, Retention};
use crate::api::{GROUP, MySQLServer, SchemaMigration, VERSION, custom_resource_definitions};
use crate::controller::intake::dereference::{self, HookKeys, SecretData};
use crate::controller::intake::validate;
// The command line would show a password to everybody on the machine.
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::{Controls, MigrationSpec, Mode, OldTable, RUN_ID, TEST_ID};
use crate::engine::outside::program::PASSWORD_VARIABLE;
use k8s_openapi::ByteString;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

/// A file larger than this is not what is meant.
const MAX_FILE: u64 = 4 << 20;
/// What a credentials Secret is called when there is none.
const NO_SECRET: &str = "(command line)";

/// Where the documents are, and how to log in when they do not say.
#[derive(Debug, Clone, clap::Args)]
pub struct Source {
    /// YAML: one SchemaMigration, and the MySQLServers and Secrets that it refers to, as documents separated by `---`. `-` is standard input.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub file: PathBuf,
    /// Log in as this account; overrides the Secret.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Read the password from the first line of this file; overrides the Secret.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// A migration, ready for the engine.
#[derive(Debug)]
pub struct Job {
    /// What never changes.
    pub migration: MigrationSpec,
    /// What may change.
    pub controls: Controls,
    /// `oldTable.retention`.
    pub retention: Retention,
    /// `spec.after`: without a cluster it is not known what became of them.
    pub after: Vec<String>,
    /// Annotations that are not valid; reported and ignored.
    pub invalid_annotations: Vec<InvalidAnnotation>,
}

/// The file is not one migration that is valid. Nothing was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// From the engine's documented enum.
    pub reason: Reason,
    /// Where, what is wrong, what is right.
    pub message: String,
}

impl Refused {
    fn spec(message: impl Into<String>) -> Self {
        Self { reason: Reason::InvalidSpec, message: message.into() }
    }
}

impl Source {
    /// Reads the file and the password, and makes the job.
    ///
    /// # Errors
    /// Something cannot be read, or is not valid.
    pub fn job(&self) -> Result<Job, Refused> {
        let password = match &self.password_file {
            Some(path) => Some(first_line(path)?),
            None => std::env::var(PASSWORD_VARIABLE).ok(),
        };
        job(&self.text()?, &Login { user: self.user.clone(), password })
    }

    fn text(&self) -> Result<String, Refused> {
        let standard_input = self.file.as_os_str() == "-";
        let name = if standard_input { "standard input".to_owned() } else { self.file.display().to_string() };
        let mut bytes = Vec::new();
        let read = if standard_input {
            std::io::stdin().lock().take(MAX_FILE + 1).read_to_end(&mut bytes)
        } else {
            std::fs::File::open(&self.file).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        };
        read.map_err(|error| Refused::spec(format!("cannot read {name}: {error}")))?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(Refused::spec(format!("{name} is larger than {} MiB, too large for one migration", MAX_FILE >> 20)));
        }
        String::from_utf8(bytes).map_err(|_| Refused::spec(format!("{name} is not UTF-8")))
    }
}

fn first_line(path: &PathBuf) -> Result<String, Refused> {
    let text =
        std::fs::read_to_string(path).map_err(|error| Refused::spec(format!("cannot read --password-file {}: {error}", path.display())))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Credentials that do not come from a Secret.
#[derive(Clone, Default)]
pub struct Login {
    /// The account.
    pub user: Option<String>,
    pub password: Option<String>,
}

/// Makes the job of a text. Pure.
///
/// # Errors
/// The first thing that is not valid; of the fields, all.
pub fn job(text: &str, login: &Login) -> Result<Job, Refused> {
    // Without the snippet, which would show lines of a Secret.
    let documents: Vec<Value> =
        serde_yaml::from_multiple(text).map_err(|error| Refused::spec(format!("the file is not YAML: {}", error.without_snippet())))?;
    let mut all = Documents::default();
    for (index, mut document) in documents.into_iter().enumerate() {
        without_null(&mut document);
        all.take(index + 1, document)?;
    }
    let migration = match all.migrations.len() {
        1 => all.migrations.remove(0),
        0 => return Err(Refused::spec(format!("the file has no SchemaMigration (apiVersion: {GROUP}/{VERSION})"))),
        many => {
            return Err(Refused::spec(format!(
                "the file has {many} SchemaMigrations; it must have one: put each in a file of its own, and run them in the order of spec.after"
            )));
        }
    };
    resolve(migration, &all, login)
}

/// What the file holds.
#[derive(Default)]
struct Documents {
    migrations: Vec<SchemaMigration>,
    servers: Vec<MySQLServer>,
    secrets: Vec<(Option<String>, String, SecretData)>,
}

impl Documents {
    fn take(&mut self, number: usize, document: Value) -> Result<(), Refused> {
        let Value::Object(fields) = &document else {
            return Err(Refused::spec(format!("document {number} is not an object with apiVersion, kind, metadata and spec")));
        };
        let word = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (word("apiVersion").to_owned(), word("kind").to_owned());
        let name = fields.get("metadata").and_then(|m| m.get("name")).and_then(Value::as_str).unwrap_or_default().to_owned();
        let place = if name.is_empty() { format!("document {number} ({kind})") } else { format!("{kind} {name}") };
        let problems = |problems: Vec<String>| {
            if problems.is_empty() { Ok(()) } else { Err(Refused::spec(format!("{place}: {}", problems.join("; ")))) }
        };
        let ours = format!("{GROUP}/{VERSION}");
        match (version.as_str(), kind.as_str()) {
            (v, "SchemaMigration") if v == ours => {
                problems(check(&document, "theseus.dev_schemamigrations.yaml"))?;
                self.migrations.push(typed(&place, document)?);
            }
            (v, "MySQLServer") if v == ours => {
                problems(check(&document, "theseus.dev_mysqlservers.yaml"))?;
                self.servers.push(typed(&place, document)?);
            }
            ("v1", "Secret") => {
                let mut found = metadata(fields);
                let data = secret(fields, &mut found);
                problems(found)?;
                self.secrets.push((namespace(fields), name, data));
            }
            (_, "SchemaMigration" | "MySQLServer") => {
                return Err(Refused::spec(format!(
                    "document {number}: {kind} has the apiVersion {version:?}; this version supports {ours}"
                )));
            }
            _ => {
                return Err(Refused::spec(format!(
                    "document {number} has the apiVersion {version:?} and the kind {kind:?}: a file may have one SchemaMigration, and the MySQLServers and Secrets (v1) it refers to"
                )));
            }
        }
        Ok(())
    }
}

fn namespace(fields: &Map<String, Value>) -> Option<String> {
    fields.get("metadata").and_then(|m| m.get("namespace")).and_then(Value::as_str).map(str::to_owned)
}

/// Whether two objects are in one namespace; who names none is in the other's.
fn together(a: Option<&String>, b: Option<&String>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    }
}

fn typed<T: serde::de::DeserializeOwned>(place: &str, document: Value) -> Result<T, Refused> {
    serde_json::from_value(document).map_err(|error| Refused::spec(format!("{place}: {error}")))
}

/// A Secret's data. Its problems name keys, never values.
fn secret(fields: &Map<String, Value>, problems: &mut Vec<String>) -> SecretData {
    let mut data = SecretData::new();
    for field in fields.keys() {
        if !["apiVersion", "kind", "metadata", "type", "immutable", "data", "stringData"].contains(&field.as_str()) {
            problems.push(format!("{field} is not a field of a Secret"));
        }
    }
    // `stringData` wins, as in the API server.
    for (part, encoded) in [("data", true), ("stringData", false)] {
        let entries = match fields.get(part) {
            None => continue,
            Some(Value::Object(entries)) => entries,
            Some(_) => {
                problems.push(format!("{part} must be an object"));
                continue;
            }
        };
        for (key, value) in entries {
            let Value::String(text) = value else {
                problems.push(format!("{part}.{key} must be a string: put it in quotes"));
                continue;
            };
            if !encoded {
                data.insert(key.clone(), text.clone().into_bytes());
                continue;
            }
            // base64 is written in lines of 76 characters by some tools.
            let compact: String = text.split_whitespace().collect();
            match serde_json::from_value::<ByteString>(Value::String(compact)) {
                Ok(bytes) => {
                    data.insert(key.clone(), bytes.0);
                }
                Err(_) => problems.push(format!("data.{key} is not base64; use stringData for plain text")),
            }
        }
    }
    data
}

fn resolve(migration: SchemaMigration, all: &Documents, login: &Login) -> Result<Job, Refused> {
    let namespace = migration.metadata.namespace.clone();
    let name = migration.metadata.name.clone().unwrap_or_default();
    let mut spec = migration.spec;
    let target = &mut spec.target;
    if target.server_ref.is_some() && (target.port.is_some() || target.credentials_secret_ref.is_some() || target.tls.is_some()) {
        return Err(Refused::spec("spec.target: port, credentialsSecretRef and tls go with host; with serverRef the MySQLServer has them"));
    }
    if target.host.is_some() && target.credentials_secret_ref.is_none() && login.user.is_some() {
        target.credentials_secret_ref = Some(LocalReference { name: NO_SECRET.to_owned() });
    }
    let server = match &target.server_ref {
        Some(reference) => Some(
            all.servers
                .iter()
                .find(|s| {
                    s.metadata.name.as_deref() == Some(&reference.name) && together(s.metadata.namespace.as_ref(), namespace.as_ref())
                })
                .map(|s| s.spec.clone())
                .ok_or_else(|| Refused {
                    reason: Reason::ServerNotFound,
                    message: format!(
                        "spec.target.serverRef: the file has no MySQLServer {}; add it as a document, or set a host",
                        reference.name
                    ),
                })?,
        ),
        None => None,
    };
    let mut secrets: BTreeMap<String, SecretData> = all
        .secrets
        .iter()
        .filter(|(of, _, _)| together(of.as_ref(), namespace.as_ref()))
        .map(|(_, name, data)| (name.clone(), data.clone()))
        .collect();
    let credentials = server.as_ref().map(|s| &s.credentials_secret_ref).or(target.credentials_secret_ref.as_ref());
    if let Some(credentials) = credentials
        && (login.user.is_some() || (login.password.is_some() && secrets.contains_key(&credentials.name)))
    {
        let data = secrets.entry(credentials.name.clone()).or_default();
        for (key, value) in [("username", &login.user), ("password", &login.password)] {
            if let Some(value) = value {
                data.insert(key.to_owned(), value.clone().into_bytes());
            }
        }
        if login.user.is_some() && !data.contains_key("password") {
            return Err(Refused {
                reason: Reason::SecretNotFound,
                message: format!(
                    "--user needs a password: use --password-file or set {PASSWORD_VARIABLE} (empty for an account without a password)"
                ),
            });
        }
    }
    let server = dereference::resolve(&spec.target, server.as_ref(), &secrets).map_err(|error| Refused {
        reason: error.reason(),
        message: match &error {
            dereference::Error::SecretNotFound(name) => {
                format!("the file has no Secret {name}; add it as a document, or use --user with --password-file or {PASSWORD_VARIABLE}")
            }
            other => other.to_string(),
        },
    })?;
    let refuse = |invalid: validate::Invalid| Refused { reason: invalid.reason, message: invalid.message };
    let intents = Intents::read(&migration.metadata.annotations.unwrap_or_default());
    let mut keys = HookKeys::new();
    for reference in spec.hooks.iter().filter_map(|hook| hook.secret_ref.as_ref()) {
        if let Some(data) = secrets.get(&reference.name) {
            let key = dereference::hook_key(&reference.name, data).map_err(|e| Refused { reason: e.reason(), message: e.to_string() })?;
            keys.insert(reference.name.clone(), key);
        }
    }
    let controls = validate::controls(&spec, &intents, &keys).map_err(refuse)?;
    if spec.after.contains(&name) {
        return Err(refuse(validate::Invalid::cycle(&[name.clone(), name])));
    }
    let mut controls = validate::with_defaults_of_server(controls, &server.replicas);
    let retention = spec.old_table.retention;
    let after = spec.after.clone();
    controls.old_table = old_table(retention);
    let display_name = match &namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name,
    };
    let mut migration = validate::migration("", &display_name, &spec, server).map_err(refuse)?;
    migration.id = identity(&migration);
    Ok(Job { migration, controls, retention, after, invalid_annotations: intents.invalid_annotations })
}

/// A run has no later: the old table is dropped at once, or kept.
fn old_table(retention: Retention) -> OldTable {
    match retention {
        Retention::For(KubeDuration(Duration::ZERO)) => OldTable::DropNow,
        Retention::For(_) | Retention::Keep => OldTable::Keep,
    }
}

/// Who a run is: the same table of the same server changed in the same way is the same migration, so that a second run continues with the
/// work of the first. A dry run is someone else: it must not take a half-done copy for its own left-overs.
pub fn identity(migration: &MigrationSpec) -> String {
    let mut hash = Sha256::new();
    let port = migration.server.port.to_string();
    for part in [migration.server.host.as_str(), &port, &migration.database, &migration.table, migration.asked()] {
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    let mut hex = format!("{:x}", hash.finalize());
    // 128 bits are enough, and fit the column.
    hex.truncate(32);
    match migration.mode {
        Mode::DryRun => format!("dry-run-{hex}"),
        Mode::TestOnReplica => format!("{TEST_ID}{hex}"),
        Mode::Execute | Mode::ExecuteOnReplica => format!("{RUN_ID}{hex}"),
    }
}

// --- the schema, without an API server -----------------------------------------------------------------------

/// A field without a value is a field that is not there.
fn without_null(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

fn check(document: &Value, definition: &str) -> Vec<String> {
    let schema = custom_resource_definitions()
        .into_iter()
        .find(|(file, _)| *file == definition)
        .and_then(|(_, crd)| crd.spec.versions.into_iter().next())
        .and_then(|version| version.schema)
        .and_then(|schema| schema.open_api_v3_schema);
    let mut problems = document.as_object().map(metadata).unwrap_or_default();
    let (Some(fields), Some(schema)) = (document.as_object(), schema) else {
        return problems;
    };
    for (name, value) in fields {
        match (name.as_str(), schema.properties.as_ref().and_then(|p| p.get(name))) {
            // The status is the operator's; an object copied from a cluster has one.
            ("apiVersion" | "kind" | "metadata" | "status", _) => {}
            (_, Some(of)) => walk(name, value, of, &mut problems),
            (_, None) => problems.push(format!("{name} is not a field")),
        }
    }
    if !fields.contains_key("spec") {
        problems.push("spec is missing".to_owned());
    }
    problems
}

/// The fields of `metadata` that a person may write, and what the API server adds to them.
const METADATA: &[&str] = &[
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

fn metadata(fields: &Map<String, Value>) -> Vec<String> {
    let Some(Value::Object(metadata)) = fields.get("metadata") else {
        return vec!["metadata.name is missing".to_owned()];
    };
    let mut problems = Vec::new();
    for (name, value) in metadata {
        match name.as_str() {
            "annotations" | "labels" => match value {
                Value::Object(entries) => {
                    problems.extend(
                        entries
                            .iter()
                            .filter(|(_, v)| !v.is_string())
                            .map(|(key, _)| format!("metadata.{name}.{key} must be a string: put it in quotes")),
                    );
                }
                _ => problems.push(format!("metadata.{name} must be an object")),
            },
            "name" | "namespace" if !value.is_string() => problems.push(format!("metadata.{name} must be a string: put it in quotes")),
            name if !METADATA.contains(&name) => problems.push(format!("metadata.{name} is not a field")),
            _ => {}
        }
    }
    if metadata.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
        problems.push("metadata.name is missing".to_owned());
    }
    problems
}

/// What OpenAPI says of a value, as far as our definitions use it. Patterns that are not durations are checked by `validate`.
fn walk(path: &str, value: &Value, schema: &JSONSchemaProps, problems: &mut Vec<String>) {
    let wanted = schema.type_.as_deref().unwrap_or("object");
    let fits = match wanted {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        _ => value.is_object(),
    };
    if !fits {
        let hint = if wanted == "string" && !value.is_object() && !value.is_array() { ": put it in quotes" } else { "" };
        problems.push(format!("{path} must be {} {wanted}{hint}", if wanted.starts_with(['a', 'i', 'o']) { "an" } else { "a" }));
        return;
    }
    if let Some(allowed) = &schema.enum_
        && !allowed.iter().any(|a| a.0 == *value)
    {
        let words: Vec<String> = allowed.iter().map(|a| a.0.as_str().map_or_else(|| a.0.to_string(), str::to_owned)).collect();
        problems.push(format!("{path} is {value}; it must be one of {}", words.join(", ")));
    }
    match value {
        Value::Object(fields) => object(path, fields, schema, problems),
        Value::Array(items) => {
            if schema.max_items.is_some_and(|most| items.len() as i64 > most) {
                problems.push(format!("{path} has more than {} entries", schema.max_items.unwrap_or_default()));
            }
            if let Some(JSONSchemaPropsOrArray::Schema(of)) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    walk(&format!("{path}[{index}]"), item, of, problems);
                }
            }
        }
        Value::String(text) => string(path, text, schema, problems),
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            if schema.minimum.is_some_and(|least| number < least) || schema.maximum.is_some_and(|most| number > most) {
                let bound = |b: Option<f64>| b.map_or_else(|| "any".to_owned(), |b| b.to_string());
                problems.push(format!("{path} must be between {} and {}; it is {value}", bound(schema.minimum), bound(schema.maximum)));
            }
        }
        _ => {}
    }
}

fn object(path: &str, fields: &Map<String, Value>, schema: &JSONSchemaProps, problems: &mut Vec<String>) {
    for name in schema.required.iter().flatten() {
        if !fields.contains_key(name) {
            problems.push(format!("{path}.{name} is missing"));
        }
    }
    for (name, value) in fields {
        let path = format!("{path}.{name}");
        match (schema.properties.as_ref().and_then(|p| p.get(name)), &schema.additional_properties) {
            (Some(of), _) => walk(&path, value, of, problems),
            (None, Some(JSONSchemaPropsOrBool::Schema(of))) => walk(&path, value, of, problems),
            (None, Some(JSONSchemaPropsOrBool::Bool(true))) => {}
            (None, _) => {
                let known: Vec<&str> = schema.properties.iter().flatten().map(|(name, _)| name.as_str()).collect();
                problems.push(format!("{path} is not a field; valid fields here: {}", known.join(", ")));
            }
        }
    }
}

fn string(path: &str, text: &str, schema: &JSONSchemaProps, problems: &mut Vec<String>) {
    let length = text.chars().count() as i64;
    if schema.min_length.is_some_and(|least| length < least) {
        problems.push(format!("{path} must not be empty"));
    } else if schema.max_length.is_some_and(|most| length > most) {
        problems.push(format!("{path} is longer than {} characters", schema.max_length.unwrap_or_default()));
    } else if let Some(pattern) = schema.pattern.as_deref().filter(|p| p.contains("(h|m|s|ms)")) {
        // The three kinds of durations (see api::duration): plain, or `Keep`, or nothing.
        let word = (text == "Keep" && pattern.contains("Keep")) || (text.is_empty() && pattern.starts_with("^(|"));
        if !word && let Err(error) = text.parse::<KubeDuration>() {
            problems.push(format!("{path}: {error}"));
        }
    }
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
