//! `theseus run` and `theseus ctl` as people use them: the program itself, its exit codes, what it prints and what it leaves.
use crate::support;

use mysql_async::prelude::Queryable;
use std::io::Write;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use support::{Db, MariaDb, address, dead, script};
use theseus::mysql::versions::REFUSED_MARIADB;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const ROWS: u64 = 20_000;
/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(300);

/// A file for one test, and the program with it.
struct File {
    folder: tempfile::TempDir,
    text: String,
    password: String,
}

impl File {
    fn new(db: &Db, table: &str, alter: &str) -> Self {
        Self::on(&db.url, &db.name, table, alter)
    }

    fn on(url: &str, database: &str, table: &str, alter: &str) -> Self {
        let server = address(url);
        let text = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: login}}\nstringData: {{username: '{}', password: '{}'}}\n---\n\
             apiVersion: theseus.dev/v1alpha1\nkind: MySQLServer\nmetadata: {{name: server}}\n\
             spec: {{host: '{}', port: {}, credentialsSecretRef: {{name: login}}}}\n---\n\
             apiVersion: theseus.dev/v1alpha1\nkind: SchemaMigration\nmetadata:\n  name: change\n\
             spec:\n  target: {{serverRef: {{name: server}}}}\n  database: {}\n  table: {table}\n  alter: \"{alter}\"\n  algorithm: Copy\n  oldTable: {{retention: 0s}}\n",
            server.username, server.password, server.host, server.port, database
        );
        Self { folder: tempfile::tempdir().expect("a folder"), text, password: server.password }
    }

    /// Adds lines to the spec.
    fn with(mut self, lines: &str) -> Self {
        self.text.push_str(lines);
        self
    }

    fn replace(mut self, from: &str, to: &str) -> Self {
        assert!(self.text.contains(from), "{from}");
        self.text = self.text.replace(from, to);
        self
    }

    fn path(&self) -> std::path::PathBuf {
        let path = self.folder.path().join("migration.yaml");
        std::fs::File::create(&path).and_then(|mut f| f.write_all(self.text.as_bytes())).expect("write the file");
        path
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = theseus(&["run", "-f"]);
        command.arg(self.path()).args(args).env("TMPDIR", self.folder.path());
        command
    }

    async fn run(&self, args: &[&str]) -> Output {
        output(self.command(args)).await
    }

    fn start(&self, args: &[&str]) -> Running {
        let mut child = self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("start theseus");
        let lines = BufReader::new(child.stdout.take().expect("standard output")).lines();
        Running { child, lines, seen: Vec::new() }
    }
}

fn theseus(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_theseus"));
    command.args(args).stdin(Stdio::null()).env_remove("THESEUS_PASSWORD").env_remove("THESEUS_LOG").env_remove("RUST_LOG");
    command
}

async fn output(mut command: Command) -> Output {
    tokio::time::timeout(LIMIT, command.kill_on_drop(true).output()).await.expect("it ends in time").expect("start theseus")
}

struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    seen: Vec<String>,
}

impl Running {
    /// Reads standard output until a line has these words.
    async fn until(&mut self, words: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            match tokio::time::timeout_at(end.into(), self.lines.next_line()).await {
                Ok(Ok(Some(line))) => {
                    self.seen.push(line.clone());
                    if line.contains(words) {
                        return line;
                    }
                }
                other => panic!("waited for a line with {words:?}, then {other:?}; seen: {:#?}", self.seen),
            }
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().expect("it runs").to_string();
        assert!(std::process::Command::new("kill").args([name, &id]).status().expect("kill").success());
    }

