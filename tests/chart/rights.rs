//! The operator's rights: exactly these, in every way to install it; tried out against the API server's own authorizer.

use crate::tools::*;
use serde_json::{Value, json};

/// Rules as lines, sorted: `group/resource: verbs`.
fn rules(role: &Value) -> Vec<String> {
    let words = |rule: &Value, field: &str| -> Vec<String> {
        rule[field].as_array().into_iter().flatten().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let mut lines = Vec::new();
    for rule in role["rules"].as_array().unwrap() {
        assert!(rule.as_object().unwrap().keys().all(|key| ["apiGroups", "resources", "verbs"].contains(&key.as_str())), "{rule}");
        for group in words(rule, "apiGroups") {
            for resource in words(rule, "resources") {
                lines.push(format!("{group}/{resource}: {}", words(rule, "verbs").join(" ")));
            }
        }
    }
    lines.sort();
    lines
}

const OPERATOR: [&str; 6] = [
    "/secrets: get",
    "events.k8s.io/events: create patch",
    "theseus.dev/mysqlservers/status: patch",
    "theseus.dev/mysqlservers: get list watch",
    "theseus.dev/schemamigrations/status: patch",
    "theseus.dev/schemamigrations: get list watch patch delete",
];
const LEASES: [&str; 1] = ["coordination.k8s.io/leases: get create patch"];

#[test]
fn the_rules_are_exactly_these() {
    let everywhere = objects(&[]);
    assert_eq!(rules(find(&everywhere, "ClusterRole theseus")), OPERATOR);
    assert_eq!(rules(find(&everywhere, "Role theseus-system/theseus-leader-election")), LEASES);

    let here = objects(&["--set", "watchNamespaces={shop,stock}"]);
    assert_eq!(rules(find(&here, "Role shop/theseus")), OPERATOR);
    assert_eq!(rules(find(&here, "Role stock/theseus")), OPERATOR);
    // Nothing of the operator's is cluster-wide then; the roles for people are, since Kubernetes' own are.
    for object in &here {
        assert_ne!(object["kind"], "ClusterRoleBinding");
        if object["kind"] == "ClusterRole" {
            let labels = object["metadata"]["labels"].to_string();
            assert!(labels.contains("rbac.authorization.k8s.io/aggregate-to-"), "{}", title(object));
        }
    }
}

#[test]
fn no_rule_has_a_wildcard_or_gives_rights_away() {
    for arguments in [&[][..], &["--set", "watchNamespaces={shop}"]] {
        for object in objects(arguments).iter().filter(|object| ["Role", "ClusterRole"].contains(&object["kind"].as_str().unwrap())) {
            for line in rules(object) {
                assert!(
                    !line.contains('*') && !line.contains("escalate") && !line.contains("bind") && !line.contains("impersonate"),
                    "{line}"
                );
            }
        }
    }
}

/// One question to the API server's authorizer.
struct Question {
    user: Value,
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    namespace: String,
}

/// All questions in one go; the answers in their order.
fn answers(kubectl: &Kubectl, questions: &[Question]) -> Vec<bool> {
    let items: Vec<Value> = questions
        .iter()
        .map(|question| {
            let (resource, subresource) = question.resource.split_once('/').unwrap_or((question.resource, ""));
            let mut spec = question.user.clone();
            spec["resourceAttributes"] = json!({"verb": question.verb, "group": question.group, "resource": resource,
                "subresource": subresource, "namespace": question.namespace});
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec})
        })
        .collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let text = kubectl.run(&["create", "-f", "-", "-o", "json"], &list).stdout();
    // One document per object, or one List, by the version of kubectl.
    let mut reviews: Vec<Value> =
        serde_json::Deserializer::from_str(&text).into_iter::<Value>().map(|document| document.unwrap()).collect();
    if let Some(items) = reviews.first().and_then(|review| review["items"].as_array()) {
        reviews = items.clone();
    }
    assert_eq!(reviews.len(), questions.len());
    reviews.iter().map(|review| review["status"]["allowed"] == json!(true)).collect()
}

