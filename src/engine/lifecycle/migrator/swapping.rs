//! The driver's part of the cut-over: when an attempt is made, and what becomes of its result.

use super::{Run, Task, spawn};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::notice;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::retry::back_off;
use crate::engine::contract::snapshot::Phase;
use crate::engine::contract::spec::Mode;
use crate::engine::cutover::blockers::{Place, Way};
use crate::engine::cutover::swap::Parties;
use crate::engine::cutover::watchdog::Force;
use crate::engine::cutover::{self, Attempt, statistics};
use crate::engine::outside::hooks::{self, AskHere, Consent};
use crate::engine::state::outcome::Swap;
use crate::engine::state::record::Stage;
use crate::engine::table::{inspector, replica};
use crate::engine::throttle;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::task::JoinSet;

/// The name of the task that gathers the new table's statistics.
pub(super) const STATISTICS: &str = "statistics";

/// The name of the task that asks the hooks.
pub(super) const HOOKS: &str = "hooks";

/// How far the new table's statistics are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statistics {
    /// Not asked for yet.
    None,
    /// Being gathered.
    UnderWay,
    /// There.
    Gathered,
}

impl Run {
    /// Starts gathering the new table's statistics once it is whole, and tells whether they are there.
    pub(super) fn statistics(&mut self, tasks: &mut JoinSet<Task>) -> bool {
        if self.statistics == Statistics::None {
            self.statistics = Statistics::UnderWay;
            let m = Arc::clone(&self.migration);
            let cancel = self.cancel.clone();
            spawn(tasks, STATISTICS, async move {
                tokio::select! {
                    () = cancel.cancelled() => Ok(()),
                    gathered = statistics::gather(&m) => Ok(gathered?),
                }
            });
        }
        self.statistics == Statistics::Gathered
    }

