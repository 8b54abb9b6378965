//! What can be known of a migration before its turn comes, while others go first.
//!
//! Only what neither the place nor their end would change: the server and its settings, privileges, the table, its key, clauses about columns
//! that are not there. Rows are not probed, names are not looked at (who goes first has tables under them), and no replica is asked.
//!
//! What those who go first do to the table is foreseen by their clauses ([`predict`]): a refusal by the table's definition is certain only if
//! it holds for the table as it is and for the table as they would leave it.
use super::predict::{self, Copies};
use super::{Finding, Look, Report, Severity, algorithm, impossible, key, open, server, table};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::{Controls, MigrationSpec};
use crate::engine::table::definition::check_alter_as;
use crate::engine::table::desired::check_change;
use crate::engine::table::inspector::Inspected;
use crate::mysql::server::ServerFacts;
use crate::mysql::session::SHORT;
use crate::sql::alter::{Alter, Clause};

/// What is known ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// Nothing speaks against it.
    Fine,
    /// It would be refused, whatever those who go first do.
    Refused(Reason, String),
    /// It would be refused if the table stayed as it is.
    Doubtful(Reason, String),
}

/// Looks. `before` has the clauses of the migrations of the same table that go first, the first first; empty where they are not known yet
/// (`spec.desired`).
///
/// # Errors
/// The server did not answer as it should: nothing is known.
pub async fn ahead(spec: &MigrationSpec, controls: &Controls, before: &[String]) -> Result<Ahead, EngineError> {
    if let Err(error) = check_change(&spec.alter, spec.definition()) {
        return Ok(Ahead::Refused(error.reason, error.message));
    }
    let mut report = Report::default();
    let found = match open(spec, &mut report).await {
        Err(error) => Err(error),
        Ok(None) => Ok((refusals(&report), Vec::new())),
        Ok(Some(session)) => {
            let mut look = Look::new(spec, controls, session, report);
            let found = all(&mut look, before).await;
            look.session.close().await;
            found
        }
    };
    match found {
        Err(error) if error.is_transient() => Err(error),
        Err(error) => Ok(Ahead::Refused(error.reason, error.message)),
        Ok((certain, doubtful)) => Ok(match (words(&certain), words(&doubtful)) {
            (Some((reason, message)), _) => Ahead::Refused(reason, message),
            (None, Some((reason, message))) => Ahead::Doubtful(reason, message),
            (None, None) => Ahead::Fine,
        }),
    }
}

fn refusals(report: &Report) -> Vec<Finding> {
    report.findings.iter().filter(|finding| finding.severity == Severity::Refuse).cloned().collect()
}

/// All findings in one message, under the reason of the first.
fn words(findings: &[Finding]) -> Option<(Reason, String)> {
    let reason = Reason::ALL.iter().copied().find(|reason| findings.first().is_some_and(|first| first.reason == reason.as_str()))?;
    let mut lines: Vec<String> = Vec::new();
    for Finding { object, message, advice, .. } in findings {
        let line = match advice.is_empty() {
            true => format!("{object}: {message}"),
            false => format!("{object}: {message} ({advice})"),
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    Some((reason, format!("{}. Nothing was touched", lines.join("; "))))
}

/// What is certain, and what is not.
async fn all(look: &mut Look<'_>, before: &[String]) -> Result<(Vec<Finding>, Vec<Finding>), EngineError> {
    server::privileges(look).await?;
    look.session.run("make the session read-only", SHORT, "SET SESSION TRANSACTION READ ONLY").await?;
    let facts = server::settings(look).await?;
    let grammar = look.session.server_values().await?.grammar();
    let original = table::original(look).await?;
    if look.spec.desired.is_some() {
        // Which clauses it comes to is known once the others are done.
        table::unseen(look).await?;
        look.weigh();
        return Ok((refusals(&look.report), Vec::new()));
    }
    let (Some(original), Ok(alter)) = (
        original,
        check_alter_as(&look.spec.alter, grammar).map_err(|error| {
            look.report.refuse(&error, "spec.alter");
        }),
    ) else {
        look.weigh();
        return Ok((refusals(&look.report), Vec::new()));
    };
    table::unseen(look).await?;
    let certain = refusals(&look.report);

    let as_it_is = definition(look, &facts, &original, &alter).await?;
    if before.is_empty() {
        let relations = relations(look, &original, &alter).await?;
        return Ok(([certain, as_it_is, relations].concat(), Vec::new()));
    }
    let copies = look.copies;
    let mut left = original.clone();
    let mut drops_foreign_keys = false;
    // What a declared definition comes to is not known before its turn.
    let unknown = before.iter().any(|clauses| clauses.trim().is_empty());
    for clauses in before {
        // What is not understood will be refused itself.
        let Ok(alter) = Alter::parse_as(clauses, grammar) else { continue };
        drops_foreign_keys |=
            alter.clauses().iter().any(|c| matches!(c.clause, Clause::DropForeignKey { .. } | Clause::DropConstraint { .. }));
        left.definition = predict::predict(&left.definition, &alter).definition;
    }
    let as_they_leave_it = definition(look, &facts, &left, &alter).await?;
    look.copies = if copies == look.copies { copies } else { Copies::Perhaps };
    let relations = if drops_foreign_keys || unknown { Vec::new() } else { relations(look, &original, &alter).await? };
    let (both, now): (Vec<_>, Vec<_>) =
        as_it_is.into_iter().partition(|finding| !unknown && as_they_leave_it.iter().any(|f| f.reason == finding.reason));
    Ok(([certain, both, relations].concat(), now))
}

/// What the definition of the table says against it; afterwards it is known whether the change comes to a copy.
async fn definition(look: &mut Look<'_>, facts: &ServerFacts, table: &Inspected, alter: &Alter) -> Result<Vec<Finding>, EngineError> {
    look.report = Report::default();
    server::primary_key(look, table);
    impossible(look, table, alter);
    let prediction = predict::predict(&table.definition, alter);
    algorithm(look, table, alter, &prediction).await?;
    let against_a_copy = look.against_a_copy.clone();
    look.weigh();
    look.against_a_copy = against_a_copy;
    key(look, facts, table, alter, &prediction);
    Ok(refusals(&look.report))
}

/// Foreign keys and triggers.
async fn relations(look: &mut Look<'_>, original: &Inspected, alter: &Alter) -> Result<Vec<Finding>, EngineError> {
    look.report = Report::default();
    table::relations(look, original, Some(alter)).await?;
    Ok(refusals(&look.report))
}
