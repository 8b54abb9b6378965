//! A real API server takes what the chart and `config/` render, and a release lives through install, upgrade and uninstall.

use crate::{templates, tools::*};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::{path::PathBuf, time::Instant};
use theseus::api::SchemaMigration;

/// Objects whose kind this API server does not have.
fn is_foreign(object: &Value) -> bool {
    object["apiVersion"].as_str().is_some_and(|version| version.starts_with("monitoring.coreos.com/"))
}

fn list(objects: impl IntoIterator<Item = Value>) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": objects.into_iter().collect::<Vec<_>>()}).to_string()
}

#[test]
fn the_api_server_takes_every_rendering_without_a_warning() {
    let kubectl = Kubectl::of_the_run();
    for namespace in ["theseus-system", "shop", "stock"] {
        kubectl.restricted_namespace(namespace);
    }
    for (what, yaml) in templates::VALUES {
        eprintln!("{what}");
        let file = templates::values_file(yaml);
        let objects = objects(&["--values", file.path().to_str().unwrap()]);
        kubectl.accepts(&list(objects.into_iter().filter(|object| !is_foreign(object))));
    }
    let config = run(&program("kubectl"), &["kustomize", "config/default"], &[], "").stdout();
    kubectl.accepts(&config);
}

/// There is nobody here who makes Pods of a Deployment, so its template is asked about as a Pod, in a namespace that enforces the standard.
#[test]
fn the_pod_keeps_to_the_restricted_standard() {
    let kubectl = Kubectl::of_the_run();
    kubectl.restricted_namespace("theseus-system");
    let objects = objects(&["--set", "priorityClassName="]);
    let template = &find(&objects, "Deployment theseus-system/theseus")["spec"]["template"];
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
    pod["metadata"]["name"] = json!(unique("pod"));
    pod["metadata"]["namespace"] = json!("theseus-system");
    kubectl.run(&["create", "--dry-run=server", "-f", "-"], &pod.to_string()).stdout();
    // The question is one that can be answered no.
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let refusal = kubectl.run(&["create", "--dry-run=server", "-f", "-"], &pod.to_string()).refusal();
    assert!(refusal.contains("violates PodSecurity \"restricted"), "{refusal}");
}

/// Probes ask what the program answers.
#[test]
fn probes_scrapes_and_service_meet_the_same_port() {
    let objects = objects(&["--set", "http.port=9123"]);
    let container = find(&objects, "Deployment theseus-system/theseus").pointer("/spec/template/spec/containers/0").unwrap().clone();
    assert_eq!(container["ports"], json!([{"name": "http", "containerPort": 9123, "protocol": "TCP"}]));
    assert!(container["args"].as_array().unwrap().contains(&json!("--http-bind=0.0.0.0:9123")));
    assert_eq!(container["livenessProbe"]["httpGet"], json!({"path": "/healthz", "port": "http"}));
    assert_eq!(container["readinessProbe"]["httpGet"], json!({"path": "/readyz", "port": "http"}));
    let service = find(&objects, "Service theseus-system/theseus-metrics");
    assert_eq!(service.pointer("/spec/ports/0/targetPort"), Some(&json!("http")));
}

/// A control plane of this test's own: it installs CRDs, of which there is one set in a cluster.
struct ControlPlane {
    folder: tempfile::TempDir,
    kubectl: Kubectl,
}

fn hack_kube() -> PathBuf {
    root().join("hack/kube")
}

impl ControlPlane {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = run(&hack_kube(), &["start", folder.path().join("kube").to_str().unwrap()], &[], "");
        assert!(output.ok, "hack/kube could not start a control plane: {}", output.stderr);
        let kubeconfig = folder.path().join("kube/kubeconfig").display().to_string();
        Self { folder, kubectl: Kubectl { kubeconfig } }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let folder = self.folder.path().join("kube");
        let output = run(&hack_kube(), &["stop", folder.to_str().unwrap(), "--delete"], &[], "");
        if !output.ok {
            eprintln!("hack/kube could not stop the control plane in {}: {}", folder.display(), output.stderr);
        }
    }
}

