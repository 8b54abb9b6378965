//! Words of the engine's notices ([`crate::engine::contract::snapshot::Notice`]): the reason of the Event that a person reads, and what the metrics count.
//! Each is explained in `docs/reference/schemamigration.md` (a test holds that).

/// The tables are swapped, or the server has made the change itself.
pub const SWAPPED: &str = "Swapped";
/// An attempt was given up; it is made again.
pub const CUT_OVER_ATTEMPT_FAILED: &str = "CutOverAttemptFailed";
/// A session that held the cut-over back was killed.
pub const BLOCKER_KILLED: &str = "BlockerKilled";
/// A session that holds the cut-over back was to be killed and is not: the account may not, or it is none that is ever killed.
pub const BLOCKER_NOT_KILLED: &str = "BlockerNotKilled";
/// A hook vetoed the cut-over; it is asked again.
pub const CUT_OVER_VETOED: &str = "CutOverVetoed";
/// A hook could not be notified that the migration ended.
pub const HOOK_FAILED: &str = "HookFailed";
/// The server refuses on the table what it took on a clone.
pub const COPY_INSTEAD: &str = "CopyInstead";
/// Mode TestOnReplica: replication does not apply changes until the tables were compared and swapped.
pub const REPLICATION_STOPPED: &str = "ReplicationStopped";
/// It applies changes again.
pub const REPLICATION_STARTED: &str = "ReplicationStarted";
/// The work of a former engine was resumed.
pub const RESUMED: &str = "Resumed";
/// It could not be.
pub const STARTED_OVER: &str = "StartedOver";
/// The rows could not be counted (`copy.exactRowCount`); the server's estimate stays.
pub const ROWS_NOT_COUNTED: &str = "RowsNotCounted";
/// A replica is gone; its lag is not looked at.
pub const REPLICA_FORGOTTEN: &str = "ReplicaForgotten";
/// A replica cannot be found.
pub const REPLICA_WITHOUT_ADDRESS: &str = "ReplicaWithoutAddress";
/// Copying has been held back for more than a minute, or a person asked for it.
pub const THROTTLED: &str = "Throttled";
/// It goes on.
pub(super) const UNTHROTTLED: &str = "Unthrottled";
/// A limit of the throttle has no effect.
pub const SIGNAL_NOT_AVAILABLE: &str = "SignalNotAvailable";
/// Rows change as fast as they are applied, and the last changes would take too long under the lock.
pub const BACKLOG_STAYS_LARGE: &str = "BacklogStaysLarge";
/// The account does not see something that refuses nothing ([`crate::engine::table::sight::Without::Said`]).
pub const NOT_SEEN: &str = "NotSeen";

/// The change is made, and can be taken back until the window ends.
pub const REVERT_POSSIBLE: &str = "RevertPossible";
/// It cannot be taken back any more.
pub const REVERT_OVER: &str = "RevertOver";
/// It was taken back.
pub const REVERTED: &str = "Reverted";

/// All of them.
pub const ALL: &[&str] = &[
    SWAPPED,
    CUT_OVER_ATTEMPT_FAILED,
    BLOCKER_KILLED,
    BLOCKER_NOT_KILLED,
    CUT_OVER_VETOED,
    HOOK_FAILED,
    COPY_INSTEAD,
    REPLICATION_STOPPED,
    REPLICATION_STARTED,
    RESUMED,
    STARTED_OVER,
    ROWS_NOT_COUNTED,
    REPLICA_FORGOTTEN,
    REPLICA_WITHOUT_ADDRESS,
    THROTTLED,
    UNTHROTTLED,
    SIGNAL_NOT_AVAILABLE,
    BACKLOG_STAYS_LARGE,
    NOT_SEEN,
    REVERT_POSSIBLE,
    REVERT_OVER,
    REVERTED,
];
