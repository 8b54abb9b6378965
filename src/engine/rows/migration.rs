//! What is decided before the first row is copied and stays so: the two tables, the key, the columns, the statements.

use crate::engine::contract::spec::MigrationSpec;
use crate::mysql::server::ServerFacts;
use crate::mysql::session::{SHORT, values_of};
use crate::mysql::{GtidSet, MySqlError, Purpose, RowSettings, Session};
use crate::sql::key::{Key, KeyCodec, KeyRange, MigrationKey, Side};
use crate::sql::mapping::ColumnMapping;
use crate::sql::names::TableNames;
use crate::sql::quote;
use crate::sql::table::TableDefinition;
use std::sync::Arc;

use super::numbers::Numbering;
use super::orphans::Demand;
use super::turned::Turned;
use crate::engine::state::store::StateTable;
use crate::engine::table::inspector::Inspected;

/// Seconds that one statement waits for received transactions: between two of them, someone may stop the engine.
const BARRIER_STEP: u32 = 1;

/// What makes sure that a read sees the changes whose events were received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// Wait until the GTIDs received are in `gtid_executed`: a GTID gets there after its engine commit.
    Gtids,
    /// Commit a marker of our own: with `binlog_order_commits=ON` that returns after all earlier commits are visible.
    Marker,
    /// Neither is there (`binlog_order_commits=OFF`, no GTIDs): read with FOR SHARE, which waits for the writers' row locks.
    RowLocks,
}

impl Visibility {
    /// What the server allows.
    pub fn on(facts: &ServerFacts) -> Self {
        match (facts.gtid, facts.order_commits) {
            (true, _) => Self::Gtids,
            (false, true) => Self::Marker,
            (false, false) => Self::RowLocks,
        }
    }
}

/// A migration with everything decided.
pub struct Migration {
    /// What was requested.
    pub spec: MigrationSpec,
    /// The server as it was when the attempt began.
    pub facts: ServerFacts,
    /// Names of ghost, state and old table.
    pub names: TableNames,
    /// The original as it was at the start.
    pub original: Inspected,
    /// The ghost as it will be at the swap.
    pub ghost: TableDefinition,
    /// How the barrier is made.
    pub visibility: Visibility,
    /// In which settings rows are evaluated.
    pub rows: RowSettings,
    /// Columns of both sides.
    pub mapping: ColumnMapping,
    /// The key that chunks and changes go by.
    pub key: MigrationKey,
    /// Reads and writes values of that key.
    pub codec: Arc<KeyCodec>,
    /// The AUTO_INCREMENT column that the change adds, if it adds one.
    pub numbering: Option<Numbering>,
    /// The engine is turned round: the tables are swapped, and the old one is kept current.
    pub turned: Option<Turned>,
    /// The foreign keys that the change adds.
    pub demands: Vec<Demand>,
    /// Why the old table could not be kept current after the swap.
    pub no_way_back: Option<String>,
    /// Whether the ALTER sets AUTO_INCREMENT itself.
    pub alter_sets_auto_increment: bool,
    /// The state table.
    pub state: StateTable,
    /// Our epoch.
    pub epoch: u64,
}

impl Migration {
    /// A session in which rows are copied and compared.
    ///
    /// # Errors
    /// As [`Session::open_on`] and [`Session::wear`].
    pub async fn session(&self) -> Result<Session, MySqlError> {
        let mut session = self.own_session().await?;
        session.wear(Purpose::Rows(&self.rows)).await?;
        Ok(session)
    }

    /// A session for everything else.
    ///
    /// # Errors
    /// As [`Session::open_on`].
    pub async fn own_session(&self) -> Result<Session, MySqlError> {
        let session = Session::open_in(&self.spec.server, &self.spec.database).await?;
        session.check_server(&self.facts.uuid)?;
        Ok(session)
    }

    /// The original, quoted.
    pub fn original_name(&self) -> String {
        quote::qualified(&self.spec.database, &self.spec.table)
    }

    /// The ghost, quoted.
    pub fn ghost_name(&self) -> String {
        quote::qualified(&self.spec.database, &self.names.ghost)
    }

    /// Whether rows are put aside before they are removed, to keep what the original does not have.
    pub(super) fn keeps(&self) -> bool {
        self.turned.as_ref().is_some_and(Turned::keeps)
    }

