//! What the chart renders, and what its schema refuses.

use crate::tools::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Values that people set, one by one and together: each must lint, render, and be taken by the API server (`cluster.rs`).
pub const VALUES: &[(&str, &str)] = &[
    ("defaults", "{}"),
    ("one namespace", "watchNamespaces: [shop]"),
    ("two namespaces", "watchNamespaces: [shop, stock]"),
    (
        "shards",
        r#"
shards:
  - {name: "", labelSelector: "!theseus.dev/shard"}
  - {name: big, labelSelector: "theseus.dev/shard in (big, huge)", replicas: 2}
podDisruptionBudget: {enabled: true}
"#,
    ),
    ("no leader election", "leaderElection: {enabled: false}"),
    ("stopped", "shards: [{name: \"\", replicas: 0}]"),
    ("rights made elsewhere", "rbac: {create: false}\nserviceAccount: {create: false, name: operators}\ncrds: {enabled: false}"),
    (
        "everything",
        r#"
nameOverride: schema
fullnameOverride: schema-changes
image: {repository: example.test/theseus, digest: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", pullPolicy: Always}
imagePullSecrets: [{name: registry}]
maxConcurrentMigrations: 3
log: {format: text, filter: "info,theseus::engine=debug"}
http: {port: 9090}
crds: {keep: false}
rbac: {aggregateRoles: false}
serviceAccount: {name: changer, annotations: {example.test/role: "yes"}}
metrics: {service: {port: 80, annotations: {a: b}}}
networkPolicy: {enabled: true, mysqlPorts: [3306, 3307], metricsFrom: [{namespaceSelector: {matchLabels: {name: monitoring}}}]}
podDisruptionBudget: {enabled: true, maxUnavailable: "50%"}
terminationGracePeriodSeconds: 120
resources: {requests: {cpu: 1, memory: 1Gi}, limits: {memory: 1Gi}}
labels: {team: data}
podLabels: {sidecar.istio.io/inject: "false"}
podAnnotations: {a: b}
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{key: dedicated, operator: Exists, effect: NoSchedule}]
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}
topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway}]
priorityClassName: system-cluster-critical
extraEnv: [{name: A, value: b}]
extraArgs: ["--watch-label-selector=a=b"]
"#,
    ),
];

/// A values file for `--values`.
pub fn values_file(yaml: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), yaml).unwrap();
    file
}

#[test]
fn lints_and_renders_with_everything_that_people_set() {
    for (what, yaml) in VALUES {
        let file = values_file(yaml);
        let path = file.path().to_str().unwrap();
        let lint = helm(&["lint", "--strict", "--values", path, &chart()]);
        assert!(lint.ok, "{what}: {}{}", lint.stdout, lint.stderr);
        assert!(!objects(&["--values", path]).is_empty(), "{what}");
    }
}

#[test]
fn the_defaults_are_these_objects() {
    let mut titles: Vec<String> = objects(&[]).iter().map(title).collect();
    titles.sort();
    assert_eq!(
        titles,
        [
            "ClusterRole theseus",
            "ClusterRole theseus-admin",
            "ClusterRole theseus-edit",
            "ClusterRole theseus-view",
            "ClusterRoleBinding theseus",
            "CustomResourceDefinition mysqlservers.theseus.dev",
            "CustomResourceDefinition schemamigrations.theseus.dev",
            "Deployment theseus-system/theseus",
            "Role theseus-system/theseus-leader-election",
            "RoleBinding theseus-system/theseus-leader-election",
            "Service theseus-system/theseus-metrics",
            "ServiceAccount theseus-system/theseus",
        ]
    );
}