    /// Exit code, all of standard output, standard error.
    async fn end(mut self) -> (i32, String, String) {
        let mut errors = String::new();
        let mut stderr = self.child.stderr.take().expect("standard error");
        let rest = async {
            while let Ok(Some(line)) = self.lines.next_line().await {
                self.seen.push(line);
            }
            stderr.read_to_string(&mut errors).await.expect("read");
            self.child.wait().await.expect("wait")
        };
        let status = tokio::time::timeout(LIMIT, rest).await.expect("it ends in time");
        (status.code().unwrap_or(-1), self.seen.join("\n"), errors)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

async fn table(prefix: &str) -> Db {
    let mut db = Db::new(prefix).await;
    db.run("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a INT NOT NULL, b VARCHAR(100), KEY (a))").await;
    db.run("SET SESSION cte_max_recursion_depth = 1000000").await;
    db.run(&format!("INSERT INTO t (a, b) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS}) SELECT i, REPEAT('x', 50) FROM n")).await;
    db.run("ANALYZE TABLE t").await;
    db
}

/// Slow enough to be caught in the middle.
const SLOW: &str = "  copy: {workers: 1, targetChunkTime: 10ms}\n  throttle: {niceRatioPercent: 1000}\n";

/// Done: 0, a summary, the new definition, nothing left; and the status lines have their format.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_with_a_summary_and_leaves_nothing() {
    let mut db = table("run_done").await;
    let file = File::new(&db, "t", "MODIFY a BIGINT NOT NULL");
    let output = file.run(&[]).await;
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(code(&output), 0, "{out}\n{err}");
    assert!(
        out.contains("Succeeded: ") && out.contains(&format!("{ROWS} copied")) && out.contains("locked") && out.contains("Copy: "),
        "{out}"
    );
    assert!(out.contains("old table  dropped"), "{out}");
    assert_eq!(err, "", "nothing went wrong");
    assert_eq!(db.tables().await, ["t"]);
    assert!(db.definition("t").await.contains("`a` bigint NOT NULL"));
    let lines: Vec<&str> = out.lines().filter(|l| l.starts_with("Copy: ")).collect();
    assert!(!lines.is_empty(), "{out}");
    for line in lines {
        let names: Vec<&str> = line.split("; ").map(|part| part.split(':').next().unwrap_or_default()).collect();
        assert_eq!(names, ["Copy", "Applied", "Backlog", "Time", "Lag", "State", "ETA"], "{line}");
    }
    db.drop().await;
}

/// Retention: the old table stays, the run says how to drop it, and that does it.
#[tokio::test(flavor = "multi_thread")]
async fn the_old_table_is_kept_until_it_is_dropped_on_request() {
    let mut db = table("run_keep").await;
    let file = File::new(&db, "t", "MODIFY a BIGINT NOT NULL").replace("retention: 0s", "retention: 24h");
    let output = file.run(&[]).await;
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("--drop-old-table"), "{}", text(&output.stdout));
    assert!(db.tables().await.contains(&"_t_del".to_owned()));
    let output = file.run(&["--drop-old-table"]).await;
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("An earlier run had already swapped the tables"), "{}", text(&output.stdout));
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

/// The same change once more while the old table is kept: nothing is to be done while the table is as the change left it; undone, it is made again;
/// where it does not fit any more it is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_asked_for_again_looks_at_the_table() {
    let mut db = table("run_again").await;
    let file = File::new(&db, "t", "MODIFY a BIGINT NOT NULL, ADD c INT").replace("retention: 0s", "retention: 24h");
    assert_eq!(code(&file.run(&[]).await), 0);
    let output = file.run(&[]).await;
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("An earlier run had already swapped the tables"), "{}", text(&output.stdout));
    db.run("ALTER TABLE t MODIFY a INT NOT NULL").await;
    let output = file.run(&[]).await;
    assert_eq!(code(&output), 2, "the column is there: {}", text(&output.stdout));
    assert!(
        text(&output.stderr).contains("AlterRejected") && text(&output.stderr).contains("Duplicate column"),
        "{}",
        text(&output.stderr)
    );
    db.run("ALTER TABLE t DROP c").await;
    let output = file.run(&[]).await;
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let definition = db.definition("t").await;
    assert!(definition.contains("`a` bigint NOT NULL") && definition.contains("`c` int"), "{definition}");
    assert!(db.tables().await.contains(&"_t_del".to_owned()), "the first old table stays");
    db.drop().await;
}

