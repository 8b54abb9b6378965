//! Every series that `/metrics` serves.
//!
//! Names have the prefix `theseus_` and base units (seconds, ratios, counts). Labels are bounded: words of an enum, or the namespace and name
//! of a migration, whose series go when it is over ([`Metrics::migration_gone`]).
//!
//! # Counters made from absolute values
//! An engine publishes how much it has done, not how much more. [`Metrics::observe_migration`] turns that into counters that never go back,
//! as Prometheus requires, also when an engine is started again in this process (after a pause, a lost Lease, a connection error):
//! rows copied belong to the migration and are resumed where the last engine left them, so the highest value seen counts; events, changes
//! and throttled time belong to one engine, so a smaller value than the last means a new engine, and all of it counts.
//!
//! # Caveats
//! A sample observed after [`Metrics::migration_gone`] makes the series again, from zero: observe first, then say that it is gone.

use parking_lot::{Mutex, MutexGuard};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Metric, Registry, Unit},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

/// The content type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const PREFIX: &str = "theseus";

/// A visit takes milliseconds (a Secret, a patch) and up to some ten seconds when the API server is slow.
const RECONCILIATION_BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];
/// Clients wait this long: the goal is 10 ms at the median, and an attempt ends at `lockTimeout` (1–60 s).
const CUT_OVER_LOCK_BUCKETS: [f64; 12] = [0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 10.0, 60.0];
/// Around `targetChunkTime` (10 ms – 10 s).
const CHUNK_BUCKETS: [f64; 11] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

type Seconds = Gauge<f64, AtomicU64>;
type SecondsTotal = Counter<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MigrationLabels {
    namespace: String,
    name: String,
}

impl MigrationLabels {
    fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: label_value(namespace), name: label_value(name) }
    }
}

/// The library writes label values as they are. A Kubernetes name has no character that needs escaping; whatever else comes must not break
/// the text for every other series.
fn label_value(text: &str) -> String {
    text.replace(['"', '\\', '\n'], "_")
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ThrottleLabels {
    namespace: String,
    name: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// What one migration's engine says now; absolute values, as its snapshot has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MigrationSample {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// Rows written by chunks, over the life of the migration.
    pub rows_copied: u64,
    /// Share of the rows copied, 0.0–1.0.
    pub copy_progress: f64,
    /// Row images of the table seen in the binary log by this engine.
    pub binlog_events: u64,
    /// Keys reconciled or found not to need it by this engine.
    pub changes_applied: u64,
    /// Distinct dirty keys waiting.
    pub backlog_keys: u64,
    /// For how long the end of the log has not been reached; `None` while no binary log is read.
    pub binlog_lag: Option<Duration>,
    /// How far the replica that is furthest behind lags by the heartbeat; `None` while no replica is checked.
    pub heartbeat_lag: Option<Duration>,
    /// Rows that this engine found different although no change in the binary log explained it.
    pub verify_mismatches: u64,
    /// Why copying is held back now (`User`, `Load`, …); a word of a bounded set.
    pub throttled: Option<&'static str>,
    /// Sum of all throttled time of this engine.
    pub throttled_total: Duration,
}

/// A registered metric, for the reference page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// With prefix and suffix, as a query has it, e.g. `theseus_rows_copied_total`.
    pub name: String,
    /// `counter`, `gauge`, `histogram` or `info`.
    pub kind: &'static str,
    /// One sentence.
    pub help: &'static str,
}

/// Absolute values last seen of one migration, and the throttle reasons it has had.
#[derive(Default)]
struct Seen {
    rows_copied: u64,
    binlog_events: u64,
    changes_applied: u64,
    verify_mismatches: u64,
    throttled_total: Duration,
    last_reason: Option<&'static str>,
    reasons: BTreeSet<&'static str>,
}

