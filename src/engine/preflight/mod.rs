//! Preflight: everything that can be told of a migration by reading, all of it at once.
//!
//! # Promises
//! Nothing is written and nothing is locked. The session is READ ONLY but for the privilege tests, which are EXPLAIN and PREPARE of statements
//! that are never executed ([`server`]). Data is probed in bounded time ([`data`]), and of rows that do not fit only their keys are told.
//! What cannot be told by reading is said to be so: only a dry run, or the copy itself, proves it.
//!
//! # Rules of MySQL relied upon
//! A privilege is checked before a table's existence: EXPLAIN of an INSERT into a table that is not there gives 1142 without the privilege and
//! 1146 with it. `information_schema` shows only what the account may see, so "nothing found" is only as good as its privileges, and each
//! check says so. <https://dev.mysql.com/doc/refman/8.4/en/information-schema-introduction.html>
mod ahead;
pub mod data;
mod declared;
pub mod predict;
mod server;
mod table;

pub use ahead::{Ahead, ahead};

use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::{Algorithm, Controls, MigrationSpec, Mode};
use crate::engine::contract::text::bytes;
use crate::engine::rows::key_nulls;
use crate::engine::table::inspector::{self, Inspected};
use crate::engine::table::{chooser, relatives, replica, sight};
use crate::mysql::codes::UNSUPPORTED_SERVER;
use crate::mysql::server::ServerFacts;
use crate::mysql::session::SHORT;
use crate::mysql::{MySqlError, Product, Session, session};
use crate::sql::alter::Alter;
use crate::sql::key::{KeyCodec, MigrationKey};
use crate::sql::quote;
use predict::{Copies, Forecast, Prediction};
use std::time::Duration;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The migration would be refused, or fail.
    Refuse,
    /// It would run; somebody should know.
    Warning,
    /// Good to know.
    Info,
}

impl Severity {
    /// As the report and its JSON print it.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Refuse => "refuse",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

/// What a finding that refuses nothing is about. Each is documented in `docs/reference/cli.md` (a test holds that).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// What the account may not see.
    NotSeen,
    /// A setting of the server.
    ServerSetting,
    /// Server, version, flavour.
    Server,
    /// How long binary logs are kept.
    BinlogRetention,
    /// Rows, bytes, time.
    Size,
    /// Bytes on disk.
    Disk,
    /// How the change would be made.
    Algorithm,
    /// Along which key.
    Key,
    /// Who holds the table now.
    Blocker,
    /// Tables of another schema-change tool.
    OtherTool,
    /// Views, routines, events and triggers that name what goes away.
    Dependents,
    /// The table is partitioned.
    Partitions,
    /// Tables that foreign keys bind it to.
    Relatives,
    /// Whether the change could be taken back.
    WayBack,
    /// Names that had to be shortened.
    Names,
    /// Work of an earlier run of the same change.
    EarlierRun,
    /// What was not told by reading the data.
    DataUnknown,
    /// Other migrations that come first.
    Order,
    /// The clauses that `spec.desired` comes to.
    Desired,
}

impl Topic {
    /// All, for docs and tests.
    pub const ALL: &'static [Topic] = &[
        Topic::NotSeen,
        Topic::ServerSetting,
        Topic::Server,
        Topic::BinlogRetention,
        Topic::Size,
        Topic::Disk,
        Topic::Algorithm,
        Topic::Key,
        Topic::Blocker,
        Topic::OtherTool,
        Topic::Dependents,
        Topic::Partitions,
        Topic::Relatives,
        Topic::WayBack,
        Topic::Names,
        Topic::EarlierRun,
        Topic::DataUnknown,
        Topic::Order,
        Topic::Desired,
    ];

    /// The CamelCase word.
    pub fn as_str(self) -> &'static str {
        match self {
            Topic::NotSeen => "NotSeen",
            Topic::ServerSetting => "ServerSetting",
            Topic::Server => "Server",
            Topic::BinlogRetention => "BinlogRetention",
            Topic::Size => "Size",
            Topic::Disk => "Disk",
            Topic::Algorithm => "Algorithm",
            Topic::Key => "Key",
            Topic::Blocker => "Blocker",
            Topic::OtherTool => "OtherTool",
            Topic::Dependents => "Dependents",
            Topic::Partitions => "Partitions",
            Topic::Relatives => "Relatives",
            Topic::WayBack => "WayBack",
            Topic::Names => "Names",
            Topic::EarlierRun => "EarlierRun",
            Topic::DataUnknown => "DataUnknown",
            Topic::Order => "Order",
            Topic::Desired => "Desired",
        }
    }
}

