//! Settings of the server that change what the log holds or what a session means: each with rows copied and changed, compared with a native ALTER.
use crate::{mirror, server, support};

use mirror::Mirror;
use mysql_async::prelude::Queryable;
use server::Server;
use std::time::Duration;
use support::{Db, connect, controls, join, migrate, until};
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Algorithm, Controls, CutOverPolicy, MigrationSpec, Tls, TlsMode};
use theseus::mysql::Session;
use theseus::mysql::session::SHORT;

const CREATE: &str = "CREATE TABLE {t} (id BIGINT AUTO_INCREMENT, kind CHAR(3) NOT NULL DEFAULT 'def', n INT, j JSON, k JSON, b BLOB, x LONGTEXT, \
     at TIMESTAMP(3) NULL, d DATE, PRIMARY KEY (id, kind), KEY (n))";
const FILL: &str = "INSERT INTO {t} WITH RECURSIVE i (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 6000) \
     SELECT i * 2, ELT(1 + i % 3, 'aaa', 'bbb', 'ccc'), i, JSON_OBJECT('a', i, 'b', REPEAT('x', 100)), JSON_ARRAY(i, REPEAT('y', 50)), \
     REPEAT('b', i % 100), REPEAT('t', i % 50), FROM_UNIXTIME(i * 100000), '2020-01-01' + INTERVAL i DAY FROM i";

/// Every kind of change, on rows of their own in each round.
fn changes(round: u32) -> Vec<String> {
    let p = round;
    vec![
        format!("UPDATE {{t}} SET n = n + 1 WHERE id % 97 = {p}"),
        format!("UPDATE {{t}} SET j = JSON_SET(j, '$.a', 'changed {p}'), k = JSON_REPLACE(k, '$[0]', -1) WHERE id % 53 = {p}"),
        format!("UPDATE {{t}} SET k = JSON_ARRAY_APPEND(k, '$', {p}), b = NULL WHERE id % 43 = {p}"),
        format!("UPDATE {{t}} SET x = REPEAT('long', 20000) WHERE id % 1009 = {p}"),
        format!("DELETE FROM {{t}} WHERE id % 89 = {p}"),
        format!("UPDATE {{t}} SET id = id + 1 WHERE id % 2 = 0 AND id % 71 = {p}"),
        format!("UPDATE {{t}} SET kind = 'zzz' WHERE id % 73 = {p}"),
        format!("UPDATE {{t}} SET kind = 'yyy', j = JSON_REMOVE(j, '$.b') WHERE id % 79 = {p}"),
        format!("INSERT INTO {{t}} (kind, n) VALUES ('new', {p}), ('two', {p})"),
        // The key's default is not named by the statement.
        format!("INSERT INTO {{t}} (n) VALUES ({p}), (-{p})"),
        format!("REPLACE INTO {{t}} (id, kind, n) SELECT id, kind, -5 FROM {{t}} s WHERE id % 101 = {p}"),
        format!("INSERT INTO {{t}} (id, kind, n) VALUES (2, 'bbb', 1), ({p}, 'odd', 1) ON DUPLICATE KEY UPDATE n = n + 100"),
        format!(
            "START TRANSACTION; UPDATE {{t}} SET n = 7 WHERE id % 61 = {p}; SAVEPOINT s; DELETE FROM {{t}} WHERE id % 59 = {p}; ROLLBACK TO s; UPDATE {{t}} SET d = '2000-01-01' WHERE id % 47 = {p}; COMMIT"
        ),
        format!("START TRANSACTION; DELETE FROM {{t}} WHERE id % 7 = {p}; ROLLBACK"),
    ]
}

const ALTER: &str = "MODIFY n BIGINT, ADD c VARCHAR(20) NOT NULL DEFAULT 'x', ADD KEY (c)";

/// A migration with all kinds of changes in it.
async fn proven(url: &str, prefix: &str) {
    let mut mirror = Mirror::new(url, prefix, &["SET SESSION cte_max_recursion_depth = 10000", CREATE, FILL]).await;
    let rounds: Vec<Vec<String>> = (1..=3).map(changes).collect();
    let rounds: Vec<Vec<&str>> = rounds.iter().map(|r| r.iter().map(String::as_str).collect()).collect();
    mirror.migrate(ALTER, &rounds[0], &rounds[1], &rounds[2]).await;
    mirror.drop().await;
}

