//! The driver's part of the cut-over: what is looked at before an attempt, and what becomes of its result.

use super::run::{Run, spawn};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::notice;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::snapshot::{Phase, Revert};
use crate::engine::contract::spec::Mode;
use crate::engine::cutover::blockers::TablesToLock;
use crate::engine::cutover::swap::Parties;
use crate::engine::cutover::watchdog::Force;
use crate::engine::cutover::{self, Attempt, statistics};
use crate::engine::lifecycle::approach::{Task, about};
use crate::engine::lifecycle::next::Statistics;
use crate::engine::rows::helper_index;
use crate::engine::state::outcome::{Swap, outcome};
use crate::engine::state::record::Stage;
use crate::engine::table::definition::check_alter_as;
use crate::engine::table::relatives::{self, Planning};
use crate::engine::table::{inspector, replica, sight, triggers};
use crate::engine::throttle;
use crate::mysql::ServerValues;
use crate::sql::foreign_key::{ForeignKey, TableName};
use crate::sql::quote;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// The name of the task that gathers the new table's statistics.
pub(super) const STATISTICS: &str = "statistics";

impl Run {
    /// Starts gathering the new table's statistics.
    pub(super) fn gather_statistics(&mut self, tasks: &mut JoinSet<Task>) -> Result<(), EngineError> {
        self.rows()?.statistics = Statistics::UnderWay;
        let (m, cancel) = (Arc::clone(&self.migration), self.cancel.clone());
        spawn(tasks, STATISTICS, async move {
            tokio::select! {
                () = cancel.cancelled() => Ok(()),
                gathered = statistics::gather(&m) => Ok(gathered?),
            }
        });
        Ok(())
    }

