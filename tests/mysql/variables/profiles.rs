//! Servers with the settings that managed services document, started here: an imitation, not the services. What could not be imitated, and
//! where the settings are documented, stands in `docs/reference/managed-servers.md`, whose table this test makes.

use super::page;
use super::subject::{self, Subject};
use super::trial::{Bench, Ended};
use crate::support::{self, address};
use futures::StreamExt;
use std::fmt::Write as _;
use theseus::engine::contract::reason::Reason;

const PATH: &str = "docs/reference/managed-servers.md";
/// Servers at once.
const SERVERS: usize = 2;

/// A server as a service would start it.
struct Profile {
    name: &'static str,
    /// Options of `mysqld`, without the dashes.
    options: &'static [&'static str],
    /// Global settings that hold once the databases are there.
    then: &'static [&'static str],
    /// Subjects besides the two that go over everything.
    more: &'static [&'static str],
    /// What the engine and `check` say, where they refuse it all.
    refused: Option<Reason>,
}

const PROFILES: &[Profile] = &[
    // https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_LogAccess.MySQL.BinaryFormat.html: the format is the user's to set; the
    // performance schema is off by default on small classes; TLS is required by default from 8.4.
    Profile {
        name: "Amazon RDS for MySQL, binlog_format set to ROW",
        options: &[
            "performance-schema=OFF",
            "gtid-mode=OFF_PERMISSIVE",
            "enforce-gtid-consistency=OFF",
            "require-secure-transport=ON",
            "default-time-zone=+09:00",
            "sql-mode=NO_ENGINE_SUBSTITUTION",
            "local-infile=ON",
            "log-bin-trust-function-creators=ON",
            "innodb-file-per-table=ON",
            "max-allowed-packet=64M",
        ],
        then: &[],
        more: &["a text is cut", "a date of zeros is added"],
        refused: None,
    },
    Profile {
        name: "Amazon RDS for MySQL, binlog_format as it recommends",
        options: &["binlog-format=MIXED"],
        then: &[],
        more: &[],
        refused: Some(Reason::ServerNotSupported),
    },
    // https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/USER_LogAccess.MySQL.BinaryFormat.html
    Profile {
        name: "Amazon Aurora MySQL, as it starts: no binary log",
        options: &["skip-log-bin", "log-replica-updates=OFF"],
        then: &[],
        more: &[],
        refused: Some(Reason::ServerNotSupported),
    },
    Profile {
        name: "Amazon Aurora MySQL, binlog_format set to ROW",
        options: &[
            "gtid-mode=OFF",
            "enforce-gtid-consistency=OFF",
            "require-secure-transport=ON",
            "default-time-zone=-05:00",
            "binlog-rows-query-log-events=ON",
            "binlog-order-commits=OFF",
            "init-connect=SET SESSION sql_select_limit=3, autocommit=0",
            // As all of 8.0, which version 3 is: foreign keys may refer to any key, and what cascades do is not in the log.
            "restrict-fk-on-non-standard-key=OFF",
            "innodb-native-foreign-keys=ON",
        ],
        then: &[],
        more: &["a hidden key", "a child, a parent and a trigger", "foreign keys to keys that are not unique"],
        refused: None,
    },
    // https://cloud.google.com/sql/docs/mysql/flags
    Profile {
        name: "Google Cloud SQL for MySQL",
        options: &[
            "gtid-mode=ON",
            "enforce-gtid-consistency=ON",
            "binlog-row-image=FULL",
            "local-infile=OFF",
            "default-time-zone=+05:30",
            "sql-mode=TRADITIONAL",
            "max-execution-time=1000",
            "wait-timeout=4",
            "interactive-timeout=4",
            "net-read-timeout=5",
            "net-write-timeout=5",
            "max-allowed-packet=32M",
            "sql-require-primary-key=ON",
        ],
        then: &[],
        more: &["there is no primary key"],
        refused: None,
    },
    // https://learn.microsoft.com/en-us/azure/mysql/flexible-server/concepts-server-parameters and …/concepts-limitations
    Profile {
        name: "Azure Database for MySQL, Flexible Server",
        options: &[
            "lower-case-table-names=1",
            "require-secure-transport=ON",
            "sql-generate-invisible-primary-key=ON",
            "log-bin-trust-function-creators=ON",
            "binlog-row-image=MINIMAL",
            "binlog-expire-logs-seconds=0",
            "gtid-mode=OFF",
            "enforce-gtid-consistency=OFF",
            "init-connect=SET SESSION sql_select_limit=500, sql_safe_updates=1",
        ],
        then: &[],
        more: &["a hidden key", "a page size that does not exist", "a child, a parent and a trigger"],
        refused: None,
    },
    // What Vitess starts its servers with: https://github.com/vitessio/vitess/tree/main/config/mycnf (default.cnf, mysql84.cnf)
    Profile {
        name: "The MySQL below Vitess and PlanetScale",
        options: &[
            "gtid-mode=ON",
            "enforce-gtid-consistency=ON",
            "sql-mode=STRICT_TRANS_TABLES",
            "innodb-lock-wait-timeout=20",
            "innodb-thread-concurrency=20",
            "max-allowed-packet=16M",
            "binlog-expire-logs-seconds=259200",
            "binlog-row-image=NOBLOB",
            "binlog-row-value-options=PARTIAL_JSON",
            "skip-name-resolve=ON",
            "connect-timeout=30",
        ],
        then: &[],
        more: &[],
        refused: None,
    },
    // https://docs.percona.com/percona-server/8.4/: its own variables are not known to this server.
    Profile {
        name: "Percona Server, without its own variables",
        options: &[
            "disabled-storage-engines=MyISAM,MEMORY",
            "sql-require-primary-key=ON",
            "binlog-row-image=MINIMAL",
            "binlog-transaction-compression=ON",
            "innodb-autoinc-lock-mode=2",
            "transaction-isolation=READ-COMMITTED",
            "default-time-zone=+01:00",
        ],
        then: &[],
        more: &["there is no primary key"],
        refused: None,
    },
    // https://dev.mysql.com/doc/heatwave-aws/en/ha-prerequisites.html: every table needs a key; the administrator's account lacks SUPER and
    // has rights on `mysql` and `sys` taken away (https://docs.oracle.com/en/database/mysql/heatwave-aws/mysql-server-default-privileges.html).
    Profile {
        name: "MySQL HeatWave, highly available",
        options: &[
            "sql-require-primary-key=ON",
            "sql-generate-invisible-primary-key=ON",
            "show-gipk-in-create-table-and-information-schema=OFF",
            "partial-revokes=ON",
            "activate-all-roles-on-login=ON",
            "gtid-mode=ON",
            "enforce-gtid-consistency=ON",
            "binlog-checksum=NONE",
            "default-time-zone=+00:00",
            "global-connection-memory-tracking=ON",
        ],
        then: &[],
        more: &["a hidden key", "the primary key goes"],
        refused: None,
    },
    Profile {
        name: "a read replica of any of them",
        options: &[],
        then: &["SET GLOBAL read_only = ON"],
        more: &[],
        refused: Some(Reason::ReadOnly),
    },
];