#[track_caller]
fn check(kubectl: &Kubectl, cases: Vec<(bool, Question)>) {
    let (expected, questions): (Vec<bool>, Vec<Question>) = cases.into_iter().unzip();
    let wrong: Vec<String> = answers(kubectl, &questions)
        .iter()
        .zip(&expected)
        .zip(&questions)
        .filter(|((answer, expected), _)| answer != expected)
        .map(|((answer, _), q)| format!("may {} {}/{} in {:?}: {answer}", q.verb, q.group, q.resource, q.namespace))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// Every verb on everything that the operator touches or might be tempted to touch.
fn matrix(user: &Value, namespace: &str, allowed: &[(&str, &str, &[&str])]) -> Vec<(bool, Question)> {
    let tempting = [
        ("", "secrets"),
        ("", "configmaps"),
        ("", "pods"),
        ("", "pods/exec"),
        ("", "events"),
        ("", "serviceaccounts"),
        ("", "serviceaccounts/token"),
        ("", "namespaces"),
        ("", "nodes"),
        ("apps", "deployments"),
        ("batch", "jobs"),
        ("events.k8s.io", "events"),
        ("coordination.k8s.io", "leases"),
        ("rbac.authorization.k8s.io", "roles"),
        ("rbac.authorization.k8s.io", "clusterroles"),
        ("rbac.authorization.k8s.io", "rolebindings"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
        ("theseus.dev", "schemamigrations"),
        ("theseus.dev", "schemamigrations/status"),
        ("theseus.dev", "schemamigrations/finalizers"),
        ("theseus.dev", "mysqlservers"),
        ("theseus.dev", "mysqlservers/status"),
    ];
    let mut cases = Vec::new();
    for (group, resource) in tempting {
        let verbs = allowed.iter().find(|(g, r, _)| (*g, *r) == (group, resource)).map_or(&[][..], |(_, _, verbs)| verbs);
        for verb in VERBS {
            let question = Question { user: user.clone(), verb, group, resource, namespace: namespace.to_owned() };
            cases.push((verbs.contains(&verb), question));
        }
    }
    cases
}

const WATCHED: &[(&str, &str, &[&str])] = &[
    ("", "secrets", &["get"]),
    ("events.k8s.io", "events", &["create", "patch"]),
    ("theseus.dev", "schemamigrations", &["get", "list", "watch", "patch", "delete"]),
    ("theseus.dev", "schemamigrations/status", &["patch"]),
    ("theseus.dev", "mysqlservers", &["get", "list", "watch"]),
    ("theseus.dev", "mysqlservers/status", &["patch"]),
];
const LEASE_VERBS: (&str, &str, &[&str]) = ("coordination.k8s.io", "leases", &["get", "create", "patch"]);

fn account(namespace: &str, name: &str) -> Value {
    json!({"user": format!("system:serviceaccount:{namespace}:{name}"),
        "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated"]})
}

/// Renders the release under a name of its own and applies all of it that is about rights.
fn apply_rights(kubectl: &Kubectl, release: &str, arguments: &[&str]) {
    let chart = chart();
    let mut all = vec!["template", release, &chart, "--namespace", release, "--set"];
    let full = format!("fullnameOverride={release}");
    all.push(&full);
    all.extend(arguments);
    let kinds = ["ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];
    let items: Vec<Value> =
        documents(&helm(&all).stdout()).into_iter().filter(|object| kinds.contains(&object["kind"].as_str().unwrap())).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    kubectl.run(&["apply", "--server-side", "-f", "-"], &list).stdout();
}

#[test]
fn what_is_not_needed_is_forbidden() {
    let kubectl = Kubectl::of_the_run();
    let release = unique("rights");
    kubectl.restricted_namespace(&release);
    apply_rights(&kubectl, &release, &[]);
    let user = account(&release, &release);
    let at_home: Vec<_> = WATCHED.iter().copied().chain([LEASE_VERBS]).collect();
    check(&kubectl, matrix(&user, &release, &at_home));
    // Elsewhere the same, but no Lease.
    check(&kubectl, matrix(&user, "default", WATCHED));
    kubectl.run(&["delete", "clusterrole,clusterrolebinding", "-l", &format!("app.kubernetes.io/instance={release}")], "").stdout();
}

#[test]
fn watched_namespaces_are_the_only_ones() {
    let kubectl = Kubectl::of_the_run();
    let release = unique("rights");
    let watched = format!("{release}-shop");
    kubectl.restricted_namespace(&release);
    kubectl.restricted_namespace(&watched);
    apply_rights(&kubectl, &release, &["--set", &format!("watchNamespaces={{{watched}}}")]);
    let user = account(&release, &release);
    check(&kubectl, matrix(&user, &watched, WATCHED));
    check(&kubectl, matrix(&user, &release, &[LEASE_VERBS]));
    check(&kubectl, matrix(&user, "default", &[]));
    // Nothing cluster-wide.
    check(&kubectl, matrix(&user, "", &[]));
    kubectl.run(&["delete", "clusterrole,clusterrolebinding", "-l", &format!("app.kubernetes.io/instance={release}")], "").stdout();
}

/// People with Kubernetes' own roles get the rights that go with them, once the controller has put the roles together.
#[test]
fn kubernetes_own_roles_know_the_crds() {
    let kubectl = Kubectl::of_the_run();
    let release = unique("people");
    kubectl.restricted_namespace(&release);
    apply_rights(&kubectl, &release, &[]);
    for role in ["view", "edit", "admin"] {
        let binding = format!("--user={release}-{role}");
        kubectl.run(&["create", "rolebinding", role, &format!("--clusterrole={role}"), &binding, "-n", &release], "").stdout();
    }
    const READ: &[&str] = &["get", "list", "watch"];
    const WRITE: &[&str] = &["create", "update", "patch", "delete", "deletecollection"];
    let mut cases = Vec::new();
    for (role, migrations, servers) in [("view", false, false), ("edit", true, false), ("admin", true, true)] {
        let user = json!({"user": format!("{release}-{role}"), "groups": ["system:authenticated"]});
        for (resource, may_write) in [("schemamigrations", migrations), ("mysqlservers", servers)] {
            for (verbs, allowed) in [(READ, true), (WRITE, may_write)] {
                for &verb in verbs {
                    cases
                        .push((allowed, Question { user: user.clone(), verb, group: "theseus.dev", resource, namespace: release.clone() }));
                }
            }
            // The status is the operator's alone.
            let status = if resource == "mysqlservers" { "mysqlservers/status" } else { "schemamigrations/status" };
            for verb in ["update", "patch"] {
                let question = Question { user: user.clone(), verb, group: "theseus.dev", resource: status, namespace: release.clone() };
                cases.push((false, question));
            }
        }
    }
    // The aggregation is the controller's work: wait for its last part, then everything must be right.
    let last = || Question {
        user: json!({"user": format!("{release}-admin"), "groups": ["system:authenticated"]}),
        verb: "create",
        group: "theseus.dev",
        resource: "mysqlservers",
        namespace: release.clone(),
    };
    let began = std::time::Instant::now();
    while answers(&kubectl, &[last()]) != [true] {
        assert!(began.elapsed().as_secs() < 180, "the roles view, edit and admin were not put together");
    }
    check(&kubectl, cases);
    kubectl.run(&["delete", "clusterrole,clusterrolebinding", "-l", &format!("app.kubernetes.io/instance={release}")], "").stdout();
}