    /// One attempt at the cut-over, unless somebody is in its way. True: swapped.
    pub(super) async fn cut_over(&mut self, tasks: &mut JoinSet<Task>) -> Result<bool, EngineError> {
        let m = Arc::clone(&self.migration);
        replica::still(&mut self.control, &m.spec).await?;
        if inspector::exists(&mut self.control, &m.spec.database, &m.names.old).await? {
            // The next attempt takes another name; the work goes on.
            return Err(EngineError::transient(
                Reason::StatementInterrupted,
                &format!("someone else created a table {} meanwhile; it is left alone, and the old table gets another name", m.names.old),
            ));
        }
        let controls = self.controls.borrow().clone();
        throttle::filters::check(&mut self.control, &m.spec, &controls.limits).await?;
        let known = self.record.relatives.clone();
        self.plan_relatives().await?;
        let relatives = self.record.relatives.tables(&cutover::swapped(&m).table);
        let tables = [m.spec.table.as_str(), m.names.ghost.as_str()];
        let to_lock = TablesToLock { server: &m.spec.server, database: &m.spec.database, tables: &tables, relatives: &relatives };
        let force = self.approach.is_forced(&controls);
        if !self.approach.is_free(&mut self.control, to_lock, &controls, &self.publisher).await? {
            self.apply_again(None).await?;
            return Ok(false);
        }
        // Who has agreed to an attempt for which the replica's applier was stopped is not asked again meanwhile.
        // Nor is anybody asked before a change is taken back.
        if !self.record.applier_stopped && m.turned.is_none() {
            let about = about(&self.publisher, &self.tally);
            if !self.approach.is_agreed(&controls, &m.spec, about, tasks, &self.cancel) {
                return Ok(false);
            }
        }
        if !self.rest_applier().await? {
            return Ok(false);
        }
        // The comparison reads both tables: one that is slow must not keep the driver from everything else.
        let quiet = Arc::clone(&self.quiet);
        let Ok(_quiet) = tokio::time::timeout(controls.lock_timeout, quiet.write()).await else {
            self.approach.failed("a statement of the comparison was still reading the tables", None);
            self.apply_again(None).await?;
            return Ok(false);
        };
        let planned = (self.record.way_back, self.record.closed.clone());
        self.plan_way_back();
        if !self.swap_announced || known != self.record.relatives || planned != (self.record.way_back, self.record.closed.clone()) {
            // The next engine must look whether the swap happened, and finish what came of it.
            self.record.stage = Stage::Swapping;
            m.state.store(self.applier.session(), m.epoch, &self.record, None).await?;
            self.swap_announced = true;
        }
        // Both of this attempt only: the settings of the one are those of a lock, and either may be broken off at any point.
        let mut lock = m.own_session().await?;
        let mut second = m.own_session().await?;
        self.approach.made(controls.force_cut_over.as_ref().filter(|_| force));
        self.show_attempt();
        let id = lock.id();
        let parties = Parties {
            lock: &mut lock,
            second: &mut second,
            control: &mut self.control,
            force: force.then_some(Force { to_lock, blockers: &mut self.approach.blockers, publisher: &self.publisher }),
        };
        let mut levels = self.controls.clone();
        let attempt = cutover::attempt(&m, &self.record, &mut self.applier, &self.inbox, parties, &mut levels, &self.clock).await?;
        drop((lock, second));
        match attempt {
            Attempt::Swapped(waited) => {
                self.swapped(waited);
                Ok(true)
            }
            Attempt::GivenUp { why, locked } => {
                self.disarm().await?;
                self.index_again().await?;
                self.failed(&why.message, locked);
                self.apply_again(None).await?;
                Ok(false)
            }
            Attempt::Ambiguous => {
                // The server closes it after the budget at the latest, and rolls back.
                cutover::wait_gone(&mut self.control, id, controls.lock_timeout + Duration::from_secs(60)).await?;
                match outcome(&mut self.control, &m.spec.database, &m.spec.table, &m.names, &self.record).await? {
                    Swap::Happened => {
                        self.swapped(Duration::ZERO);
                        Ok(true)
                    }
                    Swap::DidNot => {
                        self.disarm().await?;
                        self.index_again().await?;
                        self.apply_again(None).await?;
                        self.failed("the connection was lost during the swap, and the tables were not swapped", Duration::ZERO);
                        Ok(false)
                    }
                    Swap::Unknown => Err(EngineError::terminal(Reason::OutcomeUnknown, "nothing shows whether the tables were swapped")),
                }
            }
        }
    }

    /// Whether the old table is to be kept current, as it is wanted now.
    fn plan_way_back(&mut self) {
        let m = &self.migration;
        let asked = !self.controls.borrow().revert_window.is_zero() && m.turned.is_none() && m.spec.mode == Mode::Execute;
        let missing = match &m.no_way_back {
            Some(why) => Some(why.clone()),
            None if self.record.relatives.is_empty() => None,
            None => Some("the table has got foreign keys or triggers during the migration".to_owned()),
        };
        self.record.way_back = asked && missing.is_none();
        self.record.closed = missing.filter(|_| asked).map(|why| (Revert::NO_WAY_BACK.to_owned(), why));
    }

    /// The attempt may have given the ghost constraints and triggers, where it is to get any. What a former engine left was looked for when its
    /// work was taken up.
    async fn disarm(&mut self) -> Result<(), EngineError> {
        if self.record.relatives.is_empty() {
            return Ok(());
        }
        cutover::relatives::disarm(&mut self.control, &self.record.relatives, &cutover::swapped(&self.migration)).await
    }

    /// The attempt may have come as far as dropping the helper index.
    async fn index_again(&mut self) -> Result<(), EngineError> {
        let m = &self.migration;
        helper_index::ensure(&mut self.control, &m.spec.database, &m.names.ghost, &m.key).await
    }

