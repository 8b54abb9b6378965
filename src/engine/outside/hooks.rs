//! Hooks: other services and programs are told, and one may say "not now" before the tables are swapped.
//!
//! A hook gets a CloudEvent (version 1.0, structured mode, JSON: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md>): a
//! service by HTTP POST, signed with HMAC-SHA256 over the body when the hook has a key; a program on its standard input ([`program`]).
//! Events are delivered at least once; the same event has the same `id`.
//!
//! [`Moment::BeforeCutOver`] is a question: 2xx (a program: exit status 0) lets the attempt be made, 4xx (1 to 125) is a veto, and anything
//! else (5xx, a redirect, a signal, no answer in time) is a failure that counts as a veto unless the policy is [`FailurePolicy::Ignore`]. It
//! is asked before each attempt, before anything is locked. The others are news: what they answer changes nothing, and anything but 2xx or 0
//! is tried again twice and then told as a notice.

use super::program::{self, Exit};
use super::web::{Answer, Web};
use crate::engine::contract::hook::{FailurePolicy, Hook, Moment, Target};
use crate::engine::contract::snapshot::Outcome;
use crate::engine::contract::spec::MigrationSpec;
use crate::engine::contract::text::shown_url;
use hmac::{Hmac, Mac};
use hyper::Method;
use serde_json::{Value, json};
use sha2::Sha256;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The header with the signature: `sha256=` and the HMAC in hexadecimal digits.
pub const SIGNATURE: &str = "theseus-signature-256";
/// How much of an answer is read.
const ANSWER_BYTES: usize = 4 << 10;
/// How much of it is shown, in characters.
const SHOWN: usize = 200;
/// How often news are sent, and the pause between.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// A vetoed attempt is asked for again after this time.
pub const ASK_AGAIN: Duration = Duration::from_secs(10);

/// The question before an attempt, asked beside the work that goes on: the ghost stays current however long the answer takes.
#[derive(Default)]
pub struct Question {
    under_way: Option<oneshot::Receiver<Result<(), String>>>,
    /// The last answer, until it is used or old.
    answer: Option<(Result<(), String>, Instant)>,
}

/// Where a question is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Consent {
    /// Nobody has been asked, or everybody agrees.
    Free,
    /// It is being asked.
    Awaited,
    /// A veto, until it is asked again.
    Refused(String, Instant),
}

impl Question {
    /// Where it is now.
    pub fn consent(&mut self, now: Instant) -> Consent {
        if let Some(answer) = &mut self.under_way {
            match answer.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => return Consent::Awaited,
                Ok(answer) => self.answer = Some((answer, now)),
                // Whoever asked is gone.
                Err(oneshot::error::TryRecvError::Closed) => {}
            }
            self.under_way = None;
        }
        match &self.answer {
            Some((Err(why), at)) => Consent::Refused(why.clone(), *at + ASK_AGAIN),
            _ => Consent::Free,
        }
    }

    /// Whether the hooks must be asked for an attempt that is made now: then the caller runs [`ask`] and sends its answer here.
    pub fn to_be_asked(&mut self, hooks: &[Hook], now: Instant) -> Option<oneshot::Sender<Result<(), String>>> {
        let agreed = matches!(&self.answer, Some((Ok(()), at)) if now.saturating_duration_since(*at) < ASK_AGAIN);
        if agreed || !asks(hooks) {
            return None;
        }
        let (send, receive) = oneshot::channel();
        self.answer = None;
        self.under_way = Some(receive);
        Some(send)
    }

    /// An attempt is being made: the next one needs a consent of its own.
    pub fn used(&mut self) {
        self.answer = None;
    }
}

/// Whether any of them is asked before an attempt.
pub fn asks(hooks: &[Hook]) -> bool {
    hooks.iter().any(|hook| hook.when.contains(&Moment::BeforeCutOver))
}

/// What the hooks are told of an engine beside what it was asked for.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// The engine's random id.
    pub session: String,
    /// Rows written by chunks.
    pub rows_copied: u64,
    /// Keys reconciled or found not to need it.
    pub changes_applied: u64,
}