/// Writes a status as the operator does, by server-side apply: kubectl would read the subresource first, which the operator may not.
fn write_status(kubeconfig: &str, name: &str) {
    let write = async {
        let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
        let migrations: kube::Api<SchemaMigration> = kube::Api::namespaced(kube::Client::try_from(config).unwrap(), "default");
        let status = json!({"apiVersion": "theseus.dev/v1alpha1", "kind": "SchemaMigration", "status": {"message": "seen"}});
        migrations.patch_status(name, &PatchParams::apply("theseus").force(), &Patch::Apply(status)).await.unwrap();
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(write);
}

#[test]
fn a_release_is_installed_upgraded_uninstalled_and_installed_again() {
    let plane = ControlPlane::start();
    let kubectl = &plane.kubectl;
    let (chart, began) = (chart(), Instant::now());

    // Into an empty cluster, CRDs and all.
    let notes = kubectl.helm(&["install", "theseus", &chart, "--namespace", "theseus-system", "--create-namespace"]).stdout();
    kubectl
        .run(
            &["wait", "--for=condition=Established", "crd/schemamigrations.theseus.dev", "crd/mysqlservers.theseus.dev", "--timeout=180s"],
            "",
        )
        .stdout();
    let deployment = kubectl.run(&["get", "deployment", "theseus", "-n", "theseus-system", "-o", "json"], "").stdout();
    let deployment: Value = serde_json::from_str(&deployment).unwrap();
    assert_eq!(deployment.pointer("/spec/template/spec/serviceAccountName"), Some(&json!("theseus")));

    let example = notes.split("<<'YAML'\n").nth(1).and_then(|rest| rest.split("\n  YAML").next()).expect("the notes have an example");
    // This API server takes every example, strictly: an unknown field would be an error.
    for namespace in ["shop", "billing"] {
        kubectl.run(&["create", "namespace", namespace], "").stdout();
    }
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let file = entry.unwrap().path().display().to_string();
        let output = kubectl.run(&["create", "--validate=strict", "--dry-run=server", "-f", &file], "");
        assert!(output.ok && !output.stderr.contains("Warning"), "{file}: {}", output.stderr);
    }
    let misspelt = example.replace("cutOver:", "cutover:");
    assert!(kubectl.run(&["create", "--validate=strict", "--dry-run=server", "-f", "-"], &misspelt).refusal().contains("unknown field"));

    // And the notes' first migration.
    kubectl.run(&["apply", "-f", "-"], example).stdout();
    let migrations = || kubectl.run(&["get", "smig", "-o", "name"], "").stdout();
    assert_eq!(migrations(), "schemamigration.theseus.dev/orders-add-status\n");

    // The account that the operator runs under can do what it must with it, and no more.
    let account = plane.folder.path().join("account.kubeconfig").display().to_string();
    let token = run(&hack_kube(), &["token", "theseus-system", "theseus", &account], &[("KUBECONFIG", &kubectl.kubeconfig)], "");
    assert!(token.ok, "{}", token.stderr);
    let operator = Kubectl { kubeconfig: account };
    operator.run(&["get", "smig", "-A"], "").stdout();
    write_status(&operator.kubeconfig, "orders-add-status");
    let message = kubectl.run(&["get", "smig", "orders-add-status", "-o", "jsonpath={.status.message}"], "").stdout();
    assert_eq!(message, "seen");
    assert!(operator.run(&["get", "secrets", "-A"], "").refusal().contains("forbidden"));
    assert!(operator.run(&["get", "deployments", "-n", "theseus-system"], "").refusal().contains("forbidden"));

    // Other values; the CRDs and their objects live on.
    let namespace = ["--namespace", "theseus-system"];
    let upgrade = ["upgrade", "theseus", &chart, namespace[0], namespace[1], "--set", "maxConcurrentMigrations=3,crds.enabled=true"];
    kubectl.helm(&upgrade).stdout();
    let arguments = kubectl
        .run(&["get", "deployment", "theseus", "-n", "theseus-system", "-o", "jsonpath={.spec.template.spec.containers[0].args}"], "");
    assert!(arguments.stdout().contains("--max-concurrent-migrations=3"));
    assert_eq!(migrations(), "schemamigration.theseus.dev/orders-add-status\n");

    // Gone but for the CRDs and what people made.
    kubectl.helm(&["uninstall", "theseus", namespace[0], namespace[1]]).stdout();
    let left =
        kubectl.run(&["get", "clusterrole,clusterrolebinding", "-o", "name", "-l", "app.kubernetes.io/instance=theseus"], "").stdout();
    assert_eq!(left, "");
    assert_eq!(migrations(), "schemamigration.theseus.dev/orders-add-status\n");

    // And back: Helm takes its CRDs over again.
    kubectl.helm(&["install", "theseus", &chart, namespace[0], namespace[1]]).stdout();
    assert_eq!(migrations(), "schemamigration.theseus.dev/orders-add-status\n");
    eprintln!("{:.1} s", began.elapsed().as_secs_f64());
}