struct Inner {
    registry: Registry,
    descriptions: Vec<Description>,
    migrations: Family<PhaseLabel, Gauge>,
    rows_copied: Family<MigrationLabels, Counter>,
    copy_progress: Family<MigrationLabels, Seconds>,
    binlog_events: Family<MigrationLabels, Counter>,
    changes_applied: Family<MigrationLabels, Counter>,
    backlog_keys: Family<MigrationLabels, Gauge>,
    binlog_lag: Family<MigrationLabels, Seconds>,
    heartbeat_lag: Family<MigrationLabels, Seconds>,
    verify_mismatches: Family<MigrationLabels, Counter>,
    throttled: Family<ThrottleLabels, Gauge>,
    throttled_seconds: Family<ThrottleLabels, SecondsTotal>,
    cut_over_attempts: Family<OutcomeLabel, Counter>,
    cut_over_lock: Histogram,
    chunk: Histogram,
    reconciliations: Family<OutcomeLabel, Counter>,
    reconciliation: Histogram,
    leader: Gauge,
    seen: Mutex<HashMap<MigrationLabels, Seen>>,
}

/// Registers metrics and notes what they are.
struct Registrar {
    registry: Registry,
    descriptions: Vec<Description>,
}

impl Registrar {
    fn new() -> Self {
        Self { registry: Registry::with_prefix(PREFIX), descriptions: Vec::new() }
    }

    /// Registers `metric` under `name`; the library adds the unit and, by kind, `_total` or `_info`.
    fn add<M: Metric + Clone>(&mut self, name: &str, unit: Option<Unit>, kind: &'static str, help: &'static str, metric: M) -> M {
        let unit_suffix = unit.as_ref().map(|unit| format!("_{}", unit.as_str())).unwrap_or_default();
        let kind_suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        self.descriptions.push(Description { name: format!("{PREFIX}_{name}{unit_suffix}{kind_suffix}"), kind, help });
        // The library puts a full stop after the help text.
        let text = help.trim_end_matches('.');
        match unit {
            Some(unit) => self.registry.register_with_unit(name, text, unit, metric.clone()),
            None => self.registry.register(name, text, metric.clone()),
        }
        metric
    }
}

/// An [`Info`] that can be cloned, as [`Registrar::add`] wants it.
#[derive(Clone, Debug)]
struct BuildInfo(Arc<Info<Vec<(&'static str, &'static str)>>>);

impl prometheus_client::encoding::EncodeMetric for BuildInfo {
    fn encode(&self, encoder: prometheus_client::encoding::MetricEncoder) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> prometheus_client::metrics::MetricType {
        self.0.metric_type()
    }
}

