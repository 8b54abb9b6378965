//! `SchemaMigration.status`: written by one function of the controller, in whole, by server-side apply.
//!
//! `conditions`, `handledTokens`, `tables`, `after.succeeded`, `startedAt` and `completedAt` are read back after a restart of the operator;
//! everything else is for people.
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What is known about a migration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SchemaMigrationStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The migration's phase, for people and printer columns; programs read the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The current state in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Host and port of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// What became of the migrations in `spec.after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<AfterStatus>,
    /// The clauses that `spec.desired` comes to; empty if the table has that definition already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clauses: Option<String>,
    /// How the change is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<AlgorithmStatus>,
    /// Rows and changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressStatus>,
    /// What throttles the copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<ThrottleStatus>,
    /// The swap so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_over: Option<CutOverStatus>,
    /// The comparison of the two tables so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationStatus>,
    /// Which process does the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineStatus>,
    /// The migration's own tables that still exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<TablesStatus>,
    /// The once-only annotations that have been handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled_tokens: Option<HandledTokens>,
    /// When the migration first started to work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it finished, whatever the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Accepted, Validated, Ready, Reconciling, Stalled, Succeeded, Throttled, Paused, CutOverReady, RevertPossible.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// What became of the migrations in `spec.after`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AfterStatus {
    /// Those that have not succeeded yet, each with its state: `orders-widen-id (Copying)`. Absent once there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Those that were seen to have succeeded. They count as such also when they are deleted afterwards.
    #[serde(default)]
    pub succeeded: Vec<String>,
}

/// How the change is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlgorithmStatus {
    /// `Instant`, `Inplace` or `Copy`.
    pub chosen: String,
    /// Why; if the server refused a cheaper algorithm, its message.
    pub reason: String,
}

/// Rows and changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProgressStatus {
    /// Rows written by chunks.
    pub rows_copied: i64,
    /// Rows in the table, by the server's estimate, or counted with `copy.exactRowCount`.
    pub rows_estimated: i64,
    /// Share of rows copied; 100 only when the copy is complete.
    pub percent: i32,
    /// Estimated time to the end of the copy, not counting time that it will be throttled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<String>,
    /// Row images of the table seen in the binary log.
    pub changes_seen: i64,
    /// Changed keys applied, or found to be up to date.
    pub changes_applied: i64,
    /// Distinct changed keys waiting to be applied.
    pub backlog: i64,
}

/// What throttles the copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ThrottleStatus {
    /// Whether copying is stopped now.
    pub active: bool,
    /// `User`, `Load`, `ReplicaLag`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Total time throttled.
    pub total_seconds: i64,
}

/// The swap so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CutOverStatus {
    /// Attempts made.
    pub attempts: i32,
    /// Time of the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<Time>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// The session that holds a metadata lock on the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<String>,
    /// How long the table was locked at the swap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_milliseconds: Option<i64>,
    /// When the next window opens; absent unless the cut-over is waiting for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_opens_at: Option<Time>,
    /// When policy `Manual` was approved; absent without an approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_at: Option<Time>,
}

/// The comparison of the two tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationStatus {
    /// Ranges compared.
    pub chunks_checked: i64,
    /// Rows found different once and repaired.
    pub rows_repaired: i64,
    /// `Running`, or `Same` once a complete pass found no difference that came back; then how many columns were compared as stored, how
    /// many after the change of type, and the names of those that cannot be compared.
    pub result: String,
}

/// Which process does the work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EngineStatus {
    /// The operator's Pod.
    pub instance: String,
    /// The engine's random id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// When this engine started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// How often the work was resumed.
    pub resumed_count: i32,
}

/// The migration's own tables that still exist; empty strings for those that do not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TablesStatus {
    /// The new table before the swap.
    #[serde(default)]
    pub ghost: String,
    /// The migration's own state.
    #[serde(default)]
    pub state: String,
    /// The old table after the swap.
    #[serde(default)]
    pub old: String,
}

impl TablesStatus {
    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.ghost.is_empty() && self.state.is_empty() && self.old.is_empty()
    }
}

/// The once-only annotations that have been handled, so that one that stays on the object is not handled again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HandledTokens {
    /// The last value of `theseus.dev/retry`.
    #[serde(default)]
    pub retry: String,
    /// The last value of `theseus.dev/force-cut-over`.
    #[serde(default)]
    pub force_cut_over: String,
}
