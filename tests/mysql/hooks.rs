//! Hooks against a real HTTP service and real programs: one may veto the swap, while the ghost stays current; all are told of the end.
use crate::support;

use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{Db, PATIENCE, controls, dead, join, script, until};
use theseus::engine::contract::hook::{FailurePolicy, Hook, Moment, Target};
use theseus::engine::contract::reason::Reason;
use theseus::engine::contract::snapshot::{Outcome, Phase, Waits};
use theseus::engine::contract::spec::{Algorithm, Controls};
use theseus::engine::outside::hooks::SIGNATURE;

const KEY: &[u8] = b"a key";

/// What the service was sent: the headers it needs and the body.
type Calls = Arc<Mutex<Vec<(Option<String>, Value)>>>;

/// A service that answers as it is told; it checks each signature.
struct Service {
    url: String,
    answer: Arc<Mutex<(u16, &'static str)>>,
    /// Requests are kept waiting.
    busy: Arc<AtomicBool>,
    calls: Calls,
    _task: tokio::task::JoinHandle<()>,
}

impl Service {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook?token=secret", listener.local_addr().expect("its address"));
        let answer = Arc::new(Mutex::new((200, "")));
        let busy = Arc::new(AtomicBool::new(false));
        let calls = Calls::default();
        let (told, seen, waits) = (Arc::clone(&answer), Arc::clone(&calls), Arc::clone(&busy));
        let app = axum::Router::new().fallback(move |request: axum::extract::Request| {
            let (told, seen, waits) = (Arc::clone(&told), Arc::clone(&seen), Arc::clone(&waits));
            async move {
                let signature = request.headers().get(SIGNATURE).map(|v| v.to_str().expect("text").to_owned());
                let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.expect("a body");
                if let Some(signature) = &signature {
                    let mut mac = Hmac::<Sha256>::new_from_slice(KEY).expect("any length");
                    mac.update(&body);
                    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                    assert_eq!(*signature, format!("sha256={hex}"));
                }
                let event = serde_json::from_slice(&body).expect("JSON");
                seen.lock().expect("no panic").push((signature, event));
                while waits.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                let (code, text) = *told.lock().expect("no panic");
                (axum::http::StatusCode::from_u16(code).expect("a code"), text)
            }
        });
        let task = tokio::spawn(async move { axum::serve(listener, app).await.expect("serve") });
        Self { url, answer, busy, calls, _task: task }
    }

    fn answers(&self, code: u16, text: &'static str) {
        *self.answer.lock().expect("no panic") = (code, text);
    }

    fn hook(&self, when: &[Moment]) -> Hook {
        Hook {
            when: when.to_vec(),
            target: Target::Http { url: self.url.clone(), key: Some(KEY.to_vec()) },
            timeout: Duration::from_secs(60),
            failure_policy: FailurePolicy::Fail,
        }
    }

    /// Types of the events so far, each signed.
    fn told(&self) -> Vec<String> {
        let calls = self.calls.lock().expect("no panic");
        calls
            .iter()
            .map(|(signature, event)| {
                assert!(signature.is_some(), "{event}");
                assert_eq!(event["specversion"], "1.0");
                event["type"].as_str().expect("a type").to_owned()
            })
            .collect()
    }
}

async fn table(prefix: &str) -> Db {
    let mut db = Db::new(prefix).await;
    db.run("CREATE TABLE t (id INT PRIMARY KEY, a INT NOT NULL, b VARCHAR(20))").await;
    db.run("INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT i, i, 'x' FROM n").await;
    db
}

const BEFORE: &str = "dev.theseus.schemamigration.beforecutover";
const SUCCEEDED: &str = "dev.theseus.schemamigration.succeeded";
const FAILED: &str = "dev.theseus.schemamigration.failed";

