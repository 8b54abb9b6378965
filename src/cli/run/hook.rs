//! `--hook`: programs as hooks. A flag and not a field of the document, so that a file for `theseus run` is one that a cluster takes, where
//! no program of the user's is run. Pure.
use crate::api::schema_migration::default_hook_timeout;
use crate::engine::contract::hook::{FailurePolicy, Hook, Moment, Target};

/// Reads `BeforeCutOver,Failed=/path/to/program`.
///
/// # Errors
/// What is not understood, and what would be.
pub fn parse(text: &str) -> Result<Hook, String> {
    let (when, program) = text.split_once('=').ok_or("it must be WHEN=PROGRAM, such as BeforeCutOver=./may-i")?;
    if program.is_empty() {
        return Err("the program is missing".to_owned());
    }
    let moment = |word: &str| {
        let known = Moment::ALL.map(Moment::as_str);
        let found = Moment::ALL.into_iter().find(|moment| moment.as_str() == word.trim());
        found.ok_or_else(|| format!("{word:?} is not a valid moment; use one of {}", known.join(", ")))
    };
    Ok(Hook {
        when: when.split(',').map(moment).collect::<Result<_, _>>()?,
        target: Target::Program(program.into()),
        timeout: default_hook_timeout().0,
        failure_policy: FailurePolicy::Fail,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_a_program_are_a_hook() {
        let hook = parse("Succeeded, Failed=/opt/tell=all me").expect("it makes sense");
        assert_eq!(hook.when, [Moment::Succeeded, Moment::Failed]);
        assert_eq!(hook.target, Target::Program("/opt/tell=all me".into()));
        assert_eq!((hook.timeout.as_secs(), hook.failure_policy), (10, FailurePolicy::Fail));
        for (text, words) in [
            ("/opt/tell", "WHEN=PROGRAM"),
            ("Failed=", "the program is missing"),
            ("=/opt/tell", "BeforeCutOver, Succeeded, Failed"),
            ("Failed,failed=/opt/tell", "\"failed\" is not a valid moment"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
