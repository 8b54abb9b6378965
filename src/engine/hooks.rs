//! Hooks: other services are told, and one may say "not now" before the tables are swapped.
//!
//! A hook is an HTTP POST of a CloudEvent (version 1.0, structured mode, JSON: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md>),
//! signed with HMAC-SHA256 over the body when it has a key. Events are delivered at least once; the same event has the same `id`.
//!
//! [`Moment::BeforeCutOver`] is a question: 2xx lets the attempt be made, 4xx is a veto, and anything else (5xx, a redirect, no answer in
//! time) is a failure that counts as a veto unless the policy is [`FailurePolicy::Ignore`]. It is asked before each attempt, before anything
//! is locked. The others are news: what they answer changes nothing, and a failure is tried again twice and then told as a notice.

use super::snapshot::{Outcome, Snapshot};
use super::spec::MigrationSpec;
use super::web::{Web, shown_url};
use hmac::{Hmac, Mac};
use hyper::Method;
use serde_json::{Value, json};
use sha2::Sha256;
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

/// When a hook is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// Everything is ready for an attempt at the cut-over; it may be vetoed.
    BeforeCutOver,
    /// The table has its new definition.
    Succeeded,
    /// The migration was refused, or failed for good.
    Failed,
}

impl Moment {
    /// As in `on:`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BeforeCutOver => "BeforeCutOver",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

/// What a failure to reach a hook means before the cut-over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailurePolicy {
    /// As a veto.
    #[default]
    Fail,
    /// Nothing.
    Ignore,
}

/// One hook.
#[derive(Clone, PartialEq, Eq)]
pub struct Hook {
    /// When it is called.
    pub on: Vec<Moment>,
    /// `http` or `https`.
    pub url: String,
    /// How long one call may take (1 s – 60 s).
    pub timeout: Duration,
    /// What no answer means.
    pub failure_policy: FailurePolicy,
    /// The key of the signature.
    pub key: Option<Vec<u8>>,
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither the key nor what an address may hold belongs in a log.
        f.debug_struct("Hook")
            .field("on", &self.on)
            .field("url", &shown_url(&self.url))
            .field("signed", &self.key.is_some())
            .finish_non_exhaustive()
    }
}

/// The question before an attempt, asked beside the work that goes on: the ghost stays current however long the answer takes.
#[derive(Default)]
pub struct Question {
    under_way: Option<oneshot::Receiver<Result<(), String>>>,
    /// The last answer, until it is used or old.
    answer: Option<(Result<(), String>, Instant)>,
}

/// Where a question is.
#[derive(Debug, PartialEq, Eq)]
pub enum Consent {
    /// Everybody agrees, or nobody is to be asked.
    Given,
    /// It is to be asked: the caller runs [`ask`] and sends its answer here.
    Ask(AskHere),
    /// It is being asked.
    Awaited,
    /// A veto.
    Refused(String),
}

/// Where the answer goes.
#[derive(Debug)]
pub struct AskHere(pub oneshot::Sender<Result<(), String>>);

impl PartialEq for AskHere {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for AskHere {}

impl Question {
    /// Where it is now.
    pub fn look(&mut self, hooks: &[Hook], now: Instant) -> Consent {
        if !hooks.iter().any(|hook| hook.on.contains(&Moment::BeforeCutOver)) {
            return Consent::Given;
        }
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
            Some((answer, at)) if now.saturating_duration_since(*at) < ASK_AGAIN => match answer {
                Ok(()) => Consent::Given,
                Err(why) => Consent::Refused(why.clone()),
            },
            _ => {
                let (send, receive) = oneshot::channel();
                self.answer = None;
                self.under_way = Some(receive);
                Consent::Ask(AskHere(send))
            }
        }
    }

    /// An attempt is being made: the next one needs a consent of its own.
    pub fn used(&mut self) {
        self.answer = None;
    }
}

