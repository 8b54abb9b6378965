//! What `spec.desired` comes to. The server has to read the definition, and does so of temporary tables: no other session sees them, they lock
//! nothing, and they are gone with this one.

use super::{Report, Severity, Topic};
use crate::engine::contract::error::EngineError;
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::{Desired, MigrationSpec};
use crate::engine::table::desired::{Place, check_change, check_losses, derive};
use crate::engine::table::inspector;
use crate::mysql::Session;
use crate::sql::desired::Derived;

/// The migration with the clauses; as it is where they are not known, which is then a finding. `None`: it has clauses of its own.
pub(super) async fn clauses(spec: &MigrationSpec, report: &mut Report) -> Option<MigrationSpec> {
    let desired = spec.desired.as_ref()?;
    if let Err(error) = check_change("", spec.definition()) {
        report.refuse(&error, "spec.desired");
        return None;
    }
    match look(spec, desired).await {
        // That it is not there is found by itself.
        Ok(None) => None,
        Ok(Some(derived)) => {
            tell(spec, desired, &derived, report);
            report.clauses = Some(derived.clauses.clone());
            Some(MigrationSpec { alter: derived.clauses, ..spec.clone() })
        }
        Err(error) if not_as_temporary(&error) => {
            report.add(
                Severity::Warning,
                Topic::Desired,
                "spec.desired",
                format!("the clauses are not known, because the definition could not be tried on temporary tables ({})", error.message),
                "mode DryRun tries it on empty tables, and shows the clauses",
            );
            None
        }
        Err(error) => {
            report.refuse(&error, "spec.desired");
            None
        }
    }
}

/// Whether the error may be one of temporary tables only, or of the way there.
fn not_as_temporary(error: &EngineError) -> bool {
    // 1478: an option such as ROW_FORMAT=COMPRESSED; 1562: partitions; 1796: FULLTEXT.
    let code = matches!(error.code(), 1478 | 1562 | 1796);
    error.is_transient()
        || code
        || !matches!(error.reason, Reason::AlterRejected | Reason::DesiredNotSupported | Reason::ForeignKeys | Reason::AlterNotSupported)
}

async fn look(spec: &MigrationSpec, desired: &Desired) -> Result<Option<Derived>, EngineError> {
    let mut session = Session::open_in(&spec.server, &spec.database).await?;
    let derived = async {
        let values = session.server_values().await?;
        let Some(original) = inspector::table(&mut session, &spec.database, &spec.table).await? else { return Ok(None) };
        derive(spec, desired, &values, &original, &spec.names(), &mut session, Place::Session).await.map(Some)
    };
    let derived = derived.await;
    session.close().await;
    derived
}

fn tell(spec: &MigrationSpec, desired: &Desired, derived: &Derived, report: &mut Report) {
    if let Err(error) = check_losses(spec, desired, derived) {
        report.refuse(&error, "spec.desired");
    } else {
        for loss in &derived.destructive {
            report.add(Severity::Warning, Topic::Desired, "spec.allowDestructive", loss.clone(), "");
        }
        if let Some(words) = &derived.renames {
            report.add(Severity::Warning, Topic::Desired, "spec.desired", words.clone(), "");
        }
    }
    let message = match derived.clauses.as_str() {
        "" => "the table has this definition: there is nothing to do".to_owned(),
        clauses => format!("comes to: {clauses}"),
    };
    report.add(Severity::Info, Topic::Desired, "spec.desired", message, "");
}
