//! Running Helm, kubectl and the project's scripts, and reading what they print.

use serde_json::Value;
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn chart() -> String {
    root().join("charts/theseus").display().to_string()
}

pub fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a program printed.
pub struct Output {
    pub ok: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Standard output of a program that must succeed.
    #[track_caller]
    pub fn stdout(self) -> String {
        assert!(self.ok, "{}{}", self.stderr, self.stdout);
        self.stdout
    }

    /// What a program that must fail says.
    #[track_caller]
    pub fn refusal(self) -> String {
        assert!(!self.ok, "was accepted, and printed:\n{}", self.stdout);
        self.stderr
    }
}

/// Where a program is: in the folder where `hack/kube install` puts it, else on the PATH.
pub fn program(name: &str) -> PathBuf {
    static FOLDERS: OnceLock<Vec<PathBuf>> = OnceLock::new();
    let folders = FOLDERS.get_or_init(|| {
        let known = Command::new(root().join("hack/kube")).arg("path").output().map(|output| output.stdout).unwrap_or_default();
        let known = String::from_utf8_lossy(&known).trim().to_owned();
        let path = std::env::var("PATH").unwrap_or_default();
        std::env::split_paths(&format!("{known}:{path}")).filter(|folder| folder.is_absolute()).collect()
    });
    folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file()).unwrap_or_else(|| {
        panic!("{name} is neither on the PATH nor in the cache: run `hack/kube install`, or this through `hack/with-parts --kube -- …`")
    })
}

/// Runs a program with `input` on its standard input and `environment` added.
pub fn run(program: &Path, arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir(root());
    // What a developer has set for Helm or kubectl must not change what is tested.
    for variable in ["HELM_NAMESPACE", "HELM_KUBECONTEXT", "KUBECTL_EXTERNAL_DIFF"] {
        command.env_remove(variable);
    }
    command.envs(environment.iter().copied());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        // A program that has said no already does not read the rest.
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Output {
        ok: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Helm without a cluster: an empty kubeconfig, so that it cannot reach one by accident.
pub fn helm(arguments: &[&str]) -> Output {
    run(&program("helm"), arguments, &[("KUBECONFIG", "/dev/null")], "")
}

/// All documents of a YAML text.
pub fn documents(yaml: &str) -> Vec<Value> {
    serde_yaml::from_multiple::<Value>(yaml)
        .unwrap_or_else(|error| panic!("{error}\n{yaml}"))
        .into_iter()
        .filter(|document| !document.is_null())
        .collect()
}

/// Renders the chart as release `theseus` in namespace `theseus-system`.
pub fn template(arguments: &[&str]) -> Output {
    let chart = chart();
    let mut all = vec!["template", "theseus", &chart, "--namespace", "theseus-system"];
    all.extend(arguments);
    helm(&all)
}

/// The chart's objects for these arguments.
#[track_caller]
pub fn objects(arguments: &[&str]) -> Vec<Value> {
    documents(&template(arguments).stdout())
}

/// `Kind name` or `Kind namespace/name`.
pub fn title(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let namespace = text("/metadata/namespace");
    let slash = if namespace.is_empty() { "" } else { "/" };
    format!("{} {namespace}{slash}{}", text("/kind"), text("/metadata/name"))
}

/// The one object with this title.
#[track_caller]
pub fn find<'a>(objects: &'a [Value], wanted: &str) -> &'a Value {
    objects
        .iter()
        .find(|object| title(object) == wanted)
        .unwrap_or_else(|| panic!("no {wanted} among {:?}", objects.iter().map(title).collect::<Vec<_>>()))
}

/// A name that no other run has.
pub fn unique(prefix: &str) -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("{prefix}-{:x}{:x}", std::process::id(), nanos & 0xff_ffff)
}

/// kubectl as an administrator of one cluster.
pub struct Kubectl {
    pub kubeconfig: String,
}

impl Kubectl {
    /// The cluster that `hack/with-parts` has started.
    pub fn of_the_run() -> Self {
        let kubeconfig = std::env::var("THESEUS_TEST_KUBECONFIG").unwrap_or_else(|_| {
            panic!("THESEUS_TEST_KUBECONFIG is not set: run this through `hack/with-parts --kube -- cargo test --test chart`")
        });
        Self { kubeconfig }
    }

    pub fn run(&self, arguments: &[&str], input: &str) -> Output {
        run(&program("kubectl"), arguments, &[("KUBECONFIG", &self.kubeconfig)], input)
    }

    pub fn helm(&self, arguments: &[&str]) -> Output {
        run(&program("helm"), arguments, &[("KUBECONFIG", &self.kubeconfig)], "")
    }

    /// A namespace in which every Pod must keep to the restricted standard.
    pub fn restricted_namespace(&self, name: &str) {
        let namespace = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {
            "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}}});
        self.run(&["apply", "--server-side", "-f", "-"], &namespace.to_string()).stdout();
    }

    /// What the API server says to `yaml` without keeping it. Warnings count as refusals.
    #[track_caller]
    pub fn accepts(&self, yaml: &str) {
        let output = self.run(&["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"], yaml);
        assert!(output.ok && !output.stderr.contains("Warning"), "{}", output.stderr);
    }
}