/// Asks all hooks before an attempt. `Err`: a veto, in words that name the hook.
///
/// # Errors
/// A hook said no, or could not be asked and must be.
pub async fn ask(hooks: &[Hook], spec: &MigrationSpec, about: &About, attempt: u32) -> Result<(), String> {
    let id = format!("{}-before-cut-over-{attempt}", spec.id);
    let event = Event::new(Moment::BeforeCutOver, &id, spec, about, json!({ "attempt": attempt }));
    let mut web = Web::default();
    for hook in hooks.iter().filter(|hook| hook.when.contains(&event.moment)) {
        match verdict(hook.failure_policy, send(&mut web, hook, &event).await) {
            Verdict::Go => {}
            Verdict::GoUnasked(why) => {
                tracing::warn!(hook = hook.target.shown(), "could not call the hook, and its failure is ignored: {why}")
            }
            Verdict::Veto(why) => return Err(why),
        }
    }
    Ok(())
}

/// Tells the end. Returns what could not be delivered, in words.
pub async fn tell(hooks: &[Hook], spec: &MigrationSpec, about: &About, outcome: &Outcome) -> Vec<String> {
    let (moment, data) = match outcome {
        Outcome::Succeeded | Outcome::Proven | Outcome::Tested => {
            (Moment::Succeeded, json!({ "dryRun": *outcome == Outcome::Proven, "test": *outcome == Outcome::Tested }))
        }
        Outcome::Refused { reason, message } | Outcome::Failed { reason, message } => {
            (Moment::Failed, json!({ "reason": reason.as_str(), "message": message }))
        }
        Outcome::Unknown { message } => (Moment::Failed, json!({ "reason": "OutcomeUnknown", "message": message })),
        // Its owner knows, having asked for it.
        Outcome::Cancelled | Outcome::Stopped | Outcome::Reverted => return Vec::new(),
    };
    let id = format!("{}-{}-{}", spec.id, moment.as_str().to_lowercase(), about.session);
    let event = Event::new(moment, &id, spec, about, data);
    let mut web = Web::default();
    let mut undelivered = Vec::new();
    for hook in hooks.iter().filter(|hook| hook.when.contains(&moment)) {
        for round in 1..=TRIES {
            match send(&mut web, hook, &event).await {
                Reply::Yes => break,
                Reply::No(why) | Reply::Failed(why) if round == TRIES => undelivered.push(why),
                Reply::No(_) | Reply::Failed(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
    undelivered
}

/// What came back, in words that name the hook.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reply {
    Yes,
    No(String),
    /// Nothing that is an answer.
    Failed(String),
}

async fn send(web: &mut Web, hook: &Hook, event: &Event<'_>) -> Reply {
    match &hook.target {
        Target::Http { url, key } => post(web, url, key.as_deref(), hook.timeout, event).await,
        Target::Program(path) => {
            let variables = [
                ("THESEUS_EVENT", event.moment.as_str()),
                ("THESEUS_NAME", event.spec.display_name.as_str()),
                ("THESEUS_DATABASE", event.spec.database.as_str()),
                ("THESEUS_TABLE", event.spec.table.as_str()),
            ];
            match program::run(path, &variables, &event.body, hook.timeout, ANSWER_BYTES).await {
                Ok(ended) => meant(path, &ended),
                Err(why) => Reply::Failed(why),
            }
        }
    }
}

async fn post(web: &mut Web, url: &str, key: Option<&[u8]>, limit: Duration, event: &Event<'_>) -> Reply {
    let mut headers = vec![("content-type", "application/cloudevents+json; charset=utf-8".to_owned())];
    if let Some(key) = key {
        headers.push((SIGNATURE, format!("sha256={}", sign(key, &event.body))));
    }
    match tokio::time::timeout(limit, web.send(Method::POST, url, &headers, event.body.clone(), ANSWER_BYTES)).await {
        Ok(Ok(answer)) => said(&answer),
        Ok(Err(why)) => Reply::Failed(why),
        Err(_) => Reply::Failed(format!("{}: no answer within {} s", shown_url(url), limit.as_secs_f32())),
    }
}

/// What a service's answer means (pure).
fn said(answer: &Answer) -> Reply {
    let text = printable(&answer.text);
    let colon = if text.is_empty() { "" } else { ": " };
    let words = format!("{} from {}{colon}{text}", answer.status, answer.from);
    match answer.status {
        200..=299 => Reply::Yes,
        400..=499 => Reply::No(words),
        _ => Reply::Failed(words),
    }
}

/// What a program's end means (pure). 126 and above is how a shell says that it could not start something, or that a signal ended it.
fn meant(path: &Path, ended: &Exit) -> Reply {
    let text = printable(ended.text.lines().next().unwrap_or_default());
    let colon = if text.is_empty() { "" } else { ": " };
    let path = path.display();
    match (ended.status.code(), ended.status.signal()) {
        (Some(0), _) => Reply::Yes,
        (Some(code @ 1..=125), _) => Reply::No(format!("{path} exited with {code}{colon}{text}")),
        (Some(code), _) => Reply::Failed(format!("{path} exited with {code}{colon}{text}")),
        (None, signal) => Reply::Failed(format!("{path} was killed by signal {}{colon}{text}", signal.unwrap_or_default())),
    }
}

/// The beginning of a text, on one line.
fn printable(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
    text.trim().to_owned()
}

/// The HMAC-SHA256 in hexadecimal digits.
fn sign(key: &[u8], body: &[u8]) -> String {
    // An HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(body);
    format!("{:x}", mac.finalize().into_bytes())
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Go,
    GoUnasked(String),
    Veto(String),
}

/// What a reply means for an attempt (pure).
fn verdict(policy: FailurePolicy, reply: Reply) -> Verdict {
    match (reply, policy) {
        (Reply::Yes, _) => Verdict::Go,
        (Reply::No(why), _) | (Reply::Failed(why), FailurePolicy::Fail) => Verdict::Veto(why),
        (Reply::Failed(why), FailurePolicy::Ignore) => Verdict::GoUnasked(why),
    }
}

/// What is sent, and what it is about.
struct Event<'a> {
    moment: Moment,
    spec: &'a MigrationSpec,
    body: Vec<u8>,
}

impl<'a> Event<'a> {
    /// Pure but for the time.
    fn new(moment: Moment, id: &str, spec: &'a MigrationSpec, about: &About, more: Value) -> Self {
        let mut data = json!({
            "migration": spec.display_name,
            "database": spec.database,
            "table": spec.table,
            "alter": spec.alter,
            "rowsCopied": about.rows_copied,
            "changesApplied": about.changes_applied,
        });
        if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
            data.extend(more);
        }
        let event = json!({
            "specversion": "1.0",
            "type": format!("dev.theseus.schemamigration.{}", moment.as_str().to_lowercase()),
            "source": format!("urn:theseus:schemamigration:{}", spec.id),
            "subject": spec.display_name,
            "id": id,
            "time": jiff::Timestamp::now().to_string(),
            "datacontenttype": "application/json",
            "data": data,
        });
        Self { moment, spec, body: event.to_string().into_bytes() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::ExitStatus;

    fn answer(status: u16, text: &str) -> Answer {
        Answer { status, from: "https://h/hook".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn answers_and_what_they_mean() {
        let of = |policy, status| verdict(policy, said(&answer(status, "")));
        let veto = |reply: Reply, policy| matches!(verdict(policy, reply), Verdict::Veto(_));
        for status in [200, 202, 204] {
            assert_eq!(of(FailurePolicy::Fail, status), Verdict::Go);
        }
        for status in [400, 403, 404, 409, 429] {
            let reply = said(&answer(status, ""));
            assert!(veto(reply.clone(), FailurePolicy::Fail) && veto(reply, FailurePolicy::Ignore), "{status} is a no whatever the policy");
        }
        let none = Reply::Failed("http://h/: connection refused".to_owned());
        for reply in [said(&answer(301, "")), said(&answer(500, "")), said(&answer(503, "")), none] {
            assert!(veto(reply.clone(), FailurePolicy::Fail), "{reply:?}");
            assert!(matches!(verdict(FailurePolicy::Ignore, reply.clone()), Verdict::GoUnasked(_)), "{reply:?}");
        }
    }

    #[test]
    fn ends_of_programs_and_what_they_mean() {
        let meant = |raw, text: &str| meant(Path::new("/bin/may-i"), &Exit { status: ExitStatus::from_raw(raw), text: text.to_owned() });
        let exit = |code: i32| code << 8;
        assert_eq!(meant(exit(0), "a word"), Reply::Yes);
        assert_eq!(meant(exit(1), ""), Reply::No("/bin/may-i exited with 1".into()));
        assert_eq!(meant(exit(125), "release\tfreeze\nuntil Monday"), Reply::No("/bin/may-i exited with 125: release freeze".into()));
        for code in [126, 127, 128, 137, 255] {
            assert_eq!(meant(exit(code), "not found"), Reply::Failed(format!("/bin/may-i exited with {code}: not found")));
        }
        assert_eq!(meant(9, "dying"), Reply::Failed("/bin/may-i was killed by signal 9: dying".into()));
        let Reply::No(long) = meant(exit(1), &"x".repeat(4000)) else { panic!("1 is a no") };
        assert!(long.len() < 250, "{long}");
    }

    #[test]
    fn each_attempt_needs_a_consent_and_a_veto_is_asked_again() {
        let hook = |moment| Hook {
            when: vec![moment],
            target: Target::Http { url: "http://h/".into(), key: None },
            timeout: Duration::from_secs(1),
            failure_policy: FailurePolicy::Fail,
        };
        let now = Instant::now();
        let mut question = Question::default();
        assert!(question.to_be_asked(&[hook(Moment::Succeeded)], now).is_none(), "nobody is to be asked");
        assert_eq!(question.consent(now), Consent::Free);
        let hooks = [hook(Moment::BeforeCutOver)];
        let asked = |question: &mut Question, now| question.to_be_asked(&hooks, now).expect("they are to be asked");
        let send = asked(&mut question, now);
        assert_eq!(question.consent(now), Consent::Awaited);
        send.send(Ok(())).expect("it is waited for");
        assert_eq!(question.consent(now), Consent::Free);
        for _ in 0..2 {
            assert!(question.to_be_asked(&hooks, now).is_none(), "an attempt that is not made uses nothing");
        }
        question.used();
        let send = asked(&mut question, now);
        send.send(Err("no".into())).expect("it is waited for");
        let refused = Consent::Refused("no".into(), now + ASK_AGAIN);
        assert_eq!(question.consent(now), refused);
        assert_eq!(question.consent(now + ASK_AGAIN / 2), refused);
        drop(asked(&mut question, now + ASK_AGAIN));
        assert_eq!(question.consent(now + ASK_AGAIN), Consent::Free, "whoever asked is gone");
        let send = asked(&mut question, now + ASK_AGAIN);
        send.send(Ok(())).expect("it is waited for");
        assert_eq!(question.consent(now + ASK_AGAIN), Consent::Free);
        asked(&mut question, now + ASK_AGAIN * 2);
    }

    #[test]
    fn an_answer_is_shown_short_and_on_one_line() {
        let text = format!("release\nfreeze {}", "x".repeat(500));
        let Reply::No(shown) = said(&answer(409, &text)) else { panic!("409 is a no") };
        assert!(shown.starts_with("409 from https://h/hook: release freeze xxx") && !shown.contains('\n') && shown.len() < 250, "{shown}");
    }

    /// RFC 4231, test case 2.
    #[test]
    fn the_signature_is_hmac_sha256() {
        let want = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(sign(b"Jefe", b"what do ya want for nothing?"), want);
    }

    #[test]
    fn keys_and_tokens_are_not_printed() {
        let hook = Hook {
            when: vec![Moment::Failed],
            target: Target::Http { url: "https://u:secret@h/p?token=secret".into(), key: Some(b"secret".to_vec()) },
            timeout: Duration::from_secs(1),
            failure_policy: FailurePolicy::Fail,
        };
        assert!(!format!("{hook:?}").contains("secret"));
    }
}