/// A change that the server makes itself leaves nothing, whatever the retention: the next change of the table is not in its way.
#[tokio::test(flavor = "multi_thread")]
async fn a_native_change_leaves_nothing() {
    let mut db = table("run_native").await;
    for alter in ["ADD c INT", "ADD d INT", "COMMENT = 'x'", "COMMENT = 'x'"] {
        let file = File::new(&db, "t", alter).replace("retention: 0s", "retention: 24h").replace("algorithm: Copy", "algorithm: Auto");
        let output = file.run(&[]).await;
        assert_eq!(code(&output), 0, "{alter}: {}{}", text(&output.stdout), text(&output.stderr));
        assert!(!text(&output.stdout).contains("old table"), "{alter}: {}", text(&output.stdout));
        assert_eq!(db.tables().await, ["t"], "{alter}");
    }
    db.drop().await;
}

/// Refused: 2, the reason, nothing left. Failed: 1, the reason; what is left goes with --cancel, which ends with 3.
#[tokio::test(flavor = "multi_thread")]
async fn refusal_failure_and_cancellation_have_their_codes() {
    let mut db = table("run_codes").await;
    for (table, alter, reason) in
        [("absent", "ADD c INT", "TableNotFound"), ("t", "ADD a INT", "AlterRejected"), ("t", "RENAME TO u", "AlterNotSupported")]
    {
        let output = File::new(&db, table, alter).run(&[]).await;
        assert_eq!(code(&output), 2, "{alter}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(&format!("Refused ({reason})")), "{}", text(&output.stderr));
        assert_eq!(db.tables().await, ["t"], "{alter}");
    }
    db.run("INSERT INTO t (a) VALUES (70000)").await;
    let file = File::new(&db, "t", "MODIFY a SMALLINT NOT NULL");
    let output = file.run(&[]).await;
    assert_eq!(code(&output), 1, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("Failed (DataDoesNotFit)"), "{}", text(&output.stderr));
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, ROWS + 1);
    let output = file.run(&["--cancel"]).await;
    assert_eq!(code(&output), 3, "{}", text(&output.stderr));
    assert_eq!(db.tables().await, ["t"]);
    // The annotation of the document is the same.
    let output = file.replace("name: change\n", "name: change\n  annotations: {theseus.dev/cancel: 'true'}\n").run(&[]).await;
    assert_eq!(code(&output), 3, "{}", text(&output.stderr));
    db.drop().await;
}

/// MariaDB is refused by its name, by both who may be asked, and nothing is written there.
#[tokio::test(flavor = "multi_thread")]
async fn mariadb_is_refused_before_anything_is_touched() {
    for series in REFUSED_MARIADB {
        let server = MariaDb::start(series).await;
        server.connect().await.query_drop("CREATE TABLE d.t (id INT PRIMARY KEY, a INT NOT NULL)").await.expect("a table");
        let before = server.trace().await;
        let file = File::on(&server.url, "d", "t", "ADD c INT");
        let words = format!("the server is MariaDB {series}.");
        let run = file.run(&[]).await;
        let said = text(&run.stderr);
        assert_eq!(code(&run), 2, "{series}: {said}");
        assert!(said.contains("Refused (ServerNotSupported)") && said.contains(&words) && said.contains("8.0.13 or later"), "{said}");
        let mut check = theseus(&["check", "-o", "json", "-f"]);
        check.arg(file.path());
        let checked = output(check).await;
        let report: serde_json::Value = serde_json::from_slice(&checked.stdout).expect("JSON");
        let finding = &report["findings"][0];
        assert_eq!(
            (code(&checked), &finding["reason"], &finding["object"]),
            (2, &"ServerNotSupported".into(), &"version".into()),
            "{report}"
        );
        assert!(finding["message"].as_str().is_some_and(|message| message.contains(&words)), "{report}");
        assert_eq!((&report["server"]["flavour"], &report["server"]["support"]), (&"MariaDB".into(), &"Refused".into()), "{report}");
        assert_eq!(server.trace().await, before, "MariaDB {series}");
    }
}