/// All metrics of the process. A clone is the same metrics.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Registers everything. One per process is enough; tests make their own.
    pub fn new() -> Self {
        let mut r = Registrar::new();
        let build = BuildInfo(Arc::new(Info::new(vec![
            ("version", env!("CARGO_PKG_VERSION")),
            ("revision", option_env!("THESEUS_REVISION").unwrap_or("unknown")),
            ("architecture", std::env::consts::ARCH),
        ])));
        r.add("build", None, "info", "The program's version, the revision it was built from, and its architecture.", build);
        let inner = Inner {
            migrations: r.add("migrations", None, "gauge", "SchemaMigrations that this operator manages, by phase.", Family::default()),
            rows_copied: r.add("rows_copied", None, "counter", "Rows written to the ghost table by chunks.", Family::default()),
            copy_progress: r.add("copy_progress_ratio", None, "gauge", "Share of the table's rows copied, 0 to 1.", Family::default()),
            binlog_events: r.add(
                "binlog_events",
                None,
                "counter",
                "Row images of the migrated table seen in the binary log.",
                Family::default(),
            ),
            changes_applied: r.add(
                "changes_applied",
                None,
                "counter",
                "Changed keys updated on the ghost table, or found to be up to date.",
                Family::default(),
            ),
            backlog_keys: r.add("backlog_keys", None, "gauge", "Distinct changed keys waiting to be applied.", Family::default()),
            binlog_lag: r.add(
                "binlog_lag",
                Some(Unit::Seconds),
                "gauge",
                "How long the stream has been behind the end of the binary log, as last read from the server.",
                Family::default(),
            ),
            heartbeat_lag: r.add(
                "heartbeat_lag",
                Some(Unit::Seconds),
                "gauge",
                "Age of the newest heartbeat on the replica with the most lag.",
                Family::default(),
            ),
            verify_mismatches: r.add(
                "verify_mismatches",
                None,
                "counter",
                "Rows found different with no change in the binary log to explain it.",
                Family::default(),
            ),
            throttled: r.add("throttled", None, "gauge", "1 while copying is throttled for this reason, else 0.", Family::default()),
            throttled_seconds: r.add(
                "throttled",
                Some(Unit::Seconds),
                "counter",
                "Time during which copying was throttled, by reason.",
                Family::default(),
            ),
            cut_over_attempts: r.add("cut_over_attempts", None, "counter", "Attempts to swap the tables, by outcome.", Family::default()),
            cut_over_lock: r.add(
                "cut_over_lock",
                Some(Unit::Seconds),
                "histogram",
                "Time for which a table was locked by a cut-over attempt.",
                Histogram::new(CUT_OVER_LOCK_BUCKETS),
            ),
            chunk: r.add("chunk", Some(Unit::Seconds), "histogram", "Time that one chunk of the copy took.", Histogram::new(CHUNK_BUCKETS)),
            reconciliations: r.add("reconciliations", None, "counter", "Reconciles, by outcome.", Family::default()),
            reconciliation: r.add(
                "reconciliation",
                Some(Unit::Seconds),
                "histogram",
                "Time that one reconcile took.",
                Histogram::new(RECONCILIATION_BUCKETS),
            ),
            leader: r.add("leader", None, "gauge", "1 while this process is the leader and runs migrations, else 0.", Gauge::default()),
            seen: Mutex::default(),
            registry: r.registry,
            descriptions: r.descriptions,
        };
        Self(Arc::new(inner))
    }

    /// Counts one visit to an object. `outcome` is one of a few words (`succeeded`, `retried`, `failed`).
    pub fn reconciliation(&self, outcome: &'static str, took: Duration) {
        self.0.reconciliations.get_or_create_owned(&OutcomeLabel { outcome }).inc();
        self.0.reconciliation.observe(took.as_secs_f64());
    }

    /// How many migrations are in each phase. A phase that was named before and is not now has none.
    pub fn phases(&self, counts: impl IntoIterator<Item = (&'static str, usize)>) {
        // Scrapes take the same lock, so that none sees the moment between clearing and setting.
        let _whole_picture = self.seen();
        let counts: HashMap<&'static str, usize> = counts.into_iter().collect();
        self.0.migrations.clear();
        for (phase, count) in counts {
            self.0.migrations.get_or_create_owned(&PhaseLabel { phase }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Whether this process leads.
    pub fn leader(&self, leads: bool) {
        self.0.leader.set(i64::from(leads));
    }

    /// Counts one attempt to swap the tables. `outcome` is one of a few words (`succeeded`, `failed`, `unknown`).
    pub fn cut_over_attempt(&self, outcome: &'static str) {
        self.0.cut_over_attempts.get_or_create_owned(&OutcomeLabel { outcome }).inc();
    }

    /// How long an attempt held the tables locked.
    pub fn cut_over_locked(&self, held: Duration) {
        self.0.cut_over_lock.observe(held.as_secs_f64());
    }

    /// How long one chunk took.
    pub fn chunk(&self, took: Duration) {
        self.0.chunk.observe(took.as_secs_f64());
    }

    /// Takes over what a migration's engine says now.
    pub fn observe_migration(&self, sample: &MigrationSample) {
        let labels = MigrationLabels::new(&sample.namespace, &sample.name);
        let mut all_seen = self.seen();
        let seen = all_seen.entry(labels.clone()).or_default();

        let rows = sample.rows_copied.saturating_sub(seen.rows_copied);
        seen.rows_copied = seen.rows_copied.max(sample.rows_copied);
        self.0.rows_copied.get_or_create_owned(&labels).inc_by(rows);

        let events = since_last(&mut seen.binlog_events, sample.binlog_events);
        self.0.binlog_events.get_or_create_owned(&labels).inc_by(events);
        let applied = since_last(&mut seen.changes_applied, sample.changes_applied);
        self.0.changes_applied.get_or_create_owned(&labels).inc_by(applied);

        let progress = if sample.copy_progress.is_finite() { sample.copy_progress.clamp(0.0, 1.0) } else { 0.0 };
        self.0.copy_progress.get_or_create_owned(&labels).set(progress);
        self.0.backlog_keys.get_or_create_owned(&labels).set(i64::try_from(sample.backlog_keys).unwrap_or(i64::MAX));
        for (family, lag) in [(&self.0.binlog_lag, sample.binlog_lag), (&self.0.heartbeat_lag, sample.heartbeat_lag)] {
            match lag {
                Some(lag) => {
                    family.get_or_create_owned(&labels).set(lag.as_secs_f64());
                }
                // No lag is known: an old number would look like a good one.
                None => {
                    family.remove(&labels);
                }
            }
        }
        let mismatches = since_last(&mut seen.verify_mismatches, sample.verify_mismatches);
        self.0.verify_mismatches.get_or_create_owned(&labels).inc_by(mismatches);
        self.observe_throttle(&labels, seen, sample);
    }

    fn observe_throttle(&self, labels: &MigrationLabels, seen: &mut Seen, sample: &MigrationSample) {
        let with_reason = |reason| ThrottleLabels { namespace: labels.namespace.clone(), name: labels.name.clone(), reason };
        let waited = match sample.throttled_total.checked_sub(seen.throttled_total) {
            Some(more) => more,
            None => sample.throttled_total,
        };
        seen.throttled_total = sample.throttled_total;
        // Time that has passed since the last sample belongs to the reason that held then; the first sample of a throttle to its own.
        if let Some(reason) = seen.last_reason.or(sample.throttled) {
            self.0.throttled_seconds.get_or_create_owned(&with_reason(reason)).inc_by(waited.as_secs_f64());
            seen.reasons.insert(reason);
        }
        seen.reasons.extend(sample.throttled);
        for &reason in &seen.reasons {
            self.0.throttled.get_or_create_owned(&with_reason(reason)).set(i64::from(sample.throttled == Some(reason)));
        }
        seen.last_reason = sample.throttled.or(seen.last_reason);
    }

    /// Removes the series of a migration that is over or deleted.
    pub fn migration_gone(&self, namespace: &str, name: &str) {
        let labels = MigrationLabels::new(namespace, name);
        let mut all_seen = self.seen();
        let Some(seen) = all_seen.remove(&labels) else { return };
        self.0.rows_copied.remove(&labels);
        self.0.copy_progress.remove(&labels);
        self.0.binlog_events.remove(&labels);
        self.0.changes_applied.remove(&labels);
        self.0.backlog_keys.remove(&labels);
        self.0.binlog_lag.remove(&labels);
        self.0.heartbeat_lag.remove(&labels);
        self.0.verify_mismatches.remove(&labels);
        for reason in seen.reasons {
            let labels = ThrottleLabels { namespace: labels.namespace.clone(), name: labels.name.clone(), reason };
            self.0.throttled.remove(&labels);
            self.0.throttled_seconds.remove(&labels);
        }
    }

    /// All series as OpenMetrics text ([`CONTENT_TYPE`]).
    pub fn encode(&self) -> String {
        let _whole_picture = self.seen();
        let mut text = String::new();
        // Writing to a String does not fail; should an encoder say so all the same, a scraper sees a text without its end mark and refuses it.
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &self.0.registry) {
            tracing::error!(%error, "could not encode metrics");
        }
        text
    }

    /// What is registered, in the order of registration.
    pub fn descriptions(&self) -> &[Description] {
        &self.0.descriptions
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<MigrationLabels, Seen>> {
        // A panic while it was held leaves numbers that are at worst one sample old.
        self.0.seen.lock()
    }
}

/// What `now` adds to a counter whose source starts again from zero with each engine.
fn since_last(last: &mut u64, now: u64) -> u64 {
    let more = if now >= *last { now - *last } else { now };
    *last = now;
    more
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sample() -> MigrationSample {
        MigrationSample { namespace: "shop".into(), name: "orders".into(), ..MigrationSample::default() }
    }

    /// The value of the series whose name and labels are exactly these.
    fn value(metrics: &Metrics, series: &str) -> Option<f64> {
        metrics.encode().lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    const ROWS: &str = r#"theseus_rows_copied_total{namespace="shop",name="orders"}"#;
    const EVENTS: &str = r#"theseus_binlog_events_total{namespace="shop",name="orders"}"#;

    #[test]
    fn counters_never_go_back_when_an_engine_starts_anew() {
        let metrics = Metrics::new();
        // (rows, events) as engines say them; what the counters must show.
        for (rows, events, rows_total, events_total) in [
            (100, 10, 100.0, 10.0),
            (500, 30, 500.0, 30.0),
            (500, 30, 500.0, 30.0),
            // A new engine: rows resumed a little behind where the last one was, events from nothing.
            (0, 0, 500.0, 30.0),
            (480, 5, 500.0, 35.0),
            (600, 9, 600.0, 39.0),
            // Another one whose first sample is already past zero.
            (600, 4, 600.0, 43.0),
        ] {
            metrics.observe_migration(&MigrationSample { rows_copied: rows, binlog_events: events, ..sample() });
            assert_eq!(value(&metrics, ROWS), Some(rows_total), "after {rows} rows");
            assert_eq!(value(&metrics, EVENTS), Some(events_total), "after {events} events");
        }
    }

    #[test]
    fn throttled_time_goes_to_the_reason_that_held() {
        let metrics = Metrics::new();
        let throttled = |reason, seconds| {
            metrics.observe_migration(&MigrationSample { throttled: reason, throttled_total: Duration::from_secs(seconds), ..sample() });
        };
        throttled(Some("User"), 1);
        throttled(Some("User"), 5);
        throttled(Some("Load"), 7);
        throttled(None, 10);
        throttled(None, 10);
        let seconds =
            |reason| value(&metrics, &format!(r#"theseus_throttled_seconds_total{{namespace="shop",name="orders",reason="{reason}"}}"#));
        let active = |reason| value(&metrics, &format!(r#"theseus_throttled{{namespace="shop",name="orders",reason="{reason}"}}"#));
        assert_eq!((seconds("User"), seconds("Load")), (Some(7.0), Some(3.0)));
        assert_eq!((active("User"), active("Load")), (Some(0.0), Some(0.0)));
        // A new engine's total starts again.
        throttled(Some("Load"), 2);
        assert_eq!((seconds("Load"), active("Load")), (Some(5.0), Some(1.0)));
    }

    #[test]
    fn a_migration_that_is_gone_leaves_no_series() {
        let metrics = Metrics::new();
        metrics.observe_migration(&MigrationSample {
            rows_copied: 1,
            binlog_lag: Some(Duration::from_millis(1500)),
            heartbeat_lag: Some(Duration::from_millis(1500)),
            throttled: Some("User"),
            throttled_total: Duration::from_secs(1),
            ..sample()
        });
        metrics.observe_migration(&MigrationSample { name: "other".into(), ..sample() });
        assert_eq!(value(&metrics, r#"theseus_binlog_lag_seconds{namespace="shop",name="orders"}"#), Some(1.5));
        metrics.migration_gone("shop", "orders");
        metrics.migration_gone("shop", "orders");
        metrics.migration_gone("shop", "never-seen");
        let text = metrics.encode();
        assert!(!text.contains("orders"), "{text}");
        assert!(text.contains("other"), "{text}");
        assert_eq!(value(&metrics, ROWS), None);
    }

    #[test]
    fn an_unknown_lag_and_impossible_progress_are_not_shown_as_numbers() {
        let metrics = Metrics::new();
        let lag = r#"theseus_binlog_lag_seconds{namespace="shop",name="orders"}"#;
        let progress = r#"theseus_copy_progress_ratio{namespace="shop",name="orders"}"#;
        metrics.observe_migration(&MigrationSample { binlog_lag: Some(Duration::ZERO), copy_progress: 0.41, ..sample() });
        assert_eq!((value(&metrics, lag), value(&metrics, progress)), (Some(0.0), Some(0.41)));
        metrics.observe_migration(&MigrationSample { copy_progress: f64::NAN, ..sample() });
        assert_eq!((value(&metrics, lag), value(&metrics, progress)), (None, Some(0.0)));
        metrics.observe_migration(&MigrationSample { copy_progress: 7.0, backlog_keys: u64::MAX, ..sample() });
        assert_eq!(value(&metrics, progress), Some(1.0));
    }

    #[test]
    fn phases_are_a_whole_picture() {
        let metrics = Metrics::new();
        metrics.phases([("Copying", 3), ("Paused", 1)]);
        assert_eq!(value(&metrics, r#"theseus_migrations{phase="Copying"}"#), Some(3.0));
        metrics.phases([("Copying", 2)]);
        assert_eq!(value(&metrics, r#"theseus_migrations{phase="Copying"}"#), Some(2.0));
        assert_eq!(value(&metrics, r#"theseus_migrations{phase="Paused"}"#), None);
    }

    #[test]
    fn a_label_value_cannot_break_the_text() {
        let metrics = Metrics::new();
        metrics.observe_migration(&MigrationSample { name: "a\"b\\c\nd".into(), ..sample() });
        let text = metrics.encode();
        assert!(text.contains(r#"name="a_b_c_d"} 0"#), "{text}");
        metrics.migration_gone("shop", "a\"b\\c\nd");
        assert!(!metrics.encode().contains("shop"));
    }

    /// Whatever is registered is encoded under the name that the reference page uses, with its kind and a help text.
    #[test]
    fn what_is_described_is_what_is_served() {
        let metrics = Metrics::new();
        metrics.phases([("Copying", 1)]);
        metrics.observe_migration(&MigrationSample {
            binlog_lag: Some(Duration::ZERO),
            heartbeat_lag: Some(Duration::ZERO),
            throttled: Some("User"),
            ..sample()
        });
        metrics.cut_over_attempt("succeeded");
        metrics.cut_over_locked(Duration::from_millis(20));
        metrics.chunk(Duration::from_millis(400));
        metrics.reconciliation("succeeded", Duration::from_millis(3));
        metrics.leader(true);
        let text = metrics.encode();
        assert!(text.ends_with("# EOF\n"));
        let served: BTreeSet<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .map(|line| match line.split_once(' ').unwrap() {
                (name, "counter") => format!("{name}_total counter"),
                (name, "info") => format!("{name}_info info"),
                (name, kind) => format!("{name} {kind}"),
            })
            .collect();
        let described: BTreeSet<String> = metrics.descriptions().iter().map(|d| format!("{} {}", d.name, d.kind)).collect();
        assert_eq!(served, described);
        assert!(metrics.descriptions().iter().all(|d| d.help.ends_with('.') && text.contains(d.help)), "{text}");
    }
}
