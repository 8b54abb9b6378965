//! Not copying is the best copy (DESIGN 1.4): whether the server can make the change itself, and how cheaply.
//!
//! Nothing is predicted: each algorithm is tried on an empty clone of the table, with the very clauses; what it did there tells what it
//! would do to the original. A table that keeps InnoDB's id was not rebuilt; one that has no index more was not read either.

use super::error::EngineError;
use super::inspector::{self, Inspected};
use super::reason::Reason;
use super::spec::{Algorithm, MigrationSpec, Mode};
use crate::mysql::session::SHORT;
use crate::mysql::{MySqlError, Session};
use crate::sql::alter::{Alter, Clause};
use crate::sql::names::TableNames;
use crate::sql::quote;

/// Below this size the server's own index build takes about a second, so no replica stands still for long.
const SMALL_BYTES: u64 = 16 << 20;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The table is as the ALTER would leave it.
    Nothing,
    /// The server changes the table itself.
    Native(Native),
    /// Through a ghost; the clone is as it was made.
    Copy {
        /// Why nothing cheaper.
        reason: String,
    },
}

/// A change that the server makes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Native {
    /// Instant or Inplace.
    pub algorithm: Algorithm,
    /// What follows the clauses: `ALGORITHM=…`.
    pub suffix: &'static str,
    /// Whether rows are read or written, so that it takes time.
    pub works: bool,
    /// Why.
    pub reason: String,
    /// The normalised definition that it leaves.
    pub expected: String,
}

/// What an algorithm did to the clone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// InnoDB made a new table; unknown counts as yes.
    pub rebuilt: bool,
    /// There is an index more.
    pub indexed: bool,
}

/// Whether the policy lets the server do this in place (pure).
pub fn inplace_allowed(effect: Effect, asked: Algorithm, bytes: u64, replicas: bool) -> Result<(), &'static str> {
    match (asked, effect) {
        (Algorithm::Inplace, _) | (_, Effect { rebuilt: false, indexed: false }) => Ok(()),
        // A rebuild cannot be throttled, paused or resumed, and gains nothing over a copy.
        (_, Effect { rebuilt: true, .. }) => Err("INPLACE would rebuild the table, which nobody could throttle"),
        (_, Effect { indexed: true, .. }) if bytes <= SMALL_BYTES || !replicas => Ok(()),
        _ => Err("INPLACE would build an index, and the replicas would stand still for as long"),
    }
}

/// Tries the algorithms on the clone `_T_gho`, which exists, is empty and equals the original. Afterwards it is either unchanged (a copy
/// goes on with it) or of no use any more (it is dropped).
///
/// # Errors
/// [`Reason::AlgorithmNotSupported`] with the server's words when the one that was asked for is refused; the server's errors.
pub async fn choose(
    spec: &MigrationSpec,
    alter: &Alter,
    clone_clauses: &str,
    names: &TableNames,
    original: &Inspected,
    replicas: bool,
    control: &mut Session,
) -> Result<Choice, EngineError> {
    if spec.algorithm == Algorithm::Copy {
        return Ok(Choice::Copy { reason: "asked for".into() });
    }
    if spec.mode == Mode::TestOnReplica {
        return Ok(Choice::Copy { reason: "a test leaves the table as it is".into() });
    }
    let clone = quote::qualified(&spec.database, &names.ghost);
    let before = look(spec, names, control).await?;
    let mut words = Vec::new();
    if spec.algorithm != Algorithm::Inplace {
        match attempt(control, &clone, clone_clauses, "ALGORITHM=INSTANT").await? {
            Ok(()) => {
                let after = look(spec, names, control).await?;
                let expected = super::prepare::normalise(&after.show_create)?;
                if expected == super::prepare::normalise(&before.show_create)? && !asks_for_a_rebuild(alter) {
                    return Ok(Choice::Nothing);
                }
                let reason = "the server changes only its dictionary".into();
                return Ok(Choice::Native(Native {
                    algorithm: Algorithm::Instant,
                    suffix: "ALGORITHM=INSTANT",
                    works: false,
                    reason,
                    expected,
                }));
            }
            Err(error) if spec.algorithm == Algorithm::Instant => return Err(refused(spec, "INSTANT", &error)),
            Err(error) => words.push(format!("INSTANT refused: {}", error.message)),
        }
    }
    match attempt(control, &clone, clone_clauses, "ALGORITHM=INPLACE, LOCK=NONE").await? {
        Ok(()) => {
            let after = look(spec, names, control).await?;
            let effect = Effect {
                rebuilt: before.table_id.is_none() || before.table_id != after.table_id,
                indexed: after.definition.indexes.len() > before.definition.indexes.len()
                    || after
                        .definition
                        .indexes
                        .iter()
                        .any(|i| !before.definition.indexes.iter().any(|b| b.parts == i.parts && b.unique == i.unique)),
            };
            match inplace_allowed(effect, spec.algorithm, original.bytes_estimated, replicas) {
                Ok(()) => {
                    let works = effect.rebuilt || effect.indexed;
                    let how = if works {
                        "the server does it in place, without locking"
                    } else {
                        "the server changes only its dictionary, in place"
                    };
                    words.push(how.into());
                    let expected = super::prepare::normalise(&after.show_create)?;
                    return Ok(Choice::Native(Native {
                        algorithm: Algorithm::Inplace,
                        suffix: "ALGORITHM=INPLACE, LOCK=NONE",
                        works,
                        reason: words.join("; "),
                        expected,
                    }));
                }
                Err(why) => {
                    words.push(why.into());
                    // The clone was changed in place; the copy wants it as it was.
                    control.run("drop the clone", SHORT, &format!("DROP TABLE {clone}")).await?;
                    return Ok(Choice::Copy { reason: words.join("; ") });
                }
            }
        }
        Err(error) if spec.algorithm == Algorithm::Inplace => return Err(refused(spec, "INPLACE with LOCK=NONE", &error)),
        Err(error) => words.push(format!("INPLACE refused: {}", error.message)),
    }
    Ok(Choice::Copy { reason: words.join("; ") })
}