/// A dry run changes nothing, and leaves the work of a stopped run alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_proves_and_takes_nothing_away() {
    let mut db = table("run_dry").await;
    let definition = db.definition("t").await;
    let file = File::new(&db, "t", "ADD c INT").with(SLOW);
    let output = file.run(&["--dry-run"]).await;
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("Proven"));
    assert_eq!(db.tables().await, ["t"]);
    let mut run = file.start(&[]);
    run.until("State: copying").await;
    run.signal("-INT");
    let (code_of_run, out, err) = run.end().await;
    assert_eq!(code_of_run, 130, "{out}\n{err}");
    let kept = db.tables().await;
    assert_eq!(kept, ["_t_ghc", "_t_gho", "t"]);
    let output = file.run(&["--dry-run"]).await;
    assert_eq!(code(&output), 2, "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("NameTaken"), "{}", text(&output.stderr));
    assert_eq!(db.tables().await, kept);
    assert_eq!(db.definition("t").await, definition);
    assert_eq!(code(&file.run(&["--cancel"]).await), 3);
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

/// SIGTERM in the middle: 143, the work is kept, and the same command goes on with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_run_is_taken_up_by_the_next_one() {
    let mut db = table("run_stop").await;
    let file = File::new(&db, "t", "MODIFY a BIGINT NOT NULL").with(SLOW);
    let mut run = file.start(&[]);
    run.until("State: copying").await;
    // Rows are there before the signal is.
    let end = Instant::now() + LIMIT;
    while db.value::<u64>("SELECT COUNT(*) FROM _t_gho").await < 100 {
        assert!(Instant::now() < end, "nothing is copied");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    run.signal("-TERM");
    let (code_of_run, out, err) = run.end().await;
    assert_eq!(code_of_run, 143, "{out}\n{err}");
    assert!(err.contains("Stopped") && err.contains("_t_gho"), "{err}");
    let copied = db.value::<u64>("SELECT COUNT(*) FROM _t_gho").await;
    assert!(copied > 0 && copied < ROWS, "{copied} rows were copied: the test is of no use");
    db.run("UPDATE t SET b = 'while nobody ran' WHERE id = 1").await;
    let fast = file.replace(SLOW, "");
    let output = fast.run(&[]).await;
    let out = text(&output.stdout);
    assert_eq!(code(&output), 0, "{out}\n{}", text(&output.stderr));
    assert!(out.contains("Resumed: ") && out.contains("run 2 of this migration"), "{out}");
    assert_eq!(db.tables().await, ["t"]);
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t").await, ROWS);
    assert_eq!(db.value::<String>("SELECT b FROM t WHERE id = 1").await, "while nobody ran");
    db.drop().await;
}

/// A second signal does not wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_leaves_at_once() {
    let mut db = table("run_twice").await;
    let file = File::new(&db, "t", "ADD c INT").with(SLOW);
    let mut run = file.start(&[]);
    run.until("State: copying").await;
    // Stopping takes as long as an answer of the server takes: the row locks on the state table keep the engine from storing its state.
    let mut blocker = db.connect().await;
    Queryable::query_drop(&mut blocker, "START TRANSACTION; SELECT * FROM _t_ghc FOR UPDATE").await.expect("block");
    run.signal("-TERM");
    run.until("Stopping").await;
    let asked = Instant::now();
    run.signal("-TERM");
    let (code_of_run, _, err) = run.end().await;
    assert_eq!(code_of_run, 143, "{err}");
    assert!(asked.elapsed() < support::soon(Duration::from_secs(4)), "{:?}", asked.elapsed());
    Queryable::query_drop(&mut blocker, "ROLLBACK").await.expect("unblock");
    drop(blocker);
    let output = file.run(&["--cancel"]).await;
    assert_eq!(code(&output), 3, "{}", text(&output.stderr));
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

/// Bad files: 2, the path of the field, nothing from a Secret.
#[tokio::test(flavor = "multi_thread")]
async fn bad_files_are_refused_by_the_path_of_the_field() {
    let db = Db::new("run_bad").await;
    let good = || File::new(&db, "t", "ADD c INT").replace("stringData: {", "stringData: {other: 'sesame-open', ");
    for (file, words) in [
        (good().with("  copy: {wrokers: 1}\n"), "spec.copy.wrokers"),
        (good().with("  copy: {workers: many}\n"), "spec.copy.workers must be an integer"),
        (good().with("  mode: Try\n"), "spec.mode"),
        (good().with("  cutOver: {lockTimeout: 100ms}\n"), "spec.cutOver.lockTimeout must be between 1s and 1m"),
        (good().with("  cutOver: {killBlockersAfter: 10ms}\n"), "spec.cutOver.killBlockersAfter must be 0s, or between 1s and 24h"),
        (good().with("  cutOver: {windows: [{schedule: 0 2 * * *}]}\n"), "spec.cutOver.windows[0].duration is missing"),
        (
            good().with("  cutOver: {windows: [{schedule: 0 2 30 2 *, duration: 1h}]}\n"),
            "spec.cutOver.windows[0]: schedule \"0 2 30 2 *\" never matches any time",
        ),
        (good().replace("  table: t\n", ""), "spec.table is missing"),
        (good().replace("kind: SchemaMigration", "kind: SchemaMigrations"), "SchemaMigrations"),
        (good().replace("{name: server}}\n", "{name: other}}\n"), "ServerNotFound"),
        (good().replace("metadata: {name: login}", "metadata: {name: other}"), "SecretNotFound"),
        (good().with("  - [\n"), "not YAML"),
        (good().replace("---\n", "---\n- a list\n---\n"), "document 2 is not an object"),
    ] {
        let output = file.run(&[]).await;
        let err = text(&output.stderr);
        assert_eq!(code(&output), 2, "{words}: {err}");
        assert!(err.contains("Refused (") && err.contains(words), "{words}: {err}");
        assert!(!err.contains("sesame"), "{err}");
    }
    let output = output(theseus(&["run", "-f", "/nowhere/at/all.yaml"])).await;
    assert_eq!(code(&output), 2);
    assert!(text(&output.stderr).contains("/nowhere/at/all.yaml"));
    db.drop().await;
}

/// A run ends with the swap: it does not promise a way back that nothing would keep open.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_a_revert_window_is_for_a_cluster() {
    let mut db = table("window").await;
    let file = File::new(&db, "t", "ADD COLUMN n INT").with("  revert: {window: 1h}\n");
    let refused = file.run(&[]).await;
    let said = text(&refused.stderr);
    assert!(code(&refused) == 2 && said.contains("spec.revert.window needs the operator"), "{said}");
    assert_eq!(db.tables().await, ["t"]);
    assert_eq!(code(&file.run(&["--dry-run"]).await), 0, "it shows whether there is a way back");
    db.drop().await;
}

