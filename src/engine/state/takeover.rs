//! Who may continue with stored work, and where: after another engine had it, and after its server was replaced by a replica of it.
//!
//! Promises: an engine that another one has followed stops instead of beginning again; work moves to another server only when that one has
//! stopped to receive from the former one, has applied all that it received, and has the transactions that the work describes.
//! Relies on: GTIDs name a transaction on every server that has it, a file and an offset only on one; table ids of InnoDB are one server's.

use super::record::{Record, SafePosition};
use super::store::StateTable;
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::MigrationSpec;
use crate::engine::table::definition::normalise;
use crate::engine::table::inspector;
use crate::engine::table::replica::{Channel, channels};
use crate::mysql::server::ServerFacts;
use crate::mysql::{BinlogPosition, GtidSet, Session};

/// What an engine remembers of the work that it owned in a former attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// The epoch that it wrote with.
    pub epoch: u64,
    /// `server_uuid` of the server.
    pub server_uuid: String,
    /// InnoDB's id of the ghost, where it can be read.
    pub ghost_id: Option<u64>,
    /// The definition that the table has since this engine knows that it is changed.
    pub swapped: Option<String>,
    /// It was changed back.
    pub reverted: bool,
}

/// What has become of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// The state table is as it was left.
    Ours,
    /// The change was made and everything was removed.
    Done,
    /// This server has never heard of it.
    Unknown,
}

impl Owned {
    /// Looks.
    ///
    /// # Errors
    /// [`Reason::Fenced`]: another engine has followed; or the server's.
    pub async fn fate(&self, spec: &MigrationSpec, state: &StateTable, control: &mut Session) -> Result<Fate, EngineError> {
        let there = match state.load(control, &spec.database).await? {
            Some(stored) if stored.record.id.is_empty() || stored.record.id == spec.id => Some(stored.epoch),
            _ => None,
        };
        let same_server = control.server_uuid() == self.server_uuid;
        let as_changed = match (&self.swapped, there) {
            (Some(definition), None) => match inspector::table(control, &spec.database, &spec.table).await? {
                Some(now) => normalise(&now.show_create)? == *definition,
                None => false,
            },
            _ => false,
        };
        self.fate_by(there, same_server, as_changed)
    }

    /// As above (pure). `there`: the epoch in the state table, if it is there. `as_changed`: the table has the definition of
    /// [`Owned::swapped`].
    fn fate_by(&self, there: Option<u64>, same_server: bool, as_changed: bool) -> Result<Fate, EngineError> {
        match there {
            Some(epoch) if epoch > self.epoch => Err(crate::engine::state::store::fenced()),
            Some(_) => Ok(Fate::Ours),
            None if as_changed || self.swapped.is_some() && same_server => Ok(Fate::Done),
            // A replica that was promoted before it had received our first transaction.
            None if !same_server => Ok(Fate::Unknown),
            None => Err(EngineError::terminal(
                Reason::Fenced,
                "the state table of this migration is gone: another engine has finished it or cleaned it up. This one has stopped and has written nothing since",
            )),
        }
    }
}

/// Whether a server that is another one than the work's may be written to: waits (by a transient error) while it may still receive
/// transactions of the former one, or has some that it has not applied. They may be an older engine's writes to the ghost, which no
/// fence holds back on a replica, or the swap.
///
/// # Errors
/// [`Reason::ReadOnly`], transient; the server's.
pub async fn check_promoted(control: &mut Session, facts: &ServerFacts, former: &str) -> Result<(), EngineError> {
    if former.is_empty() || former == facts.uuid {
        return Ok(());
    }
    let channels = channels(control).await?;
    let (_, executed) = facts.log_end(control).await?;
    match not_yet(&channels, &executed, former) {
        Some(why) => Err(EngineError::transient(
            Reason::ReadOnly,
            &format!("the address now leads to a different server, which {why}; nothing was written, retrying"),
        )),
        None => Ok(()),
    }
}

/// Why a server is not promoted yet, if it is not (pure).
fn not_yet(channels: &[Channel], executed: &GtidSet, former: &str) -> Option<&'static str> {
    if channels.iter().any(|c| !executed.contains(&c.received)) {
        return Some("has received transactions that it has not applied yet");
    }
    if channels.iter().any(|c| c.receiving && c.source_uuid == former) {
        return Some("still replicates from the previous one (STOP REPLICA ends that)");
    }
    None
}