/// The word of a finding: a reason of the engine, or a topic.
pub trait Word {
    /// CamelCase.
    fn word(self) -> &'static str;
}

impl Word for Reason {
    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for Topic {
    fn word(self) -> &'static str {
        self.as_str()
    }
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it weighs.
    pub severity: Severity,
    /// A [`Reason`] or a [`Topic`].
    pub reason: &'static str,
    /// What it is about: a table, a setting, a privilege, a column.
    pub object: String,
    /// What is so.
    pub message: String,
    /// What to do; empty where there is nothing to do.
    pub advice: String,
}

/// What is known after the preflight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// All findings, the heaviest first.
    pub findings: Vec<Finding>,
    /// What the server is, when it answered.
    pub product: Option<Product>,
    /// Rows by the server's statistics.
    pub rows_estimated: Option<u64>,
    /// Bytes of data and indexes by the server's statistics.
    pub bytes_estimated: Option<u64>,
    /// The key that would be walked along.
    pub key: Option<String>,
    /// How the change would be made, as far as reading tells; never Auto.
    pub algorithm: Option<Algorithm>,
    /// The clauses that `spec.desired` comes to, where it is given and they are known; empty if there is nothing to do.
    pub clauses: Option<String>,
}

impl Report {
    /// Whether the migration would be refused, or fail.
    pub fn refused(&self) -> bool {
        self.findings.iter().any(|f| f.severity == Severity::Refuse)
    }

    fn add(
        &mut self,
        severity: Severity,
        word: impl Word,
        object: impl Into<String>,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.findings.push(Finding {
            severity,
            reason: word.word(),
            object: object.into(),
            message: message.into(),
            advice: advice.into(),
        });
    }

    fn refuse(&mut self, error: &EngineError, object: impl Into<String>) {
        self.add(Severity::Refuse, error.reason, object, error.message.clone(), "");
    }
}

/// The parts that the checks share.
struct Look<'a> {
    spec: &'a MigrationSpec,
    controls: &'a Controls,
    session: Session,
    report: Report,
    /// Whether the change comes to a copy; what rules a copy out is only as bad as that.
    copies: Copies,
    /// What rules a copy out, found before it is known whether there will be one.
    against_a_copy: Vec<Against>,
}

/// Something that rules out a copy and nothing else.
#[derive(Clone)]
struct Against {
    reason: Reason,
    object: String,
    message: String,
    advice: String,
}

impl<'a> Look<'a> {
    fn new(spec: &'a MigrationSpec, controls: &'a Controls, session: Session, report: Report) -> Self {
        Self { spec, controls, session, report, copies: Copies::Yes, against_a_copy: Vec::new() }
    }

    fn table(&self) -> String {
        quote::qualified(&self.spec.database, &self.spec.table)
    }

    /// What rules out a copy and nothing else.
    fn rules_out_a_copy(&mut self, reason: Reason, object: impl Into<String>, message: impl Into<String>, advice: &str) {
        let message = message.into();
        match self.copies {
            Copies::Yes => self.report.add(Severity::Refuse, reason, object, message, advice),
            Copies::Perhaps => self.report.add(
                Severity::Warning,
                reason,
                object,
                format!("refused unless the server makes the change natively: {message}"),
                format!("{advice}; mode DryRun shows whether it does"),
            ),
            Copies::No => self.report.add(
                Severity::Info,
                reason,
                object,
                format!("no problem, because the server makes the change natively: {message}"),
                "",
            ),
        }
    }

