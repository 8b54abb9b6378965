//! Step 2: spec and annotations to what the engine takes. Pure; also used by `theseus run`, which has no API server in front of it,
//! so every bound of the schema is checked here again.
use super::dereference::{HookKeys, Server};
use crate::api::annotations::Intents;
use crate::api::bounds::{self, NumberBounds};
use crate::api::schema_migration::{
    Algorithm as ApiAlgorithm, CriticalLoadAction as ApiCriticalLoadAction, CutOverPolicy as ApiCutOverPolicy,
    DeferIndexes as ApiDeferIndexes, DeletionPolicy as ApiDeletionPolicy, HOOK_KEY, HookFailurePolicy, HookMoment, HookSpec, MAX_AFTER,
    MAX_HOOKS, MAX_OBJECT_NAME, MAX_WINDOWS, Mode as ApiMode, ReplicaDiscovery, ReplicasSpec, SchemaMigrationSpec, ThrottleSpec,
    VerifyPolicy as ApiVerifyPolicy, WindowSpec,
};
use crate::engine::contract::hook::{FailurePolicy, Hook, Moment, Target};
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::{
    Algorithm, Controls, CriticalLoadAction, CutOverPolicy, DeferIndexes, DeletionPolicy, Desired, Limits, MigrationSpec, Mode, OldTable,
    Replicas, VerifyPolicy, Window,
};
use std::collections::BTreeMap;

/// A spec that is not valid; no retry cures it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    /// From the engine's documented enum.
    pub reason: Reason,
    /// Which field, what is wrong, what is right.
    pub message: String,
}

impl Invalid {
    fn spec(message: impl Into<String>) -> Self {
        Self { reason: Reason::InvalidSpec, message: message.into() }
    }

    /// `spec.after` leads back to the migration: `way` begins and ends with it.
    pub fn cycle(way: &[String]) -> Self {
        let message = match way {
            [name, _] => format!("spec.after names this migration itself ({name}), so it could never begin"),
            _ => format!("spec.after is a cycle, so none of these migrations could ever begin: {}", way.join(" waits for ")),
        };
        Self { reason: Reason::AfterCycle, message }
    }
}

/// The part that never changes, as the engine takes it.
///
/// `id` is the owner of the tables (the object's UID), `display_name` is for people.
///
/// # Errors
/// A field is out of its bounds.
pub fn migration(id: &str, display_name: &str, spec: &SchemaMigrationSpec, server: Server) -> Result<MigrationSpec, Invalid> {
    name("spec.database", &spec.database)?;
    name("spec.table", &spec.table)?;
    let desired = change(spec)?;
    after(&spec.after)?;
    replica_hosts("spec.replicas.hosts of the MySQLServer", &server.replicas)?;
    if spec.mode == ApiMode::TestOnReplica && matches!(spec.algorithm, ApiAlgorithm::Instant | ApiAlgorithm::Inplace) {
        return Err(Invalid::spec("spec.algorithm must be Auto or Copy: mode TestOnReplica rehearses a copy"));
    }
    if !matches!(spec.mode, ApiMode::Execute | ApiMode::DryRun) && !spec.revert.window.0.is_zero() {
        let why = "spec.revert.window needs mode Execute (or DryRun, which checks it): a change on a replica alone leaves nothing that could be taken back";
        return Err(Invalid::spec(why));
    }
    Ok(MigrationSpec {
        id: id.to_owned(),
        display_name: display_name.to_owned(),
        server: server.address,
        database: spec.database.clone(),
        table: spec.table.clone(),
        alter: spec.alter.clone().unwrap_or_default(),
        desired,
        mode: match spec.mode {
            ApiMode::Execute => Mode::Execute,
            ApiMode::DryRun => Mode::DryRun,
            ApiMode::ExecuteOnReplica => Mode::ExecuteOnReplica,
            ApiMode::TestOnReplica => Mode::TestOnReplica,
        },
        algorithm: match spec.algorithm {
            ApiAlgorithm::Auto => Algorithm::Auto,
            ApiAlgorithm::Instant => Algorithm::Instant,
            ApiAlgorithm::Inplace => Algorithm::Inplace,
            ApiAlgorithm::Copy => Algorithm::Copy,
        },
        deletion_policy: match spec.deletion_policy {
            ApiDeletionPolicy::Cleanup => DeletionPolicy::Cleanup,
            ApiDeletionPolicy::Orphan => DeletionPolicy::Orphan,
        },
    })
}