async fn attempt(control: &mut Session, clone: &str, clauses: &str, suffix: &str) -> Result<Result<(), MySqlError>, EngineError> {
    match control.run("try an algorithm on an empty clone", SHORT, &format!("ALTER TABLE {clone} {clauses}, {suffix}")).await {
        Ok(()) => Ok(Ok(())),
        Err(error) if error.is_connection() || error.is_contention() => Err(error.into()),
        Err(error) => Ok(Err(error)),
    }
}

async fn look(spec: &MigrationSpec, names: &TableNames, control: &mut Session) -> Result<Inspected, EngineError> {
    inspector::table(control, &spec.database, &names.ghost)
        .await?
        .ok_or_else(|| EngineError::transient(Reason::GhostWritten, "the clone was dropped by someone else while it was being looked at"))
}

/// `FORCE` and `ENGINE=InnoDB` mean the work itself, not its result.
fn asks_for_a_rebuild(alter: &Alter) -> bool {
    alter.clauses().iter().any(|c| matches!(c.clause, Clause::Force)) || alter.table_option("ENGINE").is_some()
}

fn refused(spec: &MigrationSpec, algorithm: &str, error: &MySqlError) -> EngineError {
    // Refusing the algorithm and refusing the change are different things.
    let reason = if is_algorithm_refusal(error) { Reason::AlgorithmNotSupported } else { Reason::AlterRejected };
    EngineError::terminal(
        reason,
        &format!(
            "the server refuses {algorithm} for {}: {}. Nothing is left behind; spec.algorithm: Auto or Copy takes another way",
            quote::qualified(&spec.database, &spec.table),
            error.message
        ),
    )
}

/// ER_ALTER_OPERATION_NOT_SUPPORTED, …_REASON, ER_NOT_SUPPORTED_YET, ER_INNODB_INSTANT_ADD_NOT_SUPPORTED_MAX_SIZE / _MAX_ROW_VERSION,
/// ER_INNODB_ONLINE_LOG_TOO_BIG.
pub fn is_algorithm_refusal(error: &MySqlError) -> bool {
    matches!(error.code, 1845 | 1846 | 1235 | 4080 | 4092 | 1799)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_place_only_where_nobody_waits() {
        let effect = |rebuilt, indexed| Effect { rebuilt, indexed };
        let cases = [
            (effect(false, false), Algorithm::Auto, u64::MAX, true, true),
            (effect(false, true), Algorithm::Auto, 1, true, true),
            (effect(false, true), Algorithm::Auto, u64::MAX, false, true),
            (effect(false, true), Algorithm::Auto, u64::MAX, true, false),
            (effect(true, false), Algorithm::Auto, 1, false, false),
            (effect(true, true), Algorithm::Inplace, u64::MAX, true, true),
        ];
        for (effect, asked, bytes, replicas, want) in cases {
            assert_eq!(inplace_allowed(effect, asked, bytes, replicas).is_ok(), want, "{effect:?} {asked:?} {bytes} {replicas}");
        }
    }
}