    /// The same, before it is known whether the change comes to a copy: [`Look::weigh`] reports it.
    fn against_a_copy(&mut self, reason: Reason, object: &str, message: impl Into<String>, advice: impl Into<String>) {
        self.against_a_copy.push(Against { reason, object: object.to_owned(), message: message.into(), advice: advice.into() });
    }

    /// Reports what rules out a copy, now that it is known whether there will be one.
    fn weigh(&mut self) {
        for Against { reason, object, message, advice } in std::mem::take(&mut self.against_a_copy) {
            self.rules_out_a_copy(reason, object, message, &advice);
        }
    }

    /// The answer of a look that the account may lack the privilege for: then the report says so.
    fn seen<T>(&mut self, result: Result<T, MySqlError>, object: &str, consequence: &str, advice: &str) -> Result<Option<T>, EngineError> {
        match result {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.is_connection() => Err(error.into()),
            Err(error) => {
                self.report.add(Severity::Warning, Topic::NotSeen, object, format!("{consequence} ({})", error.message), advice);
                Ok(None)
            }
        }
    }
}

/// Looks at everything. What goes wrong is a finding, too: there is always a report.
pub async fn check(spec: &MigrationSpec, controls: &Controls) -> Report {
    let mut report = Report::default();
    let declared = declared::clauses(spec, &mut report).await;
    let spec = declared.as_ref().unwrap_or(spec);
    let alter = match crate::engine::table::definition::check_alter(&spec.alter) {
        Ok(alter) => Some(alter),
        // What it comes to is told already: nothing, or why it is not known.
        Err(_) if spec.desired.is_some() && spec.alter.is_empty() => None,
        Err(error) => {
            report.refuse(&error, "spec.alter");
            // The clauses that are understood and not taken still tell what else is wrong.
            Alter::parse(&spec.alter).ok()
        }
    };
    let address = format!("{}:{}", spec.server.host, spec.server.port);
    match open(spec, &mut report).await {
        Err(error) => report.refuse(&error, address),
        Ok(None) => {}
        Ok(Some(session)) => {
            let spec = &spec.kept(session.lower_case_names());
            let mut look = Look::new(spec, controls, session, report);
            let result = all(&mut look, alter.as_ref()).await;
            look.weigh();
            let Look { session, report: found, .. } = look;
            report = found;
            session.close().await;
            if let Err(error) = result {
                report.refuse(&error, address);
            }
        }
    }
    report.findings.sort_by_key(|f| f.severity);
    report
}

/// A session for reading; `None` when the server is one that does not even know the session's settings, which is then a finding.
async fn open(spec: &MigrationSpec, report: &mut Report) -> Result<Option<Session>, EngineError> {
    match Session::open_raw(&spec.server).await {
        Err(error) if error.code == UNSUPPORTED_SERVER => {
            let advice = "use a server version listed in docs/reference/versions.md";
            report.add(Severity::Refuse, Reason::ServerNotSupported, "version", error.message, advice);
            report.product = Some(session::product(&spec.server).await?);
            return Ok(None);
        }
        opened => {
            let session = opened?;
            report.product = Some(session.product().clone());
            session.close().await;
        }
    }
    match Session::open(&spec.server).await {
        Ok(session) => Ok(Some(session)),
        Err(error) if error.is_transient() => Err(error.into()),
        Err(error) => {
            report.add(
                Severity::Refuse,
                Reason::ServerNotSupported,
                "session variables",
                error.message,
                "set the variable, or remove it from init_connect",
            );
            Ok(None)
        }
    }
}