/// Without a cluster nobody knows what became of the others: the order is the user's word, and never silently left out.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_waits_for_others_needs_the_users_word() {
    let mut db = table("after").await;
    let file = File::new(&db, "t", "ADD COLUMN n INT").with("  after: [widen-id, other]\n");
    let refused = file.run(&[]).await;
    let said = text(&refused.stderr);
    assert_eq!(code(&refused), 2, "{said}");
    assert!(said.contains("spec.after") && said.contains("widen-id, other") && said.contains("--ignore-after"), "{said}");
    assert_eq!(db.tables().await, ["t"]);
    assert_eq!(code(&file.run(&["--dry-run"]).await), 0, "it changes nothing");
    let mut check = theseus(&["check", "-f"]);
    check.arg(file.path());
    let report = output(check).await;
    assert!(text(&report.stdout).contains("info     Order [spec.after]\n         widen-id, other must have succeeded first"), "{report:?}");
    let done = file.run(&["--ignore-after"]).await;
    assert_eq!(code(&done), 0, "{}", text(&done.stderr));
    assert!(db.definition("t").await.contains("`n` int"));
    db.drop().await;
}

/// Standard input, credentials from elsewhere, and a wrong password that is shown nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_from_where_nobody_sees_them() {
    let mut db = table("run_login").await;
    let server = address(&db.url);
    let bare =
        File::new(&db, "t", "ADD c INT").replace("serverRef: {name: server}", &format!("host: '{}', port: {}", server.host, server.port));
    let only = File { text: bare.text.split("---\n").last().expect("the migration").to_owned(), ..bare };
    let args = ["--dry-run", "--user", &server.username];
    // The variable.
    let mut command = theseus(&["run", "-f", "-"]);
    command.args(args).env("THESEUS_PASSWORD", &only.password).stdin(std::fs::File::open(only.path()).expect("open"));
    let done = output(command).await;
    assert_eq!(code(&done), 0, "{}", text(&done.stderr));
    // The file; it wins.
    let password = only.folder.path().join("password");
    std::fs::write(&password, format!("{}\n", only.password)).expect("write");
    let mut command = only.command(&args);
    command.arg("--password-file").arg(&password).env("THESEUS_PASSWORD", "wrong");
    let done = output(command).await;
    assert_eq!(code(&done), 0, "{}", text(&done.stderr));
    // Neither.
    let done = only.run(&args).await;
    assert_eq!(code(&done), 2);
    assert!(text(&done.stderr).contains("THESEUS_PASSWORD"), "{}", text(&done.stderr));
    // Wrong, with everything logged.
    let mut command = only.command(&args);
    command.args(["--log-format", "json"]).env("THESEUS_PASSWORD", "wrong-sesame").env("THESEUS_LOG", "trace");
    let done = output(command).await;
    assert_eq!(code(&done), 2, "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains("AccessDenied"), "{}", text(&done.stderr));
    assert!(!text(&done.stderr).contains("sesame") && !text(&done.stdout).contains("sesame"));
    db.run("SELECT 1").await;
    db.drop().await;
}

