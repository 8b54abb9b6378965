//! `SchemaMigration`: one change of one table.
//!
//! The *what* (target, database, table, alter, mode, algorithm, after) is immutable; the *how* may be changed while the migration runs.
use super::bytes::ByteLimit;
use super::connection::{LocalReference, TlsSpec};
use super::duration::{KubeDuration, Retention, TimeToLive};
use super::status::SchemaMigrationStatus;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One online change of one MySQL table.
// Each printer column has its own type and priority; clippy takes them for one attribute said twice.
#[allow(clippy::duplicated_attributes)]
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "theseus.dev",
    version = "v1alpha1",
    kind = "SchemaMigration",
    namespaced,
    shortname = "smig",
    category = "database",
    status = "SchemaMigrationStatus",
    derive = "PartialEq",
    doc = "One online change of one MySQL table: the table is rebuilt beside the live one and swapped in.",
    selectable = ".spec.database",
    selectable = ".spec.table",
    selectable = ".status.phase",
    printcolumn(name = "Table", type_ = "string", json_path = ".spec.table", description = "The table that changes."),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "Where the migration is."),
    printcolumn(
        name = "Progress",
        type_ = "integer",
        json_path = ".status.progress.percent",
        description = "Share of rows copied, in percent."
    ),
    printcolumn(
        name = "ETA",
        type_ = "string",
        json_path = ".status.progress.eta",
        description = "Estimated time to the end of the copy."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation."),
    printcolumn(name = "Server", type_ = "string", json_path = ".status.server", priority = 1, description = "Host and port."),
    printcolumn(name = "Database", type_ = "string", json_path = ".spec.database", priority = 1, description = "Schema of the table."),
    printcolumn(
        name = "Waits for",
        type_ = "string",
        json_path = ".status.after.waitsFor",
        priority = 1,
        description = "The migrations of spec.after that have not succeeded yet."
    ),
    printcolumn(
        name = "Throttled by",
        type_ = "string",
        json_path = ".status.throttle.reason",
        priority = 1,
        description = "Why copying waits."
    ),
    printcolumn(
        name = "Algorithm",
        type_ = "string",
        json_path = ".status.algorithm.chosen",
        priority = 1,
        description = "How the change is made."
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        priority = 1,
        description = "The present state in a sentence."
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.alter) != has(self.desired)").message("exactly one of alter and desired must be set"))]
#[x_kube(validation = Rule::new("has(self.alter) == has(oldSelf.alter)").message("alter and desired are immutable: create a new SchemaMigration with the other change, and delete this one (or annotate it theseus.dev/cancel=true)"))]
#[x_kube(validation = Rule::new("!has(self.allowDestructive) || !self.allowDestructive || has(self.desired)").message("allowDestructive goes with desired: clauses in alter are made as they are written"))]
#[x_kube(validation = Rule::new("self.mode in ['Execute', 'DryRun'] || duration(self.revert.window) == duration('0s')").message("revert.window needs mode Execute (or DryRun, which checks it): a change on a replica alone leaves nothing that could be taken back"))]
#[x_kube(validation = Rule::new("self.mode != 'TestOnReplica' || self.algorithm in ['Auto', 'Copy']").message("mode TestOnReplica rehearses a copy: algorithm must be Auto or Copy"))]
pub struct SchemaMigrationSpec {
    /// The server: exactly one of `serverRef` and `host`. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("target is immutable: create a new SchemaMigration for another server, and delete this one (or annotate it theseus.dev/cancel=true)"))]
    pub target: Target,
    /// Schema of the table. Immutable.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[^\x00-\x1f\x7f/\\]*[^\x00-\x1f\x7f/\\ ]$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("database is immutable: create a new SchemaMigration, and delete this one (or annotate it theseus.dev/cancel=true)"))]
    pub database: String,
    /// The table to change. Immutable.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[^\x00-\x1f\x7f/\\]*[^\x00-\x1f\x7f/\\ ]$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("table is immutable: create a new SchemaMigration, and delete this one (or annotate it theseus.dev/cancel=true)"))]
    pub table: String,
    /// The clauses of `ALTER TABLE`, without `ALTER TABLE t`: `ADD COLUMN c INT, DROP INDEX i`. Immutable.
    /// Exactly one of `alter` and `desired` must be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32768))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("alter is immutable: create a new SchemaMigration with the other change, and delete this one (or annotate it theseus.dev/cancel=true)"))]
    pub alter: Option<String>,
    /// The whole `CREATE TABLE` that the table is to have, instead of clauses. The clauses are derived from how the server reads it and shown in
    /// `status.clauses`; a column that is missing here is dropped, and a rename is never guessed. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32768))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("desired is immutable: create a new SchemaMigration with the other definition, and delete this one (or annotate it theseus.dev/cancel=true)"))]
    pub desired: Option<String>,
    /// With `desired`: whether columns, constraints and partitions may be dropped and types narrowed on the way. Without it such a change is refused
    /// with everything that would be lost. Immutable.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("allowDestructive is immutable: create a new SchemaMigration, and delete this one (or annotate it theseus.dev/cancel=true)"))]
    pub allow_destructive: bool,
    /// `Execute` changes the table. `DryRun` tries the ALTER on an empty copy of the table and drops the copy. `ExecuteOnReplica` and
    /// `TestOnReplica` need a replica as target, and change the table or rehearse the change only there. Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("mode is immutable: create a new SchemaMigration with the other mode"))]
    pub mode: Mode,
    /// How the change may be made. `Auto` takes the cheapest algorithm that the server accepts; the others require one algorithm and are refused
    /// if the server does not accept it. Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("algorithm is immutable: create a new SchemaMigration with the other algorithm"))]
    pub algorithm: Algorithm,
    /// Names of SchemaMigrations of the same namespace, 16 at most, that must have succeeded before this one begins. They may be created later than
    /// this one. A migration that has begun does not look at them again. Immutable.
    #[serde(default)]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("after is immutable: create a new SchemaMigration that waits for others, and delete this one (or annotate it theseus.dev/cancel=true)"))]
    pub after: Vec<String>,
    /// `true` stops the migration, releases its connections and its slot, and keeps the work; `false` resumes it.
    /// The annotation `theseus.dev/pause=true` does the same.
    #[serde(default)]
    pub suspend: bool,
    /// How rows are copied. May be changed while the migration runs.
    #[serde(default)]
    pub copy: CopySpec,
    /// What throttles the copy. May be changed while the migration runs.
    #[serde(default)]
    pub throttle: ThrottleSpec,
    /// Whether both tables are compared before the swap. May be changed while the migration runs.
    #[serde(default)]
    pub verify: VerifySpec,
    /// When and how the tables are swapped. May be changed while the migration runs.
    #[serde(default)]
    pub cut_over: CutOverSpec,
    /// What happens to the old table after the swap.
    #[serde(default)]
    pub old_table: OldTableSpec,
    /// Whether the change can be taken back without loss after the swap. May be changed while the migration runs.
    #[serde(default)]
    pub revert: RevertSpec,
    /// Services that are called before the swap, where they can veto it, and at the end. May be changed while the migration runs.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub hooks: Vec<HookSpec>,
    /// What happens to the tables of an unfinished migration when it is deleted or cancelled.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// Delete the object this long after it finished, whatever the result, but not before the old table's retention ends.
    /// Empty keeps the object.
    #[serde(default)]
    pub ttl_after_finished: TimeToLive,
}

/// The server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.serverRef) != has(self.host)").message("exactly one of serverRef and host must be set"),
    validation = Rule::new("!has(self.serverRef) || (!has(self.port) && !has(self.credentialsSecretRef) && !has(self.tls))").message("port, credentialsSecretRef and tls go with host; with serverRef the MySQLServer has them"),
    validation = Rule::new("!has(self.host) || has(self.credentialsSecretRef)").message("host needs credentialsSecretRef: a Secret in the same namespace with the keys username and password")
)]
pub struct Target {
    /// A `MySQLServer` in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_ref: Option<LocalReference>,
    /// Host name or address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\s/]+$"))]
    pub host: Option<String>,
    /// TCP port; 3306 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// A Secret in the same namespace with the keys `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<LocalReference>,
    /// TLS; mode `Preferred` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
}

