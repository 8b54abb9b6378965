//! Clauses that are understood and not taken, with a stable reason for each.

use super::clause::{Clause, ParsedClause};
use crate::sql::token::Span;

/// Why a clause is not taken. The names are stable: they appear in conditions, metrics and docs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    /// `RENAME TO`
    RenameTable,
    /// `ALGORITHM=`, `LOCK=`
    AlgorithmClause,
    /// A partition clause that changes which rows there are.
    PartitionData,
    /// A partition clause that changes no definition.
    PartitionMaintenance,
    /// DISCARD or IMPORT TABLESPACE.
    Tablespace,
    /// An engine other than InnoDB.
    StorageEngine,
    /// Loading into a secondary engine.
    SecondaryEngine,
}

impl RefusalKind {
    /// The reason as it appears in a condition.
    pub const fn reason(self) -> &'static str {
        match self {
            RefusalKind::RenameTable => "RenameTable",
            RefusalKind::AlgorithmClause => "AlgorithmClause",
            RefusalKind::PartitionData => "PartitionData",
            RefusalKind::PartitionMaintenance => "PartitionMaintenance",
            RefusalKind::Tablespace => "Tablespace",
            RefusalKind::StorageEngine => "StorageEngine",
            RefusalKind::SecondaryEngine => "SecondaryEngine",
        }
    }

    /// What to do instead.
    const fn advice(self) -> &'static str {
        match self {
            RefusalKind::RenameTable => {
                "a migration keeps the table's name: clients that wait for the swap would not find the table (1146). Rename it with RENAME TABLE, which is instant, when the application is ready for it"
            }
            RefusalKind::AlgorithmClause => "spec.algorithm chooses how the change is made; remove the clause",
            RefusalKind::PartitionData => {
                "it changes which rows the table has, and a migration keeps them all; run it as a statement of its own"
            }
            RefusalKind::PartitionMaintenance => "it changes no definition; run it as a statement of its own",
            RefusalKind::Tablespace => "it changes which rows the table has; run it as a statement of its own",
            RefusalKind::StorageEngine => {
                "the new table must be an InnoDB table: the copy relies on its transactions, and the swap on its crash safety"
            }
            RefusalKind::SecondaryEngine => "it changes no definition; run it as a statement of its own",
        }
    }
}

/// A clause that is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What a migration does not take, which has the advice.
    pub kind: RefusalKind,
    /// Where it stands.
    pub span: Span,
    /// The clause as written, cut off when long.
    pub clause: String,
    /// For people: the clause, why, what to do.
    pub message: String,
}

pub(super) fn refusals(text: &str, clauses: &[ParsedClause]) -> Vec<Refusal> {
    let mut out = Vec::new();
    for parsed in clauses {
        if let Some(kind) = kind(&parsed.clause) {
            let clause = excerpt(parsed.span.of(text), 80);
            let message = format!("{clause}: {}", kind.advice());
            out.push(Refusal { kind, span: parsed.span, clause, message });
        }
    }
    out
}

/// The beginning of a text, at most `limit` characters.
pub(super) fn excerpt(text: &str, limit: usize) -> String {
    let mut out: String = text.chars().take(limit).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out
}

fn kind(clause: &Clause) -> Option<RefusalKind> {
    match clause {
        Clause::RenameTable { .. } => Some(RefusalKind::RenameTable),
        Clause::Algorithm | Clause::Lock => Some(RefusalKind::AlgorithmClause),
        Clause::ChangePartitionData { .. } => Some(RefusalKind::PartitionData),
        Clause::MaintainPartition { .. } => Some(RefusalKind::PartitionMaintenance),
        Clause::Tablespace => Some(RefusalKind::Tablespace),
        Clause::SecondaryEngineLoad => Some(RefusalKind::SecondaryEngine),
        Clause::TableOption { name, value } if name == "ENGINE" && !value.eq_ignore_ascii_case("innodb") => {
            Some(RefusalKind::StorageEngine)
        }
        _ => None,
    }
}