/// A server that is not there is waited for as long as asked, then refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_given_up() {
    let db = Db::new("run_nobody").await;
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let file = File::new(&db, "t", "ADD c INT").replace(&format!("port: {}", address(&db.url).port), &format!("port: {port}"));
    let output = file.run(&["--wait", "1s"]).await;
    assert_eq!(code(&output), 2, "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("ConnectionFailed"), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("retrying"), "{}", text(&output.stdout));
    db.drop().await;
}

async fn ctl(path: &str, args: &[&str]) -> Output {
    let mut command = theseus(&["ctl", "--socket", path]);
    command.args(args);
    output(command).await
}

/// The socket: each command, its answers in both forms, its file.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_steered_through_its_socket() {
    use std::os::unix::fs::PermissionsExt;
    let mut db = table("run_socket").await;
    let file = File::new(&db, "t", "MODIFY a BIGINT NOT NULL").with(SLOW).with("  cutOver: {policy: Manual}\n");
    let socket = file.folder.path().join("s.sock");
    let path = socket.to_str().expect("a path").to_owned();
    // A file that a killed run has left.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a stale socket"));
    let mut run = file.start(&["--socket", &path]);
    run.until("State: copying").await;
    assert_eq!(std::fs::metadata(&socket).expect("the socket").permissions().mode() & 0o777, 0o600);
    let said = |output: Output, words: &str| {
        let out = text(&output.stdout);
        assert_eq!(code(&output), 0, "{out}{}", text(&output.stderr));
        assert!(out.contains(words), "the answer lacks {words:?}: {out}");
    };
    said(ctl(&path, &["help"]).await, "no-throttle");
    said(ctl(&path, &["sup"]).await, "Copy: ");
    said(ctl(&path, &["status"]).await, "manual, not approved");
    said(ctl(&path, &["throttle"]).await, "copying stops");
    run.until("throttled by User").await;
    let status = ctl(&path, &["-o", "json", "status"]).await;
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!((&status["throttle"]["reason"], &status["controls"]["throttle"]), (&"User".into(), &true.into()));
    said(ctl(&path, &["-o", "json", "nice-ratio=0"]).await, r#""ok":true"#);
    said(ctl(&path, &["chunk-time=500ms"]).await, "chunk-time=500ms");
    for bad in [&["chunk-time=1h"][..], &["jump"], &["-o", "json", "jump"]] {
        assert_eq!(code(&ctl(&path, bad).await), 1, "{bad:?}");
    }
    said(ctl(&path, &["no-throttle"]).await, "copying continues");
    run.until("To swap the tables: theseus ctl").await;
    // Another run may not take the socket.
    let other = file.run(&["--socket", &path]).await;
    assert_eq!(code(&other), 2);
    assert!(text(&other.stderr).contains("another run is listening"), "{}", text(&other.stderr));
    said(ctl(&path, &["pause"]).await, "the work is kept");
    run.until("State: paused").await;
    said(ctl(&path, &["resume"]).await, "resuming");
    run.until("State: awaiting cut-over").await;
    said(ctl(&path, &["approve"]).await, "approved");
    let (code_of_run, out, err) = run.end().await;
    assert_eq!(code_of_run, 0, "{out}\n{err}");
    assert!(!socket.exists(), "the file is removed");
    assert_eq!(code(&ctl(&path, &["status"]).await), 1, "nobody answers any more");
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

/// A run outside of its windows says when the next one opens, can be told not to wait for it, and to clear the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_for_its_window_and_can_be_forced() {
    use mysql_async::prelude::Queryable;
    let mut db = table("run_window").await;
    let opens = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC) + jiff::Span::new().days(3);
    let window = format!("{{schedule: 0 {} {} {} *, duration: 1h}}", opens.hour(), opens.day(), opens.month());
    let file = File::new(&db, "t", "ADD c INT").with(&format!("  cutOver: {{lockTimeout: 1s, windows: [{window}]}}\n"));
    let mut blocker = db.connect().await;
    blocker.query_drop("START TRANSACTION; SELECT * FROM t LIMIT 1").await.expect("block");
    let mut run = file.start(&[]);
    let line = run.until("Listening: theseus ctl --socket ").await;
    let path = line.split_whitespace().nth(4).expect("a path").to_owned();
    run.until(&format!("the next window opens at {}T{:02}:00:00Z", opens.date(), opens.hour())).await;
    run.until("To swap the tables").await;
    assert!(text(&ctl(&path, &["approve"]).await.stdout).contains("also outside the windows"));
    run.until(&format!("blocked by connection {}", blocker.id())).await;
    assert!(text(&ctl(&path, &["kill-blockers-after=24h"]).await.stdout).contains("kill-blockers-after=24h"));
    blocker.query_drop("SELECT 1").await.expect("it lives");
    assert_eq!(code(&ctl(&path, &["force-cut-over"]).await), 0);
    let (code_of_run, out, err) = run.end().await;
    assert_eq!(code_of_run, 0, "{out}\n{err}");
    assert!(blocker.query_drop("SELECT 1").await.is_err(), "it lives");
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

