//! What is logged, where to and how it looks.
//!
//! Logs go to standard error: standard output belongs to what a command prints. The level is taken from `THESEUS_LOG`, else from `RUST_LOG`,
//! in the syntax of [`tracing_subscriber::EnvFilter`] (`debug`, `info,theseus::engine=trace`); without either it is `info`.

use std::{fmt, str::FromStr};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// The variable that sets what is logged; wins over `RUST_LOG`.
const FILTER_VARIABLE: &str = "THESEUS_LOG";

const DEFAULT_LEVEL: &str = "info";

/// Libraries that log each request or packet at info or debug. They are held at `warn` whatever the general level is, so that `debug` shows
/// this program's own statements; naming one of them in the filter brings it back (a later directive for the same target wins).
const QUIET_LIBRARIES: &[&str] =
    &["kube_client", "kube_runtime", "hyper", "hyper_util", "tower", "tower_http", "rustls", "mysql_async", "mio", "h2"];

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One JSON object a line, for a cluster's log collector.
    Json,
    /// For people.
    #[default]
    Text,
}

impl LogFormat {
    /// The word used on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            LogFormat::Json => "json",
            LogFormat::Text => "text",
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogFormat {
    type Err = LoggingError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "json" => Ok(LogFormat::Json),
            "text" => Ok(LogFormat::Text),
            other => Err(LoggingError::UnknownFormat(other.to_owned())),
        }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// Neither `json` nor `text`.
    #[error("unknown log format {0:?}: use json or text")]
    UnknownFormat(String),
    /// The filter in the environment cannot be read.
    #[error("{variable}={value:?} is not a log filter ({reason}): use a level such as debug, or a list such as info,theseus::engine=debug")]
    BadFilter {
        /// The environment variable.
        variable: &'static str,
        value: String,
        /// What the parser said.
        reason: String,
    },
    /// Someone set up logging before.
    #[error("logging is already set up in this process")]
    AlreadySet,
}

/// Sets up logging for this process, by the environment.
///
/// # Errors
/// A filter variable that cannot be read ([`LoggingError::BadFilter`]); a second call ([`LoggingError::AlreadySet`]).
pub fn init(format: LogFormat) -> Result<(), LoggingError> {
    init_with(format, DEFAULT_LEVEL, std::io::stderr)
}

/// As [`init`], with another level where the environment names none, and another way to standard error: one that does not write into a
/// progress bar.
///
/// # Errors
/// As [`init`].
pub fn init_with<W>(format: LogFormat, default_level: &str, writer: W) -> Result<(), LoggingError>
where
    W: for<'w> tracing_subscriber::fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = filter(default_level, |variable| std::env::var(variable).ok())?;
    tracing_subscriber::registry().with(layer(format, writer).with_filter(filter)).try_init().map_err(|_| LoggingError::AlreadySet)
}

/// The formatting layer; `writer` is standard error but in tests.
fn layer<S, W>(format: LogFormat, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'w> tracing_subscriber::fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        // Fields at the top level, as log collectors index them; the innermost span only, since an outer one repeats its names.
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
            layer.with_ansi(colours).boxed()
        }
    }
}

/// The filter that an environment asks for.
fn filter(default_level: &str, variable: impl Fn(&'static str) -> Option<String>) -> Result<EnvFilter, LoggingError> {
    let asked = [FILTER_VARIABLE, "RUST_LOG"]
        .into_iter()
        .find_map(|name| variable(name).map(|value| (name, value.trim().to_owned())).filter(|(_, value)| !value.is_empty()));
    let (name, value) = asked.unwrap_or((FILTER_VARIABLE, default_level.to_owned()));
    let mut directives: Vec<String> = QUIET_LIBRARIES.iter().map(|library| format!("{library}=warn")).collect();
    directives.push(value.clone());
    EnvFilter::builder().parse(directives.join(",")).map_err(|error| LoggingError::BadFilter {
        variable: name,
        value,
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    /// Collects what is written.
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, environment: &'static [(&'static str, &'static str)], log: impl FnOnce()) -> String {
        let filter = filter(DEFAULT_LEVEL, |name| environment.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())).unwrap();
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::registry().with(layer(format, move || writer.clone()).with_filter(filter));
        tracing::subscriber::with_default(subscriber, log);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn log_everything() {
        tracing::debug!(target: "theseus::engine", "own debug");
        tracing::info!(target: "theseus::engine", "own info");
        tracing::debug!(target: "kube_client::client", "kube debug");
        tracing::info!(target: "kube_client::client", "kube info");
        tracing::warn!(target: "hyper_util::client", "hyper warning");
    }

    fn lines_of(environment: &'static [(&'static str, &'static str)]) -> Vec<&'static str> {
        let text = logged(LogFormat::Text, environment, log_everything);
        ["own debug", "own info", "kube debug", "kube info", "hyper warning"].into_iter().filter(|line| text.contains(line)).collect()
    }

    #[test]
    fn the_level_comes_from_the_environment_and_libraries_stay_quiet() {
        assert_eq!(lines_of(&[]), ["own info", "hyper warning"]);
        assert_eq!(lines_of(&[("THESEUS_LOG", " ")]), ["own info", "hyper warning"], "an empty variable is none");
        assert_eq!(lines_of(&[("RUST_LOG", "debug")]), ["own debug", "own info", "hyper warning"]);
        assert_eq!(lines_of(&[("THESEUS_LOG", "warn"), ("RUST_LOG", "trace")]), ["hyper warning"], "THESEUS_LOG wins");
        assert_eq!(lines_of(&[("THESEUS_LOG", "info,kube_client=debug")]), ["own info", "kube debug", "kube info", "hyper warning"]);
        assert_eq!(lines_of(&[("THESEUS_LOG", "off,hyper_util=error")]), [""; 0]);
    }

    #[test]
    fn a_json_line_has_the_fields_at_its_top() {
        let text = logged(LogFormat::Json, &[], || {
            let span = tracing::info_span!("migration", namespace = "shop", name = "orders");
            let _entered = span.enter();
            tracing::info!(table = "orders", rows = 7, "copied");
        });
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(line["message"], "copied");
        assert_eq!(line["table"], "orders");
        assert_eq!(line["rows"], 7);
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["span"]["namespace"], "shop");
        assert!(line["timestamp"].is_string());
    }

    #[test]
    fn a_filter_that_cannot_be_read_names_its_variable() {
        let error = filter(DEFAULT_LEVEL, |name| (name == "RUST_LOG").then(|| "theseus=loud".to_owned())).unwrap_err().to_string();
        assert!(error.starts_with("RUST_LOG=\"theseus=loud\" is not a log filter"), "{error}");
    }

    #[test]
    fn a_format_is_one_of_two_words() {
        for format in [LogFormat::Json, LogFormat::Text] {
            assert_eq!(format.to_string().parse::<LogFormat>().unwrap(), format);
        }
        assert_eq!("yaml".parse::<LogFormat>().unwrap_err().to_string(), "unknown log format \"yaml\": use json or text");
    }
}