/// One of `alter` and `desired`, each within its bounds; the latter as the engine takes it.
fn change(spec: &SchemaMigrationSpec) -> Result<Option<Desired>, Invalid> {
    let most = bounds::ALTER_LENGTH;
    let is_empty = |text: &str| text.trim().is_empty() || text.chars().count() > most;
    match (&spec.alter, &spec.desired) {
        (Some(_), Some(_)) | (None, None) => Err(Invalid::spec("exactly one of spec.alter and spec.desired must be set")),
        (Some(_), None) if spec.allow_destructive => {
            Err(Invalid::spec("spec.allowDestructive goes with spec.desired: clauses in spec.alter are made as they are written"))
        }
        (Some(alter), None) if is_empty(alter) => {
            Err(Invalid::spec(format!("spec.alter must have 1 to {most} characters: the clauses of ALTER TABLE")))
        }
        (None, Some(desired)) if is_empty(desired) => {
            Err(Invalid::spec(format!("spec.desired must have 1 to {most} characters: the whole CREATE TABLE")))
        }
        (Some(_), None) => Ok(None),
        (None, Some(text)) => Ok(Some(Desired { definition: text.clone(), allow_destructive: spec.allow_destructive })),
    }
}

/// The part that may change at any time, as levels.
///
/// The old table is always kept by the engine: who asked for the migration has to know of the swap before the last proof of it is dropped,
/// so the front end drops it with [`crate::engine::clean_up`] once the result is written down.
///
/// `keys` are those of the hooks' Secrets, by the Secret's name.
///
/// # Errors
/// A field is out of its bounds, or a hook's key is not at hand.
pub fn controls(spec: &SchemaMigrationSpec, intents: &Intents, keys: &HookKeys) -> Result<Controls, Invalid> {
    Ok(Controls {
        paused: spec.suspend || intents.pause,
        throttled_by_user: intents.throttle,
        cut_over_policy: match spec.cut_over.policy {
            ApiCutOverPolicy::Automatic => CutOverPolicy::Automatic,
            ApiCutOverPolicy::Manual => CutOverPolicy::Manual,
        },
        approved: intents.approved,
        cancel: intents.cancel,
        workers: number(bounds::WORKERS, spec.copy.workers)?,
        target_chunk_time: bounds::TARGET_CHUNK_TIME
            .check("spec.copy.targetChunkTime", spec.copy.target_chunk_time.0)
            .map_err(Invalid::spec)?,
        defer_indexes: match spec.copy.defer_indexes {
            ApiDeferIndexes::Auto => DeferIndexes::Auto,
            ApiDeferIndexes::Always => DeferIndexes::Always,
            ApiDeferIndexes::Never => DeferIndexes::Never,
        },
        exact_row_count: spec.copy.exact_row_count,
        nice_ratio_percent: number(bounds::NICE_RATIO_PERCENT, spec.throttle.nice_ratio_percent)?,
        limits: limits(&spec.throttle)?,
        verify: match spec.verify.policy {
            ApiVerifyPolicy::Always => VerifyPolicy::Always,
            ApiVerifyPolicy::Never => VerifyPolicy::Never,
        },
        lock_timeout: bounds::LOCK_TIMEOUT.check("spec.cutOver.lockTimeout", spec.cut_over.lock_timeout.0).map_err(Invalid::spec)?,
        max_locked_tables: number(bounds::MAX_LOCKED_TABLES, spec.cut_over.max_locked_tables)?,
        windows: windows(&spec.cut_over.windows)?,
        kill_blockers_after: bounds::KILL_BLOCKERS_AFTER
            .check_or_off("spec.cutOver.killBlockersAfter", spec.cut_over.kill_blockers_after.0)
            .map_err(Invalid::spec)?,
        force_cut_over: intents.force_cut_over.clone(),
        old_table: OldTable::Keep,
        revert_window: bounds::REVERT_WINDOW.check("spec.revert.window", spec.revert.window.0).map_err(Invalid::spec)?,
        revert: intents.revert,
        hooks: hooks(&spec.hooks, keys)?,
    })
}

