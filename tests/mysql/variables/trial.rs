//! A server of the test's own, and one trial on it: the engine on one table, a native ALTER on its twin, the same writes on both.

use super::client::{Client, Login};
use super::oracle::Reader;
use super::subject::{self, Subject};
use super::values::{self, Scope, Variable};
use crate::server::Server;
use crate::support::address;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Algorithm, Controls, CutOverPolicy, DeletionPolicy, MigrationSpec, Mode, OldTable};

/// How both ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Both changed the table, and the tables are equal.
    Equal,
    /// Both refused, and the original is as it was; the number of the server's error.
    BothRefuse(u16, Reason),
    /// Both changed it, differently.
    Differs(String),
    /// Only the engine changed it; the number of the server's error.
    OnlyOurs(u16),
    /// Only the native ALTER changed it.
    OnlyNative(Reason, String),
    /// The engine went on trying, and was cancelled.
    Endless(String),
    /// Something is left that should not be, or the original is not what it was.
    Left(String),
    /// The same statement ended in different ways on the two tables.
    Writers(String),
}

/// Why a variable is not what it was to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSet {
    /// At the start only, or never.
    ReadOnly,
    /// The number of the server's error.
    Refused(u16),
}

/// ER_INCORRECT_GLOBAL_LOCAL_VAR: read only.
const ER_READ_ONLY: u16 = 1238;
/// ER_VARIABLE_NOT_SETTABLE_IN_... and the like: not while the server runs.
const ER_NOT_AT_RUN_TIME: u16 = 3250;

/// Whether a value changes by itself.
fn moves(name: &str) -> bool {
    name.starts_with("gtid_executed") || name == "gtid_purged" || name == "innodb_buffer_pool_dump_now"
}

pub struct Bench {
    pub server: Server,
    /// Root's, opened before anything was set.
    pub admin: Conn,
    reader: Reader,
    pub login: Login,
    baseline: BTreeMap<String, String>,
}

/// What tables are made in, whatever the server was started with.
const ADMIN: &str = "SET SESSION time_zone='+00:00', sql_require_primary_key=0, sql_generate_invisible_primary_key=0, autocommit=1, \
     sql_mode='ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', \
     max_execution_time=0, wait_timeout=28800, show_gipk_in_create_table_and_information_schema=1, foreign_key_checks=0";

/// How long the engine may take before it counts as endless.
const LIMIT: Duration = Duration::from_secs(120);