/// Bad values, and the words that the refusal must have for a person to find the mistake.
#[test]
fn the_schema_refuses_what_makes_no_sense_by_name() {
    for (arguments, words) in [
        (&["--set", "replicaCount=2"][..], "replicaCount"),
        (&["--set", "image.registry=x"], "registry"),
        (&["--set", "image.repository="], "/image/repository"),
        (&["--set", "image.pullPolicy=Sometimes"], "/image/pullPolicy"),
        (&["--set", "image.digest=abc"], "/image/digest"),
        (&["--set", "log.format=xml"], "/log/format"),
        (&["--set-string", "maxConcurrentMigrations=ten"], "/maxConcurrentMigrations"),
        (&["--set", "maxConcurrentMigrations=0"], "/maxConcurrentMigrations"),
        (&["--set", "http.port=70000"], "/http/port"),
        (&["--set", "watchNamespaces={Shop}"], "/watchNamespaces/0"),
        (&["--set", "watchNamespaces={a,a}"], "/watchNamespaces"),
        (&["--set-string", "leaderElection.enabled=yes"], "/leaderElection/enabled"),
        (&["--set", "leaderElection.enabled=false,shards[0].replicas=2"], "/shards/0/replicas"),
        (&["--set-json", "shards=[]"], "/shards"),
        (&["--set-json", r#"shards=[{"name":"a"},{"name":"b"}]"#], "labelSelector"),
        (&["--set-json", r#"shards=[{"name":"a","labelSelector":"x"},{"name":"a","labelSelector":"y"}]"#], "two shards have the same name"),
        (&["--set-json", r#"shards=[{"name":"A"}]"#], "/shards/0/name"),
        (&["--set", "serviceAccount.create=false"], "/serviceAccount/name"),
        (&["--set", "terminationGracePeriodSeconds=1"], "/terminationGracePeriodSeconds"),
        (&["--set", "metrics.serviceMonitor.enabled=true,metrics.service.enabled=false"], "needs metrics.service.enabled"),
        (&["--set", "metrics.serviceMonitor.interval=often"], "/metrics/serviceMonitor/interval"),
        (&["--set-json", "networkPolicy.mysqlPorts=[]"], "/networkPolicy/mysqlPorts"),
        (&["--set-json", "podDisruptionBudget.maxUnavailable=-1"], "/podDisruptionBudget/maxUnavailable"),
    ] {
        let refusal = template(arguments).refusal();
        assert!(refusal.contains(words), "{arguments:?}: {refusal}");
    }
}

#[test]
fn each_shard_is_a_deployment_with_pods_of_its_own() {
    let file = values_file(VALUES.iter().find(|(what, _)| *what == "shards").unwrap().1);
    let objects = objects(&["--values", file.path().to_str().unwrap()]);
    let all = find(&objects, "Deployment theseus-system/theseus");
    let big = find(&objects, "Deployment theseus-system/theseus-big");
    assert_eq!((&all["spec"]["replicas"], &big["spec"]["replicas"]), (&json!(1), &json!(2)));
    assert_ne!(all["spec"]["selector"], big["spec"]["selector"]);
    for (deployment, selector) in
        [(all, "--watch-label-selector=!theseus.dev/shard"), (big, "--watch-label-selector=theseus.dev/shard in (big, huge)")]
    {
        let arguments = deployment.pointer("/spec/template/spec/containers/0/args").unwrap().as_array().unwrap();
        assert!(arguments.contains(&json!(selector)), "{arguments:?}");
        assert!(arguments.contains(&json!("--leader-elect")), "{arguments:?}");
        let matched = deployment["spec"]["selector"]["matchLabels"].as_object().unwrap();
        let labels = deployment.pointer("/spec/template/metadata/labels").unwrap();
        assert!(matched.iter().all(|(name, value)| labels[name] == *value), "the Deployment does not select its own Pods");
    }
    find(&objects, "PodDisruptionBudget theseus-system/theseus-big");
}

#[test]
fn without_a_lease_two_operators_never_overlap() {
    let objects = objects(&["--set", "leaderElection.enabled=false"]);
    let deployment = find(&objects, "Deployment theseus-system/theseus");
    assert_eq!(deployment["spec"]["strategy"], json!({"type": "Recreate"}));
    assert!(!deployment.to_string().contains("--leader-elect"));
    assert!(!objects.iter().any(|object| title(object).contains("leader-election")));
}

#[test]
fn an_uninstall_keeps_the_crds_unless_told_otherwise() {
    let keep = |arguments: &[&str]| {
        objects(arguments)
            .into_iter()
            .filter(|object| object["kind"] == "CustomResourceDefinition")
            .map(|object| object["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep")
            .collect::<Vec<_>>()
    };
    assert_eq!(keep(&[]), [true, true]);
    assert_eq!(keep(&["--set", "crds.keep=false"]), [false, false]);
    assert_eq!(keep(&["--set", "crds.enabled=false"]), [true; 0]);
}

/// The CRDs of the chart and of `config/` are those of `crds/`, to the byte.
#[test]
fn the_crds_are_the_generated_ones() {
    let mut names: Vec<String> = std::fs::read_dir(root().join("crds"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    names.sort();
    assert_eq!(names, ["theseus.dev_mysqlservers.yaml", "theseus.dev_schemamigrations.yaml"]);
    for name in names {
        let generated = read(&format!("crds/{name}"));
        for copy in ["charts/theseus/files/crds", "config/crd"] {
            assert_eq!(read(&format!("{copy}/{name}")), generated, "{copy}/{name}: run hack/sync-crds");
        }
    }
}

#[test]
fn there_is_one_version() {
    let chart = &documents(&read("charts/theseus/Chart.yaml"))[0];
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

/// The operator takes the arguments that the chart gives it.
#[test]
fn the_operator_knows_its_arguments() {
    for (what, yaml) in VALUES {
        let file = values_file(yaml);
        for object in objects(&["--values", file.path().to_str().unwrap()]) {
            let Some(arguments) = object.pointer("/spec/template/spec/containers/0/args").and_then(Value::as_array) else { continue };
            let mut arguments: Vec<&str> = arguments.iter().map(|argument| argument.as_str().unwrap()).collect();
            // Everything before it is parsed first: an unknown argument or a value that makes no sense is an error all the same.
            arguments.push("--help");
            let output = run(env!("CARGO_BIN_EXE_theseus").as_ref(), &arguments, &[], "");
            assert!(output.ok, "{what}: theseus {}: {}", arguments.join(" "), output.stderr);
        }
    }
}

/// `kubectl kustomize config/default` and the chart with its defaults make the same objects.
#[test]
fn kustomize_renders_to_the_same() {
    let kustomize = run(&program("kubectl"), &["kustomize", "config/default"], &[("KUBECONFIG", "/dev/null")], "").stdout();
    let by_title = |objects: Vec<Value>| -> BTreeMap<String, Value> {
        objects
            .into_iter()
            .map(|mut object| {
                (title(&object), {
                    without_the_tools_marks(&mut object);
                    object
                })
            })
            .collect()
    };
    let mut config = by_title(documents(&kustomize));
    // `helm install --create-namespace` makes it; kustomize has to be told.
    assert!(config.remove("Namespace theseus-system").is_some());
    let chart = by_title(objects(&[]));
    assert_eq!(chart.keys().collect::<Vec<_>>(), config.keys().collect::<Vec<_>>());
    for (title, object) in &chart {
        let (left, right) = (serde_json::to_string_pretty(object).unwrap(), serde_json::to_string_pretty(&config[title]).unwrap());
        let first = left.lines().zip(right.lines()).find(|(a, b)| a != b);
        assert!(left == right, "{title}: the chart and config/ differ, first at (chart, config): {first:?}");
    }
}

/// Takes away what only says which tool rendered an object.
fn without_the_tools_marks(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for mark in ["helm.sh/chart", "app.kubernetes.io/managed-by", "helm.sh/resource-policy"] {
                map.remove(mark);
            }
            map.values_mut().for_each(without_the_tools_marks);
            if map.get("annotations").is_some_and(|annotations| *annotations == json!({})) {
                map.remove("annotations");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(without_the_tools_marks),
        _ => {}
    }
}