/// Whether the stored position means something on this server.
///
/// # Errors
/// [`Reason::ServerChanged`] where it never will, [`Reason::BinlogPurged`] where the log that it is in is gone; transient while the server
/// may yet catch up; the server's.
pub async fn check_position(control: &mut Session, facts: &ServerFacts, record: &Record, safe: &SafePosition) -> Result<(), EngineError> {
    let (end, executed) = facts.log_end(control).await?;
    let wanted = GtidSet::parse(&safe.executed).unwrap_or_default();
    if record.server_uuid == facts.uuid {
        return match reset(&end, &safe.position) {
            true => Err(EngineError::terminal(
                Reason::BinlogPurged,
                &format!(
                    "the binary log of the server ends at {end}, before {}, where this migration has to resume: the log was reset, or lost in a crash. The original table is untouched; retry to start over",
                    safe.position
                ),
            )),
            false => Ok(()),
        };
    }
    if !facts.gtid || wanted.is_empty() {
        return Err(EngineError::terminal(
            Reason::ServerChanged,
            "this is a different server than before, and without GTIDs nothing shows where to resume in its binary log. The original table is untouched; retry to start over",
        ));
    }
    if executed.contains(&wanted) {
        return Ok(());
    }
    if channels(control).await?.iter().any(|c| c.applying) {
        return Err(EngineError::transient(
            Reason::ReadOnly,
            "the address now leads to a different server, which lacks transactions that this migration has seen; waiting for it to catch up",
        ));
    }
    Err(EngineError::terminal(
        Reason::ServerChanged,
        "this is a different server than before, which lacks transactions that this migration has seen and is not receiving any. The original table is untouched; retry to start over",
    ))
}

/// The log of one server only grows (pure).
fn reset(end: &BinlogPosition, stored: &BinlogPosition) -> bool {
    !stored.file.is_empty() && end < stored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_knows_what_became_of_its_work() {
        let owned = |swapped: Option<&str>| Owned {
            epoch: 7,
            server_uuid: "a".into(),
            ghost_id: None,
            swapped: swapped.map(Into::into),
            reverted: false,
        };
        let fenced = |got: Result<Fate, EngineError>| got.is_err_and(|e| e.reason == Reason::Fenced && !e.is_transient());
        // A server that lost our last epoch, and one that has it.
        for there in [6, 7] {
            assert_eq!(owned(None).fate_by(Some(there), true, false), Ok(Fate::Ours));
        }
        assert!(fenced(owned(None).fate_by(Some(8), true, false)));
        assert!(fenced(owned(Some("new")).fate_by(Some(8), true, false)));
        assert!(fenced(owned(None).fate_by(None, true, false)), "somebody else finished it, or dropped it");
        assert_eq!(owned(None).fate_by(None, false, false), Ok(Fate::Unknown));
        assert_eq!(owned(Some("new")).fate_by(None, true, true), Ok(Fate::Done));
        assert_eq!(owned(Some("new")).fate_by(None, true, false), Ok(Fate::Done), "changed again by others since");
        assert_eq!(owned(Some("new")).fate_by(None, false, true), Ok(Fate::Done));
        assert_eq!(owned(Some("new")).fate_by(None, false, false), Ok(Fate::Unknown), "the swap was lost with the former server");
    }

    #[test]
    fn a_server_is_promoted_when_nothing_of_the_former_one_can_come() {
        const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let set = |text: &str| GtidSet::parse(&format!("{A}:{text}")).expect("a set");
        let channel =
            |receiving, received| Channel { source_uuid: A.into(), receiving, applying: true, received: set(received), behind: None };
        assert_eq!(not_yet(&[], &set("1-5"), A), None);
        assert_eq!(not_yet(&[channel(false, "3-5")], &set("1-5"), A), None);
        assert!(not_yet(&[channel(false, "3-6")], &set("1-5"), A).is_some_and(|w| w.contains("not applied")));
        assert!(not_yet(&[channel(true, "3-5")], &set("1-5"), A).is_some_and(|w| w.contains("STOP REPLICA")));
        assert_eq!(not_yet(&[channel(true, "3-5")], &set("1-5"), "another"), None, "replicating from a third server is its own business");
    }

    #[test]
    fn a_log_that_ends_before_the_stored_position_was_reset() {
        let at = |file: &str, offset| BinlogPosition { file: file.into(), offset };
        assert!(reset(&at("binlog.000001", 900), &at("binlog.000002", 4)));
        assert!(reset(&at("binlog.000002", 100), &at("binlog.000002", 101)));
        assert!(!reset(&at("binlog.000002", 100), &at("binlog.000002", 100)));
        assert!(!reset(&at("binlog.000001", 4), &at("", 0)), "no position yet on this server");
    }
}
