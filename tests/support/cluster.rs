//! A control plane of the suite's own, the chart installed in it, and operators that run as processes with the token of the chart's account.
//!
//! It is not the control plane of `hack/with-parts`: this one has an operator that watches every namespace, and a second version of the
//! custom resource that takes anything ([`LAX`]). It is started by the first test that asks, shared by all, and stopped by a process that
//! waits for the end of this one, however it ends: a static is never dropped.
use crate::tools::{Output, chart, program, root, run};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Config};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The version of the custom resource that has no schema: an object stored through it is what an older, laxer schema has left behind.
pub const LAX: &str = "v1alpha0";
/// Objects with this label are not the shared operator's.
pub const PRIVATE: &str = "private";
/// Anything that a process has to do by itself. Generous: the machine may be busy.
pub const PATIENCE: Duration = crate::support::PATIENCE;

static PLANE: LazyLock<Plane> = LazyLock::new(Plane::start);
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A number that no other caller of this process gets.
pub fn next() -> u32 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Waits for something that has no watch: asked again and again.
pub async fn until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_true().await {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// etcd, API server, controller manager, and the chart.
pub struct Plane {
    folder: PathBuf,
    kubeconfig: PathBuf,
    /// Our end, of whatever kind, closes its standard input: then it stops everything.
    _reaper: Child,
}

/// Stops what this process has started, once nobody holds the other end of its standard input. What operators logged outlives it beside what
/// tests print: a suite that is ended for hanging says nothing else.
const REAPER: &str = r#"
cat >/dev/null
for file in "$1"/pids/*; do
    pid=${file##*/}
    ! grep -qz operator "/proc/$pid/cmdline" 2>/dev/null || kill -9 "$pid"
done
[ -z "$4" ] || cp "$1"/operator-*.log "$4/"
[ -n "$3" ] || "$2" stop "$1/kube" --delete
[ -n "$3" ] || rm -rf "$1"
"#;

impl Plane {
    /// The one of this process.
    pub fn get() -> &'static Self {
        &PLANE
    }

    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("theseus-operator-suite-").tempdir().unwrap().keep();
        std::fs::create_dir(folder.join("pids")).unwrap();
        let variable = |name| std::env::var(name).unwrap_or_default();
        let (keep, logs) = (variable("THESEUS_KEEP"), variable("THESEUS_TEST_LOGS"));
        let hack_kube = root().join("hack/kube");
        let mut reaper = Command::new("sh");
        reaper.args(["-c", REAPER, "reaper"]).arg(&folder).arg(&hack_kube).arg(keep).arg(logs).stdin(Stdio::piped());
        // A group of its own: Ctrl-C is not for it.
        let reaper = reaper.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().unwrap();
        let output = run(&hack_kube, &["start", folder.join("kube").to_str().unwrap()], &[], "");
        assert!(output.ok, "hack/kube could not start a control plane: {}", output.stderr);
        eprintln!("the suite's control plane is in {}", folder.display());
        Self { kubeconfig: folder.join("kube/kubeconfig"), folder, _reaper: reaper }
    }

    /// kubectl as an administrator.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Output {
        run(&program("kubectl"), arguments, &[("KUBECONFIG", self.kubeconfig.to_str().unwrap())], input)
    }

    /// A client as an administrator, for the calling test's runtime.
    pub async fn client(&self) -> Client {
        let kubeconfig = kube::config::Kubeconfig::read_from(&self.kubeconfig).unwrap();
        Client::try_from(Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap()).unwrap()
    }

    /// Serves [`LAX`] beside the real version.
    async fn add_lax_version(&self) {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client().await);
        let name = "schemamigrations.theseus.dev";
        let mut versions = definitions.get(name).await.unwrap().spec.versions;
        let anything = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        let lax = json!({"name": LAX, "served": true, "storage": false, "schema": anything});
        versions.push(serde_json::from_value(lax).unwrap());
        let patch = Patch::Merge(json!({"spec": {"versions": versions}}));
        definitions.patch(name, &PatchParams::default(), &patch).await.unwrap();
    }
}

