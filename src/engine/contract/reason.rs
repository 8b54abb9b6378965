//! Why a migration is refused, fails or is retried: one documented enum, the same word in condition, Event, metric label and exit message.

/// `Stalled`/`Succeeded` reasons. Each has its page section in `docs/reference/reasons.md` (a test holds that).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// `spec.alter` is not understood or asks for what a migration must not do.
    AlterNotSupported,
    /// The server refused the ALTER on the empty ghost table.
    AlterRejected,
    /// `spec.desired` is not one CREATE TABLE of this table, or no clauses lead to it.
    DesiredNotSupported,
    /// `spec.desired` would lose something, and `spec.allowDestructive` is not set.
    DestructiveChange,
    /// The server refuses the algorithm that was asked for.
    AlgorithmNotSupported,
    /// The database or table does not exist.
    TableNotFound,
    /// A view, a temporary or system table, or an engine other than InnoDB.
    TableNotSupported,
    /// No unique key that a migration can walk along.
    NoUsableKey,
    /// A row without a key came while we ran: a column of the key that may be NULL, and was not, is.
    NullInKey,
    /// The table has, or is referenced by, foreign keys.
    ForeignKeys,
    /// The table has triggers.
    Triggers,
    /// A table with one of our names exists that this migration did not make.
    NameTaken,
    /// Another engine owns the migration.
    LockHeldElsewhere,
    /// An XA transaction that was prepared before the migration began holds changes of the table back.
    PreparedTransaction,
    /// This engine was replaced by a newer one.
    Fenced,
    /// The account lacks a privilege.
    MissingPrivilege,
    /// User name or password are wrong.
    AccessDenied,
    /// A Secret is missing or lacks a key.
    SecretNotFound,
    /// The MySQLServer object is missing.
    ServerNotFound,
    /// A server setting rules the migration out (binary log, format, read only, version).
    ServerNotSupported,
    /// The server is another one than before, and the work cannot go on there.
    ServerChanged,
    /// The server is read only, or a replica.
    ReadOnly,
    /// A mode for replicas, and the server is none, or does not replicate now.
    NotAReplica,
    /// A replica leaves the migration's tables out of what it applies.
    ReplicaFiltered,
    /// The server cannot be reached.
    ConnectionFailed,
    /// The server's TLS is not what was asked for.
    TlsFailed,
    /// Existing rows do not fit the new definition.
    DataDoesNotFit,
    /// Two rows have the same value under a unique key of the new definition.
    DuplicateKey,
    /// Somebody changed the table's definition while we ran.
    DefinitionChanged,
    /// Somebody emptied the table while we ran: the copy starts anew.
    TableTruncated,
    /// Somebody else wrote to the ghost table.
    GhostWritten,
    /// Statement-format DML on the table: its rows are unknown.
    StatementLogged,
    /// The binary logs needed to go on are gone.
    BinlogPurged,
    /// The comparison found a difference that came back.
    VerificationFailed,
    /// The server's load became critical, and the migration was to fail then.
    CriticalLoad,
    /// The state table is of another version or damaged.
    StateNotReadable,
    /// A value of the spec makes no sense.
    InvalidSpec,
    /// `revert.window` is set, and the old table could not be kept current.
    NoWayBack,
    /// `spec.after` leads back to the migration itself.
    AfterCycle,
    /// The server's disk, or the tablespace, is full.
    DiskFull,
    /// The server gave a statement up for now: a deadlock, a lock wait, a limit of time. It is tried again.
    StatementInterrupted,
    /// The server said something that no retry cures.
    ServerError,
    /// A bug: an invariant does not hold.
    Internal,
    /// Whether the swap happened cannot be told.
    OutcomeUnknown,
    /// The object was cancelled.
    Cancelled,
}

/// Whether a reason passes without anybody's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passes {
    /// It is retried, with growing pauses, until it has passed. A front end starts another engine, where one has ended with it.
    ByItself,
    /// The same once the migration has begun; before that it is a refusal.
    OnceBegun,
    /// Final until somebody acts.
    Never,
}

impl Reason {
    /// Whether it passes by itself: the one answer. The engine's driver retries no error whose reason is [`Passes::Never`]
    /// ([`super::error::EngineError::transient`]), the operator asks here what becomes of an engine's end, and `docs/reference/reasons.md` says
    /// the same of each (a test compares).
    pub const fn passes(self) -> Passes {
        match self {
            Self::LockHeldElsewhere
            | Self::PreparedTransaction
            // The newer engine ends, or this one's front end starts another.
            | Self::Fenced
            | Self::TableTruncated
            | Self::SecretNotFound
            | Self::ServerNotFound
            | Self::ConnectionFailed
            | Self::TlsFailed
            | Self::StatementInterrupted => Passes::ByItself,
            // A failover is under way.
            Self::ReadOnly
            // A password was changed, and the next engine takes the new one from the Secret.
            | Self::AccessDenied => Passes::OnceBegun,
            Self::AlterNotSupported
            | Self::AlterRejected
            | Self::DesiredNotSupported
            | Self::DestructiveChange
            | Self::AlgorithmNotSupported
            | Self::TableNotFound
            | Self::TableNotSupported
            | Self::NoUsableKey
            | Self::NullInKey
            | Self::ForeignKeys
            | Self::Triggers
            | Self::NameTaken
            | Self::MissingPrivilege
            | Self::ServerNotSupported
            | Self::ServerChanged
            | Self::NotAReplica
            | Self::ReplicaFiltered
            | Self::DataDoesNotFit
            | Self::DuplicateKey
            | Self::DefinitionChanged
            | Self::GhostWritten
            | Self::StatementLogged
            | Self::BinlogPurged
            | Self::VerificationFailed
            | Self::CriticalLoad
            | Self::StateNotReadable
            | Self::InvalidSpec
            | Self::NoWayBack
            | Self::AfterCycle
            // Room that somebody makes is not to be taken again.
            | Self::DiskFull
            | Self::ServerError
            | Self::Internal
            | Self::OutcomeUnknown
            | Self::Cancelled => Passes::Never,
        }
    }

