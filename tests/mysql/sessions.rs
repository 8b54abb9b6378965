//! A session is defined, not inherited: on a server with settings of its own a migration gives what a native ALTER gives there.
//!
//! Native is an `ALTER TABLE … ALGORITHM=COPY` in a session that has the server's global settings. Both are compared in one plain session.
use crate::{server, support};

use mysql_async::{Conn, Opts, Row, prelude::Queryable};
use server::Server;
use support::{address, controls, join, until};
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Algorithm, CutOverPolicy, MigrationSpec};
use theseus::engine::preflight::check;
use theseus::engine::{start, start_in};
use theseus::mysql::{Session, variables};

/// Berlin's rules, wherever the machine has its tables of time zones.
const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

/// A server of the test's own, and a session on it that is as the server's clients are, besides a plain one.
struct Bench {
    server: Server,
    plain: Conn,
    database: String,
}

/// One change under some settings.
struct Case<'a> {
    name: &'a str,
    /// `SET GLOBAL …`, with the values that they have again afterwards.
    globals: &'a [(&'a str, &'a str, &'a str)],
    /// Statements of a plain session in UTC; `{t}` is the table.
    setup: &'a [&'a str],
    alter: &'a str,
    /// What to compare of the rows; `*` as a rule.
    columns: &'a str,
    algorithm: Algorithm,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self { name: "", globals: &[], setup: &[], alter: "", columns: "*", algorithm: Algorithm::Copy }
    }
}