/// What the migration does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Mode {
    /// Change the table.
    #[default]
    Execute,
    /// Try the ALTER on an empty copy of the table and drop the copy.
    DryRun,
    /// Change the table on the target replica only: nothing of it goes into the replica's binary log.
    ExecuteOnReplica,
    /// Rehearse on the target replica: copy, compare while its applier is stopped, swap and swap back. The new table is kept for
    /// `oldTable.retention`.
    TestOnReplica,
}

/// How the change may be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Algorithm {
    /// The cheapest that the server accepts.
    #[default]
    Auto,
    /// `ALGORITHM=INSTANT` only.
    Instant,
    /// `ALGORITHM=INPLACE, LOCK=NONE` only.
    Inplace,
    /// Copy the table.
    Copy,
}

/// How rows are copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CopySpec {
    /// Copy workers; 0 lets the engine choose and adapt to the server.
    #[serde(default)]
    #[schemars(range(min = 0, max = 64))]
    pub workers: i32,
    /// How long one chunk of rows should take, from 10ms to 10s: longer is faster, shorter is gentler on the server.
    #[serde(default = "default_target_chunk_time")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10ms') && duration(self) <= duration('10s')").message("targetChunkTime must be between 10ms and 10s"))]
    pub target_chunk_time: KubeDuration,
    /// Whether to build secondary indexes in one pass after copying the rows.
    #[serde(default)]
    pub defer_indexes: DeferIndexes,
    /// Count the rows during the copy, so that `status.progress` is a share of the actual rows and not of the server's estimate, which may
    /// be far off. The count reads the whole index that the copy uses once, in small pieces and without locks, and stops while the copy is throttled.
    #[serde(default)]
    pub exact_row_count: bool,
}

