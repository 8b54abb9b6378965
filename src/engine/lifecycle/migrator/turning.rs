//! After the swap, where there is a way back: the driver of the engine that is turned round. It keeps the old table current until the window ends,
//! somebody takes the change back, or the old table cannot be kept current any more.

use super::ending::finish;
use super::run::{Run, Surroundings, spawn};
use super::{End, Migrator, held, stop_all};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::notice;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::snapshot::{Outcome, Phase, Revert, Tables};
use crate::engine::contract::spec::Controls;
use crate::engine::lifecycle::approach::Task;
use crate::engine::lifecycle::prepare::Ready;
use crate::engine::lifecycle::way_back::{close, why_over, window_end, window_ended};
use crate::engine::state::fence::Leftovers;
use crate::mysql::Session;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A critical load neither ends nor stops this: it may be what the change is taken back for.
fn without_critical_load(controls: &Controls) -> Controls {
    let mut controls = controls.clone();
    controls.limits.critical_load.clear();
    controls
}

/// Hands on what is wanted, until nobody steers any more.
async fn pass_on(mut from: watch::Receiver<Controls>, to: watch::Sender<Controls>, cancel: CancellationToken) -> Result<(), EngineError> {
    loop {
        // Cancel-safe: a watch loses nothing.
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            changed = from.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let controls = without_critical_load(&from.borrow_and_update());
                to.send_replace(controls);
            }
        }
    }
}

impl Run {
    /// When the window ends, as it is wanted now; `None`: the change is not made yet.
    pub(super) fn window_end(&self) -> Option<SystemTime> {
        let turned = self.migration.turned.is_some();
        turned.then(|| window_end(self.record.opened_at, self.controls.borrow().revert_window))
    }

    /// Whether the change cannot be taken back any more, and nobody has asked for it in time.
    pub(super) fn window_is_over(&self) -> bool {
        let controls = self.controls.borrow();
        let now: SystemTime = (self.clock)().into();
        // Who asked inside the window is served, however long somebody is in the way.
        self.window_end().is_some_and(|end| controls.cancel || !controls.revert && end <= now)
    }
}

impl Migrator {
    /// Until the window is over (the change stays), or the change is taken back.
    pub(super) async fn keep_way_back(&mut self, ready: Ready, control: Session, guard: &mut Option<Session>) -> Result<End, EngineError> {
        self.owned = Some(ready.owned());
        let mut ready = ready;
        let mut control = control;
        if !ready.record.told {
            let hooks = self.controls.borrow().hooks.clone();
            self.tell(&hooks, &Outcome::Succeeded).await;
            let table = ready.migration.original_name();
            let news = format!("the change of {table} can be taken back without loss until its revert window ends");
            self.publisher.notice(notice::REVERT_POSSIBLE, false, news);
            ready.record.told = true;
            let m = Arc::clone(&ready.migration);
            m.state.store(&mut control, m.epoch, &ready.record, None).await?;
        }
        self.told = true;
        let mut tasks = JoinSet::new();
        let (guard, mut around) = (held(guard)?, self.surroundings());
        let cancel = around.cancel.clone();
        let (send, calm) = watch::channel(without_critical_load(&self.controls.borrow()));
        around.controls = calm;
        spawn(&mut tasks, "controls", pass_on(self.controls.clone(), send, cancel.clone()));
        let result = self.run_turned(ready, control, guard, &mut tasks, around).await;
        stop_all(&cancel, &mut tasks).await;
        result
    }

    async fn run_turned(
        &mut self,
        ready: Ready,
        control: Session,
        guard: Session,
        tasks: &mut JoinSet<Task>,
        around: Surroundings,
    ) -> Result<End, EngineError> {
        let (m, mut record) = (Arc::clone(&ready.migration), ready.record.clone());
        let result = match Run::start(ready, control, guard, around, tasks).await {
            Err(error) => Err(error),
            Ok(mut run) => {
                // From here on, whoever else writes to the old table is seen.
                let end = window_end(record.opened_at, self.controls.borrow().revert_window);
                let tables = &m.names;
                self.publisher.update(|s| {
                    s.validated = true;
                    s.retrying = None;
                    s.phase = Phase::Revertible;
                    s.tables = Tables { ghost: String::new(), state: tables.state.clone(), old: tables.ghost.clone() };
                    s.revert = Some(Revert::Possible { until: end });
                });
                let result = run.run_to_swap(tasks).await;
                self.approach = std::mem::take(&mut run.approach);
                record = run.record.clone();
                if let Some(end) = self.broken_off(&mut run, &result).await? {
                    return Ok(end);
                }
                result
            }
        };
        let mut session = m.own_session().await?;
        let record = match result {
            Ok(true) => record,
            Ok(false) => close(&self.publisher, record, window_ended()),
            Err(error) if error.is_transient() && !error.reason.restarts_copy() || error.reason == Reason::Fenced => return Err(error),
            Err(error) => {
                tracing::warn!(reason = %error.reason, "the change cannot be taken back any more: {error}");
                close(&self.publisher, record, why_over(&m.original_name(), &error))
            }
        };
        let leftovers = Leftovers { state: m.state.clone(), record, epoch: m.epoch };
        self.publisher.update(|s| s.tables.old = leftovers.record.names(&self.spec.names()).old);
        finish(&self.spec, (&self.publisher, &self.tally), &self.controls, &mut session, leftovers, &mut self.owned).await
    }
}
