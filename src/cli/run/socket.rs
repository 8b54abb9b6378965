//! `--socket`: a Unix socket that takes one line for each connection and answers it.
//!
//! The file is there only while someone listens: it is made with mode 0600 before anybody can reach it, a stale one of a killed run is
//! replaced, one that answers is not, and it is removed at the end unless it is not ours any more.
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::command::Answer;

/// A line longer than this is no command.
const MAX_LINE: u64 = 4096;
/// How long a client may take to say its line, or to take the answer.
const CLIENT_LIMIT: Duration = Duration::from_secs(5);

/// A line and where its answer goes.
pub type Request = (String, oneshot::Sender<Answer>);

/// Why nobody listens.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Someone answers there.
    #[error("another run is listening on {0}: choose another --socket")]
    InUse(String),
    /// A file that is no socket.
    #[error("{0} exists and is not a socket: choose another --socket")]
    NotASocket(String),
    /// The system's.
    #[error("cannot listen on {path}: {source}")]
    Io {
        /// The socket.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Nobody listens there, or it does not answer.
    #[error("no run is listening at {path}: {source}")]
    NoAnswer {
        /// The socket.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Listens until it is dropped; owns its task and its file.
pub struct Socket {
    path: PathBuf,
    /// Device and inode, to know the file again.
    identity: (u64, u64),
    task: JoinHandle<()>,
}

impl Socket {
    /// Starts to listen; lines go to `requests`.
    ///
    /// # Errors
    /// The path is taken or cannot be used.
    pub async fn listen(path: &Path, requests: mpsc::Sender<Request>) -> Result<Self, SocketError> {
        let shown = || path.display().to_string();
        if let Ok(found) = std::fs::symlink_metadata(path) {
            if !found.file_type().is_socket() {
                return Err(SocketError::NotASocket(shown()));
            }
            if UnixStream::connect(path).await.is_ok() {
                return Err(SocketError::InUse(shown()));
            }
        }
        let (listener, identity) = bind(path).map_err(|source| SocketError::Io { path: shown(), source })?;
        let task = tokio::spawn(serve(listener, requests));
        Ok(Self { path: path.to_owned(), identity, task })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Binds in a folder that only we can enter, and moves the socket to its place when its mode is right.
fn bind(path: &Path) -> std::io::Result<(UnixListener, (u64, u64))> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let private = folder.join(format!(".theseus{:08x}", fastrand::u32(..)));
    std::fs::DirBuilder::new().mode(0o700).create(&private)?;
    let temporary = private.join("s");
    let bound = (|| {
        let listener = UnixListener::bind(&temporary)?;
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))?;
        let metadata = std::fs::metadata(&temporary)?;
        std::fs::rename(&temporary, path)?;
        Ok((listener, (metadata.dev(), metadata.ino())))
    })();
    let _ = std::fs::remove_file(&temporary);
    let _ = std::fs::remove_dir(&private);
    bound
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.identity);
        if ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// One client at a time: each is answered at once or given up, and nothing is spawned that nobody joins.
async fn serve(listener: UnixListener, requests: mpsc::Sender<Request>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = tokio::time::timeout(CLIENT_LIMIT, client(stream, &requests)).await;
            }
            // Out of file descriptors, most likely: not our end.
            Err(error) => {
                tracing::warn!("the socket could not accept a client: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn client(mut stream: UnixStream, requests: &mpsc::Sender<Request>) -> std::io::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    BufReader::new(read.take(MAX_LINE)).read_line(&mut line).await?;
    let (sender, answer) = oneshot::channel();
    let ending = || {
        if line.starts_with("json ") {
            r#"{"ok":false,"message":"the migration is ending"}"#.to_owned()
        } else {
            "error: the migration is ending".to_owned()
        }
    };
    let text = match requests.send((line.clone(), sender)).await {
        Ok(()) => answer.await.map_or_else(|_| ending(), |a| a.text),
        Err(_) => ending(),
    };
    write.write_all(text.as_bytes()).await?;
    write.write_all(b"\n").await?;
    write.shutdown().await
}

/// Says a line to a socket and returns the answer.
///
/// # Errors
/// Nobody listens there, or the answer did not come.
pub async fn ask(path: &Path, line: &str) -> Result<String, SocketError> {
    let failed = |source| SocketError::NoAnswer { path: path.display().to_string(), source };
    let talk = async {
        let mut stream = UnixStream::connect(path).await?;
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    match tokio::time::timeout(CLIENT_LIMIT * 2, talk).await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(failed(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in 10 s"))),
    }
}
