//! An application's session: the `mysql` program, which shares no code with the engine or its driver and has what the server gives it.

use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

/// More than any statement takes, on a machine with better things to do.
const LIMIT: Duration = Duration::from_secs(240);
/// What stands for a connection that the server has ended.
pub const LOST: u16 = 2013;

/// Where a server is, and as whom to log in.
#[derive(Clone)]
pub struct Login {
    pub port: u16,
    pub user: String,
    pub password: String,
}

/// A session. Opened when it is first used, and opened again after the server has ended it.
pub struct Client {
    login: Login,
    open: Option<(Child, ChildStdin, Lines<BufReader<ChildStdout>>)>,
    marker: u64,
}

impl Client {
    pub fn new(login: &Login) -> Self {
        Self { login: login.clone(), open: None, marker: 0 }
    }

    fn launch(&mut self) {
        let program = std::env::var("THESEUS_TEST_MYSQLD")
            .expect("THESEUS_TEST_MYSQLD is not set: run the tests by `make test`, or `hack/with-parts --mysql --kube -- cargo test`");
        // One pipe for rows and errors, so that each error stands where it happened.
        let mut child = tokio::process::Command::new("sh")
            .args(["-c", "exec \"$0\" client \"$@\" 2>&1", &program])
            .args(["--port", &self.login.port.to_string(), "--user", &self.login.user])
            .arg(format!("--password={}", self.login.password))
            .args([
                "--batch",
                "--unbuffered",
                "--force",
                "--skip-reconnect",
                "--skip-column-names",
                "--default-character-set=utf8mb4",
                "--database=native",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("start the mysql client");
        let (stdin, stdout) = (child.stdin.take().expect("its input"), child.stdout.take().expect("its output"));
        self.open = Some((child, stdin, BufReader::new(stdout).lines()));
    }

    /// The statement's rows (columns divided by tabs), or the number of the server's error.
    pub async fn run(&mut self, sql: &str) -> Result<Vec<String>, u16> {
        if self.open.is_none() {
            self.launch();
        }
        let result = tokio::time::timeout(LIMIT, self.exchange(sql)).await.unwrap_or_else(|_| panic!("no answer to {sql}"));
        if matches!(result, Err(LOST)) {
            self.open = None;
        }
        result
    }

    async fn exchange(&mut self, sql: &str) -> Result<Vec<String>, u16> {
        self.marker += 1;
        // The end of the answer is an error that only this statement can have made: nothing that a server may be told keeps it back.
        let marker = format!("theseus_end_of_answer_{}", self.marker);
        let (_, stdin, lines) = self.open.as_mut().expect("it is open");
        if stdin.write_all(format!("{sql};\n{marker};\n").as_bytes()).await.is_err() || stdin.flush().await.is_err() {
            return Err(LOST);
        }
        let (mut rows, mut failure) = (Vec::new(), None);
        loop {
            let Ok(Some(line)) = lines.next_line().await else { return Err(failure.unwrap_or(LOST)) };
            if line.contains(&marker) {
                return failure.map_or(Ok(rows), Err);
            }
            match line.strip_prefix("ERROR ").and_then(|rest| rest.split([' ', ':']).next()).and_then(|code| code.parse().ok()) {
                // Lost, whatever the client calls it: gone away (2006), during the query (2013), aborted by the server (1184, 4031).
                Some(2000..=2999 | 1184 | 4031) => return Err(failure.unwrap_or(LOST)),
                Some(code) => failure = failure.or(Some(code)),
                None if line.starts_with("mysql: [Warning]") => {}
                None => rows.push(line),
            }
        }
    }
}