fn hooks(specs: &[HookSpec], keys: &HookKeys) -> Result<Vec<Hook>, Invalid> {
    if specs.len() > MAX_HOOKS {
        return Err(Invalid::spec(format!("spec.hooks must not have more than {MAX_HOOKS} entries")));
    }
    let hook = |(index, hook): (usize, &HookSpec)| {
        let field = |name: &str| format!("spec.hooks[{index}].{name}");
        if hook.when.is_empty() {
            return Err(Invalid::spec(format!("{} must list when the hook is called", field("when"))));
        }
        let url = &hook.url;
        if !(url.starts_with("http://") || url.starts_with("https://")) || url.contains(char::is_whitespace) {
            // Not shown: it may hold a secret.
            return Err(Invalid::spec(format!("{} must be a URL that begins with http:// or https://", field("url"))));
        }
        Ok(Hook {
            when: hook
                .when
                .iter()
                .map(|moment| match moment {
                    HookMoment::BeforeCutOver => Moment::BeforeCutOver,
                    HookMoment::Succeeded => Moment::Succeeded,
                    HookMoment::Failed => Moment::Failed,
                })
                .collect(),
            target: Target::Http {
                url: url.clone(),
                key: match &hook.secret_ref {
                    None => None,
                    Some(secret) => Some(keys.get(&secret.name).cloned().ok_or_else(|| Invalid {
                        reason: Reason::SecretNotFound,
                        message: format!("{}: there is no Secret {} with the key {HOOK_KEY}: create it", field("secretRef"), secret.name),
                    })?),
                },
            },
            timeout: bounds::HOOK_TIMEOUT.check(&field("timeout"), hook.timeout.0).map_err(Invalid::spec)?,
            failure_policy: match hook.failure_policy {
                HookFailurePolicy::Fail => FailurePolicy::Fail,
                HookFailurePolicy::Ignore => FailurePolicy::Ignore,
            },
        })
    };
    specs.iter().enumerate().map(hook).collect()
}

fn windows(windows: &[WindowSpec]) -> Result<Vec<Window>, Invalid> {
    if windows.len() > MAX_WINDOWS {
        return Err(Invalid::spec(format!("spec.cutOver.windows must have {MAX_WINDOWS} entries at most")));
    }
    windows
        .iter()
        .enumerate()
        .map(|(index, window)| {
            Window::parse(&window.schedule, &window.time_zone, window.duration.0)
                .map_err(|error| Invalid::spec(format!("spec.cutOver.windows[{index}]: {error}")))
        })
        .collect()
}

/// What a `MySQLServer` says, where the migration does not say it itself.
pub fn with_defaults_of_server(mut controls: Controls, of_server: &ReplicasSpec) -> Controls {
    if controls.limits.replicas == Replicas::Auto {
        controls.limits.replicas = replicas(of_server);
    }
    controls
}

fn replica_hosts(field: &str, spec: &ReplicasSpec) -> Result<(), Invalid> {
    match spec.hosts.iter().find(|host| host.trim().is_empty() || host.len() > 255) {
        Some(bad) => Err(Invalid::spec(format!("{field} must have host names, or host:port; one of them is {bad:?}"))),
        None => Ok(()),
    }
}

fn replicas(spec: &ReplicasSpec) -> Replicas {
    match spec.discovery {
        _ if !spec.hosts.is_empty() => Replicas::Hosts(spec.hosts.clone()),
        ReplicaDiscovery::Auto => Replicas::Auto,
        ReplicaDiscovery::None => Replicas::None,
    }
}

