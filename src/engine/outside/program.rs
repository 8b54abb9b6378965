//! Programs as hooks: one is run with an event on its standard input, and says its answer with its exit status.
//!
//! Promises: it never has longer than its limit; then it is killed with all that it started (its process group), and so it is when the
//! caller drops the future. It may read its input or not, and write as much as it likes: only the beginning is kept. The variable with the
//! account's password is not in its environment. What it leaves behind in the background when it ends by itself is its own business.

use rustix::process::{Pid, Signal, kill_process_group};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// Where `theseus run` may have the account's password from. No program inherits it.
pub const PASSWORD_VARIABLE: &str = "THESEUS_PASSWORD";
/// How long its outputs are still read after a program has ended: what it wrote is there already, and a process that it left in the
/// background may keep them open for ever.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its exit status, or the signal.
    pub status: ExitStatus,
    /// The beginning of its standard output, or of its standard error if it said nothing there.
    pub text: String,
}

/// Runs a program. `text_limit` is how much of each of its outputs is kept, in bytes.
///
/// # Errors
/// In words: it could not be started, or was not done in time.
pub async fn run(program: &Path, variables: &[(&str, &str)], input: &[u8], limit: Duration, text_limit: usize) -> Result<Exit, String> {
    let name = program.display();
    let mut command = Command::new(program);
    command.env_remove(PASSWORD_VARIABLE).envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut group = Group(command.spawn().map_err(|error| format!("could not start {name}: {error}"))?);
    match tokio::time::timeout(limit, converse(&mut group.0, input, text_limit)).await {
        Ok(ended) => ended.map_err(|error| format!("{name}: could not read its exit status: {error}")),
        Err(_) => Err(format!("{name} did not finish within {} s and was killed", limit.as_secs_f32())),
    }
}

/// A program and all that it started, killed when this is dropped before the program has ended.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Until the program is waited for, its number is nobody else's; then there is none.
        if let Some(group) = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            // An error says that nobody is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Gives a program its input, and waits for its end.
async fn converse(child: &mut Child, input: &[u8], text_limit: usize) -> std::io::Result<Exit> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read its input is no error. Its end closes the pipe.
            let _ = stdin.write_all(input).await;
        }
    };
    let status = {
        let talk = async { tokio::join!(feed, listen(stdout, &mut said, text_limit), listen(stderr, &mut complained, text_limit)) };
        tokio::pin!(talk);
        // Waiting is cancel-safe.
        tokio::select! {
            status = child.wait() => {
                let _ = tokio::time::timeout(LAST_WORDS, &mut talk).await;
                status?
            }
            _ = &mut talk => child.wait().await?,
        }
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let said = text(&said);
    Ok(Exit { status, text: if said.is_empty() { text(&complained) } else { said } })
}

/// Reads to the end, so that nobody waits for a full pipe, and keeps the beginning.
async fn listen(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>, limit: usize) {
    let Some(mut from) = from else { return };
    let mut buffer = [0; 4 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        kept.extend(buffer.iter().take(n.min(limit.saturating_sub(kept.len()))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::time::Instant;

    /// Written by another process: a file that this one has open for writing, or a child that it forks meanwhile, cannot be run (ETXTBSY).
    fn script(folder: &tempfile::TempDir, text: &str) -> PathBuf {
        let path = folder.path().join("hook");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$2\" >\"$1\" && chmod +x \"$1\"", "sh"]).arg(&path).arg(text);
        assert!(command.status().expect("sh").success());
        path
    }

    /// How a script ends, and what it says.
    async fn end(text: &str, input: &[u8]) -> (Option<i32>, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let ended = run(&script(&folder, text), &[("WHO", "world")], input, Duration::from_secs(20), 100).await.expect("it ends in time");
        (ended.status.code(), ended.text)
    }

    #[tokio::test]
    async fn a_program_is_told_and_says_something() {
        for (text, code, said) in [
            ("exit 0", Some(0), ""),
            ("echo fine; exit 3", Some(3), "fine"),
            ("echo; echo \"hello $WHO\"; echo worse >&2; exit 125", Some(125), "hello world"),
            ("echo 'release freeze' >&2; exit 7", Some(7), "release freeze"),
            ("echo dying; kill -9 $$", None, "dying"),
            ("cat; exit 1", Some(1), "event"),
        ] {
            assert_eq!(end(text, b"event").await, (code, said.to_owned()), "{text}");
        }
        let nowhere = run(Path::new("/nowhere/at/all"), &[], b"", Duration::from_secs(20), 100).await;
        assert!(nowhere.is_err_and(|why| why.starts_with("could not start /nowhere/at/all: No such file")));
    }

    /// Pipes hold 64 KiB.
    #[tokio::test]
    async fn nobody_waits_for_a_full_pipe() {
        let began = Instant::now();
        let much = vec![b'x'; 1 << 20];
        let flood = "head -c 1000000 /dev/zero | tr '\\0' y";
        assert_eq!(end("exit 0", &much).await, (Some(0), String::new()), "it reads nothing");
        assert_eq!(end("exec <&-; sleep 0.1", &much).await, (Some(0), String::new()), "it refuses to read");
        assert_eq!(
            end(&format!("{flood}; {flood} >&2; cat >/dev/null"), &much).await,
            (Some(0), "y".repeat(100)),
            "it writes before it reads"
        );
        assert_eq!(end("sleep 30 & echo bye", &much).await, (Some(0), "bye".to_owned()), "something keeps its outputs open");
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    }

    /// Also when nobody waits for it any more.
    #[tokio::test]
    async fn all_that_a_program_started_is_killed_with_it() {
        for limit in [Duration::from_secs(3), Duration::from_secs(60)] {
            let folder = tempfile::tempdir().expect("a folder");
            let pids = folder.path().join("pids");
            let path = script(&folder, "trap '' TERM\nsleep 60 &\necho $$ $! >\"$PIDS.new\" && mv \"$PIDS.new\" \"$PIDS\"\nwait");
            let pids = pids.to_str().expect("text");
            let variables = [("PIDS", pids)];
            let started = async {
                while !Path::new(pids).exists() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            if limit < Duration::from_secs(60) {
                let ended = run(&path, &variables, b"", limit, 100).await;
                assert!(ended.as_ref().is_err_and(|why| why.ends_with("did not finish within 3 s and was killed")), "{ended:?}");
            } else {
                tokio::select! {
                    ended = run(&path, &variables, b"", limit, 100) => panic!("{ended:?}"),
                    () = started => {}
                }
            }
            let pids = std::fs::read_to_string(pids).expect("it started");
            assert_eq!(pids.split_whitespace().count(), 2, "{pids}");
            for pid in pids.split_whitespace() {
                let end = Instant::now() + Duration::from_secs(10);
                // A dead one may wait for whoever is to collect it.
                while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
                    assert!(Instant::now() < end, "{pid} of {pids} lives on after {limit:?}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }
}