    /// What is to become of foreign keys, where others have come or gone since it was last planned.
    async fn plan_relatives(&mut self) -> Result<(), EngineError> {
        let m = Arc::clone(&self.migration);
        let tables = cutover::swapped(&m);
        let most = self.controls.borrow().max_locked_tables;
        let found = sight::relations(&mut self.control, &m.spec.database, &m.spec.table).await.map_err(cutover::came_meanwhile)?;
        let triggers = triggers::of(&mut self.control, &tables.table).await.map_err(cutover::came_meanwhile)?;
        if m.turned.is_some() {
            // The old table would have none of them.
            return match (found.first(), triggers.first()) {
                (Some(key), _) => Err(EngineError::terminal(Reason::ForeignKeys, &format!("the foreign key {key} came after the change"))),
                (None, Some(trigger)) => {
                    let name = quote::identifier(&trigger.name);
                    Err(EngineError::terminal(Reason::Triggers, &format!("the trigger {name} came after the change")))
                }
                (None, None) => Ok(()),
            };
        }
        if !cutover::are_these(&found, &self.record.relatives, &tables.table) || triggers != self.record.relatives.triggers {
            let grammar = self.record.server_values.as_ref().map(ServerValues::grammar).unwrap_or_default();
            let alter = check_alter_as(&m.spec.alter, grammar)?;
            let planned = async {
                let added: Vec<ForeignKey> = self.record.relatives.added().cloned().collect();
                let planning =
                    Planning { table: &tables.table, original: &m.original, alter: &alter, old: &m.names.old, most, added: &added };
                let partitioned =
                    inspector::table(&mut self.control, &m.spec.database, &m.names.ghost).await?.is_some_and(|g| g.partitioned);
                let mut after = planning.plan_with(&mut self.control, &found, &m.ghost, partitioned).await?;
                after.carried.clone_from(&self.record.relatives.carried);
                // The ghost is full, and nothing is written to it before this returns.
                relatives::prove(&mut self.control, &m.spec.server, &after, &tables.table, &tables.ghost).await?;
                Ok(after)
            };
            self.record.relatives = planned.await.map_err(cutover::came_meanwhile)?;
        }
        relatives::check_number(&self.record.relatives, &tables.table, most).map_err(cutover::came_meanwhile)
    }

    /// The attempt as it stands, beside what was shown before it.
    fn show_attempt(&self) {
        let cut_over = self.approach.shown(None);
        self.publisher.update(|s| (s.phase, s.cut_over) = (Phase::CuttingOver, cut_over));
    }

    fn swapped(&mut self, waited: Duration) {
        self.approach.succeeded(Some(waited));
        let cut_over = self.approach.shown(None);
        self.publisher.update(|s| (s.phase, s.cut_over) = (Phase::CleaningUp, cut_over));
        let m = &self.migration;
        let news = match m.spec.mode {
            _ if m.turned.is_some() => {
                let news = format!("the change of {} was taken back: it has its former definition", m.original_name());
                self.publisher.notice(notice::REVERTED, false, news);
                return;
            }
            Mode::TestOnReplica => format!("{} was swapped with {} and swapped back", m.original_name(), m.ghost_name()),
            _ => {
                let others: Vec<String> = self.record.relatives.tables(&cutover::swapped(m).table).iter().map(TableName::quoted).collect();
                let with = if others.is_empty() {
                    String::new()
                } else {
                    format!("; {} had to be locked with it, for {} ms", others.join(", "), waited.as_millis())
                };
                format!("{} has its new definition{with}", m.original_name())
            }
        };
        self.publisher.notice(notice::SWAPPED, false, news);
    }

    fn failed(&mut self, why: &str, locked: Duration) {
        self.approach.failed(why, Some(locked));
        self.show_attempt();
        self.publisher.notice(
            notice::CUT_OVER_ATTEMPT_FAILED,
            true,
            match self.migration.turned {
                None => format!("the cut-over attempt was abandoned: {why}; the original is in place and the ghost stays current"),
                Some(_) => format!("the attempt to take the change back was abandoned: {why}; the old table stays current"),
            },
        );
    }
}
