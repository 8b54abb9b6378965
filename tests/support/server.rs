//! A server of a test's own, with settings that the shared one must not have.

#![allow(dead_code, reason = "each suite uses its own part")]

use std::path::PathBuf;
use std::process::Command;

/// Stopped and removed when it goes; `hack/with-parts` cleans up after a test that is killed.
pub struct Server {
    /// `mysql://root:…@127.0.0.1:PORT`
    pub url: String,
    /// Its folder (`data/ca.pem` and the like).
    pub dir: PathBuf,
}

fn program() -> PathBuf {
    std::env::var_os("THESEUS_TEST_MYSQLD")
        .map(PathBuf::from)
        .expect("THESEUS_TEST_MYSQLD is not set: run the tests by `make test`, or `hack/with-parts --mysql --kube -- cargo test`")
}

impl Server {
    /// Starts one with these options of mysqld.
    pub fn start(options: &[&str]) -> Self {
        Self::start_with(&[], options)
    }

    /// The same with environment variables (`TZ`).
    pub fn start_with(environment: &[(&str, &str)], options: &[&str]) -> Self {
        let output = Command::new(program())
            .envs(environment.iter().copied())
            .args(["start", "--fast", "--buffer-pool", "64M", "--"])
            .args(["--innodb-redo-log-capacity=64M", "--performance-schema-max-table-instances=500", "--innodb-use-native-aio=OFF"])
            .args(options)
            .output()
            .expect("hack/mysql can be run");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let value = |name: &str| {
            let line = out.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
            line.unwrap_or_else(|| panic!("mysqld with {options:?} did not start: {err}")).to_owned()
        };
        Self { url: value("MYSQL_URL"), dir: value("MYSQL_DIR").into() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that was started for a test has nothing worth a slow end.
        let _ = Command::new(program()).arg("kill").arg(&self.dir).output();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