    /// For a statement that leaves out a column without a default: not strict, so what a value would lose is a warning there and no error. All
    /// warnings are read, and all but the one for that column end the migration ([`super::transaction::check_warnings`]).
    pub(super) fn leniently(&self, lenient: bool) -> String {
        if lenient { format!(" /*+ SET_VAR(sql_mode = '{}') */", self.rows.modes_but_strict()) } else { String::new() }
    }

    /// The key of a row whose columns are those of the key. `what` names the statement that it is from.
    ///
    /// # Errors
    /// A value is not of its column's type.
    pub(super) fn key_of(&self, what: &str, row: mysql_async::Row) -> Result<Key, MySqlError> {
        self.key_in(what, &values_of(what, row)?)
    }

    /// The key in a row's first columns, and the values of the others.
    ///
    /// # Errors
    /// As [`Migration::key_of`].
    pub(super) fn key_and_rest(&self, what: &str, row: mysql_async::Row) -> Result<(Key, Vec<mysql_async::Value>), MySqlError> {
        let mut values = values_of(what, row)?;
        let rest = values.split_off(self.key.columns.len().min(values.len()));
        Ok((self.key_in(what, &values)?, rest))
    }

    fn key_in(&self, what: &str, values: &[mysql_async::Value]) -> Result<Key, MySqlError> {
        self.codec.encode_row(values).map_err(|e| MySqlError::unexpected(what, &format!("a key cannot be read: {e}")))
    }

    /// Finds the key of the `rows`-th row of the original beyond `lo`; no row when fewer are left.
    pub(super) fn range_end(&self, lo: Option<Key>, rows: u64) -> String {
        format!(
            "SELECT {} FROM {} FORCE INDEX ({}) WHERE {} ORDER BY {} LIMIT 1 OFFSET {}",
            self.codec.select_list(Side::Original),
            self.original_name(),
            quote::identifier(&self.key.index),
            self.codec.range(Side::Original, &KeyRange { lo, hi: None }),
            self.codec.order_by(Side::Original),
            rows.saturating_sub(1)
        )
    }

    /// The keys of a range, in order.
    pub fn keys_of(&self, range: &KeyRange, limit: u64) -> String {
        format!(
            "SELECT {} FROM {} FORCE INDEX ({}) WHERE {} ORDER BY {} LIMIT {limit}",
            self.codec.select_list(Side::Original),
            self.original_name(),
            quote::identifier(&self.key.index),
            self.codec.range(Side::Original, range),
            self.codec.order_by(Side::Original),
        )
    }

    /// Puts the rows of the original that `condition` names into a temporary table with some of the ghost's columns, as the server converts
    /// them, in the place of what was there. Nothing of that is in the binary log, and nothing is committed by it.
    pub(super) fn convert_into(&self, scratch: &str, columns: &[String], condition: &str) -> String {
        let wanted = |name: &str| columns.iter().any(|column| column.to_lowercase() == name.to_lowercase());
        let mut text = format!("DELETE FROM {scratch}");
        for insert in self.mapping.inserts(wanted) {
            text.push_str(&format!(
                "; INSERT{} INTO {scratch} ({}) SELECT {} FROM {} FORCE INDEX ({}) WHERE {condition}{}",
                self.leniently(insert.lenient),
                insert.into,
                insert.values,
                self.original_name(),
                quote::identifier(&self.key.index),
                insert.only.map(|only| format!(" AND {only}")).unwrap_or_default(),
            ));
        }
        text
    }

    /// The barrier: when it returns true, every read that starts sees all transactions whose events had been received when
    /// `received` was taken. False: not yet; to be asked again.
    ///
    /// # Errors
    /// The server's.
    pub async fn barrier(&self, session: &mut Session, received: &GtidSet) -> Result<bool, MySqlError> {
        let what = "wait until received transactions are visible";
        match self.visibility {
            Visibility::Gtids if received.is_empty() => Ok(true),
            Visibility::Gtids => {
                let sql = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{received}', {BARRIER_STEP})");
                let timed_out: Option<u8> = session.first(what, SHORT, &sql).await?;
                Ok(timed_out == Some(0))
            }
            Visibility::Marker => self.state.commit_marker(session).await.map(|()| true),
            Visibility::RowLocks => Ok(true),
        }
    }
}