fn default_target_chunk_time() -> KubeDuration {
    KubeDuration::from_millis(500)
}

impl Default for CopySpec {
    fn default() -> Self {
        Self { workers: 0, target_chunk_time: default_target_chunk_time(), defer_indexes: DeferIndexes::Auto, exact_row_count: false }
    }
}

/// Whether secondary indexes are built after the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum DeferIndexes {
    /// If the build would make no replica lag.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What throttles the copy and delays the swap; changes are still applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ThrottleSpec {
    /// The replica lag above which copying stops: 1s to 24h, or 0s to check no replica.
    #[serde(default = "default_max_replica_lag")]
    #[x_kube(validation = Rule::new("duration(self) == duration('0s') || duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("maxReplicaLag must be 0s, or between 1s and 24h"))]
    pub max_replica_lag: KubeDuration,
    /// Which replicas are checked for lag.
    #[serde(default)]
    pub replicas: ReplicasSpec,
    /// Variables of `SHOW GLOBAL STATUS` on the primary, and the values above which copying stops. The engine's own threads are not
    /// counted. `{}` is no limit.
    #[serde(default = "default_max_load")]
    #[schemars(extend("maxProperties" = 16))]
    pub max_load: BTreeMap<String, i64>,
    /// As `maxLoad`, for values that put the server in danger: if one is exceeded for two seconds, the migration fails or hibernates.
    #[serde(default = "default_critical_load")]
    #[schemars(extend("maxProperties" = 16))]
    pub critical_load: BTreeMap<String, i64>,
    /// `Fail` ends the migration, and a retry resumes its work. `Hibernate` writes nothing, not even changes, until the load has been
    /// below the limit for a minute.
    #[serde(default)]
    pub critical_load_action: CriticalLoadAction,
    /// A query that is polled on the primary with the migration's account; copying stops while the first column of the first row is above 0.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub query: String,
    /// A URL that is polled, `http://…` or `https://…`; copying stops while it answers anything but 200.
    #[serde(default)]
    #[schemars(length(max = 2048), regex(pattern = r"^(https?://[^\s]+)?$"))]
    pub http_url: String,
    /// InnoDB's history list length (unpurged transactions) above which copying stops. 0 is no limit.
    #[serde(default = "default_max_history_list_length")]
    #[schemars(range(min = 0))]
    pub max_history_list_length: i64,
    /// The total size of InnoDB's tablespaces and the binary logs above which copying stops, for example `450Gi`, with or without a unit
    /// of k, M, G, T, P, Ki, Mi, Gi, Ti or Pi. `""` is no limit. Needs PROCESS.
    #[serde(default)]
    pub max_disk_usage: ByteLimit,
    /// Sleep after each chunk for this percentage of its time: 100 halves the speed.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub nice_ratio_percent: i32,
}

fn default_max_replica_lag() -> KubeDuration {
    KubeDuration::from_secs(10)
}