async fn set(url: &str, settings: &[&str]) {
    let mut conn = connect(url).await;
    for setting in settings {
        conn.query_drop(format!("SET GLOBAL {setting}")).await.unwrap_or_else(|e| panic!("{setting}: {e}"));
    }
    conn.disconnect().await.expect("good-bye");
}

/// With GTIDs: what a transaction's rows look like in the log, and how it is cut into files.
#[tokio::test(flavor = "multi_thread")]
async fn row_images_compression_checksums_and_small_files() {
    let server = Server::start(&["--binlog-row-image=MINIMAL", "--binlog-row-value-options=PARTIAL_JSON"]);
    let url = &server.url;
    proven(url, "minimal_partial").await;
    set(url, &["binlog_transaction_compression=ON", "max_binlog_size=4096"]).await;
    proven(url, "minimal_partial_zip").await;
    set(url, &["binlog_row_image=NOBLOB", "binlog_checksum=NONE"]).await;
    proven(url, "noblob_zip").await;
    set(url, &["binlog_row_image=FULL", "binlog_order_commits=OFF"]).await;
    proven(url, "full_zip_unordered").await;
    set(
        url,
        &[
            "binlog_transaction_compression=OFF",
            "binlog_row_value_options=''",
            "binlog_row_metadata=FULL",
            "binlog_rows_query_log_events=ON",
        ],
    )
    .await;
    proven(url, "full_unordered").await;
}

/// Without GTIDs the barrier is a commit of ours, or row locks; and a server whose clock has summer time.
#[tokio::test(flavor = "multi_thread")]
async fn no_gtids_no_order_and_another_time_zone() {
    let server = Server::start_with(
        &[("TZ", "Europe/Berlin")],
        &["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF", "--innodb-autoinc-lock-mode=1", "--binlog-row-image=NOBLOB"],
    );
    let url = &server.url;
    proven(url, "anonymous").await;
    set(url, &["max_binlog_size=4096", "binlog_row_image=MINIMAL", "binlog_transaction_compression=ON"]).await;
    proven(url, "anonymous_zip").await;
    set(url, &["binlog_order_commits=OFF", "binlog_checksum=NONE", "time_zone='+05:30'"]).await;
    proven(url, "anonymous_unordered").await;
    set(url, &["time_zone='SYSTEM'"]).await;
    summer_time(url).await;
}

/// The hour that is there twice, and the one that is missing: as a value and as the key.
async fn summer_time(url: &str) {
    let mut mirror = Mirror::new(
        url,
        "summer",
        &[
            "SET SESSION time_zone='SYSTEM'",
            "CREATE TABLE {t} (at TIMESTAMP(6) NOT NULL, id INT NOT NULL, ts TIMESTAMP NULL, dt DATETIME, PRIMARY KEY (at, id))",
            // 2024-10-27 00:30 and 01:30 UTC are both 02:30 in Berlin.
            "SET SESSION time_zone='+00:00'",
            "INSERT INTO {t} VALUES ('2024-10-27 00:30:00', 1, '2024-10-27 00:30:00', '2024-10-27 02:30:00'), ('2024-10-27 01:30:00', 1, '2024-10-27 01:30:00', '2024-10-27 02:30:00'), ('2024-03-31 00:59:59.999999', 1, '2024-03-31 01:00:00', '2024-03-31 02:30:00'), ('2024-03-31 01:00:00', 2, NULL, NULL)",
            "SET SESSION time_zone='SYSTEM'",
        ],
    )
    .await;
    mirror
        .migrate(
            "MODIFY dt DATETIME(3), ADD c INT",
            &[
                "UPDATE {t} SET ts = '2024-10-27 02:45:00' WHERE id = 2",
                "INSERT INTO {t} VALUES ('2024-07-01 12:00:00', 3, '2024-01-01', NULL)",
            ],
            &[],
            &[
                "UPDATE {t} SET at = '2024-10-27 02:45:00' WHERE id = 3",
                "SET SESSION time_zone='+00:00'",
                "DELETE FROM {t} WHERE at = '2024-10-27 01:30:00'",
                "UPDATE {t} SET at = at + INTERVAL 1 HOUR WHERE at = '2024-10-27 00:30:00'",
            ],
        )
        .await;
    mirror.drop().await;
}

