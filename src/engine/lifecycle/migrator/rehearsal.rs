//! Mode TestOnReplica: the replica's applier rests while both tables are compared once more and swapped there and back.
//!
//! `applier_stopped` in the record says that it rests, or is about to: stored before, taken back after it runs again.

use super::run::Run;
use crate::engine::contract::error::EngineError;
use crate::engine::contract::notice;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::Mode;
use crate::engine::table::replica;
use crate::mysql::Session;

impl Run {
    /// Before an attempt: stops the applier, and has the tables compared as they rest. False: that has only begun.
    pub(super) async fn rest_applier(&mut self) -> Result<bool, EngineError> {
        if self.migration.spec.mode != Mode::TestOnReplica || self.record.applier_stopped {
            return Ok(true);
        }
        self.record.applier_stopped = true;
        let m = &self.migration;
        m.state.store(self.applier.session(), m.epoch, &self.record, None).await?;
        replica::stop_applier(&mut self.control).await?;
        // What was compared, and read, while changes were applied is not what rests now.
        self.end_comparison();
        self.forget_lag();
        self.publisher.notice(
            notice::REPLICATION_STOPPED,
            false,
            "the replica's applier is stopped until the tables are compared, swapped and swapped back".into(),
        );
        Ok(false)
    }

    /// Starts the applier again, if it was stopped. After `why`: a successor that has fenced this engine does it itself.
    pub(super) async fn apply_again(&mut self, why: Option<&EngineError>) -> Result<(), EngineError> {
        if !self.record.applier_stopped || why.is_some_and(|error| error.reason == Reason::Fenced) {
            return Ok(());
        }
        let m = &self.migration;
        // The connections of this attempt may be what has failed.
        let mut session = Session::open_on(&m.spec.server, &m.facts.uuid).await?;
        replica::resume(&mut session, &m.spec).await?;
        self.record.applier_stopped = false;
        m.state.store(&mut session, m.epoch, &self.record, None).await?;
        session.close().await;
        self.publisher.notice(notice::REPLICATION_STARTED, false, "the replica's applier is running again".into());
        Ok(())
    }
}
