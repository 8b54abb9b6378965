//! The way to an attempt, for a swap and for a change that the server makes itself: who is in the way, what the hooks say, what became of
//! the attempts so far. It spawns the question to the hooks into the tasks of its caller.

use super::next::{self, CYCLE_TAIL};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::notice;
use crate::engine::contract::progress::{Publisher, Tally};
use crate::engine::contract::retry::back_off;
use crate::engine::contract::snapshot::{CutOver, Waits};
use crate::engine::contract::spec::{Controls, MigrationSpec};
use crate::engine::cutover::blockers::{Blockers, Clearance, TablesToLock};
use crate::engine::outside::hooks::{self, About, Consent, Question};
use crate::mysql::Session;
use std::time::{Duration, Instant, SystemTime};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A task of an attempt, with the name that its end is known by.
pub type Task = (&'static str, Result<(), EngineError>);

/// The name of the task that asks the hooks.
pub(super) const HOOKS: &str = "hooks";

/// What an engine remembers of its attempts.
#[derive(Default)]
pub(super) struct Approach {
    /// All of it but what is only known when it is shown.
    so_far: CutOver,
    /// Who holds locks that an attempt needs.
    pub blockers: Blockers,
    question: Question,
    /// Attempts that failed, one after the other.
    failures: u32,
    next: Option<Instant>,
}

/// What the hooks are told of an engine.
pub fn about(publisher: &Publisher, tally: &Tally) -> About {
    let progress = tally.progress();
    About { session: publisher.session().to_owned(), rows_copied: progress.rows_copied, changes_applied: progress.changes_applied }
}

impl Approach {
    /// On new connections: what belonged to the former ones is over.
    pub fn begin(&mut self) {
        *self = Self { so_far: std::mem::take(&mut self.so_far), ..Self::default() };
        self.so_far.waits = None;
    }

    /// What people see.
    pub fn shown(&self, waits: Option<Waits>) -> CutOver {
        CutOver { waits, blocked_by: self.blockers.named().map(str::to_owned), ..self.so_far.clone() }
    }

    /// No attempt is made before.
    pub fn next_attempt(&self, now: Instant) -> Instant {
        self.next.unwrap_or(now)
    }

    /// Whether a hook has vetoed the last attempt, and none has agreed since.
    pub(super) fn is_vetoed(&self) -> bool {
        self.so_far.vetoed_by.is_some()
    }

    /// What the hooks say to the next one. `what` they are asked for, in a word.
    pub fn consent(&mut self, now: Instant, what: &str, publisher: &Publisher) -> next::Consent {
        match self.question.consent(now) {
            Consent::Free => next::Consent::Free,
            Consent::Awaited => next::Consent::Awaited,
            Consent::Refused(why, until) => {
                if !self.is_vetoed() {
                    publisher.notice(notice::CUT_OVER_VETOED, true, format!("a hook vetoed the {what}: {why}; it will be asked again"));
                }
                self.so_far.vetoed_by = Some(why);
                next::Consent::Vetoed { until }
            }
        }
    }

    /// Whether the user's force token asks for this attempt, which is not known to have been acted upon.
    pub(super) fn is_forced(&self, controls: &Controls) -> bool {
        controls.force_cut_over.is_some() && controls.force_cut_over != self.so_far.handled_force
    }

    /// Looks who is in the way, and kills who is to be killed. True: nobody is known to be.
    ///
    /// # Errors
    /// A lost connection.
    pub(super) async fn is_free(
        &mut self,
        session: &mut Session,
        to_lock: TablesToLock<'_>,
        controls: &Controls,
        publisher: &Publisher,
    ) -> Result<bool, EngineError> {
        // Whatever comes of this: it is not done again at once.
        self.next = Some(Instant::now() + CYCLE_TAIL);
        let force = self.is_forced(controls);
        let way =
            self.blockers.clear_the_way(session, to_lock, controls.lock_timeout, controls.kill_blockers_after, force, publisher).await?;
        match way {
            Clearance::Free => Ok(true),
            Clearance::Blocked { look_again } => {
                // An attempt that must fail is not made.
                self.next = Some(Instant::now() + look_again);
                Ok(false)
            }
        }
    }

    /// Whether the hooks agree. False: they are being asked, by a task that ends with [`HOOKS`].
    pub(super) fn is_agreed(
        &mut self,
        controls: &Controls,
        spec: &MigrationSpec,
        about: About,
        tasks: &mut JoinSet<Task>,
        cancel: &CancellationToken,
    ) -> bool {
        let Some(answer) = self.question.to_be_asked(&controls.hooks, Instant::now()) else {
            self.so_far.vetoed_by = None;
            return true;
        };
        let (hooks, spec, attempt, cancel) = (controls.hooks.clone(), spec.clone(), self.so_far.attempts + 1, cancel.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                said = hooks::ask(&hooks, &spec, &about, attempt) => {
                    // Nobody waits for it any more: the attempt is over.
                    let _ = answer.send(said);
                }
            }
            (HOOKS, Ok(()))
        });
        false
    }

    /// An attempt is being made. `force`: it acts upon this token.
    pub fn made(&mut self, force: Option<&String>) {
        self.question.used();
        self.so_far.attempts += 1;
        self.so_far.last_attempt = Some(SystemTime::now());
        if let Some(token) = force {
            self.so_far.handled_force = Some(token.clone());
        }
    }

    /// It failed, and clients waited for so long; the next one is made after a pause.
    pub fn failed(&mut self, why: &str, locked: Option<Duration>) {
        self.failures += 1;
        self.next = Some(Instant::now() + back_off(self.failures));
        self.so_far.last_failure = Some(why.to_owned());
        if locked.is_some() {
            self.so_far.locked = locked;
        }
    }

    /// The change is made, and clients waited for so long.
    pub fn succeeded(&mut self, locked: Option<Duration>) {
        self.so_far.locked = locked;
        self.so_far.last_failure = None;
    }
}