/// Tagged GTIDs, on a server that commits out of order: a restart goes on from the GTID set, tags and all.
#[tokio::test(flavor = "multi_thread")]
async fn tagged_gtids_and_a_restart_out_of_order() {
    let server = Server::start(&["--binlog-order-commits=OFF"]);
    let mut mirror = Mirror::new(&server.url, "tagged", &["SET SESSION cte_max_recursion_depth = 10000", CREATE, FILL]).await;
    mirror.db.run("SET SESSION gtid_next='AUTOMATIC:shop'").await;
    let manual = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
    let spec = mirror.db.spec("t", ALTER);
    for round in 1..=4 {
        let handle = theseus::engine::start(spec.clone(), manual.clone());
        until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
        for statement in changes(round) {
            if round == 2 {
                mirror.db.run("SET SESSION gtid_next='AUTOMATIC:other_tag'").await;
            }
            mirror.change(&[&statement]).await;
        }
        if round == 1 {
            until(&handle, "some are applied", |s| s.progress.changes_applied > 100).await;
            handle.stop();
            assert_eq!(join(handle).await, Outcome::Stopped);
        } else {
            drop(handle);
        }
        mirror.change(&[&format!("UPDATE {{t}} SET n = {round} WHERE id % 31 = {round}")]).await;
    }
    let handle = theseus::engine::start(spec, controls());
    until(&handle, "the work is taken up", |s| s.resumed_count > 0).await;
    assert_eq!(join(handle).await, Outcome::Succeeded);
    mirror.db.run("SET SESSION gtid_next='AUTOMATIC'").await;
    mirror.assert_equal(ALTER).await;
    mirror.drop().await;
}

/// A transaction of many MB, compressed and not, and a row of 64 MB.
#[tokio::test(flavor = "multi_thread")]
async fn large_transactions_and_a_large_row() {
    let server = Server::start(&["--binlog-transaction-compression=ON", "--max-allowed-packet=256M", "--binlog-cache-size=4096"]);
    let mut mirror = Mirror::new(
        &server.url,
        "large",
        &[
            "SET SESSION cte_max_recursion_depth = 100000",
            "CREATE TABLE {t} (id INT PRIMARY KEY, b LONGBLOB, n INT)",
            "INSERT INTO {t} WITH RECURSIVE i (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < 5000) SELECT i, REPEAT(SHA2(i, 256), 10), i FROM i",
            "INSERT INTO {t} VALUES (-1, REPEAT('0123456789abcdef', 4 << 20), 1)",
        ],
    )
    .await;
    mirror
        .migrate(
            "MODIFY n BIGINT",
            &["UPDATE {t} SET b = CONCAT(b, 'x'), n = 2 WHERE id = -1"],
            &["UPDATE {t} SET b = REVERSE(b)", "SET SESSION binlog_transaction_compression = OFF", "UPDATE {t} SET n = n + 1"],
            &["INSERT INTO {t} SELECT -2, b, 2 FROM {t} s WHERE id = -1", "DELETE FROM {t} WHERE id = -1"],
        )
        .await;
    mirror.drop().await;
}

/// A file that ends while nothing else is written: the stream must not wait for a transaction to see that it has caught up.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_log_on_a_quiet_server_is_caught_up_with() {
    for gtid in ["--gtid-mode=ON", "--gtid-mode=OFF"] {
        let server = Server::start(&[gtid]);
        let mut db = Db::on(&server.url, "quiet").await;
        db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await;
        db.run("INSERT INTO t VALUES (1, 1)").await;
        let manual = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
        let handle = theseus::engine::start(db.spec("t", "MODIFY a BIGINT"), manual.clone());
        until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
        db.run("FLUSH BINARY LOGS").await;
        db.run("SET GLOBAL binlog_checksum=NONE").await;
        db.run("SET GLOBAL binlog_checksum=CRC32").await;
        // Until the engine has looked at the end of the log again.
        tokio::time::sleep(Duration::from_secs(4)).await;
        handle.control(Controls { approved: true, ..manual });
        let outcome = tokio::time::timeout(support::PATIENCE, join(handle))
            .await
            .expect("the cut-over does not wait for somebody else's transaction");
        assert_eq!(outcome, Outcome::Succeeded, "{gtid}");
        db.drop().await;
    }
}