async fn all(look: &mut Look<'_>, alter: Option<&Alter>) -> Result<(), EngineError> {
    // Before the session becomes read only: EXPLAIN of a writing statement is refused there (1792), though nothing is written.
    server::privileges(look).await?;
    look.session.run("make the session read only", SHORT, "SET SESSION TRANSACTION READ ONLY").await?;
    let facts = server::settings(look).await?;
    let grammar = server::sessions(look).await?;
    server::connections(look).await?;
    let original = table::original(look).await?;
    let has_run = table::names(look).await?;
    table::other_tools(look).await?;
    let Some(original) = original else { return Ok(()) };
    server::primary_key(look, &original);
    // Once more by the server's grammar, where that is another one than it was read by.
    let read = alter
        .filter(|alter| alter.grammar() != grammar)
        .map(|_| crate::engine::table::definition::check_alter_as(&look.spec.alter, grammar))
        .transpose();
    let read = match read {
        Ok(read) => read,
        Err(error) => {
            look.report.refuse(&error, "spec.alter");
            return Ok(());
        }
    };
    let alter = read.as_ref().or(alter);
    let prediction = alter.map(|alter| predict::predict(&original.definition, alter));
    if let (Some(alter), Some(prediction)) = (alter, &prediction) {
        // What an earlier run has made is there already.
        if !has_run {
            impossible(look, &original, alter);
        }
        algorithm(look, &original, alter, prediction).await?;
    }
    look.weigh();
    server::filters(look).await?;
    // Before what else foreign keys and triggers need: where they rule the way back out, that helps nobody.
    if let (Some(alter), Some(prediction)) = (alter, &prediction) {
        way_back(look, &facts, &original, alter, prediction).await?;
    }
    table::relations(look, &original, alter).await?;
    table::unseen(look).await?;
    table::blockers(look).await?;
    size(look, &original).await?;
    let (Some(alter), Some(prediction)) = (alter, prediction) else { return Ok(()) };
    table::dependents(look, alter).await?;
    let key = key(look, &facts, &original, alter, &prediction);
    if let Some((key, _)) = &key {
        nulls(look, &facts, &original, key).await?;
    }
    data::probe(look, &original, alter, &prediction, key.map(|(_, codec)| codec).as_ref()).await
}

/// What a copy takes for each row, from the slower end of what was measured: a table under load on two cores.
const ROWS_PER_SECOND: u64 = 20_000;
/// The same for wide rows.
const BYTES_PER_SECOND: u64 = 10 << 20;

/// How long a copy may take (pure).
pub(super) fn estimate(rows: u64, bytes: u64) -> Duration {
    Duration::from_secs((rows / ROWS_PER_SECOND).max(bytes / BYTES_PER_SECOND).max(1))
}

async fn size(look: &mut Look<'_>, original: &Inspected) -> Result<(), EngineError> {
    let (rows, total) = (original.rows_estimated, original.bytes_estimated);
    look.report.rows_estimated = Some(rows);
    look.report.bytes_estimated = Some(total);
    let time = estimate(rows, total);
    let table = look.table();
    look.report.add(
        Severity::Info,
        Topic::Size,
        table.clone(),
        format!(
            "about {rows} rows, {} with indexes, by the server's statistics; a copy would take about {} min under load, less on a quiet server",
            bytes(total),
            time.as_secs() / 60 + 1
        ),
        "",
    );
    let data: Vec<Option<u64>> = look
        .session
        .select(
            "read the table's size",
            "SELECT DATA_LENGTH FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            vec![look.spec.database.clone().into(), look.spec.table.clone().into()],
        )
        .await?;
    let logged = match look.spec.mode {
        mode if mode.on_replica() => "nothing in the binary log".to_owned(),
        _ => format!("{} of binary log, on each replica as well", bytes(data.into_iter().next().flatten().unwrap_or(total))),
    };
    look.report.add(
        Severity::Info,
        Topic::Disk,
        table,
        format!("a copy needs about {} for the ghost table and {logged}, plus what the application writes meanwhile; the old table stays until its retention ends", bytes(total)),
        "make sure that this much disk space is free; MySQL does not report it",
    );
    let kept: Vec<u64> =
        look.session.rows("read how long binary logs are kept", SHORT, "SELECT @@global.binlog_expire_logs_seconds").await?;
    // Since 8.0.29; without it logs are not purged by age at all when this is off.
    let purged: u64 = look
        .session
        .first("read whether binary logs are purged", SHORT, "SELECT @@global.binlog_expire_logs_auto_purge")
        .await
        .ok()
        .flatten()
        .unwrap_or(1);
    let kept = Duration::from_secs(kept.first().copied().unwrap_or(0));
    // Twice the estimate, and an hour for a pause or a restart.
    let wanted = time * 2 + Duration::from_secs(3600);
    if !kept.is_zero() && purged != 0 && kept < wanted {
        look.report.add(
            Severity::Warning,
            Topic::BinlogRetention,
            "binlog_expire_logs_seconds",
            format!("binary logs are kept for {} s, and the copy alone may take {} s: after a pause or a restart, the log needed to resume may have been purged (BinlogPurged)", kept.as_secs(), time.as_secs()),
            format!("SET GLOBAL binlog_expire_logs_seconds = {} until the migration is over", wanted.as_secs()),
        );
    }
    Ok(())
}

