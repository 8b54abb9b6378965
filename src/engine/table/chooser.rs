//! Not copying is the best copy: whether the server can make the change itself, and how cheaply.
//!
//! Nothing is predicted: each algorithm is tried on an empty clone of the table, with the very clauses; what it did there tells what it
//! would do to the original. Two things the clone does not have: foreign keys, and the row versions that INSTANT changes have used up. The
//! latter are read from the original; what a foreign key refuses, the change itself is told, and a cheaper way that was refused there is not
//! tried again ([`Refused`]).
//!
//! Whether InnoDB made a new table is told by a snapshot from before the change: reading a table that was rebuilt since is refused (1412),
//! and one that was changed in place is not. That needs no privilege, unlike InnoDB's ids, and holds for partitions as well.
//! <https://dev.mysql.com/doc/refman/8.4/en/innodb-consistent-read.html>

use super::inspector::{self, Inspected};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::{Algorithm, MigrationSpec, Mode};
use crate::mysql::codes;
use crate::mysql::session::SHORT;
use crate::mysql::versions::{MANY_ROW_VERSIONS, Version};
use crate::mysql::{MySqlError, Purpose, ServerValues, Session};
use crate::sql::alter::{self, Alter, Clause};
use crate::sql::names::TableNames;
use crate::sql::{create, quote};

/// Below this size the server's own index build takes about a second, so no replica stands still for long.
pub const SMALL_BYTES: u64 = 16 << 20;

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
    /// What the server is asked for: `ALGORITHM=…`.
    pub how: &'static str,
    /// Whether rows are read or written, so that it takes time.
    pub works: bool,
    /// Why this one, with the words of the server where it refused a cheaper one.
    pub reason: String,
    /// The normalised definition that it leaves.
    pub expected: String,
}

/// What the server refused on the original although the clone took it, with its words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refused {
    /// `ALGORITHM=INSTANT`
    pub instant: Option<String>,
    /// `ALGORITHM=INPLACE, LOCK=NONE`
    pub inplace: Option<String>,
}

/// What an algorithm did to the clone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Effect {
    /// InnoDB made a new table.
    pub rebuilt: bool,
    /// There is an index more.
    pub indexed: bool,
}

/// Whether the policy lets the server do this in place (pure).
fn inplace_allowed(effect: Effect, asked: Algorithm, bytes: u64, replicas: bool) -> Result<(), &'static str> {
    match (asked, effect) {
        (Algorithm::Inplace, _) | (_, Effect { rebuilt: false, indexed: false }) => Ok(()),
        // A rebuild cannot be throttled, paused or resumed, and gains nothing over a copy.
        (_, Effect { rebuilt: true, .. }) => Err("INPLACE would rebuild the table, which cannot be throttled"),
        (_, Effect { indexed: true, .. }) if bytes <= SMALL_BYTES || !replicas => Ok(()),
        _ => Err("INPLACE would build an index, and replication would stall for as long"),
    }
}

/// What is asked, of which table.
pub struct Question<'a> {
    pub spec: &'a MigrationSpec,
    /// The clauses of `spec`, as read.
    pub alter: &'a Alter,
    /// The clauses as the clone takes them: without those that drop a foreign key, which it does not have. May be empty.
    pub clone_clauses: &'a str,
    /// Of the clone.
    pub names: &'a TableNames,
    /// The table.
    pub original: &'a Inspected,
    /// Whether the server has replicas.
    pub replicas: bool,
    /// What clauses are run in.
    pub values: &'a ServerValues,
    /// What is known not to work.
    pub refused: &'a Refused,
    /// Foreign keys of the table as the change leaves them.
    pub foreign_keys_after: &'a [String],
}

