//! `MySQLServer`: a server that migrations of its namespace refer to by name.
use super::connection::{DEFAULT_PORT, LocalReference, TlsSpec};
use super::schema_migration::ReplicasSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// How many migrations run on one server at once when its `MySQLServer` does not say, or there is none.
pub const DEFAULT_MAX_CONCURRENT_MIGRATIONS: i32 = 2;

/// Where a MySQL server is, how to log in, and how many migrations it can take.
// Each printer column has its own type and priority; clippy takes them for one attribute said twice.
#[allow(clippy::duplicated_attributes)]
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "theseus.dev",
    version = "v1alpha1",
    kind = "MySQLServer",
    plural = "mysqlservers",
    singular = "mysqlserver",
    namespaced,
    shortname = "mysrv",
    category = "database",
    status = "MySQLServerStatus",
    derive = "PartialEq",
    doc = "A MySQL server whose tables are changed by the SchemaMigrations of its namespace.",
    selectable = ".spec.host",
    printcolumn(name = "Host", type_ = "string", json_path = ".spec.host", description = "Host name or address."),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether migrations can run there."
    ),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", description = "The server's version."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation."),
    printcolumn(name = "Port", type_ = "integer", json_path = ".spec.port", priority = 1, description = "TCP port."),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1,
        description = "Version and settings, or what is wrong."
    )
)]
#[serde(rename_all = "camelCase")]
pub struct MySQLServerSpec {
    /// Host name or address; a Service that always points to the primary is best.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\s/]+$"))]
    pub host: String,
    /// TCP port.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// A Secret in the same namespace with the keys `username` and `password`.
    pub credentials_secret_ref: LocalReference,
    /// TLS.
    #[serde(default)]
    pub tls: TlsSpec,
    /// The replicas whose lag throttles migrations; used by migrations that list none (`throttle.replicas` with discovery `Auto` and no
    /// hosts). Read when a migration starts or resumes.
    #[serde(default)]
    pub replicas: ReplicasSpec,
    /// How many migrations run on this server at once; the others wait as `Queued`. A paused migration takes no slot.
    #[serde(default = "default_max_concurrent_migrations")]
    #[schemars(range(min = 1, max = 64))]
    pub max_concurrent_migrations: i32,
}

fn default_port() -> i32 {
    DEFAULT_PORT
}

fn default_max_concurrent_migrations() -> i32 {
    DEFAULT_MAX_CONCURRENT_MIGRATIONS
}

/// What was found on the server, refreshed every minute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MySQLServerStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The server's version, as it reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// `MySQL`, `Percona Server` or `MariaDB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavour: Option<String>,
    /// `gtid_mode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gtid_mode: Option<String>,
    /// `binlog_format`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binlog_format: Option<String>,
    /// When the server was last checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_probe: Option<Time>,
    /// `Ready`: reachable, and able to run migrations.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