/// A server that keeps names in lower case, asked for in another case.
#[tokio::test(flavor = "multi_thread")]
async fn names_in_lower_case() {
    let server = Server::start(&["--lower-case-table-names=1"]);
    let mut mirror = Mirror::new(
        &server.url,
        "lower",
        &["CREATE TABLE {t} (Id INT PRIMARY KEY, N INT)", "INSERT INTO {t} VALUES (1, 1), (2, 2), (3, 3)"],
    )
    .await;
    let mut spec = mirror.db.spec("T", "MODIFY n BIGINT, ADD C INT");
    spec.database = spec.database.to_uppercase();
    let manual = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
    let handle = theseus::engine::start(spec, manual.clone());
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    mirror.change(&["UPDATE {t} SET n = 10 WHERE id = 1", "DELETE FROM {t} WHERE id = 2", "INSERT INTO {t} VALUES (4, 4)"]).await;
    until(&handle, "the changes are seen", |s| s.progress.changes_seen >= 3).await;
    handle.control(controls());
    assert_eq!(join(handle).await, Outcome::Succeeded);
    mirror.assert_equal("MODIFY n BIGINT, ADD C INT").await;
    let handle = theseus::engine::start(mirror.db.spec("t", "MODIFY n INT"), manual);
    until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
    mirror.db.run("ALTER TABLE T ADD COLUMN Other INT").await;
    match join(handle).await {
        Outcome::Failed { reason: Reason::DefinitionChanged, .. } => {}
        outcome => panic!("{outcome:?}"),
    }
    mirror.db.drop().await;
}

/// Foreign keys and triggers move on such a server as on any other, whatever case the migration is written in.
#[tokio::test(flavor = "multi_thread")]
async fn relatives_of_names_in_lower_case() {
    let server = Server::start(&["--lower-case-table-names=1", "--log-bin-trust-function-creators=ON"]);
    let tables = [
        "CREATE TABLE P (Id INT PRIMARY KEY)",
        "CREATE TABLE Orders (Id INT PRIMARY KEY, P INT, Boss INT, a INT, FOREIGN KEY (P) REFERENCES P (Id), \
           CONSTRAINT Own FOREIGN KEY (Boss) REFERENCES Orders (Id))",
        "CREATE TABLE Child (Id INT PRIMARY KEY, t INT, FOREIGN KEY (t) REFERENCES Orders (Id) ON DELETE CASCADE)",
        "CREATE TRIGGER Tr BEFORE INSERT ON Orders FOR EACH ROW SET NEW.a = 7",
        "INSERT INTO P VALUES (1)",
        "INSERT INTO Orders VALUES (1, 1, NULL, 1), (2, 1, 1, 2)",
        "INSERT INTO Child VALUES (1, 1), (2, 2)",
    ];
    let (mut native, mut ours) = (Db::on(&server.url, "lower_native").await, Db::on(&server.url, "lower_ours").await);
    for sql in tables {
        native.run(sql).await;
        ours.run(sql).await;
    }
    native.run("ALTER TABLE Orders ADD COLUMN c INT, MODIFY a BIGINT").await;
    let mut spec = MigrationSpec { algorithm: Algorithm::Copy, ..ours.spec("ORDERS", "ADD COLUMN c INT, MODIFY a BIGINT") };
    spec.database = spec.database.to_uppercase();
    // An account that does not see everything is told of what it may not move.
    let mut far = Db::on(&server.url, "lower_far").await;
    far.run(&format!(
        "CREATE TABLE far (id INT PRIMARY KEY, t INT, CONSTRAINT far FOREIGN KEY (t) REFERENCES `{}`.orders (id))",
        ours.name
    ))
    .await;
    ours.run("CREATE USER w IDENTIFIED BY 'secretword'").await;
    ours.run("GRANT REPLICATION SLAVE, REPLICATION CLIENT, PROCESS ON *.* TO w").await;
    ours.run(&format!("GRANT ALL ON `{}`.* TO w", ours.name)).await;
    let mut narrow = spec.clone();
    (narrow.server.username, narrow.server.password) = ("w".into(), "secretword".into());
    match migrate(narrow, controls()).await {
        Outcome::Refused { reason: Reason::MissingPrivilege, message } => assert!(message.contains("`far`"), "{message}"),
        outcome => panic!("{outcome:?}"),
    }
    ours.run("DROP USER w").await;
    far.drop().await;
    // Who holds the table is seen.
    let waits = Controls { lock_timeout: Duration::from_secs(1), ..controls() };
    let mut holder = ours.connect().await;
    holder.query_drop("BEGIN").await.expect("begin");
    holder.query_drop("SELECT COUNT(*) FROM Orders").await.expect("read");
    let handle = theseus::engine::start(spec, waits);
    until(&handle, "the session that holds the table is named", |s| s.cut_over.blocked_by.is_some()).await;
    holder.query_drop("COMMIT").await.expect("commit");
    assert_eq!(join(handle).await, Outcome::Succeeded);
    for table in ["p", "orders", "child"] {
        assert_eq!(ours.definition(table).await, native.definition(table).await);
    }
    assert_eq!(ours.tables().await, ["child", "orders", "p"]);
    let triggers =
        "SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE, ACTION_STATEMENT FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()";
    assert_eq!(ours.rows(triggers).await, native.rows(triggers).await);
    for db in [&mut native, &mut ours] {
        db.run("DELETE FROM Orders WHERE Id = 2").await;
        assert_eq!(db.rows("SELECT Id FROM Child").await, [["'1'"]]);
        db.run("DROP TABLE Child, Orders").await;
    }
    native.drop().await;
    ours.drop().await;
}