/// Tries the algorithms on the clone `_T_gho`, which exists, is empty and equals the original. Afterwards it is either unchanged (a copy
/// continues with it) or no longer usable (it is dropped).
///
/// # Errors
/// [`Reason::AlgorithmNotSupported`] with the server's words when the one that was asked for is refused; the server's errors.
pub async fn choose(question: &Question<'_>, control: &mut Session) -> Result<Choice, EngineError> {
    let Question { spec, alter, original, replicas, .. } = question;
    if spec.algorithm == Algorithm::Copy {
        return Ok(Choice::Copy { reason: "as requested".into() });
    }
    if spec.mode == Mode::TestOnReplica {
        return Ok(Choice::Copy { reason: "a test leaves the table unchanged".into() });
    }
    let before = read_clone(spec, question.names, control).await?;
    let mut words = Vec::new();
    // Dropping a foreign key is a change of the dictionary, but not an instant one (manual, "Foreign Key Operations").
    let drops_foreign_key = alter.drops_foreign_keys(&original.foreign_key_names());
    if spec.algorithm != Algorithm::Inplace && !drops_foreign_key {
        match instant(question, control).await? {
            Ok(()) => {
                let after = read_clone(spec, question.names, control).await?;
                let expected = crate::engine::table::definition::normalise(&after.show_create)?;
                if expected == crate::engine::table::definition::normalise(&before.show_create)? && !asks_for_a_rebuild(alter) {
                    return Ok(Choice::Nothing);
                }
                let reason = "the server changes only its data dictionary".into();
                return Ok(Choice::Native(Native {
                    algorithm: Algorithm::Instant,
                    how: "ALGORITHM=INSTANT",
                    works: false,
                    reason,
                    expected: create::with_foreign_keys(&expected, question.foreign_keys_after),
                }));
            }
            Err(why) if spec.algorithm == Algorithm::Instant => return Err(why.into_error(spec, "INSTANT")),
            Err(why) => words.push(format!("INSTANT refused: {}", why.words)),
        }
    } else if spec.algorithm == Algorithm::Instant {
        let words = "dropping a foreign key is done in place, not instantly".to_owned();
        return Err(Why { words, about_algorithm: true }.into_error(spec, "INSTANT"));
    }
    match in_place(question, control).await? {
        Ok(rebuilt) => {
            let after = read_clone(spec, question.names, control).await?;
            let effect = Effect { rebuilt, indexed: has_new_index(&before, &after) };
            match inplace_allowed(effect, spec.algorithm, original.bytes_estimated, *replicas) {
                Ok(()) => {
                    let works = effect.rebuilt || effect.indexed;
                    let how = if works {
                        "the server does it in place, without locking"
                    } else {
                        "the server changes only its data dictionary, in place"
                    };
                    words.push(how.into());
                    let expected = crate::engine::table::definition::normalise(&after.show_create)?;
                    return Ok(Choice::Native(Native {
                        algorithm: Algorithm::Inplace,
                        how: "ALGORITHM=INPLACE, LOCK=NONE",
                        works,
                        reason: words.join("; "),
                        expected: create::with_foreign_keys(&expected, question.foreign_keys_after),
                    }));
                }
                Err(why) => {
                    words.push(why.into());
                    // The clone was changed in place; the copy wants it unchanged.
                    drop_clone(question, control).await?;
                    if effect.rebuilt {
                        words.extend(without_copy(question, &after.show_create, control).await?);
                    }
                    return Ok(Choice::Copy { reason: words.join("; ") });
                }
            }
        }
        Err(why) if spec.algorithm == Algorithm::Inplace => return Err(why.into_error(spec, "INPLACE with LOCK=NONE")),
        Err(why) => words.push(format!("INPLACE refused: {}", why.words)),
    }
    Ok(Choice::Copy { reason: words.join("; ") })
}

/// Whether an index was built.
fn has_new_index(before: &Inspected, after: &Inspected) -> bool {
    let (before, after) = (&before.definition.indexes, &after.definition.indexes);
    after.len() > before.len() || after.iter().any(|i| !before.iter().any(|b| b.parts == i.parts && b.unique == i.unique))
}

/// How the change could be made by two migrations without a copy, if it can: found by trying, on a clone that is made and dropped for it. The
/// engine does not part a change by itself: in between, clients would see a definition that nobody asked for, and it would stay if the second
/// part failed.
async fn without_copy(question: &Question<'_>, wanted: &str, control: &mut Session) -> Result<Option<String>, EngineError> {
    let clauses = question.clone_clauses;
    let Some(parts) = Alter::parse_as(clauses, question.alter.grammar()).ok().and_then(|alter| alter.parts()) else { return Ok(None) };
    let Some((columns, rest)) = question.alter.parts() else { return Ok(None) };
    let (columns_on_clone, rest_on_clone) = (parts.0.to_sql(), parts.1.to_sql());
    for columns_first in [true, false] {
        crate::engine::table::definition::make_clone(
            question.spec,
            question.alter,
            question.values,
            question.names,
            question.original,
            control,
        )
        .await?;
        let [first, second] = match columns_first {
            true => [&columns_on_clone, &rest_on_clone],
            false => [&rest_on_clone, &columns_on_clone],
        };
        let mut works = true;
        for clone_clauses in [first, second] {
            works = works && is_cheap(&Question { clone_clauses, ..*question }, control).await?;
        }
        if works {
            let found = read_clone(question.spec, question.names, control).await?.show_create;
            works = crate::engine::table::definition::normalise(&found)? == crate::engine::table::definition::normalise(wanted)?;
        }
        drop_clone(question, control).await?;
        if works {
            let how = match columns_first {
                true => alter::two_migrations(&columns, &rest),
                false => alter::two_migrations(&rest, &columns),
            };
            return Ok(Some(format!("{how} need no copy")));
        }
    }
    Ok(None)
}

