//! The driver's part of the pace: how many workers there are, and what is said when changes pile up.

use super::run::{COPY, Run, spawn};
use crate::engine::contract::error::EngineError;
use crate::engine::lifecycle::approach::Task;
use crate::engine::rows::pace::{self, Pace, Pressure};
use crate::engine::throttle::decide::Decision;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;

impl Run {
    /// Changes that pile up hold copying as well.
    pub(super) fn pressed(&self, waiting: usize) -> Option<(&'static str, String)> {
        if self.copying == 0 || self.controls.borrow().workers > 0 {
            return None;
        }
        let pressure = self.pace.as_ref().map(Pace::pressure)?;
        match pressure {
            Pressure::None => None,
            Pressure::Shared => {
                Some((pace::BACKLOG_GROWS, format!("{waiting} changed rows are waiting to be applied; copying is paused half of the time")))
            }
            Pressure::Overwhelming => Some((
                pace::BACKLOG_GROWS,
                format!("{waiting} changed rows are waiting to be applied, and their number grows although copying is paused"),
            )),
        }
    }

    /// Ends a measurement when it is due, and begins the next. One in which something held the copy back says nothing.
    pub(super) fn measure(&mut self, held: &Decision) {
        let Some(pace) = self.pace.as_mut() else { return };
        if !held.may_copy() {
            self.measuring = None;
            return;
        }
        let Some(began) = self.measuring else {
            self.applier.latencies();
            self.copier.done(true);
            self.measuring = Some(Instant::now());
            return;
        };
        let done = self.copier.done(false);
        let took = began.elapsed();
        // A few of each, so that one slow chunk is no measure; and not for ever.
        if took < pace::MEASURE_FOR || (done.chunks < pace::CHUNKS && took < 5 * pace::MEASURE_FOR) {
            return;
        }
        self.copier.done(true);
        let measured = pace::Measurement {
            rows: done.rows,
            worked: done.took,
            latency: pace::median(&mut self.applier.latencies()),
            backlog: self.applier.backlog() as u64,
        };
        pace.learn(&measured);
        tracing::debug!(?measured, now = ?pace.width(), "pace");
        self.measuring = Some(Instant::now());
    }

    /// How many connections may keep the server at work, as far as the copy has found out.
    pub(super) fn width_found(&self) -> u16 {
        match (self.controls.borrow().workers, &self.pace) {
            (0, Some(pace)) => pace.proven(),
            (0, None) => 1,
            (asked, _) => asked,
        }
    }

    /// As many workers as there should be.
    pub(super) async fn keep_pace(&mut self, tasks: &mut JoinSet<Task>) -> Result<(), EngineError> {
        let asked = self.controls.borrow().workers;
        let width = self.pace.as_ref().map(Pace::width);
        let allowed = match (asked, width) {
            // Rows are numbered in the order of the key.
            _ if self.migration.numbering.is_some() => 1,
            (0, Some(width)) => width.copy,
            (0, None) => 1,
            (asked, _) => asked,
        };
        if let Some(width) = width {
            self.applier.widen(width.flush).await?;
        }
        // Workers that are not needed any more wait for their turn, so numbers count up.
        while !self.copied && self.copying < allowed {
            spawn(tasks, COPY, Arc::clone(&self.copier).worker(self.copying, self.cancel.clone()));
            self.copying += 1;
        }
        self.allowed.send_if_modified(|now| std::mem::replace(now, allowed) != allowed);
        Ok(())
    }
}
