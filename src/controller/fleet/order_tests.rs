//! Who waits for whom, as tables.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::api::conditions::Wanted;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::core::DeserializeGuard;
use serde_json::json;

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

fn node(standing: Standing, after: &[&str]) -> Node {
    Node { begun: !matches!(standing, Standing::Under(ref phase) if phase == "Queued"), standing, after: names(after) }
}

fn queued(after: &[&str]) -> Node {
    node(Standing::Under("Queued".to_owned()), after)
}

fn nodes(list: &[(&str, Node)]) -> Nodes {
    list.iter().map(|(name, node)| ((*name).to_owned(), node.clone())).collect()
}

#[test]
fn it_waits_until_each_of_the_others_has_succeeded() {
    let word = |word: &str| word.to_owned();
    for (standing, remembered, waits_for, words) in [
        (Some(Standing::Succeeded), false, "", ""),
        (Some(Standing::Under(word("Copying"))), false, "a (Copying)", "waiting for a (Copying), as spec.after says"),
        (Some(Standing::Failed(word("DuplicateKey"))), false, "a (failed: DuplicateKey)", "a has failed: retry it (theseus.dev/retry)"),
        (Some(Standing::Stalled(word("OutcomeUnknown"))), false, "a (stalled: OutcomeUnknown)", "a needs someone to act"),
        (Some(Standing::Cancelled), false, "a (cancelled)", "a was cancelled: create it again"),
        (Some(Standing::Leaving), false, "a (being deleted)", "a is being deleted"),
        (Some(Standing::Unreadable), false, "a (not readable)", "cannot be read by this version"),
        (None, false, "a (does not exist)", "a does not exist in this namespace: create it"),
        // It has succeeded and was cleared away.
        (None, true, "", ""),
        // The name is another migration's now.
        (Some(Standing::Under(word("Queued"))), true, "a (Queued)", "waiting for a"),
        (Some(Standing::Cancelled), true, "a (cancelled)", "waiting for a"),
    ] {
        let known = match &standing {
            Some(standing) => nodes(&[("a", node(standing.clone(), &[]))]),
            None => Nodes::new(),
        };
        let remembered = names(if remembered { &["a"] } else { &[] });
        match decide("me", &names(&["a"]), &remembered, &known) {
            After::Clear(succeeded) => assert_eq!((waits_for, succeeded), ("", names(&["a"])), "{standing:?}"),
            After::Waits { waits_for: found, message, succeeded } => {
                assert_eq!((found.as_str(), succeeded), (waits_for, Vec::new()), "{standing:?}");
                assert!(message.contains(words), "{message}");
            }
            other => panic!("{standing:?}: {other:?}"),
        }
    }
}

#[test]
fn it_names_all_that_it_waits_for_and_remembers_the_rest() {
    let known = nodes(&[("done", node(Standing::Succeeded, &[])), ("busy", node(Standing::Under("Verifying".to_owned()), &[]))]);
    let found = decide("me", &names(&["busy", "done", "gone", "nowhere"]), &names(&["gone"]), &known);
    let After::Waits { waits_for, succeeded, .. } = found else { panic!("{found:?}") };
    assert_eq!(waits_for, "busy (Verifying), nowhere (does not exist)");
    assert_eq!(succeeded, ["done", "gone"]);
    assert_eq!(decide("me", &[], &[], &known), After::Clear(Vec::new()));
}

#[test]
fn a_cycle_is_found_by_each_of_its_members_and_by_nobody_else() {
    let failed = |reason: &str, after: &[&str]| Node { begun: false, ..node(Standing::Failed(reason.to_owned()), after) };
    for (case, known, me, after, expected) in [
        ("itself", nodes(&[]), "me", &["me"][..], Some(&["me", "me"][..])),
        ("itself among others", nodes(&[("a", queued(&[]))]), "me", &["a", "me"], Some(&["me", "me"])),
        ("two", nodes(&[("a", queued(&["me"]))]), "me", &["a"], Some(&["me", "a", "me"])),
        ("three", nodes(&[("a", queued(&["b"])), ("b", queued(&["me"]))]), "me", &["a"], Some(&["me", "a", "b", "me"])),
        ("the shortest", nodes(&[("a", queued(&["b", "me"])), ("b", queued(&["me"]))]), "me", &["a"], Some(&["me", "a", "me"])),
        ("no cycle", nodes(&[("a", queued(&["b"])), ("b", queued(&[]))]), "me", &["a", "b"], None),
        ("before a cycle, not in it", nodes(&[("a", queued(&["b"])), ("b", queued(&["a"]))]), "me", &["a"], None),
        ("the other was refused for it", nodes(&[("a", failed("AfterCycle", &["me"]))]), "me", &["a"], Some(&["me", "a", "me"])),
        ("the other has begun", nodes(&[("a", node(Standing::Under("Copying".to_owned()), &["me"]))]), "me", &["a"], None),
        ("the other has succeeded", nodes(&[("a", node(Standing::Succeeded, &["me"]))]), "me", &["a"], None),
        ("the other was cancelled", nodes(&[("a", Node { begun: false, ..node(Standing::Cancelled, &["me"]) })]), "me", &["a"], None),
        ("nobody of that name", nodes(&[]), "me", &["a"], None),
    ] {
        let found = match decide(me, &names(after), &[], &known) {
            After::Cycle(way) => Some(way),
            _ => None,
        };
        assert_eq!(found, expected.map(names), "{case}");
    }
}