#[tokio::test(flavor = "multi_thread")]
async fn a_veto_holds_the_swap_while_changes_flow_and_a_consent_makes_it() {
    let mut db = table("veto").await;
    let service = Service::start().await;
    service.answers(409, "release freeze\nuntil Monday");
    let with_hooks = Controls { hooks: vec![service.hook(&[Moment::BeforeCutOver, Moment::Succeeded, Moment::Failed])], ..controls() };
    let handle = theseus::engine::start(db.spec("t", "MODIFY a BIGINT NOT NULL"), with_hooks);
    let s = until(&handle, "it is vetoed", |s| s.cut_over.vetoed_by.is_some()).await;
    let why = s.cut_over.vetoed_by.clone().unwrap_or_default();
    assert!(why.starts_with("409 from http://127.0.0.1:") && why.ends_with("/hook: release freeze until Monday"), "{why}");
    assert_eq!((s.phase, s.cut_over.waits, s.cut_over.attempts), (Phase::AwaitingCutOver, Some(Waits::Hook), 0));
    assert!(s.notices.iter().any(|n| n.reason == "CutOverVetoed" && n.warning && !n.message.contains("secret")));
    db.run("UPDATE t SET b = 'changed' WHERE id = 7").await;
    until(&handle, "the change is applied", |s| s.progress.changes_applied > 0 && s.progress.backlog == 0).await;
    assert_eq!(db.value::<String>("SELECT b FROM _t_gho WHERE id = 7").await, "changed");
    assert_eq!(
        db.value::<String>(
            "SELECT DATA_TYPE FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 't' AND column_name = 'a'"
        )
        .await,
        "int"
    );

    service.answers(204, "");
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert_eq!(db.value::<String>("SELECT b FROM t WHERE id = 7").await, "changed");
    let told = service.told();
    assert_eq!(told.last().map(String::as_str), Some(SUCCEEDED), "{told:?}");
    assert!(told.len() >= 3 && told[..told.len() - 1].iter().all(|t| t == BEFORE), "{told:?}");
    let calls = service.calls.lock().expect("no panic").clone();
    assert_eq!(calls[0].1["id"], calls[1].1["id"], "the same attempt is the same event");
    assert_eq!(calls[0].1["data"]["table"], "t");
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

/// The service takes its time: nothing stands still for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_answer_holds_nothing_but_the_swap() {
    let mut db = table("slow_hook").await;
    let service = Service::start().await;
    service.busy.store(true, Ordering::Relaxed);
    // One attempt, and so one question, however slow the machine is.
    let with_hooks = Controls { hooks: vec![service.hook(&[Moment::BeforeCutOver])], lock_timeout: PATIENCE, ..controls() };
    let handle = theseus::engine::start(db.spec("t", "MODIFY a BIGINT NOT NULL"), with_hooks);
    while service.calls.lock().expect("no panic").is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    db.run("UPDATE t SET b = 'changed' WHERE id = 7").await;
    let s = until(&handle, "the change is applied", |s| s.progress.changes_applied > 0 && s.progress.backlog == 0).await;
    assert_eq!(s.cut_over.attempts, 0, "it has not answered yet");
    service.busy.store(false, Ordering::Relaxed);
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert_eq!(service.told(), [BEFORE]);
    db.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_down_is_a_veto_or_nothing_as_the_policy_says() {
    let mut db = table("hook_down").await;
    let gone = Hook {
        when: vec![Moment::BeforeCutOver, Moment::Succeeded],
        target: Target::Http { url: "http://127.0.0.1:1/?token=secret".into(), key: None },
        timeout: Duration::from_secs(1),
        failure_policy: FailurePolicy::Fail,
    };
    let handle = theseus::engine::start(db.spec("t", "MODIFY a BIGINT NOT NULL"), Controls { hooks: vec![gone.clone()], ..controls() });
    let s = until(&handle, "it is vetoed", |s| s.cut_over.vetoed_by.is_some()).await;
    assert!(s.cut_over.vetoed_by.is_some_and(|why| why.contains("http://127.0.0.1:1/") && !why.contains("secret")));
    // A change of the spec counts from the next question on.
    handle.control(Controls { hooks: vec![Hook { failure_policy: FailurePolicy::Ignore, ..gone }], ..controls() });
    let watch = handle.watch();
    assert_eq!(join(handle).await, Outcome::Succeeded);
    let s = watch.borrow().clone();
    assert!(s.notices.iter().any(|n| n.reason == "HookFailed" && n.warning), "nobody was told of the end: {:?}", s.notices);
    assert_eq!(db.tables().await, ["t"]);
    db.drop().await;
}

/// The server's own change goes through the same gate, and a refusal is told too.
#[tokio::test(flavor = "multi_thread")]
async fn a_native_change_is_asked_for_and_a_refusal_is_told() {
    let mut db = table("hook_native").await;
    let service = Service::start().await;
    service.answers(403, "");
    let hooks = vec![service.hook(&[Moment::BeforeCutOver, Moment::Succeeded, Moment::Failed])];
    let mut spec = db.spec("t", "ADD COLUMN z INT");
    spec.algorithm = Algorithm::Instant;
    let handle = theseus::engine::start(spec, Controls { hooks: hooks.clone(), ..controls() });
    until(&handle, "it is vetoed", |s| s.cut_over.vetoed_by.is_some() && s.phase == Phase::AwaitingCutOver).await;
    assert!(!db.definition("t").await.contains("`z`"));
    service.answers(200, "");
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert_eq!(service.told().last().map(String::as_str), Some(SUCCEEDED));

    let handle = theseus::engine::start(db.spec("absent", "ADD COLUMN z INT"), Controls { hooks, ..controls() });
    assert!(matches!(join(handle).await, Outcome::Refused { reason: Reason::TableNotFound, .. }));
    assert_eq!(service.told().last().map(String::as_str), Some(FAILED));
    let reason = service.calls.lock().expect("no panic").last().map(|(_, event)| event["data"]["reason"].clone());
    assert_eq!(reason, Some("TableNotFound".into()));
    db.drop().await;
}

fn program(when: &[Moment], path: &std::path::Path, timeout: Duration) -> Hook {
    Hook { when: when.to_vec(), target: Target::Program(path.to_owned()), timeout, failure_policy: FailurePolicy::Fail }
}

/// Each call adds a file to the folder: the event, then the variables that the program was given.
const NOTES: &str = "cd \"$(dirname \"$0\")\" || exit 9\nnote=$(mktemp note.XXXXXX)\n{ cat; echo; echo \"$THESEUS_EVENT $THESEUS_NAME $THESEUS_DATABASE $THESEUS_TABLE\"; } >\"$note\" && mv \"$note\" \"$note.done\"";

/// What was noted: the event, and the variables.
fn noted(folder: &std::path::Path) -> Vec<(Value, String)> {
    let files = std::fs::read_dir(folder).expect("the folder").map(|file| file.expect("a file").path());
    files
        .filter(|path| path.extension().is_some_and(|e| e == "done"))
        .map(|path| {
            let text = std::fs::read_to_string(path).expect("a note");
            let (event, variables) = text.trim_end().rsplit_once('\n').expect("two parts");
            (serde_json::from_str(event).expect("JSON"), variables.to_owned())
        })
        .collect()
}

/// The question and the news, as a service has them.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_vetoes_then_agrees_and_is_told_of_the_end() {
    let mut db = table("program").await;
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let path = script(folder, "may-i", &format!("{NOTES}\n[ -e agreed ] && exit 0\necho 'release freeze'\necho 'until Monday'\nexit 3"));
    let hooks = vec![program(&[Moment::BeforeCutOver, Moment::Succeeded, Moment::Failed], &path, Duration::from_secs(20))];
    let spec = db.spec("t", "MODIFY a BIGINT NOT NULL");
    let name = spec.display_name.clone();
    let handle = theseus::engine::start(spec, Controls { hooks, ..controls() });
    let s = until(&handle, "it is vetoed", |s| s.cut_over.vetoed_by.is_some()).await;
    assert_eq!(s.cut_over.vetoed_by, Some(format!("{} exited with 3: release freeze", path.display())));
    assert_eq!((s.phase, s.cut_over.waits, s.cut_over.attempts), (Phase::AwaitingCutOver, Some(Waits::Hook), 0));
    assert!(s.notices.iter().any(|n| n.reason == "CutOverVetoed" && n.warning));
    db.run("UPDATE t SET b = 'changed' WHERE id = 7").await;
    until(&handle, "the change is applied", |s| s.progress.changes_applied > 0 && s.progress.backlog == 0).await;
    std::fs::write(folder.join("agreed"), "").expect("agree");
    assert_eq!(join(handle).await, Outcome::Succeeded);
    assert_eq!(db.value::<String>("SELECT b FROM t WHERE id = 7").await, "changed");
    let notes = noted(folder);
    let of = |kind: &str| notes.iter().filter(|(event, _)| event["type"] == kind).collect::<Vec<_>>();
    assert!(of(BEFORE).len() >= 2 && of(SUCCEEDED).len() == 1 && of(FAILED).is_empty(), "{notes:?}");
    assert_eq!(of(BEFORE)[0].0["id"], of(BEFORE)[1].0["id"], "the same attempt is the same event");
    for (event, variables) in &notes {
        assert_eq!((&event["specversion"], &event["data"]["table"]), (&"1.0".into(), &"t".into()));
        let moment = if event["type"] == BEFORE { "BeforeCutOver" } else { "Succeeded" };
        assert_eq!(*variables, format!("{moment} {name} {} t", db.name));
    }
    db.drop().await;
}

