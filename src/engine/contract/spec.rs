//! What a front end hands to the engine: one migration, fully resolved and validated, with no Kubernetes in it.

use super::hook::Hook;
use crate::sql::names::{self, TableNames};
use std::collections::BTreeMap;
use std::time::Duration;

pub use super::window::{InvalidWindow, Window};
pub use crate::mysql::{ServerAddress, Tls, TlsMode};

/// What to change; fixed for the life of a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationSpec {
    /// Identity of the migration (a UID, or a digest of the file for `theseus run`): owner of the tables it makes.
    pub id: String,
    /// For people, e.g. `shop/orders-add-status`: in the state table and in the logs.
    pub display_name: String,
    /// The server whose table changes.
    pub server: ServerAddress,
    /// Schema of the table.
    pub database: String,
    /// Name of the table.
    pub table: String,
    /// The clauses of ALTER TABLE, without `ALTER TABLE t`. Where `desired` is given, they are what the engine derives from it, and empty before.
    pub alter: String,
    /// The definition that the table is to have, instead of clauses.
    pub desired: Option<Desired>,
    /// Change it, or only prove that it can be done.
    pub mode: Mode,
    /// How the change may be made.
    pub algorithm: Algorithm,
    /// What becomes of the ghost and state tables when the migration is cancelled.
    pub deletion_policy: DeletionPolicy,
}

/// `spec.desired`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The whole CREATE TABLE.
    pub definition: String,
    /// Whether something may be lost on the way.
    pub allow_destructive: bool,
}

/// How ids begin that `theseus run` makes of what is asked for.
pub const RUN_ID: &str = "run-";
/// The same for tests on a replica.
pub const TEST_ID: &str = "test-";

impl MigrationSpec {
    /// Whether its id is made of what is asked for: then one that has ended may be asked for again, and is another one. An object of Kubernetes
    /// is one migration, whatever becomes of the table after it.
    pub fn can_be_asked_for_again(&self) -> bool {
        [RUN_ID, TEST_ID].iter().any(|prefix| self.id.starts_with(prefix))
    }

    /// The names of the tables beside the original.
    pub fn names(&self) -> TableNames {
        if self.mode.on_replica() { TableNames::on_replica(&self.table) } else { TableNames::for_table(&self.table) }
    }

    /// What is asked for, as the user wrote it.
    pub fn asked(&self) -> &str {
        self.desired.as_ref().map_or(&self.alter, |desired| &desired.definition)
    }

    /// The text of the definition that is asked for, if one is.
    pub fn definition(&self) -> Option<&str> {
        self.desired.as_ref().map(|desired| desired.definition.as_str())
    }

    /// Whether the table is copied whatever else the server could do.
    pub fn copies(&self) -> bool {
        self.algorithm == Algorithm::Copy || self.mode == Mode::TestOnReplica
    }

    /// With the sessions that the mode wants.
    #[must_use]
    pub(crate) fn settled(mut self) -> Self {
        self.server.unlogged = self.mode.on_replica();
        self
    }

    /// With the names of schema and table as the server keeps them, which people may have written in another case: what is read from the server
    /// (foreign keys, locks, the log) has them so. `in_lower_case`: [`crate::mysql::Session::lower_case_names`].
    #[must_use]
    pub(crate) fn kept(&self, in_lower_case: bool) -> Self {
        let mut kept = self.clone();
        if in_lower_case {
            (kept.database, kept.table) = (names::lower(&self.database), names::lower(&self.table));
        }
        kept
    }
}

/// `spec.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Migrate.
    #[default]
    Execute,
    /// Prove the ALTER on an empty ghost table and drop it.
    DryRun,
    /// Migrate on a replica, and there alone.
    ExecuteOnReplica,
    /// Rehearse on a replica: copy, stop its applier, compare, swap and swap back, start the applier again; the new table is left.
    TestOnReplica,
}

impl Mode {
    /// Whether the server is to be a replica.
    pub fn on_replica(self) -> bool {
        matches!(self, Self::ExecuteOnReplica | Self::TestOnReplica)
    }
}

/// `spec.algorithm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// The cheapest that the server accepts and the policy allows.
    #[default]
    Auto,
    /// `ALGORITHM=INSTANT` or nothing.
    Instant,
    /// `ALGORITHM=INPLACE, LOCK=NONE` or nothing.
    Inplace,
    /// Copy the table through a ghost.
    Copy,
}

/// `spec.deletionPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeletionPolicy {
    /// Drop ghost and state table.
    #[default]
    Cleanup,
    /// Leave them.
    Orphan,
}