/// TLS in each mode against a server that wants it; and one that is not ours.
///
/// The driver's `skip_domain_validation` compares the wrong text of the error (mysql_async 0.37.1), so VerifyCA checks the name as
/// VerifyIdentity does: it refuses more than it should, never less.
#[tokio::test(flavor = "multi_thread")]
async fn transport_security() {
    let server = Server::start(&["--require-secure-transport=ON"]);
    let url = format!("{}?require_ssl=true&verify_ca=false&verify_identity=false", server.url);
    let mut db = Db::on(&url, "tls").await;
    let ca = std::fs::read(server.dir.join("data/ca.pem")).expect("the server's CA");
    let other = std::fs::read(server.dir.join("data/server-cert.pem")).expect("a certificate");
    for (mode, ca_pem, works) in [
        (TlsMode::Preferred, None, true),
        (TlsMode::Required, None, true),
        (TlsMode::VerifyCa, Some(ca.clone()), false),
        (TlsMode::VerifyCa, None, false),
        // The certificate that the server makes for itself has no host name.
        (TlsMode::VerifyIdentity, Some(ca), false),
        (TlsMode::VerifyCa, Some(other), false),
        (TlsMode::Disabled, None, false),
    ] {
        db.run("DROP TABLE IF EXISTS t").await;
        db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await;
        let mut spec = db.spec("t", "MODIFY a BIGINT");
        spec.server.tls = Tls { mode, ca_pem, client_identity: None };
        if works {
            assert_eq!(migrate(spec, controls()).await, Outcome::Succeeded, "{mode:?}");
            continue;
        }
        let handle = theseus::engine::start(spec, controls());
        let mut watch = handle.watch();
        let refused = async {
            loop {
                if let Some(retrying) = &watch.borrow_and_update().retrying {
                    return retrying.reason;
                }
                if watch.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let ended = async {
            while !handle.is_finished() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let reason = tokio::select! {
            reason = refused => reason,
            () = ended => match join(handle).await {
                Outcome::Refused { reason, .. } => reason,
                outcome => panic!("{mode:?}: {outcome:?}"),
            },
        };
        assert_eq!(reason, Reason::TlsFailed, "{mode:?}");
        assert_eq!(db.tables().await, ["t"]);
    }
    db.drop().await;
}

/// What keeps the account out, or takes a session away from it: each has its reason and the name of what is to be set, and touches nothing. What
/// somebody has to set is refused; what frees itself is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_kept_out_is_told_why() {
    let server = Server::start(&[]);
    let mut db = Db::on(&server.url, "kept_out").await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await;
    db.documented("walker", "walk-word").await;
    let account = "'walker'@'%'";
    for (what, set, unset, reason, final_, words) in [
        (
            "init_connect",
            "SET GLOBAL init_connect = 'SELECT nope'".to_owned(),
            "SET GLOBAL init_connect = ''".to_owned(),
            Reason::ServerNotSupported,
            true,
            vec!["init_connect"],
        ),
        (
            "expired",
            format!("ALTER USER {account} PASSWORD EXPIRE"),
            format!("ALTER USER {account} IDENTIFIED BY 'walk-word'"),
            Reason::AccessDenied,
            true,
            vec!["expired", "ALTER USER"],
        ),
        (
            "locked",
            format!("ALTER USER {account} ACCOUNT LOCK"),
            format!("ALTER USER {account} ACCOUNT UNLOCK"),
            Reason::AccessDenied,
            true,
            vec!["locked", "ACCOUNT UNLOCK"],
        ),
        (
            "the account's connections",
            format!("ALTER USER {account} WITH MAX_USER_CONNECTIONS 2"),
            format!("ALTER USER {account} WITH MAX_USER_CONNECTIONS 0"),
            Reason::ServerNotSupported,
            true,
            vec!["MAX_USER_CONNECTIONS", "2 concurrent sessions"],
        ),
        (
            "max_user_connections",
            "SET GLOBAL max_user_connections = 2".to_owned(),
            "SET GLOBAL max_user_connections = 0".to_owned(),
            Reason::ServerNotSupported,
            true,
            vec!["max_user_connections", "2 concurrent sessions"],
        ),
        (
            "queries per hour",
            format!("ALTER USER {account} WITH MAX_QUERIES_PER_HOUR 5"),
            format!("ALTER USER {account} WITH MAX_QUERIES_PER_HOUR 0"),
            Reason::ConnectionFailed,
            false,
            vec!["MAX_QUERIES_PER_HOUR"],
        ),
        (
            "max_connections",
            "SET GLOBAL max_connections = 1".to_owned(),
            "SET GLOBAL max_connections = 500".to_owned(),
            Reason::ConnectionFailed,
            false,
            vec!["max_connections"],
        ),
    ] {
        db.run(&set).await;
        let mut spec = db.spec("t", "MODIFY a BIGINT");
        (spec.server.username, spec.server.password) = ("walker".to_owned(), "walk-word".to_owned());
        let handle = theseus::engine::start(spec, controls());
        let mut watch = handle.watch();
        let tried_again = async {
            loop {
                if let Some(retrying) = watch.borrow_and_update().retrying.clone() {
                    return (retrying.reason, retrying.message);
                }
                if watch.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let ended = async {
            while !handle.is_finished() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let (got, message, is_final) = tokio::select! {
            (reason, message) = tried_again => (reason, message, false),
            () = ended => match join(handle).await {
                Outcome::Refused { reason, message } => (reason, message, true),
                outcome => panic!("{what}: {outcome:?}"),
            },
        };
        assert_eq!((got, is_final), (reason, final_), "{what}: {message}");
        for word in words {
            assert!(message.contains(word), "{what}: {message}");
        }
        assert!(!message.contains("walk-word"), "{what}: {message}");
        assert_eq!(db.tables().await, ["t"], "{what}");
        db.run(&unset).await;
    }
    db.drop().await;
}

/// Dates that strict modes refuse, stored by sessions that do not.
#[tokio::test(flavor = "multi_thread")]
async fn odd_dates() {
    let mut mirror = Mirror::new(
        &support::mysql_url(),
        "dates",
        &[
            "SET SESSION sql_mode='ALLOW_INVALID_DATES'",
            "CREATE TABLE {t} (d DATE NOT NULL DEFAULT '0000-00-00', dt DATETIME(2) NOT NULL, ts TIMESTAMP NOT NULL DEFAULT '0000-00-00 00:00:00', id INT, n INT, y YEAR, PRIMARY KEY (d, dt, ts))",
            "INSERT INTO {t} VALUES ('0000-00-00', '0000-00-00', '0000-00-00', 1, 1, 0), ('2021-02-30', '2021-02-31 10:00:00.25', '2021-01-01', 2, 2, 2021), ('2021-00-00', '2021-05-00', '2021-01-01', 3, 3, 1901), ('0000-05-01', '0000-00-01', '0000-00-00', 4, 4, 2155), ('2021-04-31', '2021-04-30', '2021-01-02', 5, 5, NULL)",
        ],
    )
    .await;
    mirror
        .migrate(
            "MODIFY n BIGINT",
            &["UPDATE {t} SET n = 10 WHERE d = '2021-02-30'", "INSERT INTO {t} VALUES ('2023-02-31', '2023-11-31', '0000-00-00', 6, 6, 0)"],
            &[],
            &[
                "UPDATE {t} SET n = n + 1",
                "UPDATE {t} SET d = '2022-02-31' WHERE d = '0000-00-00'",
                "UPDATE {t} SET dt = '0000-00-00' WHERE d = '2021-00-00'",
                "DELETE FROM {t} WHERE d = '2021-04-31'",
            ],
        )
        .await;
    mirror.drop().await;
}

/// A statement that was given up, by its limit or by whoever dropped it, leaves its answer on the way. The connection says so from then on,
/// and never gives that answer to another question.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_broken_off_answers_no_more() {
    let address = support::address(&support::mysql_url());
    let moment = Duration::from_millis(100);
    let mut by_limit = Session::open(&address).await.expect("connect");
    by_limit.run("wait", moment, "DO SLEEP(5)").await.expect_err("the limit is passed");
    let mut dropped = Session::open(&address).await.expect("connect");
    let question = dropped.rows::<u64>("ask", SHORT, "SELECT 1 + SLEEP(5)");
    tokio::time::timeout(moment, question).await.expect_err("nobody waits for it");
    let mut between = Session::open(&address).await.expect("connect");
    let question = between.last_set::<u64>("ask", SHORT, "SELECT 1; SELECT 2 + SLEEP(5); SELECT 3");
    tokio::time::timeout(moment, question).await.expect_err("nobody waits for it");
    for mut session in [by_limit, dropped, between] {
        for _ in 0..2 {
            let answer = session.first::<u64>("ask again", SHORT, "SELECT 42").await;
            assert!(answer.as_ref().is_err_and(theseus::mysql::MySqlError::is_connection), "{answer:?}");
        }
        session.run("end somebody", SHORT, "DO 1").await.expect_err("nothing is sent any more");
    }
    // A refusal is a whole answer.
    let mut refused = Session::open(&address).await.expect("connect");
    refused.run("ask for nothing", SHORT, "SELECT nothing").await.expect_err("there is no such column");
    assert_eq!(refused.first::<u64>("ask", SHORT, "SELECT 42").await.expect("an answer"), Some(42));
}

/// The numbers that decide what an error means are what their names say: the server names them itself. Those that it does not raise any more
/// are not listed.
#[tokio::test(flavor = "multi_thread")]
async fn error_numbers_have_the_servers_names() {
    let mut db = Db::new("codes").await;
    let mut listed = 0;
    for (name, code) in theseus::mysql::codes::ALL {
        let sql = format!("SELECT ERROR_NAME FROM performance_schema.events_errors_summary_global_by_error WHERE ERROR_NUMBER = {code}");
        let Some(theirs) = db.conn.query_first::<String, _>(sql).await.expect("a name") else { continue };
        // WARN_DATA_TRUNCATED is the only one without ER_.
        let ours = if *name == "DATA_TRUNCATED" { format!("WARN_{name}") } else { format!("ER_{name}") };
        // Names changed where they spoke of masters and slaves.
        assert_eq!(theirs.replace("MASTER", "SOURCE"), ours, "{code}");
        listed += 1;
    }
    assert!(listed > theseus::mysql::codes::ALL.len() * 3 / 4, "{listed} of {}", theseus::mysql::codes::ALL.len());
    db.drop().await;
}