/// Without --socket a migration that waits for somebody opens one and says where; cancel ends it with 3.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_says_how_to_speak_to_it() {
    let mut db = table("run_waits").await;
    let file = File::new(&db, "t", "ADD c INT").with("  cutOver: {policy: Manual}\n");
    let mut run = file.start(&[]);
    let line = run.until("Listening: theseus ctl --socket ").await;
    let path = line.split_whitespace().nth(4).expect("a path").to_owned();
    run.until("To swap the tables").await;
    assert_eq!(code(&ctl(&path, &["cancel"]).await), 0);
    let (code_of_run, out, err) = run.end().await;
    assert_eq!(code_of_run, 3, "{out}\n{err}");
    assert_eq!(db.tables().await, ["t"]);
    assert!(!std::path::Path::new(&path).exists());
    db.drop().await;
}

/// Programs as hooks: asked before the swap, told of the end, without the password.
#[tokio::test(flavor = "multi_thread")]
async fn programs_are_asked_and_told_and_do_not_see_the_password() {
    let mut db = table("run_hook").await;
    let file = File::new(&db, "t", "ADD c INT");
    let folder = file.folder.path();
    let note = format!(
        "cd '{}' || exit 9\n{{ env; cat; }} >\"$THESEUS_EVENT.new\" && mv \"$THESEUS_EVENT.new\" \"$THESEUS_EVENT\"",
        folder.display()
    );
    let ask = script(folder, "may-i", &format!("{note}\n[ -e agreed ] || {{ echo 'release freeze' >&2; exit 1; }}"));
    let tell = script(folder, "tell", &note);
    let hooks = [format!("--hook=BeforeCutOver={}", ask.display()), format!("--hook=Succeeded,Failed={}", tell.display())];
    let hooks = [hooks[0].as_str(), hooks[1].as_str()];
    let start = |file: &File| {
        let mut command = file.command(&hooks);
        command.env("THESEUS_PASSWORD", &file.password).env("OF_THE_USER", "is kept");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("start theseus");
        let lines = BufReader::new(child.stdout.take().expect("standard output")).lines();
        Running { child, lines, seen: Vec::new() }
    };
    // The password of the document is another one, so it is the variable that logs in.
    let file = file.replace(&format!("password: '{}'", address(&db.url).password), "password: wrong");
    let mut run = start(&file);
    let line = run.until("vetoed by a hook").await;
    assert!(line.contains("/may-i exited with 1: release freeze"), "{line}");
    assert!(!db.definition("t").await.contains("`c`"), "it was vetoed");
    std::fs::write(file.folder.path().join("agreed"), "").expect("agree");
    let (code_of_run, out, err) = run.end().await;
    assert_eq!(code_of_run, 0, "{out}\n{err}");
    assert!(db.definition("t").await.contains("`c`"));
    let noted = |event: &str| std::fs::read_to_string(file.folder.path().join(event)).unwrap_or_else(|e| panic!("{event}: {e}"));
    for (event, kind) in [("BeforeCutOver", "beforecutover"), ("Succeeded", "succeeded")] {
        let text = noted(event);
        let has = |line: &str| assert!(text.lines().any(|l| l == line), "{event} lacks {line}: {text}");
        has("OF_THE_USER=is kept");
        has(&format!("THESEUS_EVENT={event}"));
        has("THESEUS_NAME=change");
        has(&format!("THESEUS_DATABASE={}", db.name));
        has("THESEUS_TABLE=t");
        assert!(text.contains(&format!("dev.theseus.schemamigration.{kind}")), "{text}");
        assert!(!text.contains("THESEUS_PASSWORD"), "{text}");
    }
    assert!(!file.folder.path().join("Failed").exists());

    db.run("INSERT INTO t (a) VALUES (70000)").await;
    let file = file.replace("ADD c INT", "MODIFY a SMALLINT NOT NULL");
    let (code_of_run, out, err) = start(&file).end().await;
    assert_eq!(code_of_run, 1, "{out}\n{err}");
    let text = std::fs::read_to_string(file.folder.path().join("Failed")).expect("it was told");
    assert!(text.contains("\"reason\":\"DataDoesNotFit\"") && text.contains("THESEUS_EVENT=Failed"), "{text}");
    db.drop().await;
}