impl Bench {
    /// A server with these environment variables and options of `mysqld`.
    pub async fn start(environment: &[(&str, &str)], options: &[&str]) -> Self {
        let server = Server::start_with(environment, options);
        let secure = options.contains(&"--require-secure-transport=ON");
        let url = format!("{}{}", server.url, if secure { "?require_ssl=true&verify_ca=false&verify_identity=false" } else { "" });
        let mut admin = crate::support::open(&url).await;
        admin.query_drop("SET NAMES utf8mb4 COLLATE utf8mb4_0900_ai_ci").await.expect("names");
        admin.query_drop(ADMIN).await.expect("settings");
        let password = "sesame";
        for sql in account("theseus", password) {
            admin.query_drop(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        }
        for sql in time_zone() {
            admin.query_drop(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        }
        for database in ["template", "ours", "native"] {
            admin
                .query_drop(format!("CREATE DATABASE {database} CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci"))
                .await
                .expect("a database");
        }
        admin.query_drop("CREATE TABLE template.stopwords (value VARCHAR(30))").await.expect("stopwords");
        for sql in [subject::CREATE, subject::FILL] {
            admin.query_drop(sql.replace("{db}", "template")).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        }
        let login = Login { port: address(&server.url).port, user: "theseus".to_owned(), password: password.to_owned() };
        let reader = Reader::open(&url).await;
        let baseline = values::globals(&mut admin).await;
        Self { server, admin, reader, login, baseline }
    }

    /// The server's version, e.g. `9.7.4`.
    pub async fn version(&mut self) -> String {
        let version: String = self.admin.query_first("SELECT VERSION()").await.expect("ask").expect("a row");
        version.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default().to_owned()
    }

    pub async fn run(&mut self, sql: &str) {
        self.admin.query_drop(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    /// Sets a variable for all sessions to come; its value then, or why that cannot be.
    pub async fn set(&mut self, variable: &Variable, value: &str) -> Result<String, NotSet> {
        let name = &variable.name;
        if variable.scope == Scope::Session {
            // A plain session must be able to: where it is not, no client of the account's can log in.
            let mut client = Client::new(&self.login);
            if let Err(code) = client.run(&format!("SET SESSION {name} = {value}")).await {
                return Err(if code == ER_READ_ONLY { NotSet::ReadOnly } else { NotSet::Refused(code) });
            }
            let set = client.run(&format!("SELECT @@SESSION.{name}")).await.unwrap_or_default().concat();
            let statement = format!("SET SESSION {name} = {value}").replace('\'', "''");
            self.run(&format!("SET GLOBAL init_connect = '{statement}'")).await;
            return Ok(set);
        }
        match self.admin.query_drop(format!("SET GLOBAL {name} = {value}")).await {
            Ok(()) => Ok(values::globals(&mut self.admin).await.remove(name).unwrap_or_default()),
            Err(mysql_async::Error::Server(error)) if [ER_READ_ONLY, ER_NOT_AT_RUN_TIME].contains(&error.code) => Err(NotSet::ReadOnly),
            Err(mysql_async::Error::Server(error)) => Err(NotSet::Refused(error.code)),
            Err(error) => panic!("{name} = {value}: {error}"),
        }
    }

    /// Sets everything back that is not as it was; what could not be.
    pub async fn reset(&mut self) -> Vec<String> {
        // One may be there because of another: a second look.
        for _ in 0..3 {
            let now = values::globals(&mut self.admin).await;
            let other: Vec<_> = self.baseline.iter().filter(|(name, value)| now.get(*name) != Some(value) && !moves(name)).collect();
            if other.is_empty() {
                return Vec::new();
            }
            let statements: Vec<String> = other.into_iter().map(|(name, value)| values::back(name, value)).collect();
            for statement in statements {
                let _ = self.admin.query_drop(statement).await;
            }
        }
        let now = values::globals(&mut self.admin).await;
        let other = self.baseline.iter().filter(|(name, value)| now.get(*name) != Some(value) && !moves(name));
        other.map(|(name, value)| format!("{name} is {:?} and was {value:?}", now.get(name))).collect()
    }

    pub async fn twins(&mut self, make: &[&str]) {
        for database in ["ours", "native"] {
            for table in self.reader.tables(database).await {
                self.run(&format!("DROP TABLE {database}.`{table}`")).await;
            }
            for statement in make {
                self.run(&statement.replace("{db}", database)).await;
            }
        }
    }

    /// The session of an application, with whatever has been set.
    pub fn client(&self) -> Client {
        Client::new(&self.login)
    }

    /// One trial, with whatever has been set.
    pub async fn trial(&mut self, subject: &Subject, client: &mut Client) -> Ended {
        self.twins(subject.make).await;
        self.trial_on(subject, client).await
    }

    /// The same on twins that are there.
    pub async fn trial_on(&mut self, subject: &Subject, client: &mut Client) -> Ended {
        let (alter, algorithm) = (subject.alter, subject.algorithm);
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()).expect("a time");
        let mut server = address(&self.server.url);
        (server.username, server.password) = (self.login.user.clone(), self.login.password.clone());
        let spec = MigrationSpec {
            id: "variables".to_owned(),
            display_name: "variables/t".to_owned(),
            server,
            database: "ours".to_owned(),
            table: "t".to_owned(),
            alter: alter.to_owned(),
            desired: None,
            mode: Mode::Execute,
            algorithm,
            deletion_policy: DeletionPolicy::Cleanup,
        };
        let open = Controls { old_table: OldTable::DropNow, ..Controls::default() };
        let closed = Controls {
            cut_over_policy: if algorithm == Algorithm::Copy { CutOverPolicy::Manual } else { CutOverPolicy::Automatic },
            ..open.clone()
        };
        let handle = theseus::engine::start(spec, closed.clone());
        let mut writers = writes(client, subject.first).await;
        let mut watch = handle.watch();
        let end = tokio::time::Instant::now() + LIMIT;
        let mut gate = algorithm == Algorithm::Auto;
        let mut endless = None;
        while !handle.is_finished() {
            let (phase, retrying) = {
                let now = watch.borrow_and_update();
                (now.phase, now.retrying.clone())
            };
            if phase == Phase::AwaitingCutOver && !gate {
                gate = true;
                writers = writers.and(writes(client, subject.second).await);
                handle.control(open.clone());
            }
            if tokio::time::Instant::now() > end && endless.is_none() {
                endless = Some(retrying.map_or_else(|| format!("{phase:?}"), |r| format!("{}: {}", r.reason, r.message)));
                handle.control(Controls { cancel: true, ..closed.clone() });
            }
            let _ = tokio::time::timeout(Duration::from_millis(100), watch.changed()).await;
            if tokio::time::Instant::now() > end + LIMIT / 4 {
                handle.stop();
                return Ended::Endless(format!("{}, and is not to be cancelled", endless.unwrap_or_default()));
            }
        }
        let outcome = handle.join().await;
        if let Some(endless) = endless {
            return Ended::Endless(endless);
        }
        if !gate {
            writers = writers.and(writes(client, subject.second).await);
        }
        if let Err(writers) = writers {
            return Ended::Writers(writers);
        }
        let alter = format!("ALTER TABLE native.t {alter}");
        let mut native = client.run(&alter).await;
        if native == Err(super::client::LOST) {
            // It was idle for longer than the server allows; a second time is an answer.
            native = client.run(&alter).await;
        }
        self.verdict(&outcome, native.err(), now).await
    }

    async fn verdict(&mut self, outcome: &Outcome, native: Option<u16>, now: i64) -> Ended {
        let left = self.reader.tables("ours").await;
        if left != self.reader.tables("native").await && !matches!(outcome, Outcome::Failed { .. }) {
            return Ended::Left(format!("{left:?} after {outcome:?}"));
        }
        let (reason, message) = match outcome {
            Outcome::Succeeded => match native {
                None => return self.reader.difference("ours", "native", now).await.map_or(Ended::Equal, Ended::Differs),
                Some(code) => return Ended::OnlyOurs(code),
            },
            Outcome::Refused { reason, message } | Outcome::Failed { reason, message } => (*reason, message.clone()),
            other => return Ended::Left(format!("{other:?}")),
        };
        match native {
            None => Ended::OnlyNative(reason, message),
            // Both tables are as they were, with the same writes.
            Some(code) => self.reader.difference("ours", "native", now).await.map_or(Ended::BothRefuse(code, reason), Ended::Left),
        }
    }
}

/// The same statements on both tables, with a session's own settings.
async fn writes(client: &mut Client, statements: &[&str]) -> Result<(), String> {
    for statement in statements {
        let mut ends = Vec::new();
        for database in ["ours", "native"] {
            let sql = statement.replace("{db}", database);
            let mut end = client.run(&sql).await;
            // An application makes a transaction anew that lost its locks, or its connection.
            for _ in 0..5 {
                if matches!(end, Err(1205 | 1213 | super::client::LOST)) {
                    end = client.run(&sql).await;
                }
            }
            // Where sessions do not commit by themselves.
            let _ = client.run("COMMIT").await;
            ends.push(end);
        }
        if ends[0] != ends[1] {
            return Err(format!("{statement}: {:?} and {:?}", ends[0], ends[1]));
        }
    }
    Ok(())
}

/// The account of the documentation, for the databases of the test.
fn account(name: &str, password: &str) -> Vec<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/mysqlserver.md");
    let text = std::fs::read_to_string(&path).expect("the page of the account");
    let sql = text.split("```sql\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the page has a block of SQL");
    let sql = sql.split("-- Optional").next().unwrap_or(sql);
    let mut statements = Vec::new();
    for line in sql.lines().filter(|line| line.ends_with(';')) {
        let line = line.trim_end_matches(';').replace("theseus@", &format!("{name}@")).replace('…', password);
        if line.contains("shop.") {
            statements.extend(["ours", "native"].map(|database| line.replace("shop.", &format!("{database}."))));
        } else {
            statements.push(line);
        }
    }
    assert!(statements.len() > 3, "{statements:?}");
    statements
}

/// A time zone with a summer, since the servers have no tables of them: Berlin's, of 2024 and after.
fn time_zone() -> Vec<String> {
    vec![
        "INSERT INTO mysql.time_zone (Time_zone_id, Use_leap_seconds) VALUES (1, 'N')".to_owned(),
        "INSERT INTO mysql.time_zone_name (Name, Time_zone_id) VALUES ('Test/Berlin', 1)".to_owned(),
        "INSERT INTO mysql.time_zone_transition_type (Time_zone_id, Transition_type_id, Offset, Is_DST, Abbreviation) \
         VALUES (1, 0, 3600, 0, 'CET'), (1, 1, 7200, 1, 'CEST')"
            .to_owned(),
        // The last Sundays of March and October, 01:00 UTC.
        "INSERT INTO mysql.time_zone_transition (Time_zone_id, Transition_time, Transition_type_id) \
         VALUES (1, -2147483648, 0), (1, 1679792400, 1), (1, 1698541200, 0), (1, 1711846800, 1), (1, 1729990800, 0), (1, 1743296400, 1), (1, 1761440400, 0), \
         (1, 1774746000, 1), (1, 1792890000, 0)"
            .to_owned(),
    ]
}
