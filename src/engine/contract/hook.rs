//! What a hook is: when it is called, who is called, and what no answer means. Calling it is `outside::hooks`.
use super::text::shown_url;
use std::path::PathBuf;
use std::time::Duration;

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
    /// All of them.
    pub const ALL: [Self; 3] = [Self::BeforeCutOver, Self::Succeeded, Self::Failed];

    /// As in `when:`.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// When it is called.
    pub when: Vec<Moment>,
    /// Who is called.
    pub target: Target,
    /// How long one call may take (1 s – 60 s).
    pub timeout: Duration,
    /// What no answer means.
    pub failure_policy: FailurePolicy,
}

/// Who is called.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    /// An HTTP service that takes a CloudEvent.
    Http {
        /// `http` or `https`.
        url: String,
        /// The key of the signature.
        key: Option<Vec<u8>>,
    },
    /// A program on the machine of the engine: only for a front end whose user owns that machine.
    Program(PathBuf),
}

impl Target {
    /// For people.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Http { url, .. } => shown_url(url),
            Self::Program(path) => path.display().to_string(),
        }
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither the key nor what an address may hold belongs in a log.
        let signed = matches!(self, Self::Http { key: Some(_), .. });
        f.debug_struct("Target").field("shown", &self.shown()).field("signed", &signed).finish()
    }
}