/// Clauses about what the table does not have, or has already.
fn impossible(look: &mut Look<'_>, original: &Inspected, alter: &Alter) {
    let table = look.table();
    for why in predict::impossible(&original.definition, alter) {
        look.report.add(Severity::Refuse, Reason::AlterRejected, table.clone(), why, "fix the clause");
    }
}

/// How the change would be made, and whether it comes to a copy.
async fn algorithm(look: &mut Look<'_>, original: &Inspected, alter: &Alter, prediction: &Prediction) -> Result<(), EngineError> {
    let mut forecast = predict::forecast(&original.definition, alter, prediction, &look.spec.alter);
    if forecast.algorithm == Algorithm::Inplace && original.bytes_estimated > chooser::SMALL_BYTES {
        // An index of a big table is left to a copy where there are replicas.
        forecast.copies = forecast.copies.max(Copies::Perhaps);
    }
    let real = alter.added_column_specs().any(|c| !c.attributes.generated) || !alter.dropped_columns().is_empty();
    let used_up = match real && forecast.algorithm == Algorithm::Instant {
        true => {
            let used = inspector::row_versions(&mut look.session, &look.spec.database, &look.spec.table).await?;
            used.and_then(|used| chooser::versions_used_up(used, look.session.version()))
        }
        false => None,
    };
    if let Some(why) = used_up {
        forecast = Forecast { algorithm: Algorithm::Copy, copies: Copies::Yes, why: why.clone() };
        if look.spec.algorithm == Algorithm::Instant {
            look.report.algorithm = Some(Algorithm::Instant);
            look.copies = Copies::No;
            let advice = "use Auto or Copy: a copy resets the row versions";
            look.report.add(Severity::Refuse, Reason::AlgorithmNotSupported, "spec.algorithm", why, advice);
            return Ok(());
        }
    }
    let Forecast { algorithm: likely, why, copies } = forecast;
    look.copies = match look.spec.algorithm {
        _ if look.spec.copies() => Copies::Yes,
        Algorithm::Auto => copies,
        // What is asked for and refused is never done by a copy.
        _ => Copies::No,
    };
    let (chosen, message) = match look.spec.algorithm {
        _ if look.spec.mode == Mode::TestOnReplica => (Algorithm::Copy, "Copy, because mode TestOnReplica rehearses a copy".to_owned()),
        Algorithm::Auto => (
            if copies == Copies::Yes { Algorithm::Copy } else { likely },
            format!(
                "probably {}: {why}. This check does not try it: a migration tries INSTANT and then INPLACE on an empty clone, and copies if the server refuses both or would rebuild the table",
                if copies == Copies::Yes { "Copy".to_owned() } else { format!("{likely:?}") },
            ),
        ),
        Algorithm::Copy => (Algorithm::Copy, "Copy, as spec.algorithm requests".to_owned()),
        asked if asked == likely => (asked, format!("{asked:?}, as spec.algorithm requests; {why}")),
        asked => {
            let message =
                format!("spec.algorithm requests {asked:?}, but {why}: the server would probably refuse it (AlgorithmNotSupported)");
            look.report.add(
                Severity::Warning,
                Topic::Algorithm,
                "spec.algorithm",
                message,
                "use Auto, which takes the cheapest way that works; mode DryRun shows whether it does",
            );
            look.report.algorithm = Some(asked);
            return Ok(());
        }
    };
    look.report.algorithm = Some(chosen);
    look.report.add(Severity::Info, Topic::Algorithm, look.table(), message, "");
    Ok(())
}