fn default_max_load() -> BTreeMap<String, i64> {
    BTreeMap::from([("Threads_running".to_owned(), 50)])
}

fn default_critical_load() -> BTreeMap<String, i64> {
    BTreeMap::from([("Threads_running".to_owned(), 1000)])
}

fn default_max_history_list_length() -> i64 {
    1_000_000
}

impl Default for ThrottleSpec {
    fn default() -> Self {
        Self {
            max_replica_lag: default_max_replica_lag(),
            replicas: ReplicasSpec::default(),
            max_load: default_max_load(),
            critical_load: default_critical_load(),
            critical_load_action: CriticalLoadAction::Fail,
            query: String::new(),
            http_url: String::new(),
            max_history_list_length: default_max_history_list_length(),
            max_disk_usage: ByteLimit::default(),
            nice_ratio_percent: 0,
        }
    }
}

/// Which replicas are checked for lag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicasSpec {
    /// `Auto`: those that the primary lists with an address (`SHOW REPLICAS`; they have `report_host` set). `None`: none. Used if `hosts`
    /// is empty.
    pub discovery: ReplicaDiscovery,
    /// Only these replicas: `host`, or `host:port` if the port is not 3306. Account and TLS are those of the primary.
    #[schemars(length(max = 32), inner(length(min = 1, max = 255)))]
    pub hosts: Vec<String>,
}

/// How replicas are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum ReplicaDiscovery {
    /// Ask the primary.
    #[default]
    Auto,
    /// Do not.
    None,
}

/// What a critical load does to the migration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum CriticalLoadAction {
    /// It fails.
    #[default]
    Fail,
    /// It sleeps.
    Hibernate,
}

/// Whether both tables are compared before the swap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VerifySpec {
    /// `Always` compares every row of both tables, without locks, before the swap, and keeps comparing while the cut-over waits. `Never`
    /// trusts the copy, and saves reading both tables.
    pub policy: VerifyPolicy,
}

/// Whether both tables are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum VerifyPolicy {
    /// Compare them.
    #[default]
    Always,
    /// Do not.
    Never,
}

/// When and how the tables are swapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CutOverSpec {
    /// `Automatic` swaps as soon as everything is ready; `Manual` waits for the annotation `theseus.dev/cut-over=approved`,
    /// which may be removed again until the tables are locked.
    #[serde(default)]
    pub policy: CutOverPolicy,
    /// `LockAndRename` locks both tables in one session, applies the last changes and renames the tables there. `Auto` is the best method that the
    /// server supports, which is `LockAndRename` on every supported server.
    #[serde(default)]
    pub method: CutOverMethod,
    /// The longest that one attempt may block clients, from 1s to 1m. A failed attempt is repeated later.
    #[serde(default = "default_lock_timeout")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('1m')").message("lockTimeout must be between 1s and 1m"))]
    pub lock_timeout: KubeDuration,
    /// When the tables may be swapped, or changed natively; empty means at any time. Outside the windows the migration waits and stays
    /// current. The annotation `theseus.dev/cut-over=approved` overrides them.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub windows: Vec<WindowSpec>,
    /// Kill sessions that have blocked the cut-over for this long (they hold a metadata lock on the table), from 1s to 24h; 0s never
    /// kills. Replication, the server's own threads and backups are never killed.
    #[serde(default)]
    #[x_kube(validation = Rule::new("duration(self) == duration('0s') || duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("killBlockersAfter must be 0s, or between 1s and 24h"))]
    pub kill_blockers_after: KubeDuration,
    /// How many tables one swap may lock, from 1 to 200: the table itself, and those that foreign keys bind to it. A table with more is refused.
    #[serde(default = "default_max_locked_tables")]
    #[schemars(range(min = 1, max = 200))]
    pub max_locked_tables: i32,
}

/// The most migrations that one may wait for: more are better chained.
pub const MAX_AFTER: usize = 16;
/// The longest name of an object.
pub const MAX_OBJECT_NAME: usize = 253;

/// The most windows that one migration may have.
pub const MAX_WINDOWS: usize = 16;