/// Asks all hooks before an attempt. `Err`: a veto, in words that name the hook.
///
/// # Errors
/// A hook said no, or could not be asked and must be.
pub async fn ask(hooks: &[Hook], spec: &MigrationSpec, snapshot: &Snapshot) -> Result<(), String> {
    let attempt = snapshot.cut_over.attempts + 1;
    let event =
        event(Moment::BeforeCutOver, &format!("{}-before-cut-over-{attempt}", spec.id), spec, snapshot, json!({ "attempt": attempt }));
    let mut web = Web::default();
    for hook in hooks.iter().filter(|hook| hook.on.contains(&Moment::BeforeCutOver)) {
        match verdict(hook.failure_policy, &send(&mut web, hook, &event).await) {
            Verdict::Go => {}
            Verdict::GoUnasked(why) => tracing::warn!(hook = shown_url(&hook.url), "the hook could not be asked and is ignored: {why}"),
            Verdict::Veto(why) => return Err(why),
        }
    }
    Ok(())
}

/// Tells the end. Returns what could not be delivered, in words.
pub async fn tell(hooks: &[Hook], spec: &MigrationSpec, snapshot: &Snapshot, outcome: &Outcome) -> Vec<String> {
    let (moment, data) = match outcome {
        Outcome::Succeeded | Outcome::Proven | Outcome::Tested => {
            (Moment::Succeeded, json!({ "dryRun": *outcome == Outcome::Proven, "test": *outcome == Outcome::Tested }))
        }
        Outcome::Refused { reason, message } | Outcome::Failed { reason, message } => {
            (Moment::Failed, json!({ "reason": reason.as_str(), "message": message }))
        }
        Outcome::Unknown { message } => (Moment::Failed, json!({ "reason": "OutcomeUnknown", "message": message })),
        // Its owner knows, having asked for it.
        Outcome::Cancelled | Outcome::Stopped => return Vec::new(),
    };
    let event = event(moment, &format!("{}-{}-{}", spec.id, moment.as_str().to_lowercase(), snapshot.session), spec, snapshot, data);
    let mut web = Web::default();
    let mut undelivered = Vec::new();
    for hook in hooks.iter().filter(|hook| hook.on.contains(&moment)) {
        for round in 1..=TRIES {
            match send(&mut web, hook, &event).await {
                Ok((200..=299, ..)) => break,
                failed if round == TRIES => undelivered.push(describe(&failed)),
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }
    undelivered
}

/// Status, address and the beginning of the answer; or why there is none.
type Sent = Result<(u16, String, String), String>;

async fn send(web: &mut Web, hook: &Hook, event: &Value) -> Sent {
    let body = event.to_string().into_bytes();
    let mut headers = vec![("content-type", "application/cloudevents+json; charset=utf-8".to_owned())];
    if let Some(key) = &hook.key {
        headers.push((SIGNATURE, format!("sha256={}", sign(key, &body))));
    }
    match tokio::time::timeout(hook.timeout, web.send(Method::POST, &hook.url, &headers, body, ANSWER_BYTES)).await {
        Ok(answer) => answer.map(|answer| (answer.status, answer.from, answer.text)),
        Err(_) => Err(format!("{}: no answer within {} s", shown_url(&hook.url), hook.timeout.as_secs_f32())),
    }
}

/// The HMAC-SHA256 in hexadecimal digits.
fn sign(key: &[u8], body: &[u8]) -> String {
    // An HMAC takes a key of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Go,
    GoUnasked(String),
    Veto(String),
}

/// What an answer means (pure).
fn verdict(policy: FailurePolicy, sent: &Sent) -> Verdict {
    match (sent, policy) {
        (Ok((200..=299, ..)), _) => Verdict::Go,
        (Ok((400..=499, ..)), _) | (_, FailurePolicy::Fail) => Verdict::Veto(describe(sent)),
        (_, FailurePolicy::Ignore) => Verdict::GoUnasked(describe(sent)),
    }
}

fn describe(sent: &Sent) -> String {
    match sent {
        Ok((status, from, text)) => {
            let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
            let text = text.trim();
            let colon = if text.is_empty() { "" } else { ": " };
            format!("{status} from {from}{colon}{text}")
        }
        Err(why) => why.clone(),
    }
}

/// The event (pure but for the time).
fn event(moment: Moment, id: &str, spec: &MigrationSpec, snapshot: &Snapshot, more: Value) -> Value {
    let mut data = json!({
        "migration": spec.display_name,
        "database": spec.database,
        "table": spec.table,
        "alter": spec.alter,
        "rowsCopied": snapshot.progress.rows_copied,
        "changesApplied": snapshot.progress.changes_applied,
    });
    if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
        data.extend(more);
    }
    json!({
        "specversion": "1.0",
        "type": format!("dev.theseus.schemamigration.{}", moment.as_str().to_lowercase()),
        "source": format!("urn:theseus:schemamigration:{}", spec.id),
        "subject": spec.display_name,
        "id": id,
        "time": jiff::Timestamp::now().to_string(),
        "datacontenttype": "application/json",
        "data": data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_what_they_mean() {
        let ok = |status: u16| Ok((status, "http://h/".to_owned(), String::new()));
        let veto = |sent: &Sent, policy| matches!(verdict(policy, sent), Verdict::Veto(_));
        for status in [200, 202, 204] {
            assert_eq!(verdict(FailurePolicy::Fail, &ok(status)), Verdict::Go);
        }
        for status in [400, 403, 404, 409, 429] {
            assert!(
                veto(&ok(status), FailurePolicy::Fail) && veto(&ok(status), FailurePolicy::Ignore),
                "{status} is a no whatever the policy"
            );
        }
        for sent in [ok(301), ok(500), ok(503), Err("http://h/: connection refused".to_owned())] {
            assert!(veto(&sent, FailurePolicy::Fail), "{sent:?}");
            assert!(matches!(verdict(FailurePolicy::Ignore, &sent), Verdict::GoUnasked(_)), "{sent:?}");
        }
    }

    #[test]
    fn each_attempt_needs_a_consent_and_a_veto_is_asked_again() {
        let hook = |on| Hook {
            on: vec![on],
            url: "http://h/".into(),
            timeout: Duration::from_secs(1),
            failure_policy: FailurePolicy::Fail,
            key: None,
        };
        let now = Instant::now();
        let mut question = Question::default();
        assert_eq!(question.look(&[hook(Moment::Succeeded)], now), Consent::Given, "nobody is to be asked");
        let hooks = [hook(Moment::BeforeCutOver)];
        let asked = |question: &mut Question, now| match question.look(&hooks, now) {
            Consent::Ask(AskHere(send)) => send,
            other => panic!("{other:?}"),
        };
        let send = asked(&mut question, now);
        assert_eq!(question.look(&hooks, now), Consent::Awaited);
        send.send(Ok(())).expect("it is waited for");
        assert_eq!(question.look(&hooks, now), Consent::Given);
        assert_eq!(question.look(&hooks, now), Consent::Given, "an attempt that is not made uses nothing");
        question.used();
        let send = asked(&mut question, now);
        send.send(Err("no".into())).expect("it is waited for");
        assert_eq!(question.look(&hooks, now), Consent::Refused("no".into()));
        assert_eq!(question.look(&hooks, now + ASK_AGAIN / 2), Consent::Refused("no".into()));
        drop(asked(&mut question, now + ASK_AGAIN));
        let send = asked(&mut question, now + ASK_AGAIN);
        send.send(Ok(())).expect("it is waited for");
        assert_eq!(question.look(&hooks, now + ASK_AGAIN), Consent::Given);
        asked(&mut question, now + ASK_AGAIN * 2);
    }

    #[test]
    fn an_answer_is_shown_short_and_on_one_line() {
        let text = format!("release\nfreeze {}", "x".repeat(500));
        let shown = describe(&Ok((409, "https://h/hook".into(), text)));
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
            on: vec![Moment::Failed],
            url: "https://u:secret@h/p?token=secret".into(),
            timeout: Duration::from_secs(1),
            failure_policy: FailurePolicy::Fail,
            key: Some(b"secret".to_vec()),
        };
        assert!(!format!("{hook:?}").contains("secret"));
    }
}