    /// Whether the hooks agree to an attempt; asks them if need be.
    fn consent(&mut self, tasks: &mut JoinSet<Task>) -> Consent {
        let hooks = self.controls.borrow().hooks.clone();
        let consent = self.question.look(&hooks, Instant::now());
        if let Consent::Ask(AskHere(answer)) = consent {
            let (m, snapshot, cancel) = (Arc::clone(&self.migration), self.publisher.snapshot(), self.cancel.clone());
            spawn(tasks, HOOKS, async move {
                tokio::select! {
                    () = cancel.cancelled() => {}
                    said = hooks::ask(&hooks, &m.spec, &snapshot) => {
                        // Nobody waits for it any more: the attempt is over.
                        let _ = answer.send(said);
                    }
                }
                Ok(())
            });
            return Consent::Awaited;
        }
        consent
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
        let limits = self.controls.borrow().limits.clone();
        throttle::filters::check(&mut self.control, &m.spec, &limits).await?;
        let (limit, kill_after, token) = {
            let controls = self.controls.borrow();
            (controls.lock_timeout, controls.kill_blockers_after, controls.force_cut_over.clone())
        };
        let force = token.is_some() && token != self.publisher.cut_over().handled_force;
        let tables = [m.spec.table.as_str(), m.names.ghost.as_str()];
        let place = Place { server: &m.spec.server, database: &m.spec.database, tables: &tables };
        let way = self.blockers.clear_the_way(&mut self.control, place, limit, kill_after, force, &self.publisher).await?;
        if let Way::Blocked { look_again } = way {
            // An attempt that must fail is not made.
            self.next_cut_over = Instant::now() + look_again;
            self.apply_again(None).await?;
            return Ok(false);
        }
        // Who has agreed to an attempt for which the replica's applier was stopped is not asked again meanwhile.
        let consent = if self.record.applier_stopped { Consent::Given } else { self.consent(tasks) };
        match consent {
            Consent::Given => {
                self.publisher.vetoed(None);
                self.publisher.waits(None);
                self.publisher.phase(Phase::CuttingOver);
            }
            Consent::Awaited | Consent::Ask(_) => return Ok(false),
            Consent::Refused(why) => {
                if self.publisher.cut_over().vetoed_by.is_none() {
                    self.publisher.notice(
                        notice::CUT_OVER_VETOED,
                        true,
                        format!("a hook vetoed the cut-over: {why}; it will be asked again"),
                    );
                }
                self.publisher.vetoed(Some(why));
                self.next_cut_over = Instant::now() + Duration::from_secs(1);
                return Ok(false);
            }
        }
        if !self.rest().await? {
            return Ok(false);
        }
        if !self.swap_announced {
            // The next engine must look whether the swap happened.
            self.record.stage = Stage::Swapping;
            m.state.store(self.applier.session(), m.epoch, &self.record, None).await?;
            self.swap_announced = true;
        }
        // Both of this attempt only: the settings of the one are those of a lock, and either may be broken off at any point.
        let mut lock = m.own_session().await?;
        let mut second = m.own_session().await?;
        self.question.used();
        self.publisher.update(|s| {
            s.cut_over.attempts += 1;
            s.cut_over.last_attempt = Some(SystemTime::now());
            if force {
                s.cut_over.handled_force.clone_from(&token);
            }
        });
        let id = lock.id();
        let quiet = Arc::clone(&self.quiet);
        let _quiet = quiet.write().await;
        let parties = Parties {
            lock: &mut lock,
            second: &mut second,
            control: &mut self.control,
            force: force.then_some(Force { place, blockers: &mut self.blockers, publisher: &self.publisher }),
        };
        let mut controls = self.controls.clone();
        let attempt = cutover::attempt(&m, &self.record, &mut self.applier, &self.inbox, parties, &mut controls, &self.clock).await?;
        drop((lock, second));
        match attempt {
            Attempt::Swapped(waited) => {
                self.swapped(waited);
                Ok(true)
            }
            Attempt::GivenUp { why, locked } => {
                self.failed(&why.message, locked);
                self.apply_again(None).await?;
                Ok(false)
            }
            Attempt::Ambiguous => {
                // The server closes it after the budget at the latest, and rolls back.
                cutover::wait_gone(&mut self.control, id, limit + Duration::from_secs(60)).await?;
                match crate::engine::state::outcome::outcome(&mut self.control, &m.spec.database, &m.spec.table, &m.names, &self.record)
                    .await?
                {
                    Swap::Happened => {
                        self.swapped(Duration::ZERO);
                        Ok(true)
                    }
                    Swap::DidNot => {
                        self.apply_again(None).await?;
                        self.failed("the connection was lost during the swap, and the tables were not swapped", Duration::ZERO);
                        Ok(false)
                    }
                    Swap::Unknown => Err(EngineError::terminal(Reason::OutcomeUnknown, "nothing shows whether the tables were swapped")),
                }
            }
        }
    }

    fn swapped(&mut self, waited: Duration) {
        self.publisher.update(|s| {
            s.cut_over.locked = Some(waited);
            s.cut_over.last_failure = None;
            s.phase = Phase::CleaningUp;
        });
        let m = &self.migration;
        let news = match m.spec.mode {
            Mode::TestOnReplica => format!("{} was swapped with {} and swapped back", m.original_name(), m.ghost_name()),
            _ => format!("{} has its new definition", m.original_name()),
        };
        self.publisher.notice(notice::SWAPPED, false, news);
    }

    fn failed(&mut self, why: &str, locked: Duration) {
        self.failures += 1;
        let pause = back_off(self.failures);
        self.next_cut_over = Instant::now() + pause;
        self.publisher.update(|s| {
            s.cut_over.last_failure = Some(why.to_owned());
            s.cut_over.locked = Some(locked);
        });
        self.publisher.notice(
            notice::CUT_OVER_ATTEMPT_FAILED,
            true,
            format!("the cut-over attempt was abandoned: {why}; the original is in place and the ghost stays current"),
        );
    }
}