/// Whether a part of the change, which is made on the clone, is one that the server makes itself under Auto.
async fn is_cheap(part: &Question<'_>, control: &mut Session) -> Result<bool, EngineError> {
    if instant(part, control).await?.is_ok() {
        return Ok(true);
    }
    let before = read_clone(part.spec, part.names, control).await?;
    let Ok(rebuilt) = in_place(part, control).await? else { return Ok(false) };
    let after = read_clone(part.spec, part.names, control).await?;
    let effect = Effect { rebuilt, indexed: has_new_index(&before, &after) };
    Ok(inplace_allowed(effect, Algorithm::Auto, part.original.bytes_estimated, part.replicas).is_ok())
}

async fn drop_clone(question: &Question<'_>, control: &mut Session) -> Result<(), EngineError> {
    let clone = quote::qualified(&question.spec.database, &question.names.ghost);
    Ok(control.run("drop the clone", SHORT, &format!("DROP TABLE {clone}")).await?)
}

/// Why an algorithm does not do.
struct Why {
    words: String,
    /// The algorithm is refused, not the change.
    about_algorithm: bool,
}

impl Why {
    fn of(error: &MySqlError) -> Self {
        Self { words: error.message.clone(), about_algorithm: is_algorithm_refusal(error) }
    }

    fn into_error(self, spec: &MigrationSpec, algorithm: &str) -> EngineError {
        let reason = if self.about_algorithm { Reason::AlgorithmNotSupported } else { Reason::AlterRejected };
        EngineError::terminal(
            reason,
            &format!(
                "the server refuses {algorithm} for {}: {}. Nothing is left behind; use spec.algorithm Auto or Copy",
                quote::qualified(&spec.database, &spec.table),
                self.words
            ),
        )
    }
}

/// Whether INSTANT works, on the clone and by what is known of the original.
async fn instant(question: &Question<'_>, control: &mut Session) -> Result<Result<(), Why>, EngineError> {
    if let Some(words) = &question.refused.instant {
        return Ok(Err(Why { words: words.clone(), about_algorithm: true }));
    }
    let (spec, clone) = (question.spec, &question.names.ghost);
    if let Err(why) = try_on_clone(question, control, "ALGORITHM=INSTANT").await? {
        return Ok(Err(why));
    }
    // One that used up a version of the clone's rows uses up one of the original's.
    let used = inspector::row_versions(control, &spec.database, clone).await?;
    if used.is_some_and(|n| n > 0)
        && let Some(words) =
            inspector::row_versions(control, &spec.database, &spec.table).await?.and_then(|n| versions_used_up(n, control.version()))
    {
        // The clone is changed by now; what is tried next, and the copy, want it unchanged.
        drop_clone(question, control).await?;
        crate::engine::table::definition::make_clone(spec, question.alter, question.values, question.names, question.original, control)
            .await?;
        return Ok(Err(Why { words, about_algorithm: true }));
    }
    Ok(Ok(()))
}
/// The number of versions that the rows of a table may have.
pub fn row_versions_limit(version: Version) -> u64 {
    if MANY_ROW_VERSIONS.of(version) { 255 } else { 64 }
}

/// Why no INSTANT change that needs a version of the rows works any more, if none does (pure).
pub fn versions_used_up(used: u64, version: Version) -> Option<String> {
    let limit = row_versions_limit(version);
    (used >= limit).then(|| {
        format!(
            "the table has used all {limit} row versions, one for each instant ADD or DROP COLUMN (4092); a rebuild of the table resets them"
        )
    })
}