/// Too slow, not there: a veto or nothing, as the policy says; what was started is gone. What cannot be told at the end is a notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_gives_no_answer_is_a_veto_or_nothing_as_the_policy_says() {
    let db = table("program_mute").await;
    let folder = tempfile::tempdir().expect("a folder");
    let pids = folder.path().join("pids");
    let slow = script(
        folder.path(),
        "slow",
        &format!("trap '' TERM\nsleep 600 &\necho $$ $! >'{0}.new' && mv '{0}.new' '{0}'\nwait", pids.display()),
    );
    // Enough for it to begin.
    let slow = program(&[Moment::BeforeCutOver], &slow, Duration::from_secs(6));
    let handle = theseus::engine::start(db.spec("t", "MODIFY a BIGINT NOT NULL"), Controls { hooks: vec![slow.clone()], ..controls() });
    let s = until(&handle, "it is vetoed", |s| s.cut_over.vetoed_by.is_some()).await;
    let why = s.cut_over.vetoed_by.unwrap_or_default();
    assert!(why.ends_with("/slow did not finish within 6 s and was killed"), "{why}");
    let started = std::fs::read_to_string(&pids).expect("it was started");
    assert_eq!(started.split_whitespace().count(), 2, "{started}");
    dead(&started).await;
    std::fs::remove_file(&pids).expect("forget them");

    let absent = program(&[Moment::BeforeCutOver, Moment::Succeeded], &folder.path().join("absent"), Duration::from_secs(1));
    handle.control(Controls { hooks: vec![absent.clone()], ..controls() });
    let s = until(&handle, "it is vetoed again", |s| s.cut_over.vetoed_by.as_ref().is_some_and(|why| why.contains("/absent"))).await;
    let why = s.cut_over.vetoed_by.unwrap_or_default();
    assert!(why.contains("could not start") && why.contains("/absent: No such file or directory"), "{why}");

    let ignored = |hook: Hook| Hook { failure_policy: FailurePolicy::Ignore, ..hook };
    handle.control(Controls { hooks: vec![ignored(slow), ignored(absent)], ..controls() });
    let watch = handle.watch();
    assert_eq!(join(handle).await, Outcome::Succeeded);
    dead(&std::fs::read_to_string(&pids).expect("it was started again")).await;
    let told = watch.borrow().notices.iter().filter(|n| n.reason == "HookFailed").map(|n| n.message.clone()).collect::<Vec<_>>();
    assert!(told.len() == 1 && told[0].contains("could not start") && told[0].contains("/absent"), "{told:?}");
    db.drop().await;
}