/// The key by the table as it is and as the clauses leave it.
fn key(
    look: &mut Look<'_>,
    facts: &ServerFacts,
    original: &Inspected,
    alter: &Alter,
    prediction: &Prediction,
) -> Option<(MigrationKey, KeyCodec)> {
    let table = look.table();
    let mapping = match crate::sql::mapping::ColumnMapping::new(&original.definition, &prediction.definition, alter) {
        Ok(mapping) => mapping,
        Err(error) => {
            look.rules_out_a_copy(Reason::AlterNotSupported, "spec.alter", error.to_string(), "use a native ALTER");
            return None;
        }
    };
    if look.spec.mode == Mode::ExecuteOnReplica
        && let Some(why) = replica::misplaced(&original.definition, &prediction.definition, &mapping)
    {
        look.report.add(
            Severity::Refuse,
            Reason::AlterNotSupported,
            "spec.alter",
            format!("changes of the source could not be applied to the new table: {why}"),
            "make the change on the source, with mode Execute",
        );
    }
    match crate::sql::key::choose(&original.definition, &prediction.definition, &mapping) {
        Err(error) => {
            let advice = another_key(look, facts, original);
            look.rules_out_a_copy(Reason::NoUsableKey, table, error.to_string(), &advice);
            None
        }
        Ok(key) => {
            look.report.key = Some(key.index.clone());
            let columns: Vec<&str> = key.columns.iter().map(|c| c.original.as_str()).collect();
            let others: Vec<&str> =
                original.definition.indexes.iter().filter(|i| i.unique && i.name != key.index).map(|i| i.name.as_str()).collect();
            let rest = if others.is_empty() { String::new() } else { format!("; other unique keys: {}", others.join(", ")) };
            look.report.add(
                Severity::Info,
                Topic::Key,
                key.index.clone(),
                format!("rows are read and found by {} ({}); preferred are the primary key, then integer keys, then fewer columns, then fewer bytes{rest}", key.index, columns.join(", ")),
                "",
            );
            if let Some(helper) = &key.helper {
                look.report.add(
                    Severity::Info,
                    Topic::Key,
                    key.index.clone(),
                    format!(
                        "the change leaves no unique index on {}: the new table has an index {helper} for it until the swap, which drops it under the lock",
                        columns.join(", ")
                    ),
                    "",
                );
            }
            let retyped: Vec<&str> =
                columns.iter().copied().filter(|c| prediction.modified.iter().any(|m| m.eq_ignore_ascii_case(c))).collect();
            if !retyped.is_empty() {
                look.report.add(
                    Severity::Info,
                    Topic::Key,
                    retyped.join(", "),
                    "the change redefines a column of the key: whether its values stay the same is known only once the server has built the new definition",
                    "mode DryRun shows it",
                );
            }
            if let Some(why) = crate::sql::key::not_logged(&key, &facts.binlog_row_image) {
                look.rules_out_a_copy(Reason::NoUsableKey, "binlog_row_image", why, crate::sql::key::ANOTHER_IMAGE);
            }
            let codec = KeyCodec::new(&original.definition, &prediction.definition, &key).ok()?;
            Some((key, codec))
        }
    }
}