    /// Whether what is on the ghost cannot be trusted or continued any more: the next attempt starts anew.
    pub const fn restarts_copy(self) -> bool {
        matches!(
            self,
            Self::DefinitionChanged
                | Self::TableTruncated
                | Self::BinlogPurged
                | Self::StatementLogged
                | Self::GhostWritten
                // The log has the row's events once more.
                | Self::NullInKey
                | Self::VerificationFailed
                // The replica's ghost lacks rows.
                | Self::ReplicaFiltered
        )
    }

    /// All reasons, for docs and tests.
    pub const ALL: &'static [Reason] = &[
        Reason::AlterNotSupported,
        Reason::AlterRejected,
        Reason::DesiredNotSupported,
        Reason::DestructiveChange,
        Reason::AlgorithmNotSupported,
        Reason::TableNotFound,
        Reason::TableNotSupported,
        Reason::NoUsableKey,
        Reason::NullInKey,
        Reason::ForeignKeys,
        Reason::Triggers,
        Reason::NameTaken,
        Reason::LockHeldElsewhere,
        Reason::PreparedTransaction,
        Reason::Fenced,
        Reason::MissingPrivilege,
        Reason::AccessDenied,
        Reason::SecretNotFound,
        Reason::ServerNotFound,
        Reason::ServerNotSupported,
        Reason::ServerChanged,
        Reason::ReadOnly,
        Reason::NotAReplica,
        Reason::ReplicaFiltered,
        Reason::ConnectionFailed,
        Reason::TlsFailed,
        Reason::DataDoesNotFit,
        Reason::DuplicateKey,
        Reason::DefinitionChanged,
        Reason::TableTruncated,
        Reason::GhostWritten,
        Reason::StatementLogged,
        Reason::BinlogPurged,
        Reason::VerificationFailed,
        Reason::CriticalLoad,
        Reason::StateNotReadable,
        Reason::InvalidSpec,
        Reason::NoWayBack,
        Reason::AfterCycle,
        Reason::DiskFull,
        Reason::StatementInterrupted,
        Reason::ServerError,
        Reason::Internal,
        Reason::OutcomeUnknown,
        Reason::Cancelled,
    ];

    /// The CamelCase word.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::AlterNotSupported => "AlterNotSupported",
            Reason::AlterRejected => "AlterRejected",
            Reason::DesiredNotSupported => "DesiredNotSupported",
            Reason::DestructiveChange => "DestructiveChange",
            Reason::AlgorithmNotSupported => "AlgorithmNotSupported",
            Reason::TableNotFound => "TableNotFound",
            Reason::TableNotSupported => "TableNotSupported",
            Reason::NoUsableKey => "NoUsableKey",
            Reason::NullInKey => "NullInKey",
            Reason::ForeignKeys => "ForeignKeys",
            Reason::Triggers => "Triggers",
            Reason::NameTaken => "NameTaken",
            Reason::LockHeldElsewhere => "LockHeldElsewhere",
            Reason::PreparedTransaction => "PreparedTransaction",
            Reason::Fenced => "Fenced",
            Reason::MissingPrivilege => "MissingPrivilege",
            Reason::AccessDenied => "AccessDenied",
            Reason::SecretNotFound => "SecretNotFound",
            Reason::ServerNotFound => "ServerNotFound",
            Reason::ServerNotSupported => "ServerNotSupported",
            Reason::ServerChanged => "ServerChanged",
            Reason::ReadOnly => "ReadOnly",
            Reason::NotAReplica => "NotAReplica",
            Reason::ReplicaFiltered => "ReplicaFiltered",
            Reason::ConnectionFailed => "ConnectionFailed",
            Reason::TlsFailed => "TlsFailed",
            Reason::DataDoesNotFit => "DataDoesNotFit",
            Reason::DuplicateKey => "DuplicateKey",
            Reason::DefinitionChanged => "DefinitionChanged",
            Reason::TableTruncated => "TableTruncated",
            Reason::GhostWritten => "GhostWritten",
            Reason::StatementLogged => "StatementLogged",
            Reason::BinlogPurged => "BinlogPurged",
            Reason::VerificationFailed => "VerificationFailed",
            Reason::CriticalLoad => "CriticalLoad",
            Reason::StateNotReadable => "StateNotReadable",
            Reason::InvalidSpec => "InvalidSpec",
            Reason::NoWayBack => "NoWayBack",
            Reason::AfterCycle => "AfterCycle",
            Reason::DiskFull => "DiskFull",
            Reason::StatementInterrupted => "StatementInterrupted",
            Reason::ServerError => "ServerError",
            Reason::Internal => "Internal",
            Reason::OutcomeUnknown => "OutcomeUnknown",
            Reason::Cancelled => "Cancelled",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