async fn run(conn: &mut Conn, sql: &str) {
    conn.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

impl Bench {
    async fn new(options: &[&str]) -> Self {
        Self::on(Server::start(options)).await
    }

    async fn on(server: Server) -> Self {
        let mut plain = Conn::new(Opts::from_url(&server.url).expect("a URL")).await.expect("connect");
        for sql in [
            "SET SESSION time_zone='+00:00', sql_mode='NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', autocommit=1",
            "SET SESSION sql_select_limit=18446744073709551615, max_join_size=18446744073709551615, sql_big_selects=1, max_execution_time=0",
            "CREATE DATABASE d",
            "USE d",
        ] {
            run(&mut plain, sql).await;
        }
        Self { server, plain, database: "d".to_owned() }
    }

    /// A session that has the server's global settings, as they are now.
    async fn client(&self) -> Conn {
        let mut conn = Conn::new(Opts::from_url(&self.server.url).expect("a URL")).await.expect("connect");
        run(&mut conn, "SET SESSION collation_connection = @@GLOBAL.collation_connection").await;
        run(&mut conn, "USE d").await;
        conn
    }

    async fn text(&mut self, sql: &str) -> Vec<String> {
        let rows: Vec<Row> = self.plain.query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.into_iter().map(|row| row.unwrap().iter().map(|v| v.as_sql(true)).collect::<Vec<_>>().join(", ")).collect()
    }

    async fn definition(&mut self, table: &str) -> String {
        let row: (String, String) =
            self.plain.query_first(format!("SHOW CREATE TABLE `{table}`")).await.expect("show create").expect("a row");
        row.1.replacen(&format!("`{table}`"), "`t`", 1).replace(&format!("`{table}_chk_"), "`t_chk_")
    }

    fn spec(&self, table: &str, alter: &str, algorithm: Algorithm) -> MigrationSpec {
        MigrationSpec {
            id: format!("sessions-{table}"),
            display_name: table.to_owned(),
            server: address(&self.server.url),
            database: self.database.clone(),
            table: table.to_owned(),
            alter: alter.to_owned(),
            desired: None,
            mode: theseus::engine::contract::spec::Mode::Execute,
            algorithm,
            deletion_policy: theseus::engine::contract::spec::DeletionPolicy::Cleanup,
        }
    }

    /// Makes the change both ways and compares. `None`: as it should be.
    async fn compare(&mut self, case: &Case<'_>) -> Option<String> {
        for table in ["t", "n"] {
            run(&mut self.plain, &format!("DROP TABLE IF EXISTS `{table}`")).await;
            for sql in case.setup {
                run(&mut self.plain, &sql.replace("{t}", &format!("`{table}`"))).await;
            }
        }
        for (name, value, _) in case.globals {
            run(&mut self.plain, &format!("SET GLOBAL {name} = {value}")).await;
        }
        let mut client = self.client().await;
        let native = client.query_drop(format!("ALTER TABLE n {}, ALGORITHM=COPY", case.alter)).await;
        let ours = join(start(self.spec("t", case.alter, case.algorithm), controls())).await;
        let wrong = match (&native, &ours) {
            (Ok(()), Outcome::Succeeded) => {
                let (n, t) = (self.definition("n").await, self.definition("t").await);
                let rows = |table: &str| format!("SELECT {} FROM `{table}` ORDER BY 1", case.columns);
                let (of_n, of_t) = (self.text(&rows("n")).await, self.text(&rows("t")).await);
                if n != t {
                    Some(format!("definition: native\n{n}\nours\n{t}"))
                } else if of_n != of_t {
                    Some(format!("rows: native {of_n:?}, ours {of_t:?}"))
                } else {
                    None
                }
            }
            (Err(mysql_async::Error::Server(error)), Outcome::Refused { message, .. } | Outcome::Failed { message, .. })
                if message.contains(&error.code.to_string()) =>
            {
                None
            }
            (native, ours) => Some(format!("native {native:?}, ours {ours:?}")),
        };
        for (name, _, value) in case.globals {
            run(&mut self.plain, &format!("SET GLOBAL {name} = {value}")).await;
        }
        for table in ["_t_gho", "_t_ghc", "_t_del"] {
            run(&mut self.plain, &format!("DROP TABLE IF EXISTS `{table}`")).await;
        }
        wrong.map(|why| format!("{}: {why}", case.name))
    }

    async fn all(&mut self, cases: &[Case<'_>]) {
        let mut wrong = Vec::new();
        for case in cases {
            wrong.extend(self.compare(case).await);
        }
        assert!(wrong.is_empty(), "{} of {} changes are not as native:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    }
}

const DEFAULT_MODE: (&str, &str) = (
    "@@GLOBAL.sql_mode",
    "'ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
);

#[tokio::test]
async fn time_zones_are_the_servers() {
    let mut bench = Bench::new(&["--default-time-zone=+08:00"]).await;
    let now = "id, ABS(TIMESTAMPDIFF(SECOND, c, CONVERT_TZ(NOW(), '+00:00', '+08:00'))) < 600";
    bench
        .all(&[
            Case {
                name: "a generated column over TIMESTAMP",
                setup: &[
                    "CREATE TABLE {t} (id INT PRIMARY KEY, v INT, ts TIMESTAMP NULL, d DATE AS (DATE(ts)) STORED)",
                    "INSERT INTO {t} (id, v, ts) VALUES (1, 1, '2024-05-31 19:00:00'), (2, 1, NULL)",
                ],
                alter: "MODIFY v BIGINT",
                ..Case::default()
            },
            Case {
                name: "a default that is a TIMESTAMP",
                setup: &["CREATE TABLE {t} (id INT PRIMARY KEY)", "INSERT INTO {t} VALUES (1)"],
                alter: "ADD ts TIMESTAMP NOT NULL DEFAULT '2024-01-01 00:00:00'",
                ..Case::default()
            },
            Case {
                name: "the same by INSTANT",
                setup: &["CREATE TABLE {t} (id INT PRIMARY KEY)", "INSERT INTO {t} VALUES (1)"],
                alter: "ADD ts TIMESTAMP NOT NULL DEFAULT '2024-01-01 00:00:00'",
                algorithm: Algorithm::Auto,
                ..Case::default()
            },
            Case {
                name: "now, as DATETIME",
                setup: &["CREATE TABLE {t} (id INT PRIMARY KEY)", "INSERT INTO {t} VALUES (1)"],
                alter: "ADD c DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP",
                columns: now,
                ..Case::default()
            },
            Case {
                name: "now, as TIMESTAMP",
                setup: &["CREATE TABLE {t} (id INT PRIMARY KEY)", "INSERT INTO {t} VALUES (1)"],
                alter: "ADD c TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)",
                columns: "id, ABS(TIMESTAMPDIFF(SECOND, c, NOW())) < 600",
                ..Case::default()
            },
            Case {
                name: "now, as an expression",
                setup: &["CREATE TABLE {t} (id INT PRIMARY KEY)", "INSERT INTO {t} VALUES (1)"],
                alter: "ADD c DATETIME NOT NULL DEFAULT (NOW())",
                columns: now,
                ..Case::default()
            },
            Case {
                name: "TIMESTAMP and DATETIME into each other",
                setup: &[
                    "CREATE TABLE {t} (id INT PRIMARY KEY, dt DATETIME, ts TIMESTAMP NULL, s TIMESTAMP NULL, d TIMESTAMP NULL, b TIMESTAMP NULL, k TIMESTAMP(3) NULL)",
                    "INSERT INTO {t} VALUES (1, '2024-06-01 12:00:00', '2024-06-01 04:00:00', '2024-06-01 20:00:00', '2024-06-01 20:00:00', '2024-06-01 20:00:00', '2024-06-01 20:00:00.123')",
                ],
                alter: "MODIFY dt TIMESTAMP NULL, MODIFY ts DATETIME, MODIFY s VARCHAR(30), MODIFY d DATE, MODIFY b BIGINT",
                ..Case::default()
            },
            Case {
                name: "a CHECK over TIMESTAMP",
                setup: &[
                    "CREATE TABLE {t} (id INT PRIMARY KEY, v INT, ts TIMESTAMP NULL)",
                    "INSERT INTO {t} VALUES (1, 1, '2024-06-01 01:00:00')",
                    "SET time_zone='+08:00'",
                    "ALTER TABLE {t} ADD CHECK (HOUR(ts) = 9)",
                    "SET time_zone='+00:00'",
                ],
                alter: "MODIFY v BIGINT",
                ..Case::default()
            },
            Case {
                name: "a UNIQUE over DATE(TIMESTAMP)",
                setup: &[
                    "CREATE TABLE {t} (id INT PRIMARY KEY, v INT, ts TIMESTAMP NULL)",
                    "INSERT INTO {t} VALUES (1, 1, '2024-06-01 15:00:00'), (2, 1, '2024-06-01 17:00:00')",
                    "SET time_zone='+08:00'",
                    "ALTER TABLE {t} ADD UNIQUE u ((DATE(ts)))",
                    "SET time_zone='+00:00'",
                ],
                alter: "MODIFY v BIGINT",
                ..Case::default()
            },
            Case {
                name: "a TIMESTAMP key",
                setup: &[
                    "CREATE TABLE {t} (ts TIMESTAMP(3) NOT NULL, a INT NOT NULL, v INT, PRIMARY KEY (ts, a))",
                    "INSERT INTO {t} VALUES ('2024-06-01 15:00:00.5', 1, 1), ('2024-06-01 17:00:00', 1, 1), ('1970-01-01 00:00:01', 1, 1)",
                ],
                alter: "MODIFY v BIGINT, ADD d DATE AS (DATE(ts)) STORED",
                ..Case::default()
            },
        ])
        .await;
}

#[tokio::test]
async fn modes_are_the_servers() {
    let mut bench = Bench::new(&[]).await;
    let with = |mode: &'static str| -> &'static [(&'static str, &'static str, &'static str)] {
        let value: &'static str = Box::leak(format!("CONCAT({}, ',{mode}')", DEFAULT_MODE.1).into_boxed_str());
        Box::leak(Box::new([("sql_mode", value, DEFAULT_MODE.1)]))
    };
    let one = &["CREATE TABLE {t} (id INT PRIMARY KEY, a VARCHAR(20), b VARCHAR(20))", "INSERT INTO {t} VALUES (1, 'x', 'y')"];
    let numbers = &["CREATE TABLE {t} (id INT PRIMARY KEY, a INT, b INT)", "INSERT INTO {t} VALUES (1, 1, 0)"];
    let zero = &["CREATE TABLE {t} (id INT PRIMARY KEY, a VARCHAR(20))", "INSERT INTO {t} VALUES (1, '0000-00-00')"];
    let unsigned = &[
        "SET sql_mode='NO_UNSIGNED_SUBTRACTION'",
        "CREATE TABLE {t} (id INT PRIMARY KEY, a INT UNSIGNED, b INT UNSIGNED, diff INT AS (a - b) STORED)",
        "INSERT INTO {t} (id, a, b) VALUES (1, 1, 5)",
        "SET sql_mode='NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'",
    ];
    bench
        .all(&[
            Case {
                name: "NO_BACKSLASH_ESCAPES",
                globals: with("NO_BACKSLASH_ESCAPES"),
                setup: one,
                alter: r"ADD p VARCHAR(20) NOT NULL DEFAULT 'C:\temp', COMMENT 'a\'",
                ..Case::default()
            },
            Case {
                name: "PIPES_AS_CONCAT",
                globals: with("PIPES_AS_CONCAT"),
                setup: one,
                alter: "ADD f VARCHAR(50) AS (a || b) VIRTUAL",
                ..Case::default()
            },
            Case {
                name: "ANSI_QUOTES",
                globals: with("ANSI_QUOTES"),
                setup: one,
                alter: r#"ADD "n" VARCHAR(10) AS (upper("a")) STORED"#,
                ..Case::default()
            },
            Case {
                name: "ANSI",
                globals: with("ANSI"),
                setup: one,
                alter: r#"ADD n VARCHAR(50) AS ("a" || "b") STORED, ADD r REAL NOT NULL DEFAULT 0.1"#,
                ..Case::default()
            },
            Case {
                name: "HIGH_NOT_PRECEDENCE",
                globals: with("HIGH_NOT_PRECEDENCE"),
                setup: numbers,
                alter: "ADD n INT AS (NOT a BETWEEN -5 AND 5) STORED",
                ..Case::default()
            },
            Case {
                name: "NO_UNSIGNED_SUBTRACTION",
                globals: with("NO_UNSIGNED_SUBTRACTION"),
                setup: unsigned,
                alter: "ADD x INT",
                ..Case::default()
            },
            Case { name: "a date that must be", setup: one, alter: "ADD p DATE NOT NULL", ..Case::default() },
            Case { name: "a default that is no date", setup: one, alter: "ADD p DATE NOT NULL DEFAULT '2023-02-00'", ..Case::default() },
            Case { name: "a text that is a zero date", setup: zero, alter: "MODIFY a DATE", ..Case::default() },
            Case { name: "a division by zero", setup: numbers, alter: "ADD c INT AS (a / b) STORED", ..Case::default() },
            Case {
                name: "a division by zero where it is NULL",
                globals: &[("sql_mode", "'STRICT_TRANS_TABLES'", DEFAULT_MODE.1)],
                setup: numbers,
                alter: "ADD c INT AS (a / b) STORED, ADD p DATE NOT NULL, ADD q DATE NOT NULL DEFAULT '2023-02-00'",
                ..Case::default()
            },
        ])
        .await;
}

/// A new AUTO_INCREMENT column gives the numbers that the server would.
#[tokio::test]
async fn numbers_go_in_the_servers_steps() {
    let mut bench = Bench::new(&[]).await;
    let steps =
        [(1, 1, 1), (1, 5, 1), (5, 3, 1), (5, 3, 17), (5, 3, 18), (5, 5, 1), (5, 7, 17), (1000, 1, 1), (1000, 500, 2), (65535, 65535, 1)];
    for (increment, offset, first) in steps {
        run(&mut bench.plain, &format!("SET GLOBAL auto_increment_increment = {increment}, GLOBAL auto_increment_offset = {offset}")).await;
        run(&mut bench.plain, "DROP TABLE IF EXISTS t, n").await;
        for table in ["t", "n"] {
            run(&mut bench.plain, &format!("CREATE TABLE {table} (id INT PRIMARY KEY)")).await;
            run(&mut bench.plain, &format!("INSERT INTO {table} VALUES (1), (2), (5), (9)")).await;
        }
        let alter = format!("ADD n BIGINT NOT NULL AUTO_INCREMENT UNIQUE, AUTO_INCREMENT = {first}");
        let mut client = bench.client().await;
        run(&mut client, &format!("ALTER TABLE n {alter}, ALGORITHM=COPY")).await;
        assert_eq!(join(start(bench.spec("t", &alter, Algorithm::Copy), controls())).await, Outcome::Succeeded);
        // The next one too.
        run(&mut client, "INSERT INTO n (id) VALUES (10)").await;
        run(&mut client, "INSERT INTO t (id) VALUES (10)").await;
        let (ours, native) = (bench.text("SELECT * FROM t ORDER BY id").await, bench.text("SELECT * FROM n ORDER BY id").await);
        assert_eq!(ours, native, "steps of {increment} from {offset}, the first {first}");
    }
}

/// What would cut statements or their results, or leave transactions open.
#[tokio::test]
async fn limits_do_not_reach_us() {
    let mut bench = Bench::new(&[]).await;
    let one = &["CREATE TABLE {t} (id INT PRIMARY KEY, a INT, b INT, c INT, d INT)", "INSERT INTO {t} VALUES (1, 1, 1, 1, 1)"];
    // Converted through a temporary table by the comparison.
    let text = &["CREATE TABLE {t} (id INT PRIMARY KEY, a INT, b INT, c INT, d VARCHAR(9))", "INSERT INTO {t} VALUES (1, 1, 1, 1, '1')"];
    let case = |name: &'static str, globals, setup| Case { name, globals, setup, alter: "MODIFY d BIGINT", ..Case::default() };
    bench
        .all(&[
            case("sql_select_limit", &[("sql_select_limit", "3", "DEFAULT")], one),
            case("autocommit", &[("autocommit", "0", "1")], one),
            case("max_execution_time", &[("max_execution_time", "1", "0")], one),
            case("max_join_size", &[("max_join_size", "1", "DEFAULT"), ("sql_big_selects", "0", "1")], one),
            case("sql_safe_updates", &[("sql_safe_updates", "1", "0")], one),
            case("completion_type", &[("completion_type", "'CHAIN'", "'NO_CHAIN'")], one),
            case(
                "transaction_isolation, sql_quote_show_create",
                &[("transaction_isolation", "'SERIALIZABLE'", "DEFAULT"), ("sql_quote_show_create", "0", "1")],
                one,
            ),
            case("sql_require_primary_key", &[("sql_require_primary_key", "1", "0")], text),
            case("collation_connection", &[("collation_connection", "'latin1_swedish_ci'", "'utf8mb4_0900_ai_ci'")], text),
        ])
        .await;
    // A long list of rows, where a limit of time is met again and again.
    run(&mut bench.plain, "DROP TABLE IF EXISTS t").await;
    run(&mut bench.plain, "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a CHAR(200) NOT NULL DEFAULT 'x')").await;
    run(
        &mut bench.plain,
        "INSERT INTO t (id) WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT i FROM n",
    )
    .await;
    for _ in 0..5 {
        run(&mut bench.plain, "INSERT INTO t (a) SELECT a FROM t").await;
    }
    run(&mut bench.plain, "SET GLOBAL max_execution_time = 2").await;
    let outcome = join(start(bench.spec("t", "MODIFY a CHAR(201) NOT NULL", Algorithm::Copy), controls())).await;
    assert_eq!(outcome, Outcome::Succeeded);
}

/// A functional key has the collation that the server's clients compare in.
#[tokio::test]
async fn a_functional_key_serves_the_servers_clients() {
    let mut bench = Bench::new(&[]).await;
    for (at, globals) in [None, Some("latin1_swedish_ci")].into_iter().enumerate() {
        let table = format!("j{at}");
        if let Some(collation) = globals {
            run(&mut bench.plain, &format!("SET GLOBAL collation_connection = '{collation}'")).await;
        }
        run(&mut bench.plain, &format!("CREATE TABLE {table} (id INT AUTO_INCREMENT PRIMARY KEY, v INT, j JSON)")).await;
        run(&mut bench.plain, &format!(r#"INSERT INTO {table} (j) VALUES ('{{"k": "a"}}'), ('{{"k": "a "}}'), ('{{"k": "b"}}')"#)).await;
        let alter = "MODIFY v BIGINT, ADD INDEX u ((CAST(j->>'$.k' AS CHAR(20))))";
        let outcome = join(start(bench.spec(&table, alter, Algorithm::Copy), controls())).await;
        assert_eq!(outcome, Outcome::Succeeded);
        let mut client = bench.client().await;
        let sql = format!("EXPLAIN FORMAT=TRADITIONAL SELECT 1 FROM {table} WHERE CAST(j->>'$.k' AS CHAR(20)) = 'a'");
        let row: Row = client.query_first(&sql).await.expect("explain").expect("a row");
        assert_eq!(row.get::<Option<String>, _>("key").flatten().as_deref(), Some("u"), "{globals:?}");
    }
    run(&mut bench.plain, "CREATE TABLE l (id INT PRIMARY KEY)").await;
    for algorithm in [Algorithm::Copy, Algorithm::Auto] {
        let outcome = join(start(bench.spec("l", "ADD p VARCHAR(9) CHARACTER SET utf8mb4 DEFAULT '漢'", algorithm), controls())).await;
        let told = |message: &str| message.contains("character_set_connection");
        assert!(matches!(&outcome, Outcome::Refused { message, .. } if told(message)), "{outcome:?}");
    }
    let outcome =
        join(start(bench.spec("l", "ADD p VARCHAR(9) CHARACTER SET utf8mb4 DEFAULT _utf8mb4'漢'", Algorithm::Copy), controls())).await;
    assert_eq!(outcome, Outcome::Succeeded);
    run(&mut bench.plain, "SET GLOBAL collation_connection = 'utf8mb4_0900_ai_ci'").await;
    for (values, fits) in [(["a", "a "], true), (["straße", "strasse"], false)] {
        run(&mut bench.plain, "DROP TABLE IF EXISTS t, _t_gho, _t_ghc").await;
        run(&mut bench.plain, "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v INT, j JSON)").await;
        for value in values {
            run(&mut bench.plain, &format!(r#"INSERT INTO t (j) VALUES ('{{"k": "{value}"}}')"#)).await;
        }
        let alter = "MODIFY v BIGINT, ADD UNIQUE INDEX u ((CAST(j->>'$.k' AS CHAR(20))))";
        let outcome = join(start(bench.spec("t", alter, Algorithm::Copy), controls())).await;
        assert_eq!(outcome == Outcome::Succeeded, fits, "{values:?}: {outcome:?}");
    }
}

/// Two instants of the hour that comes twice look alike. They stay two, as key and as value, whatever the change computes from them; a native
/// ALTER makes one of them.
#[tokio::test]
async fn the_hour_that_comes_twice() {
    let mut bench = Bench::on(Server::start_with(&[("TZ", BERLIN)], &[])).await;
    let seconds: Vec<String> = (0..40).map(|i| (1_729_980_000 + i * 600 + i).to_string()).collect();
    for (table, columns, alter) in [
        // The zone does not matter to the values.
        ("a", "ts TIMESTAMP NOT NULL PRIMARY KEY, v INT", "MODIFY v BIGINT"),
        // It does.
        ("b", "ts TIMESTAMP NOT NULL PRIMARY KEY, v INT", "ADD d DATETIME AS (ts) STORED"),
        ("c", "ts TIMESTAMP(3) NOT NULL, v INT NOT NULL DEFAULT 1, PRIMARY KEY (v, ts)", "ADD d DATETIME(3) AS (ts) STORED"),
        (
            "e",
            "ts TIMESTAMP NOT NULL, v INT NOT NULL DEFAULT 1, PRIMARY KEY (ts DESC, v)",
            "ADD d DATE AS (DATE(ts)) STORED, ADD c TIMESTAMP DEFAULT CURRENT_TIMESTAMP",
        ),
        ("g", "ts TIMESTAMP NOT NULL PRIMARY KEY, v INT", "MODIFY ts TIMESTAMP(3) NOT NULL, ADD d DATETIME(3) AS (ts) STORED"),
        (
            "n",
            "ts TIMESTAMP NOT NULL PRIMARY KEY, v INT",
            "MODIFY ts TIMESTAMP(3) NOT NULL, ADD d DATE AS (DATE(ts)) STORED, ADD n INT NOT NULL AUTO_INCREMENT UNIQUE",
        ),
        (
            "f",
            "id INT AUTO_INCREMENT PRIMARY KEY, ts TIMESTAMP NOT NULL, v INT, UNIQUE (ts)",
            "ADD d VARCHAR(30) AS (CAST(ts AS CHAR)) STORED",
        ),
    ] {
        run(&mut bench.plain, &format!("CREATE TABLE {table} ({columns})")).await;
        for second in &seconds {
            run(&mut bench.plain, &format!("INSERT INTO {table} (ts) VALUES (FROM_UNIXTIME({second}))")).await;
        }
        let mut small = controls();
        small.cut_over_policy = CutOverPolicy::Manual;
        let handle = start_in(support::chunks_of(3), bench.spec(table, alter, Algorithm::Copy), small.clone());
        until(&handle, "the gate is waited for", |s| s.phase == Phase::AwaitingCutOver || s.phase == Phase::Finished).await;
        if handle.is_finished() {
            panic!("{table}: {:?}", join(handle).await);
        }
        // The log's keys: of both hours, removed and made.
        for (at, second) in seconds.iter().enumerate() {
            match at % 3 {
                0 => run(&mut bench.plain, &format!("DELETE FROM {table} WHERE ts = FROM_UNIXTIME({second})")).await,
                1 => {
                    run(&mut bench.plain, &format!("UPDATE {table} SET ts = ts + INTERVAL 5 SECOND WHERE ts = FROM_UNIXTIME({second})"))
                        .await
                }
                _ => {}
            }
        }
        let want = bench.text(&format!("SELECT FLOOR(UNIX_TIMESTAMP(ts)) FROM {table} ORDER BY 1")).await;
        small.approved = true;
        handle.control(small);
        let watch = handle.watch();
        assert_eq!(join(handle).await, Outcome::Succeeded, "{table}");
        assert_eq!(watch.borrow().verification.as_ref().map(|v| v.rows_different), Some(0), "{table}");
        assert_eq!(bench.text(&format!("SELECT FLOOR(UNIX_TIMESTAMP(ts)) FROM {table} ORDER BY 1")).await, want, "{table}");
    }
}

/// A row that differs in the hour that comes twice is found by its key, and no row that looks like it is taken for it, however the server joins.
#[tokio::test]
async fn a_difference_in_the_hour_that_comes_twice() {
    let mut bench = Bench::on(Server::start_with(&[("TZ", BERLIN)], &[])).await;
    let alters = [
        // By an expression; with more digits; and by way of a temporary table.
        "MODIFY v BIGINT, ADD d DATE AS (DATE(ts)) STORED",
        "MODIFY ts TIMESTAMP(3) NOT NULL, MODIFY v BIGINT, ADD d DATE AS (DATE(ts)) STORED",
        "MODIFY v VARCHAR(9), ADD d DATE AS (DATE(ts)) STORED",
    ];
    let ways = ["materialization=on,firstmatch=off", "materialization=off,firstmatch=on", "semijoin=off"];
    for (n, (alter, way)) in alters.iter().flat_map(|alter| ways.map(|way| (alter, way))).enumerate() {
        let table = format!("t{n}");
        run(&mut bench.plain, &format!("SET GLOBAL optimizer_switch = '{way}'")).await;
        run(
            &mut bench.plain,
            &format!("CREATE TABLE {table} (ts TIMESTAMP NOT NULL, id INT NOT NULL, v INT NOT NULL, PRIMARY KEY (ts, id))"),
        )
        .await;
        run(
            &mut bench.plain,
            &format!("INSERT INTO {table} WITH RECURSIVE i AS (SELECT 0 n UNION ALL SELECT n + 1 FROM i WHERE n < 900) SELECT FROM_UNIXTIME(1729983600 + n * 20), 1, n FROM i"),
        )
        .await;
        let mut held = controls();
        held.cut_over_policy = CutOverPolicy::Manual;
        let handle = start(bench.spec(&table, alter, Algorithm::Copy), held.clone());
        until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver || s.phase == Phase::Finished).await;
        // One of the first hour; one of the second that is gone from the ghost; and one that only the ghost has.
        run(&mut bench.plain, "SET SESSION sql_log_bin = 0").await;
        run(&mut bench.plain, &format!("UPDATE _{table}_gho SET v = v + 1 WHERE ts = FROM_UNIXTIME(1729990200)")).await;
        run(&mut bench.plain, &format!("DELETE FROM _{table}_gho WHERE ts = FROM_UNIXTIME(1729992600)")).await;
        run(&mut bench.plain, &format!("DELETE FROM {table} WHERE ts = FROM_UNIXTIME(1729989600)")).await;
        run(&mut bench.plain, "SET SESSION sql_log_bin = 1").await;
        until(&handle, "they are repaired", |s| {
            s.phase == Phase::Finished || s.verification.as_ref().is_some_and(|v| v.rows_repaired >= 3)
        })
        .await;
        held.approved = true;
        handle.control(held);
        let watch = handle.watch();
        assert_eq!(join(handle).await, Outcome::Succeeded, "{alter}, {way}");
        let found = watch.borrow().verification.as_ref().map(|v| (v.rows_different, v.rows_repaired));
        assert_eq!(found, Some((3, 3)), "{alter}, {way}");
        let sum = bench.text(&format!("SELECT COUNT(*), SUM(v), MAX(UNIX_TIMESTAMP(ts) <> 1729983600 + v * 20) FROM {table}")).await;
        assert_eq!(sum, ["'900', '405150', '0'"], "{alter}, {way}");
    }
}

/// `init_connect` of an account without CONNECTION_ADMIN; and a value that cannot be set is named before anything is touched.
#[tokio::test]
async fn init_connect_is_told_and_does_not_count() {
    let mut bench = Bench::new(&["--default-time-zone=+02:00"]).await;
    for sql in [
        "CREATE USER u@'%' IDENTIFIED BY 'secret'",
        "GRANT REPLICATION SLAVE, REPLICATION CLIENT, PROCESS ON *.* TO u@'%'",
        "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, CREATE TEMPORARY TABLES, DROP, ALTER, LOCK TABLES, TRIGGER ON d.* TO u@'%'",
        "SET GLOBAL init_connect = \"SET autocommit=0, time_zone='-11:00', sql_select_limit=2, default_week_format=3\"",
        "CREATE TABLE t (id INT PRIMARY KEY, v INT, ts TIMESTAMP NULL, d DATETIME AS (ts) STORED, w INT AS (WEEK(d)) STORED)",
        "INSERT INTO t (id, v, ts) VALUES (1, 1, '2024-06-01 03:00:00'), (2, 1, NULL), (3, 1, NULL)",
    ] {
        run(&mut bench.plain, sql).await;
    }
    let mut spec = bench.spec("t", "MODIFY v BIGINT", Algorithm::Copy);
    (spec.server.username, spec.server.password) = ("u".to_owned(), "secret".to_owned());
    let report = check(&spec, &controls()).await;
    let told: Vec<_> = report.findings.iter().filter(|f| f.message.contains("init_connect")).collect();
    assert!(
        told.iter().any(|f| f.object == "time_zone") && told.iter().any(|f| f.object == "default_week_format"),
        "{:?}",
        report.findings
    );
    assert!(!report.refused(), "{:?}", report.findings);
    assert_eq!(join(start(spec.clone(), controls())).await, Outcome::Succeeded);
    assert_eq!(bench.text("SELECT d, w FROM t WHERE id = 1").await, ["'2024-06-01 05:00:00', '21'"]);

    run(&mut bench.plain, "SET GLOBAL init_connect = '', GLOBAL max_error_count = 0").await;
    let outcome = join(start(spec, controls())).await;
    assert!(matches!(&outcome, Outcome::Refused { message, .. } if message.contains("max_error_count")), "{outcome:?}");
    assert_eq!(bench.text("SHOW TABLES").await, ["'t'"]);
}

/// Today is one day for the whole migration, also for an engine that takes over after midnight.
#[tokio::test]
async fn today_is_the_day_on_which_the_migration_began() {
    let mut bench = Bench::new(&[]).await;
    run(&mut bench.plain, "CREATE TABLE t (id INT PRIMARY KEY, c TIME, v INT)").await;
    run(&mut bench.plain, "INSERT INTO t VALUES (1, '10:00:00', 1), (2, '-01:00:00', 1), (3, '30:00:00', 1)").await;
    let mut manual = controls();
    manual.cut_over_policy = CutOverPolicy::Manual;
    let handle = start(bench.spec("t", "MODIFY c DATETIME", Algorithm::Copy), manual.clone());
    until(&handle, "the gate is waited for", |s| s.phase == Phase::AwaitingCutOver).await;
    handle.stop();
    assert_eq!(join(handle).await, Outcome::Stopped);
    // As if it had begun a year ago.
    let moved = "UPDATE _t_ghc SET value = JSON_SET(value, '$.server_values.now', '1700000000.000000') WHERE kind = 'migration'";
    run(&mut bench.plain, moved).await;
    run(&mut bench.plain, "DELETE FROM _t_gho").await;
    run(&mut bench.plain, "INSERT INTO _t_gho SELECT id, TIMESTAMP('2023-11-14', c), v FROM t").await;
    manual.approved = true;
    let handle = start(bench.spec("t", "MODIFY c DATETIME", Algorithm::Copy), manual);
    let watch = handle.watch();
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert_eq!(watch.borrow().verification.as_ref().map(|v| v.rows_different), Some(0));
    assert_eq!(
        bench.text("SELECT c FROM t ORDER BY id").await,
        ["'2023-11-14 10:00:00'", "'2023-11-13 23:00:00'", "'2023-11-15 06:00:00'"]
    );
}

/// Zero and invalid dates that are stored already, where nothing makes a date: copied, though a native COPY refuses them.
#[tokio::test]
async fn stored_dates_are_moved_and_never_made() {
    let mut bench = Bench::new(&[]).await;
    let setup = "CREATE TABLE t (id INT PRIMARY KEY, v INT, d DATE, e DATETIME(3), z TIMESTAMP NULL)";
    for (alter, fits) in
        [("MODIFY v BIGINT", true), ("MODIFY d DATETIME", false), ("ADD y INT AS (YEAR(d)) STORED, MODIFY v BIGINT", false)]
    {
        run(&mut bench.plain, "DROP TABLE IF EXISTS t, _t_gho, _t_ghc").await;
        run(&mut bench.plain, setup).await;
        run(
            &mut bench.plain,
            "INSERT INTO t VALUES (1, 1, '0000-00-00', '2021-02-30 10:00:00', '0000-00-00'), (2, 1, '2021-00-10', NULL, NULL)",
        )
        .await;
        let before = bench.text("SELECT id, d, e, z FROM t ORDER BY id").await;
        let outcome = join(start(bench.spec("t", alter, Algorithm::Copy), controls())).await;
        assert_eq!(outcome == Outcome::Succeeded, fits, "{alter}: {outcome:?}");
        assert_eq!(bench.text("SELECT id, d, e, z FROM t ORDER BY id").await, before, "{alter}");
    }
}

/// Every variable that has a value for a session is in a class.
#[tokio::test]
async fn every_session_variable_has_a_class() {
    let url = support::mysql_url();
    let mut session = Session::open(&address(&url)).await.expect("a session");
    let unknown = session.unknown_variables().await.expect("the server's variables");
    assert_eq!(unknown, Vec::<String>::new(), "in no class of src/mysql/variables.rs");
    for name in ["sql_mode", "time_zone"] {
        assert!(variables::class_of(name).is_some(), "{name}");
    }
}