fn limits(throttle: &ThrottleSpec) -> Result<Limits, Invalid> {
    replica_hosts("spec.throttle.replicas.hosts", &throttle.replicas)?;
    let url = &throttle.http_url;
    if !url.is_empty() && (!(url.starts_with("http://") || url.starts_with("https://")) || url.contains(char::is_whitespace)) {
        // Not shown: it may hold a secret.
        return Err(Invalid::spec("spec.throttle.httpUrl must be a URL that begins with http:// or https://"));
    }
    Ok(Limits {
        max_replica_lag: bounds::MAX_REPLICA_LAG
            .check_or_off("spec.throttle.maxReplicaLag", throttle.max_replica_lag.0)
            .map_err(Invalid::spec)?,
        replicas: replicas(&throttle.replicas),
        max_load: load("spec.throttle.maxLoad", &throttle.max_load)?,
        critical_load: load("spec.throttle.criticalLoad", &throttle.critical_load)?,
        critical_load_action: match throttle.critical_load_action {
            ApiCriticalLoadAction::Fail => CriticalLoadAction::Fail,
            ApiCriticalLoadAction::Hibernate => CriticalLoadAction::Hibernate,
        },
        throttle_query: Some(throttle.query.trim().to_owned()).filter(|query| !query.is_empty()),
        throttle_http_url: Some(url.clone()).filter(|url| !url.is_empty()),
        max_history_list_length: match u64::try_from(throttle.max_history_list_length) {
            Ok(0) => None,
            Ok(length) => Some(length),
            Err(_) => return Err(Invalid::spec("spec.throttle.maxHistoryListLength must be 0 or more")),
        },
        max_disk_usage: throttle.max_disk_usage.0,
        ..Limits::default()
    })
}

/// Limits of status variables.
fn load(field: &str, limits: &BTreeMap<String, i64>) -> Result<BTreeMap<String, u64>, Invalid> {
    bounds::load(field, limits.iter().map(|(name, limit)| (name.clone(), *limit))).map_err(Invalid::spec)
}

/// A schema object's name as MySQL allows it, quoted: 1–64 characters, no control characters, no `/` or `\`, no space at the end.
/// <https://dev.mysql.com/doc/refman/8.4/en/identifiers.html>
fn name(field: &str, value: &str) -> Result<(), Invalid> {
    let length = value.chars().count();
    let forbidden = |c: char| c.is_ascii_control() || c == '/' || c == '\\';
    if (1..=64).contains(&length) && !value.contains(forbidden) && !value.ends_with(' ') {
        return Ok(());
    }
    Err(Invalid::spec(format!(
        "{field} must have 1 to 64 characters, without control characters, / and \\, and must not end with a space; it is {value:?}"
    )))
}

/// Names of other objects, as the API server has them.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names>
fn after(names: &[String]) -> Result<(), Invalid> {
    if names.len() > MAX_AFTER {
        return Err(Invalid::spec(format!("spec.after must not have more than {MAX_AFTER} entries")));
    }
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |label: &str| label.starts_with(ends) && label.ends_with(ends) && label.chars().all(|c| ends(c) || c == '-');
    for (index, name) in names.iter().enumerate() {
        if name.len() > MAX_OBJECT_NAME || !name.split('.').all(label) {
            return Err(Invalid::spec(format!(
                "spec.after[{index}] must be the name of a SchemaMigration of the same namespace; it is {name:?}"
            )));
        }
        if names.iter().take(index).any(|before| before == name) {
            return Err(Invalid::spec(format!("spec.after[{index}] names {name} a second time")));
        }
    }
    Ok(())
}

