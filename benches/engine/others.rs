//! gh-ost and spirit, if their programs are given by `GHOST_BINARY` and `SPIRIT_BINARY`.
use crate::support::{Db, address};
use mysql_async::prelude::Queryable;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Another tool.
pub struct Tool {
    /// For the report.
    pub name: &'static str,
    program: String,
}

/// Those that are given.
pub fn given() -> Vec<Tool> {
    [("gh-ost", "GHOST_BINARY"), ("spirit", "SPIRIT_BINARY")]
        .into_iter()
        .filter_map(|(name, variable)| Some(Tool { name, program: std::env::var(variable).ok().filter(|p| !p.is_empty())? }))
        .collect()
}

impl Tool {
    /// A migration, as each tool's documentation starts one; `None`: it failed or was not done in time.
    pub async fn run(&self, db: &mut Db, table: &str, alter: &str, limit: Duration) -> Option<Duration> {
        let server = address(&db.url);
        let (host, port) = (server.host.clone(), server.port);
        let arguments: Vec<String> = match self.name {
            "gh-ost" => vec![
                format!("--host={host}"),
                format!("--port={port}"),
                format!("--user={}", server.username),
                format!("--password={}", server.password),
                format!("--database={}", db.name),
                format!("--table={table}"),
                format!("--alter={alter}"),
                "--allow-on-master".into(),
                "--initially-drop-ghost-table".into(),
                "--initially-drop-old-table".into(),
                "--ok-to-drop-table".into(),
                "--initially-drop-socket-file".into(),
                "--execute".into(),
            ],
            _ => vec![
                "migrate".into(),
                format!("--host={host}:{port}"),
                format!("--username={}", server.username),
                format!("--password={}", server.password),
                format!("--database={}", db.name),
                format!("--table={table}"),
                format!("--alter={alter}"),
            ],
        };
        let began = Instant::now();
        let mut child = tokio::process::Command::new(&self.program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.program));
        let status = tokio::time::timeout(limit, child.wait()).await;
        let took = began.elapsed();
        if let Ok(Ok(status)) = status
            && status.success()
        {
            return Some(took);
        }
        let _ = child.kill().await;
        // What it leaves is in nobody's way.
        let tables: Vec<String> = db.tables().await.into_iter().filter(|t| t.starts_with('_')).collect();
        for left in tables {
            let _ = db.conn.query_drop(format!("DROP TABLE `{left}`")).await;
        }
        None
    }
}