/// What may change while a migration runs: spec's *how* fields and the annotations, as levels. A new value takes effect within a second.
#[derive(Clone, Debug, PartialEq)]
pub struct Controls {
    /// Stop, keep the work, release the connections (`suspend`, annotation `pause`).
    pub paused: bool,
    /// Copying stops; changes are still applied (annotation `throttle`).
    pub throttled_by_user: bool,
    /// `cutOver.policy`.
    pub cut_over_policy: CutOverPolicy,
    /// The approval (annotation `cut-over: approved`); may be taken back until the tables are locked.
    pub approved: bool,
    /// Stop for good and clean up.
    pub cancel: bool,
    /// Copy workers; 0 lets the engine choose and adapt.
    pub workers: u16,
    /// The time one chunk should take (10 ms – 10 s).
    pub target_chunk_time: Duration,
    /// Whether secondary indexes are built after the rows.
    pub defer_indexes: DeferIndexes,
    /// Count the original's rows beside the copy, so that the progress is of their number and not of the server's estimate.
    pub exact_row_count: bool,
    /// Sleep this share of each chunk's time, in percent (0–1000).
    pub nice_ratio_percent: u16,
    /// What holds the migration back.
    pub limits: Limits,
    /// `verify.policy`.
    pub verify: VerifyPolicy,
    /// The longest that clients may wait in one cut-over attempt (1 s – 60 s).
    pub lock_timeout: Duration,
    /// How many tables one swap may lock: the table itself, and those that foreign keys bind to it (1–200).
    pub max_locked_tables: u16,
    /// When the tables may be swapped; none: at any time.
    pub windows: Vec<Window>,
    /// Kill the sessions that have held the cut-over back for so long (1 s – 24 h); `None`: never.
    pub kill_blockers_after: Option<Duration>,
    /// A token, once for each new value: the next attempt may kill what blocks it.
    pub force_cut_over: Option<String>,
    /// What happens to the old table after the swap.
    pub old_table: OldTable,
    /// For so long after the swap the old table is kept current, so that the change can be taken back without loss; zero: not at all.
    pub revert_window: Duration,
    /// Take the change back (annotation `revert`), inside the window.
    pub revert: bool,
    /// Who is asked before the tables are swapped, and told of the end.
    pub hooks: Vec<Hook>,
}

impl Default for Controls {
    fn default() -> Self {
        Self {
            paused: false,
            throttled_by_user: false,
            cut_over_policy: CutOverPolicy::Automatic,
            approved: false,
            cancel: false,
            workers: 0,
            target_chunk_time: Duration::from_millis(500),
            defer_indexes: DeferIndexes::Auto,
            exact_row_count: false,
            nice_ratio_percent: 0,
            limits: Limits::default(),
            verify: VerifyPolicy::Always,
            lock_timeout: Duration::from_secs(3),
            max_locked_tables: 16,
            windows: Vec::new(),
            kill_blockers_after: None,
            force_cut_over: None,
            old_table: OldTable::Keep,
            revert_window: Duration::ZERO,
            revert: false,
            hooks: Vec::new(),
        }
    }
}

/// `spec.throttle`: what holds the migration back. `None`, or an empty map, is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A replica that is further behind holds copying. `None`: replicas are not looked at.
    pub max_replica_lag: Option<Duration>,
    /// Which replicas are checked.
    pub replicas: Replicas,
    /// Status variables of the primary and the values above which copying is held. `Threads_running` and `Threads_connected` do not count
    /// the engine's own sessions.
    pub max_load: BTreeMap<String, u64>,
    /// As above, for everything: the migration fails or hibernates.
    pub critical_load: BTreeMap<String, u64>,
    /// Which of the two.
    pub critical_load_action: CriticalLoadAction,
    /// How long a hibernation goes on after the load was last critical.
    pub hibernation: Duration,
    /// A query on the primary; a first column of the first row above zero holds copying.
    pub throttle_query: Option<String>,
    /// An `http` or `https` address; any answer but 200 holds copying.
    pub throttle_http_url: Option<String>,
    /// The longest InnoDB history list (unpurged transactions). `None`: it is not looked at.
    pub max_history_list_length: Option<u64>,
    /// The most bytes that tablespaces and binary logs may take. `None`: they are not looked at.
    pub max_disk_usage: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        let threads = |n| BTreeMap::from([("Threads_running".to_owned(), n)]);
        Self {
            max_replica_lag: Some(Duration::from_secs(10)),
            replicas: Replicas::Auto,
            max_load: threads(50),
            critical_load: threads(1000),
            critical_load_action: CriticalLoadAction::Fail,
            hibernation: Duration::from_secs(60),
            throttle_query: None,
            throttle_http_url: None,
            max_history_list_length: Some(1_000_000),
            max_disk_usage: None,
        }
    }
}

/// `throttle.replicas`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Replicas {
    /// Those that the primary lists with an address (`SHOW REPLICAS`).
    #[default]
    Auto,
    /// These: `host`, or `host:port` where the port is not 3306.
    Hosts(Vec<String>),
    /// None.
    None,
}

/// `throttle.criticalLoadAction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CriticalLoadAction {
    /// The migration fails; a retry continues with the work.
    #[default]
    Fail,
    /// Nothing is written, not even changes, until the load has been lower for [`Limits::hibernation`].
    Hibernate,
}

/// `copy.deferIndexes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeferIndexes {
    /// When no replica would lag by the build.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// `verify.policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum VerifyPolicy {
    /// Compare both tables before the swap.
    #[default]
    Always,
    /// Trust the copy.
    Never,
}

/// `cutOver.policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CutOverPolicy {
    /// As soon as everything is ready.
    #[default]
    Automatic,
    /// Only while approved.
    Manual,
}

/// `oldTable.retention`, as the engine needs it: a retention longer than zero is the front end's to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldTable {
    /// Drop it right after the swap.
    DropNow,
    /// Leave it, with the state table as proof of ownership, for [`crate::engine::clean_up`].
    Keep,
}