/// A window for the cut-over. When daylight saving time starts or ends, a skipped time opens the window at the change, and a repeated time opens it
/// the first time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WindowSpec {
    /// When it opens: five cron fields (minute, hour, day of month, month, day of week), such as `0 2 * * *`.
    #[schemars(length(max = 128), regex(pattern = r"^\s*\S+(\s+\S+){4}\s*$"))]
    pub schedule: String,
    /// How long it stays open, in elapsed time, from 1m to 168h.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('168h')").message("duration must be between 1m and 168h"))]
    pub duration: KubeDuration,
    /// The schedule's time zone: a name from the IANA time zone database, such as `Europe/Berlin`.
    #[serde(default = "default_time_zone")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
}

fn default_time_zone() -> String {
    "UTC".to_owned()
}

fn default_max_locked_tables() -> i32 {
    16
}

fn default_lock_timeout() -> KubeDuration {
    KubeDuration::from_secs(3)
}

impl Default for CutOverSpec {
    fn default() -> Self {
        Self {
            policy: CutOverPolicy::Automatic,
            method: CutOverMethod::Auto,
            lock_timeout: default_lock_timeout(),
            windows: Vec::new(),
            kill_blockers_after: KubeDuration::default(),
            max_locked_tables: default_max_locked_tables(),
        }
    }
}

/// What lets the cut-over start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum CutOverPolicy {
    /// As soon as everything is ready.
    #[default]
    Automatic,
    /// Only while the object has the annotation `theseus.dev/cut-over=approved`.
    Manual,
}

/// How the tables are swapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum CutOverMethod {
    /// The best method that the server supports.
    #[default]
    Auto,
    /// `LOCK TABLES` and `RENAME TABLE` in one session.
    LockAndRename,
}

/// The most hooks that one migration may have.
pub const MAX_HOOKS: usize = 16;
/// The key of a hook's Secret that signs.
pub const HOOK_KEY: &str = "key";

/// An HTTP service that is called: POST of a CloudEvent 1.0 in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookSpec {
    // Not `on`: kubectl reads YAML 1.1, to which the key `on` is `true`.
    /// When it is called.
    #[schemars(length(min = 1, max = 3))]
    pub when: Vec<HookMoment>,
    /// The URL, `http://…` or `https://…`.
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s]+$"))]
    pub url: String,
    /// How long one call may take, from 1s to 1m.
    #[serde(default = "default_hook_timeout")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('1m')").message("timeout must be between 1s and 1m"))]
    pub timeout: KubeDuration,
    /// What to do before the cut-over if the service cannot be reached or answers neither 2xx nor 4xx. 4xx is always a veto.
    #[serde(default)]
    pub failure_policy: HookFailurePolicy,
    /// A Secret in the same namespace whose key `key` signs each call (HMAC-SHA256 of the body, header `theseus-signature-256`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
}

/// `hooks[].timeout`, when it is not given.
pub fn default_hook_timeout() -> KubeDuration {
    KubeDuration::from_secs(10)
}

/// When a hook is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum HookMoment {
    /// Before each attempt at the cut-over or at a native change: 2xx agrees, 4xx is a veto.
    BeforeCutOver,
    /// When the table has its new definition.
    Succeeded,
    /// When the migration was refused or has failed.
    Failed,
}

/// What to do if a hook cannot be called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum HookFailurePolicy {
    /// Treat it as a veto.
    #[default]
    Fail,
    /// Ignore it.
    Ignore,
}

/// What happens to the old table after the swap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OldTableSpec {
    /// How long to keep it as `_<table>_del` after the swap: a duration, `0s` to drop it at once, or `Keep` to never drop it.
    /// If that name is taken, a timestamp is added. Later migrations of the table do not wait until it is dropped.
    pub retention: Retention,
}

/// Whether the change can be taken back without loss.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevertSpec {
    /// How long the old table is kept current after the swap: 1m to 720h, or `0s` to not keep it current. Until then the annotation
    /// `theseus.dev/revert=true` swaps the old table back, with every row written since. Other migrations of the table wait until the window
    /// ends; `0s` ends it at once. A change that the server makes itself (INSTANT, INPLACE) has no way back. Needs `mode: Execute`, or `DryRun`, which checks it.
    #[serde(default)]
    #[x_kube(validation = Rule::new("duration(self) == duration('0s') || duration(self) >= duration('1m') && duration(self) <= duration('720h')").message("window must be 0s, or between 1m and 720h"))]
    pub window: KubeDuration,
}

/// What happens to the tables of an unfinished migration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum DeletionPolicy {
    /// Drop them.
    #[default]
    Cleanup,
    /// Keep them.
    Orphan,
}