/// `theseus check` with the account: its exit code, and the reasons for which it would refuse.
async fn check(bench: &Bench, subject: &Subject) -> (Option<i32>, Vec<String>) {
    let server = address(&bench.server.url);
    let text = format!(
        "apiVersion: theseus.dev/v1alpha1\nkind: SchemaMigration\nmetadata: {{name: change}}\n\
         spec: {{target: {{host: '{}', port: {}}}, database: 'ours', table: 't', algorithm: {:?}, alter: '{}'}}\n",
        server.host,
        server.port,
        subject.algorithm,
        subject.alter.replace('\'', "''")
    );
    let (code, report) = support::check(&text, &bench.login.user, &bench.login.password).await;
    let findings = report["findings"].as_array().cloned().unwrap_or_default();
    let refusals =
        findings.iter().filter(|f| f["severity"] == "refuse").map(|f| f["reason"].as_str().unwrap_or_default().to_owned()).collect();
    (code, refusals)
}

/// What is not as it should be, and the row of the page.
async fn run(profile: &Profile) -> (Vec<String>, String) {
    let options: Vec<String> = profile.options.iter().map(|option| format!("--{option}")).collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let mut bench = Bench::start(&[], &options).await;
    let (mut failures, mut ends) = (Vec::new(), Vec::new());
    let rules = subject::RULES.iter().filter(|rule| profile.more.contains(&rule.name));
    for subject in subject::EVERYTHING.iter().chain(rules) {
        bench.twins(subject.make).await;
        for statement in profile.then {
            bench.run(statement).await;
        }
        let checked = check(&bench, subject).await;
        let mut client = bench.client();
        let ended = bench.trial_on(subject, &mut client).await;
        eprintln!("{}: {}: {ended:?}, check {checked:?}", profile.name, subject.name);
        let (fine, words) = match (&ended, profile.refused) {
            (Ended::Equal, None) => (checked.0 == Some(0), "equal".to_owned()),
            // What only the server knows, a check that reads does not.
            (Ended::BothRefuse(code, reason @ Reason::AlterRejected), None) => (true, format!("both refuse ({code}, {reason})")),
            (Ended::BothRefuse(code, reason), None) => {
                (checked.0 == Some(2) && *reason != Reason::Internal, format!("both refuse ({code}, {reason})"))
            }
            (Ended::OnlyNative(reason, _), None) if STRICTER.contains(&subject.name) => {
                (*reason == Reason::DataDoesNotFit && checked.0 == Some(2), format!("refused ({reason}); natively values are cut"))
            }
            // What the server does by itself needs no binary log.
            (Ended::Equal, Some(Reason::ServerNotSupported)) if subject.name == "at once" => (checked.0 == Some(0), "equal".to_owned()),
            (Ended::OnlyNative(reason, _) | Ended::BothRefuse(_, reason), Some(wanted)) => {
                (*reason == wanted && checked.0 == Some(2) && checked.1.contains(&reason.to_string()), format!("refused ({reason})"))
            }
            _ => (false, format!("{ended:?}")),
        };
        if !fine {
            failures.push(format!("{}: {}: {ended:?}; check says {checked:?}", profile.name, subject.name));
        }
        ends.push(match subject.name {
            "everything" => format!("copy: {words}"),
            "at once" => format!("Auto: {words}"),
            rule => format!("{rule}: {words}"),
        });
    }
    assert_eq!(profile.more.len() + 2, ends.len(), "each rule that {} names is one", profile.name);
    let settings: Vec<String> = profile.options.iter().chain(profile.then.last()).map(|option| format!("`{option}`")).collect();
    let mut row = String::new();
    let _ = writeln!(row, "| {} | {} | {} |", profile.name, settings.join(" "), ends.join("; "));
    (failures, row)
}

/// Where the engine refuses what a server without strict mode cuts.
const STRICTER: &[&str] = &["a text is cut", "a number is cut"];

#[tokio::test(flavor = "multi_thread")]
async fn servers_with_the_settings_of_managed_ones() {
    let only = std::env::var("THESEUS_PROFILE").ok();
    let profiles = PROFILES.iter().filter(|profile| only.as_ref().is_none_or(|o| profile.name.contains(o.as_str())));
    let runs: Vec<_> = futures::stream::iter(profiles.map(run)).buffered(SERVERS).collect().await;
    let mut failures: Vec<String> = runs.iter().flat_map(|(failures, _)| failures.clone()).collect();
    if only.is_none() {
        let rows: String = runs.into_iter().map(|(_, row)| row).collect();
        let mut bench = Bench::start(&[], &[]).await;
        let version = bench.version().await;
        let table = format!("Run on MySQL {version}.\n\n| like | settings of the server | ends |\n|---|---|---|\n{rows}");
        failures.extend(page::part(PATH, "profiles", &table, &version));
    }
    for failure in &failures {
        eprintln!("FAILED {failure}");
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