/// Whether the change could be taken back, where that is asked for.
async fn way_back(
    look: &mut Look<'_>,
    facts: &ServerFacts,
    original: &Inspected,
    alter: &Alter,
    prediction: &Prediction,
) -> Result<(), EngineError> {
    if look.controls.revert_window.is_zero() {
        return Ok(());
    }
    const FIELD: &str = "spec.revert.window";
    let native = match look.copies {
        Copies::Yes => None,
        Copies::Perhaps => Some("the server may make the change natively, which leaves no old table: then it could not be taken back"),
        Copies::No => Some("the server makes the change natively, which leaves no old table: it could not be taken back"),
    };
    if let Some(why) = native {
        look.report.add(Severity::Warning, Topic::WayBack, FIELD, why, "set spec.algorithm to Copy to be able to take it back");
    }
    let table = look.table();
    let (database, name) = (look.spec.database.clone(), look.spec.table.clone());
    // What the account does not see is reported with the relations.
    let keys = sight::foreign_keys(&mut look.session, &database, &name).await.unwrap_or_default();
    let triggers = sight::triggers(&mut look.session, &database, &name).await.unwrap_or_default();
    let by_definition = || {
        // What there is no mapping for is reported with the key.
        let change = crate::sql::mapping::ColumnMapping::new(&original.definition, &prediction.definition, alter).ok()?;
        match crate::sql::way_back::way_back(&original.definition, &prediction.definition, &change) {
            Err(why) => Some(why),
            Ok(back) => crate::sql::key::not_logged(&back.key, &facts.binlog_row_image),
        }
    };
    let bound = !keys.is_empty() || !original.foreign_keys.is_empty();
    if let Some(why) = relatives::no_way_back(bound, &triggers).or_else(by_definition) {
        look.rules_out_a_copy(
            Reason::NoWayBack,
            table,
            format!("the old table cannot be kept current after the change: {why}"),
            "set spec.revert.window to 0s, or change what stands in the way",
        );
    } else if !prediction.modified.is_empty() {
        look.report.add(
            Severity::Info,
            Topic::WayBack,
            prediction.modified.join(", "),
            "the change redefines these columns: whether their new values can be written back is known only once the server has built the new definition",
            "mode DryRun shows it",
        );
    }
    Ok(())
}

/// What gives the table a key.
fn another_key(look: &Look<'_>, facts: &ServerFacts, original: &Inspected) -> String {
    let invisible = crate::mysql::versions::INVISIBLE_COLUMNS.of(facts.version);
    match crate::sql::key::propose(&look.spec.database, &original.definition, original.partitioned, invisible) {
        Some(statement) => format!("this statement gives it one (it blocks writes while it runs): {statement}"),
        None => "add a primary key with a native ALTER, or keep the key that the change drops".to_owned(),
    }
}

/// A key whose columns may be NULL serves as long as none is.
async fn nulls(look: &mut Look<'_>, facts: &ServerFacts, original: &Inspected, key: &MigrationKey) -> Result<(), EngineError> {
    if key.nullable.is_empty() {
        return Ok(());
    }
    let table = look.table();
    match key_nulls::find(&mut look.session, &table, key).await? {
        Some(column) => {
            let advice = another_key(look, facts, original);
            look.rules_out_a_copy(Reason::NoUsableKey, &table, key_nulls::no_key(&table, &key.index, column).message, &advice);
        }
        None => {
            let columns: Vec<&str> = key.nullable.iter().map(|nullable| nullable.column.as_str()).collect();
            look.report.add(
                Severity::Info,
                Topic::Key,
                key.index.clone(),
                format!(
                    "{} may be NULL, and is in no row now; a row that gets NULL there during the migration ends it",
                    columns.join(", ")
                ),
                "",
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        assert_eq!((bytes(17).as_str(), bytes(1536).as_str(), bytes(5 << 30).as_str()), ("17 B", "1.5 KiB", "5.0 GiB"));
        assert_eq!(estimate(0, 0), Duration::from_secs(1));
        assert_eq!(estimate(2_000_000, 0), Duration::from_secs(100));
        assert_eq!(estimate(10, 10 << 30), Duration::from_secs(1024));
    }
}