/// What a program says to news changes nothing, and is asked for three times.
#[tokio::test(flavor = "multi_thread")]
async fn news_that_a_program_does_not_take_are_told_again_and_change_nothing() {
    let db = table("program_news").await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = script(folder.path(), "tell", &format!("{NOTES}\necho 'the chat is down' >&2\nexit 1"));
    let hooks = vec![program(&[Moment::Succeeded, Moment::Failed], &path, Duration::from_secs(20))];
    let handle = theseus::engine::start(db.spec("t", "MODIFY b VARCHAR(0) NOT NULL"), Controls { hooks, ..controls() });
    let watch = handle.watch();
    let outcome = join(handle).await;
    let Outcome::Failed { reason, .. } = outcome else { panic!("{outcome:?}") };
    let notes = noted(folder.path());
    assert_eq!(notes.len(), 3, "{notes:?}");
    for (event, variables) in &notes {
        assert_eq!((&event["type"], &event["data"]["reason"]), (&FAILED.into(), &reason.as_str().into()));
        assert_eq!(event["id"], notes[0].0["id"]);
        assert!(variables.starts_with("Failed "), "{variables}");
    }
    let s = watch.borrow().clone();
    let told = s.notices.iter().filter(|n| n.reason == "HookFailed").map(|n| n.message.clone()).collect::<Vec<_>>();
    assert!(told.len() == 1 && told[0].ends_with("/tell exited with 1: the chat is down"), "{told:?}");
    db.drop().await;
}