/// The chart, installed: what its Deployment would start, and as whom.
pub struct Release {
    namespace: String,
    account: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Release {
    /// Installs the chart with these values.
    pub fn install(name: &str, values: &[&str]) -> Self {
        let plane = Plane::get();
        let namespace = format!("{name}-system");
        let mut helm = vec!["install".to_owned(), name.to_owned(), chart(), "--create-namespace".to_owned()];
        helm.extend(["--namespace".to_owned(), namespace.clone()]);
        // What is asked of MySQL is logged too, so that a password in it would be found.
        for value in values.iter().chain(&["log.filter=info\\,theseus=debug"]) {
            helm.extend(["--set".to_owned(), (*value).to_owned()]);
        }
        let helm: Vec<&str> = helm.iter().map(String::as_str).collect();
        run(&program("helm"), &helm, &[("KUBECONFIG", plane.kubeconfig.to_str().unwrap())], "").stdout();
        let deployments = plane.kubectl(&["get", "deployments", "-n", &namespace, "-o", "json"], "").stdout();
        let deployments: Value = serde_json::from_str(&deployments).unwrap();
        let pod = deployments.pointer("/items/0/spec/template/spec").unwrap();
        let container = &pod["containers"][0];
        let words = |value: &Value| value.as_str().unwrap().to_owned();
        let arguments = container["args"].as_array().unwrap().iter().map(words).collect();
        let environment = container["env"].as_array().unwrap().iter().filter(|variable| variable["value"].is_string());
        let environment = environment.map(|variable| (words(&variable["name"]), words(&variable["value"]))).collect();
        let account = plane.folder.join(format!("{name}.kubeconfig"));
        let token = ["token", &namespace, pod["serviceAccountName"].as_str().unwrap(), account.to_str().unwrap()];
        let token = run(&root().join("hack/kube"), &token, &[("KUBECONFIG", plane.kubeconfig.to_str().unwrap())], "");
        assert!(token.ok, "{}", token.stderr);
        Self { namespace, account, arguments, environment }
    }

    /// The namespace that the chart is installed in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}

/// The operator that every namespace shares.
pub struct Shared {
    operator: Mutex<Operator>,
    log: PathBuf,
    /// Where it answers.
    pub address: SocketAddr,
}

impl Shared {
    /// Starts it if it does not run, and waits until it is ready.
    pub async fn get() -> &'static Self {
        static SHARED: tokio::sync::OnceCell<Shared> = tokio::sync::OnceCell::const_new();
        let shared = SHARED
            .get_or_init(async || {
                let values = [format!("shards[0].labelSelector=!{PRIVATE}"), "maxConcurrentMigrations=100".to_owned()];
                let release = Release::install("theseus", &values.each_ref().map(String::as_str));
                Plane::get().add_lax_version().await;
                let operator = Operator::start(&release).await;
                Self { log: operator.log.clone(), address: operator.address, operator: Mutex::new(operator) }
            })
            .await;
        let ended = shared.operator.lock().unwrap().child.try_wait().unwrap();
        assert!(ended.is_none(), "the shared operator has ended ({ended:?}); its log is {}", shared.log.display());
        shared
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Where it logs.
    pub fn log_file(&self) -> &Path {
        &self.log
    }
}

/// An operator's process. Killed when dropped.
pub struct Operator {
    child: Child,
    log: PathBuf,
    pid_file: PathBuf,
    /// Where it answers.
    pub address: SocketAddr,
}

impl Operator {
    /// Starts what the release's Deployment would start, as the account that it would have, and waits until it is ready.
    pub async fn start(release: &Release) -> Self {
        let folder = &Plane::get().folder;
        let name = format!("operator-{}", next());
        let log = folder.join(format!("{name}.log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_theseus"));
        command.args(release.arguments.iter().filter(|argument| !argument.starts_with("--http-bind")));
        command.arg("--http-bind=127.0.0.1:0").envs(release.environment.iter().cloned());
        command.env("KUBECONFIG", &release.account).env("POD_NAME", &name).env("POD_NAMESPACE", &release.namespace);
        command.env_remove("RUST_LOG").current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        let pid_file = folder.join("pids").join(child.id().to_string());
        std::fs::write(&pid_file, "").unwrap();
        let mut operator = Self { child, log, pid_file, address: ([127, 0, 0, 1], 0).into() };
        until("the operator listens", async || {
            let ended = operator.child.try_wait().unwrap();
            assert!(ended.is_none(), "the operator has ended: {ended:?}\n{}", operator.log());
            let log = operator.log();
            let Some(address) = log.split("\"http\":\"").nth(1).and_then(|rest| rest.split('"').next()) else { return false };
            operator.address = address.parse().unwrap();
            true
        })
        .await;
        let address = operator.address;
        until("the operator is ready", async || http_get(address, "/readyz").await.0 == 200).await;
        operator
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let _ = std::fs::remove_file(&self.pid_file);
    }

    /// SIGTERM, as Kubernetes ends a Pod; waits for the end. Panics after `grace`.
    pub async fn terminate(&mut self, grace: Duration) -> (ExitStatus, Duration) {
        let began = Instant::now();
        assert!(Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap().success());
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let _ = std::fs::remove_file(&self.pid_file);
                return (status, began.elapsed());
            }
            assert!(began.elapsed() < grace, "the operator did not end within {grace:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.kill();
        }
    }
}

/// Status and body of a plain HTTP request; 0 when nobody answers.
pub async fn http_get(address: SocketAddr, path: &str) -> (u16, String) {
    let asked = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: test\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = asked.await.unwrap_or_default();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// Lines of a log that are worth a look when a test has failed.
pub fn complaints(log: &Path) -> String {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\"")).collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