fn number(bounds: NumberBounds, value: i32) -> Result<u16, Invalid> {
    bounds.check(&format!("spec.{}", bounds.field), value.into()).map_err(Invalid::spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::time::Duration;

    fn spec(change: &Value) -> SchemaMigrationSpec {
        let mut spec = json!({
            "target": {"host": "db", "credentialsSecretRef": {"name": "login"}},
            "database": "shop", "table": "orders", "alter": "ADD COLUMN a INT",
        });
        merge(&mut spec, change);
        serde_json::from_value(spec).unwrap()
    }

    fn merge(into: &mut Value, change: &Value) {
        match (into, change) {
            (Value::Object(into), Value::Object(change)) => {
                for (key, value) in change {
                    merge(into.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
            (into, change) => *into = change.clone(),
        }
    }

    fn server() -> Server {
        Server {
            address: crate::engine::contract::spec::ServerAddress {
                host: "db".to_owned(),
                port: 3306,
                username: "u".to_owned(),
                password: "p".to_owned(),
                tls: crate::engine::contract::spec::Tls::default(),
                unlogged: false,
            },
            max_concurrent_migrations: 2,
            replicas: ReplicasSpec::default(),
        }
    }

    #[test]
    fn a_text_of_many_bytes_is_as_long_as_its_characters() {
        for (length, good) in [(bounds::ALTER_LENGTH, true), (bounds::ALTER_LENGTH + 1, false)] {
            for character in ["x", "\u{1f6b2}"] {
                let alter = format!("COMMENT '{}'", character.repeat(length - "COMMENT ''".len()));
                let spec = spec(&json!({"alter": alter}));
                let refused = migration("id", "name", &spec, server()).is_err_and(|error| error.message.contains("32768 characters"));
                assert_eq!(refused, !good, "{length} of {character}");
            }
        }
    }

    #[test]
    fn windows_are_as_long_here_as_in_the_engine() {
        use crate::engine::contract::window::{LONGEST, SHORTEST};
        assert_eq!((bounds::WINDOW_DURATION.least, bounds::WINDOW_DURATION.most), (SHORTEST, LONGEST));
        let words = bounds::WINDOW_DURATION.words();
        assert_eq!(crate::engine::contract::window::InvalidWindow::Duration.to_string(), format!("duration must be {words}"));
    }

    #[test]
    fn a_server_tells_its_replicas_to_those_who_do_not_say() {
        let hosts = |host: &str| json!({"throttle": {"replicas": {"hosts": [host]}}});
        let of_server = ReplicasSpec { hosts: vec!["db-2".to_owned()], ..ReplicasSpec::default() };
        for (change, expected) in [
            (json!({}), Replicas::Hosts(vec!["db-2".to_owned()])),
            (json!({"throttle": {"replicas": {"discovery": "None"}}}), Replicas::None),
            (hosts("db-3"), Replicas::Hosts(vec!["db-3".to_owned()])),
        ] {
            let controls = controls(&spec(&change), &Intents::default(), &HookKeys::new()).unwrap();
            assert_eq!(with_defaults_of_server(controls, &of_server).limits.replicas, expected, "{change}");
        }
        let none = ReplicasSpec { hosts: vec![" ".to_owned()], ..ReplicasSpec::default() };
        let invalid = migration("uid", "shop/orders", &spec(&json!({})), Server { replicas: none, ..server() }).unwrap_err();
        assert!(invalid.message.contains("MySQLServer"), "{invalid}");
        assert_eq!(with_defaults_of_server(Controls::default(), &ReplicasSpec::default()), Controls::default());
    }

    #[test]
    fn the_comparison_can_be_left_out() {
        let of = |change| controls(&spec(&change), &Intents::default(), &HookKeys::new()).unwrap().verify;
        assert_eq!(of(json!({})), VerifyPolicy::Always);
        assert_eq!(of(json!({"verify": {"policy": "Never"}})), VerifyPolicy::Never);
    }

    #[test]
    fn the_defaults_of_the_schema_are_those_of_the_engine() {
        let controls = controls(&spec(&json!({})), &Intents::default(), &HookKeys::new()).unwrap();
        assert_eq!(controls, Controls::default());
        let migration = migration("uid", "shop/orders", &spec(&json!({})), server()).unwrap();
        assert_eq!(
            (migration.mode, migration.algorithm, migration.deletion_policy),
            (Mode::Execute, Algorithm::Auto, DeletionPolicy::Cleanup)
        );
    }

    #[test]
    fn limits_reach_the_engine_and_nothing_given_is_no_limit() {
        let none = json!({"throttle": {"maxReplicaLag": "0s", "replicas": {"discovery": "None"}, "maxLoad": {}, "criticalLoad": {}, "query": " ", "maxHistoryListLength": 0, "maxDiskUsage": ""}});
        let limits = controls(&spec(&none), &Intents::default(), &HookKeys::new()).unwrap().limits;
        assert_eq!(
            limits,
            Limits {
                max_replica_lag: None,
                replicas: Replicas::None,
                max_load: BTreeMap::new(),
                critical_load: BTreeMap::new(),
                max_history_list_length: None,
                ..Limits::default()
            }
        );
        let all = json!({"throttle": {
            "maxReplicaLag": "90s", "replicas": {"hosts": ["db-2"]}, "maxLoad": {"Threads_connected": 7}, "criticalLoad": {"Threads_connected": 70},
            "criticalLoadAction": "Hibernate", "query": "SELECT 1", "httpUrl": "https://x/", "maxHistoryListLength": 5,
            "maxDiskUsage": "450Gi",
        }});
        assert_eq!(
            controls(&spec(&all), &Intents::default(), &HookKeys::new()).unwrap().limits,
            Limits {
                max_replica_lag: Some(Duration::from_secs(90)),
                replicas: Replicas::Hosts(vec!["db-2".to_owned()]),
                max_load: BTreeMap::from([("Threads_connected".to_owned(), 7)]),
                critical_load: BTreeMap::from([("Threads_connected".to_owned(), 70)]),
                critical_load_action: CriticalLoadAction::Hibernate,
                throttle_query: Some("SELECT 1".to_owned()),
                throttle_http_url: Some("https://x/".to_owned()),
                max_history_list_length: Some(5),
                max_disk_usage: Some(450 << 30),
                ..Limits::default()
            }
        );
    }

    #[test]
    fn windows_kills_and_the_force_token_reach_the_engine() {
        let all = json!({"cutOver": {"killBlockersAfter": "90s", "windows": [
            {"schedule": "0 2 * * *", "duration": "2h", "timeZone": "Europe/Berlin"}, {"schedule": "0 0 * * SAT", "duration": "48h"},
        ]}});
        let forced = Intents { force_cut_over: Some("now".to_owned()), ..Intents::default() };
        let found = controls(&spec(&all), &forced, &HookKeys::new()).unwrap();
        let hours = |n: u64| Duration::from_secs(n * 3600);
        assert_eq!(
            found,
            Controls {
                windows: vec![
                    Window::parse("0 2 * * *", "Europe/Berlin", hours(2)).unwrap(),
                    Window::parse("0 0 * * SAT", "UTC", hours(48)).unwrap()
                ],
                kill_blockers_after: Some(Duration::from_secs(90)),
                force_cut_over: Some("now".to_owned()),
                ..Controls::default()
            }
        );
    }

    #[test]
    fn hooks_reach_the_engine_with_their_keys() {
        let all = json!({"hooks": [
            {"when": ["BeforeCutOver", "Failed"], "url": "https://h/a", "timeout": "3s", "failurePolicy": "Ignore", "secretRef": {"name": "hmac"}},
            {"when": ["Succeeded"], "url": "http://h/b"},
        ]});
        let keys = HookKeys::from([("hmac".to_owned(), b"k".to_vec())]);
        let found = controls(&spec(&all), &Intents::default(), &keys).unwrap();
        let hook = |when, url: &str, seconds, failure_policy, key: Option<&[u8]>| Hook {
            when,
            target: Target::Http { url: url.to_owned(), key: key.map(<[u8]>::to_vec) },
            timeout: Duration::from_secs(seconds),
            failure_policy,
        };
        assert_eq!(
            found.hooks,
            [
                hook(vec![Moment::BeforeCutOver, Moment::Failed], "https://h/a", 3, FailurePolicy::Ignore, Some(b"k")),
                hook(vec![Moment::Succeeded], "http://h/b", 10, FailurePolicy::Fail, None),
            ]
        );
        let missing = controls(&spec(&all), &Intents::default(), &HookKeys::new()).unwrap_err();
        assert!(missing.reason == Reason::SecretNotFound && missing.message.contains("hmac"), "{missing}");
    }

    #[test]
    fn suspend_and_the_annotation_pause_are_one() {
        for (suspend, pause, paused) in [(false, false, false), (true, false, true), (false, true, true), (true, true, true)] {
            let found = controls(&spec(&json!({"suspend": suspend})), &Intents { pause, ..Intents::default() }, &HookKeys::new()).unwrap();
            assert_eq!(found.paused, paused);
        }
    }

    #[test]
    fn values_out_of_bounds_are_refused_by_the_name_of_their_field() {
        for (change, field) in [
            (json!({"database": ""}), "spec.database"),
            (json!({"table": "x".repeat(65)}), "spec.table"),
            (json!({"table": "a/b"}), "spec.table"),
            (json!({"table": "a "}), "spec.table"),
            (json!({"table": "a\u{0}"}), "spec.table"),
            (json!({"alter": " \n"}), "spec.alter"),
            (json!({"after": ["a", "Orders"]}), "spec.after[1] must"),
            (json!({"after": [""]}), "spec.after[0] must"),
            (json!({"after": ["a.-b"]}), "spec.after[0] must"),
            (json!({"after": ["x".repeat(254)]}), "spec.after[0] must"),
            (json!({"after": ["a", "b", "a"]}), "spec.after[2] names a"),
            (json!({"after": (0..17).map(|n| format!("m{n}")).collect::<Vec<_>>()}), "spec.after must not"),
            (json!({"copy": {"workers": -1}}), "spec.copy.workers"),
            (json!({"copy": {"workers": 65}}), "spec.copy.workers"),
            (json!({"copy": {"targetChunkTime": "9ms"}}), "spec.copy.targetChunkTime"),
            (json!({"copy": {"targetChunkTime": "11s"}}), "spec.copy.targetChunkTime"),
            (json!({"throttle": {"niceRatioPercent": 1001}}), "spec.throttle.niceRatioPercent"),
            (json!({"hooks": [{"when": [], "url": "http://h/"}]}), "spec.hooks[0].when"),
            (json!({"hooks": [{"when": ["Failed"], "url": "ftp://h/"}]}), "spec.hooks[0].url"),
            (json!({"hooks": [{"when": ["Failed"], "url": "http://h/", "timeout": "0s"}]}), "spec.hooks[0].timeout"),
            (json!({"throttle": {"maxReplicaLag": "500ms"}}), "spec.throttle.maxReplicaLag"),
            (json!({"throttle": {"maxReplicaLag": "25h"}}), "spec.throttle.maxReplicaLag"),
            (json!({"throttle": {"replicas": {"hosts": [" "]}}}), "spec.throttle.replicas.hosts"),
            (json!({"throttle": {"maxLoad": {"Threads_running": -1}}}), "spec.throttle.maxLoad"),
            (json!({"throttle": {"criticalLoad": {"Threads'": 1}}}), "spec.throttle.criticalLoad"),
            (json!({"throttle": {"httpUrl": "ftp://x"}}), "spec.throttle.httpUrl"),
            (json!({"throttle": {"httpUrl": "http://x/ y"}}), "spec.throttle.httpUrl"),
            (json!({"throttle": {"maxHistoryListLength": -1}}), "spec.throttle.maxHistoryListLength"),
            (json!({"cutOver": {"lockTimeout": "500ms"}}), "spec.cutOver.lockTimeout"),
            (json!({"cutOver": {"lockTimeout": "61s"}}), "spec.cutOver.lockTimeout"),
            (json!({"cutOver": {"killBlockersAfter": "500ms"}}), "spec.cutOver.killBlockersAfter"),
            (json!({"cutOver": {"killBlockersAfter": "25h"}}), "spec.cutOver.killBlockersAfter"),
            (json!({"cutOver": {"windows": [{"schedule": "0 25 * * *", "duration": "1h"}]}}), "spec.cutOver.windows[0]: schedule"),
            (json!({"cutOver": {"windows": [{"schedule": "0 0 31 2 *", "duration": "1h"}]}}), "spec.cutOver.windows[0]: schedule"),
            (
                json!({"cutOver": {"windows": [{"schedule": "0 2 * * *", "duration": "1h", "timeZone": "Mars/Olympus"}]}}),
                "spec.cutOver.windows[0]: timeZone",
            ),
            (
                json!({"cutOver": {"windows": [{"schedule": "0 2 * * *", "duration": "1h"}, {"schedule": "0 2 * * *", "duration": "0s"}]}}),
                "spec.cutOver.windows[1]: duration",
            ),
            (json!({"cutOver": {"windows": [{"schedule": "0 2 * * *", "duration": "169h"}]}}), "spec.cutOver.windows[0]: duration"),
            (
                json!({"cutOver": {"windows": (0..17).map(|_| json!({"schedule": "0 2 * * *", "duration": "1h"})).collect::<Vec<_>>()}}),
                "spec.cutOver.windows must",
            ),
        ] {
            let spec = spec(&change);
            let error = migration("uid", "shop/orders", &spec, server())
                .map(|_| ())
                .and(controls(&spec, &Intents::default(), &HookKeys::new()).map(|_| ()))
                .unwrap_err();
            assert_eq!(error.reason, Reason::InvalidSpec);
            assert!(error.message.starts_with(field), "{}", error.message);
        }
        assert!(migration("uid", "x", &spec(&json!({"table": "Größe `x`.ü"})), server()).is_ok());
    }
}