/// A run that is stopped while a program thinks about it takes it with it; a flag that makes no sense says what would.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_does_not_outlive_the_run_that_asked_it() {
    let mut db = table("run_hook_stop").await;
    let file = File::new(&db, "t", "ADD c INT");
    let pids = file.folder.path().join("pids");
    let thinks = format!("trap '' TERM INT\nsleep 600 &\necho $$ $! >'{0}.new' && mv '{0}.new' '{0}'\nwait", pids.display());
    let thinks = format!("--hook=BeforeCutOver={}", script(file.folder.path(), "thinks", &thinks).display());
    let run = file.start(&[&thinks]);
    let end = Instant::now() + LIMIT;
    while !pids.exists() {
        assert!(Instant::now() < end, "the program is not asked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    run.signal("-TERM");
    let (code_of_run, out, err) = run.end().await;
    assert_eq!(code_of_run, 143, "{out}\n{err}");
    dead(&std::fs::read_to_string(&pids).expect("it was started")).await;
    for (flag, words) in [("--hook=Sometimes=/bin/true", "BeforeCutOver, Succeeded, Failed"), ("--hook=/bin/true", "WHEN=PROGRAM")] {
        let output = file.run(&[flag]).await;
        assert_eq!(code(&output), 2, "{flag}");
        assert!(text(&output.stderr).contains(words), "{flag}: {}", text(&output.stderr));
    }
    assert_eq!(code(&file.run(&["--cancel"]).await), 3);
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}