/// Whether INPLACE without a lock works on the clone, and whether the table was rebuilt.
async fn in_place(question: &Question<'_>, control: &mut Session) -> Result<Result<bool, Why>, EngineError> {
    if let Some(words) = &question.refused.inplace {
        return Ok(Err(Why { words: words.clone(), about_algorithm: true }));
    }
    if question.clone_clauses.is_empty() {
        // Nothing but foreign keys to drop, which the clone does not have.
        return Ok(Ok(false));
    }
    let spec = question.spec;
    let partitions = match question.original.partitioned {
        true => inspector::partitions(control, &spec.database, &question.names.ghost).await?,
        false => Vec::new(),
    };
    let mut witness = Session::open_on(&spec.server, control.server_uuid()).await?;
    // Only this isolation level has snapshots.
    let sql = "SET SESSION transaction_isolation='REPEATABLE-READ'; START TRANSACTION WITH CONSISTENT SNAPSHOT";
    witness.run("take a snapshot before the change of the clone", SHORT, sql).await?;
    let tried = try_on_clone(question, control, "ALGORITHM=INPLACE, LOCK=NONE").await?;
    let answer = match tried {
        Err(why) => Err(why),
        Ok(()) => {
            // By no index, and of no other partitions: a new one is younger than the snapshot, too.
            let clone = quote::qualified(&spec.database, &question.names.ghost);
            let those_before = match partitions.as_slice() {
                [] => String::new(),
                names => format!(" PARTITION ({})", names.iter().map(|n| quote::identifier(n)).collect::<Vec<_>>().join(", ")),
            };
            let sql = format!("SELECT 1 FROM {clone}{those_before} USE INDEX () LIMIT 1");
            match witness.run("check whether the clone was rebuilt", SHORT, &sql).await {
                Ok(()) => Ok(false),
                Err(error) if matches!(error.code, codes::TABLE_DEF_CHANGED | codes::UNKNOWN_PARTITION) => Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    };
    witness.close().await;
    Ok(answer)
}

async fn try_on_clone(question: &Question<'_>, control: &mut Session, how: &str) -> Result<Result<(), Why>, EngineError> {
    let clone = quote::qualified(&question.spec.database, &question.names.ghost);
    let statement = format!("ALTER TABLE {clone} {}", alter::done_by(how, question.clone_clauses));
    match control.run_as(Purpose::Clauses(question.values), "try an algorithm on an empty clone", SHORT, &statement).await {
        // The second one is found out afterwards: the clone is changed then.
        Err(error) if matches!(error.code, codes::WRONG_VALUE_FOR_VAR | codes::INVALID_CHARACTER_STRING) => Err(error.into()),
        Ok(()) => Ok(Ok(())),
        // It says nothing about the change: the server shuts down, is read only for a moment, or the statement was killed.
        Err(error) if error.is_transient() => Err(error.into()),
        Err(error) => Ok(Err(Why::of(&error))),
    }
}

async fn read_clone(spec: &MigrationSpec, names: &TableNames, control: &mut Session) -> Result<Inspected, EngineError> {
    inspector::table(control, &spec.database, &names.ghost)
        .await?
        .ok_or_else(|| EngineError::transient(Reason::StatementInterrupted, "someone else dropped the clone while it was in use"))
}

/// `FORCE` and `ENGINE=InnoDB` mean the work itself, not its result.
fn asks_for_a_rebuild(alter: &Alter) -> bool {
    alter.clauses().iter().any(|c| matches!(c.clause, Clause::Force)) || alter.table_option("ENGINE").is_some()
}

/// Whether the server cannot make the change by the algorithm that it was asked to use, and may by another.
pub fn is_algorithm_refusal(error: &MySqlError) -> bool {
    matches!(
        error.code,
        codes::ALTER_OPERATION_NOT_SUPPORTED
            | codes::ALTER_OPERATION_NOT_SUPPORTED_REASON
            | codes::NOT_SUPPORTED_YET
            | codes::INNODB_MAX_ROW_VERSION
            | codes::INNODB_INSTANT_ADD_NOT_SUPPORTED_MAX_SIZE
            | codes::INNODB_INSTANT_ADD_NOT_SUPPORTED_MAX_FIELDS
            | codes::INNODB_ONLINE_LOG_TOO_BIG
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_versions_have_a_limit() {
        for (used, version, want) in [(63, (8, 0, 44), false), (64, (8, 4, 0), true), (254, (9, 7, 4), false), (255, (9, 1, 0), true)] {
            assert_eq!(versions_used_up(used, version).is_some(), want, "{used} {version:?}");
        }
    }

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