fn object(name: &str, after: &[&str], succeeded: Option<Truth>, reason: &str) -> Guarded {
    let wanted = vec![
        Wanted::new(READY, succeeded == Some(Truth::True), reason, ""),
        Wanted::new(SUCCEEDED, succeeded.unwrap_or(Truth::Unknown), reason, ""),
    ];
    let now = Time(Timestamp::UNIX_EPOCH);
    let conditions = crate::api::conditions::settle(&[], wanted, Some(1), &now);
    let object = json!({
        "apiVersion": "theseus.dev/v1alpha1", "kind": "SchemaMigration", "metadata": {"name": name, "namespace": "ns"},
        "spec": {"target": {"serverRef": {"name": "s"}}, "database": "d", "table": "t", "alter": "ADD a INT", "after": after},
        "status": {"phase": reason, "conditions": conditions},
    });
    DeserializeGuard(Ok(serde_json::from_value(object).unwrap()))
}

#[test]
fn who_is_concerned_by_a_change_is_named_and_nobody_else() {
    let order = Order::default();
    let take = |event: Event<Guarded>| order.take(None, &event).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    assert_eq!(order.after("ns", "b", &names(&["a"]), &[]), After::NotYet);
    assert_eq!(order.after("ns", "b", &[], &[]), After::Clear(Vec::new()), "who waits for nobody need not know them");
    take(Event::Init);
    take(Event::InitApply(object("b", &["a"], None, "Queued")));
    take(Event::InitApply(object("c", &["b"], None, "Queued")));
    assert_eq!(order.after("ns", "b", &names(&["a"]), &[]), After::NotYet, "the list is not complete");
    assert_eq!(take(Event::InitDone), ["b", "c"]);
    assert!(matches!(order.after("ns", "b", &names(&["a"]), &[]), After::Waits { .. }));

    assert_eq!(take(Event::Apply(object("a", &[], None, "Queued"))), ["b"], "it was missing");
    assert_eq!(take(Event::Apply(object("a", &[], None, "Queued"))), [""; 0], "nothing new");
    assert_eq!(take(Event::Apply(object("a", &[], None, "Copying"))), ["b"]);
    assert_eq!(take(Event::Apply(object("x", &[], None, "Copying"))), [""; 0]);
    assert_eq!(take(Event::Apply(object("a", &[], Some(Truth::False), "DuplicateKey"))), ["b"]);
    assert_eq!(take(Event::Apply(object("a", &[], Some(Truth::True), "Succeeded"))), ["b"]);
    assert_eq!(order.after("ns", "b", &names(&["a"]), &[]), After::Clear(names(&["a"])));
    assert_eq!(take(Event::Delete(object("a", &[], Some(Truth::True), "Succeeded"))), ["b"]);
    assert!(matches!(order.after("ns", "b", &names(&["a"]), &[]), After::Waits { .. }));
    // It closes a cycle: all of it is to be looked at.
    assert_eq!(take(Event::Apply(object("a", &["c"], None, "Queued"))), ["b", "c"]);
    assert_eq!(order.after("ns", "c", &names(&["b"]), &[]), After::Cycle(names(&["c", "b", "a", "c"])));
    // Of another namespace nothing is said.
    assert!(matches!(order.after("other", "b", &names(&["a"]), &[]), After::Waits { .. }));

    // A list that is read again drops what has gone meanwhile.
    take(Event::Init);
    take(Event::InitApply(object("b", &["a"], None, "Queued")));
    assert_eq!(take(Event::InitDone), ["b"]);
    assert!(matches!(order.after("ns", "b", &names(&["a"]), &[]), After::Waits { waits_for, .. } if waits_for == "a (does not exist)"));
}

#[test]
fn a_status_is_read_by_its_conditions() {
    let standing = |succeeded, reason: &str| Node::of(&object("a", &[], succeeded, reason)).standing;
    assert_eq!(standing(Some(Truth::True), "Succeeded"), Standing::Succeeded);
    assert_eq!(standing(Some(Truth::True), "Reverted"), Standing::Succeeded);
    assert_eq!(standing(Some(Truth::False), "Cancelled"), Standing::Cancelled);
    assert_eq!(standing(Some(Truth::False), "NoUsableKey"), Standing::Failed("NoUsableKey".to_owned()));
    assert_eq!(standing(None, "Copying"), Standing::Under("Copying".to_owned()));
    let DeserializeGuard(Ok(mut leaving)) = object("a", &[], None, "Copying") else { panic!() };
    leaving.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    assert_eq!(Node::of_migration(&leaving).standing, Standing::Leaving);
}
