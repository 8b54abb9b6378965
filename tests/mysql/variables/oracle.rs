//! Whether two tables are equal, to the letter and to the bit: by statements and settings of its own. Nothing of it is the engine's.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use std::fmt::Write as _;

/// Reads with settings that were fixed before any server was told anything else.
pub struct Reader {
    conn: Conn,
}

/// What a session of the `mysql` client has on a server with default settings, with UTC and no modes.
const SETTINGS: &str = "SET SESSION time_zone='+00:00', sql_mode='', sql_select_limit=DEFAULT, group_concat_max_len=1000000, \
     lc_time_names='en_US', lc_messages='en_US', default_week_format=0, div_precision_increment=4, max_execution_time=0, \
     show_gipk_in_create_table_and_information_schema=ON, autocommit=1, transaction_isolation='REPEATABLE-READ', sql_quote_show_create=1, \
     information_schema_stats_expiry=0, max_join_size=DEFAULT, sql_big_selects=1, wait_timeout=28800, sql_safe_updates=0, innodb_ft_enable_stopword=OFF";

/// A table as it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// `SHOW CREATE TABLE`, without the counter.
    definition: Vec<String>,
    /// The counter of new ids.
    counter: Option<u64>,
    /// Collation of each column, the indexes, the options: what `SHOW CREATE TABLE` leaves out where it is the default.
    dictionary: Vec<String>,
    /// Which index answers what clients ask of an expression, and with which rows.
    found_by_index: Vec<String>,
    /// Rows, in order.
    rows: Vec<String>,
}

impl Reader {
    pub async fn open(url: &str) -> Self {
        let mut conn = crate::support::open(url).await;
        conn.query_drop("SET NAMES utf8mb4 COLLATE utf8mb4_0900_ai_ci").await.expect("names");
        conn.query_drop(SETTINGS).await.expect("settings");
        Self { conn }
    }

    async fn texts(&mut self, sql: &str) -> Vec<String> {
        let rows: Vec<Row> = self.conn.query(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        rows.into_iter()
            .map(|row| {
                let values: Vec<String> = row
                    .unwrap()
                    .into_iter()
                    .map(|value| match value {
                        mysql_async::Value::NULL => "NULL".to_owned(),
                        mysql_async::Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                        other => other.as_sql(true),
                    })
                    .collect();
                values.join(" ¦ ")
            })
            .collect()
    }

    /// Tables of a database.
    pub async fn tables(&mut self, database: &str) -> Vec<String> {
        self.texts(&format!("SHOW TABLES FROM `{database}`")).await
    }

    /// `t` of a database.
    pub async fn read(&mut self, database: &str, now: i64) -> Table {
        let shown: (String, String) =
            self.conn.query_first(format!("SHOW CREATE TABLE `{database}`.t")).await.expect("definition").expect("a row");
        let mut counter = None;
        let words: Vec<&str> = shown.1.split(' ').collect();
        let kept: Vec<&str> = words
            .into_iter()
            .filter(|word| match word.strip_prefix("AUTO_INCREMENT=") {
                Some(number) => {
                    counter = number.parse().ok();
                    false
                }
                None => true,
            })
            .collect();
        let definition = kept.join(" ").lines().map(str::to_owned).collect();
        let mut dictionary = self
            .texts(&format!(
                "SELECT COLUMN_NAME, IS_NULLABLE, COLUMN_TYPE, CHARACTER_SET_NAME, COLLATION_NAME, EXTRA, DATETIME_PRECISION, SRS_ID FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = '{database}' AND TABLE_NAME = 't' ORDER BY ORDINAL_POSITION"
            ))
            .await;
        dictionary.extend(
            self.texts(&format!(
                "SELECT INDEX_NAME, SEQ_IN_INDEX, NON_UNIQUE, COLUMN_NAME, COLLATION, SUB_PART, INDEX_TYPE, IS_VISIBLE \
                 FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = '{database}' AND TABLE_NAME = 't' ORDER BY 1, 2"
            ))
            .await,
        );
        dictionary.extend(
            self.texts(&format!(
                "SELECT ENGINE, ROW_FORMAT, TABLE_COLLATION, CREATE_OPTIONS, TABLE_COMMENT FROM information_schema.TABLES \
                 WHERE TABLE_SCHEMA = '{database}' AND TABLE_NAME = 't'"
            ))
            .await,
        );
        dictionary.extend(self.relatives(database).await);
        let found_by_index = self.found_by_index(database).await;
        let rows = self.rows(database, now).await;
        Table { definition, counter, dictionary, found_by_index, rows }
    }

    /// Triggers, and other tables with their rows: those that foreign keys bind to it.
    async fn relatives(&mut self, database: &str) -> Vec<String> {
        let mut all = self
            .texts(&format!(
                "SELECT TRIGGER_NAME, EVENT_MANIPULATION, EVENT_OBJECT_TABLE, ACTION_ORDER, ACTION_STATEMENT, ACTION_TIMING, SQL_MODE, DEFINER, \
                 CHARACTER_SET_CLIENT, COLLATION_CONNECTION, DATABASE_COLLATION FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{database}' ORDER BY 1"
            ))
            .await;
        // Those of the engine are looked for elsewhere.
        let others = self.tables(database).await.into_iter().filter(|table| table != "t" && !table.starts_with('_'));
        for table in others {
            all.extend(self.texts(&format!("SHOW CREATE TABLE `{database}`.`{table}`")).await);
            all.extend(self.texts(&format!("SELECT * FROM `{database}`.`{table}` ORDER BY 1")).await);
        }
        all
    }

    /// An index over an expression is used when the query's expression has its collation, which no statement shows. Clients may have either.
    async fn found_by_index(&mut self, database: &str) -> Vec<String> {
        let mut found = Vec::new();
        let indexes = self
            .texts(&format!(
                "SELECT DISTINCT INDEX_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = '{database}' AND TABLE_NAME = 't' \
                 AND INDEX_NAME IN ('j_of', 'j_too', 'words') ORDER BY 1"
            ))
            .await;
        if indexes.iter().any(|index| index == "words") {
            let sql = format!("SELECT GROUP_CONCAT(id ORDER BY id) FROM `{database}`.t WHERE MATCH (tx) AGAINST ('+the' IN BOOLEAN MODE)");
            return self.texts(&sql).await;
        }
        for collation in ["utf8mb4_general_ci", "utf8mb4_bin", "utf8mb4_0900_ai_ci"] {
            self.conn.query_drop(format!("SET NAMES utf8mb4 COLLATE {collation}")).await.expect("names");
            for index in &indexes {
                let from = format!("FROM `{database}`.t FORCE INDEX ({index}) WHERE CAST(j->>'$.k' AS CHAR(20)) = 'a'");
                let plan: Vec<Row> = self.conn.query(format!("EXPLAIN FORMAT=TRADITIONAL SELECT id {from}")).await.expect("a plan");
                let key = plan.first().and_then(|row| row.get::<Option<String>, _>("key")).flatten();
                let ids = self.texts(&format!("SELECT GROUP_CONCAT(id ORDER BY id) {from}")).await;
                found.push(format!("{collation} by {index}: {key:?} {ids:?}"));
            }
        }
        found
    }

    /// All values of all rows, as text that tells any two apart. Columns `now_…` have the moment of the ALTER, or one beside it by the hours
    /// of a time zone: how many quarters of an hour they are from `now`.
    async fn rows(&mut self, database: &str, now: i64) -> Vec<String> {
        let columns: Vec<(String, String)> = self
            .conn
            .query(format!(
                "SELECT COLUMN_NAME, DATA_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = '{database}' AND TABLE_NAME = 't' \
                 ORDER BY ORDINAL_POSITION"
            ))
            .await
            .expect("columns");
        let mut list = String::new();
        for (name, data_type) in &columns {
            let value = match data_type.as_str() {
                _ if name.starts_with("now_") => {
                    format!("CONCAT(ROUND((UNIX_TIMESTAMP(`{name}`) - {now}) / 900), ' quarters of an hour')")
                }
                "char" | "varchar" | "binary" | "varbinary" | "geometry" | "point" | "vector" => format!("HEX(`{name}`)"),
                "enum" | "set" => format!("CONCAT(`{name}` + 0, '=', HEX(`{name}`))"),
                "bit" => format!("`{name}` + 0"),
                "float" => format!("CAST(`{name}` AS DOUBLE)"),
                kind if kind.contains("text") || kind.contains("blob") => format!("HEX(`{name}`)"),
                _ => format!("CAST(`{name}` AS CHAR)"),
            };
            let _ = write!(list, "{}'{name}=', IFNULL({value}, 'NULL')", if list.is_empty() { "" } else { ", '\\t', " });
        }
        // The same row on both sides stands in the same place, if there is an id.
        let order = columns.iter().find(|(name, _)| name == "id").map_or("1", |_| "id, 1");
        self.texts(&format!("SELECT CONCAT({list}) FROM `{database}`.t USE INDEX () ORDER BY {order}")).await
    }

    /// What the first has and the second has not, and the reverse; nothing if they are equal.
    pub async fn difference(&mut self, ours: &str, native: &str, now: i64) -> Option<String> {
        let (a, b) = (self.read(ours, now).await, self.read(native, now).await);
        if a == b {
            return None;
        }
        let mut text = String::new();
        for (part, a, b) in [
            ("definition", &a.definition, &b.definition),
            ("dictionary", &a.dictionary, &b.dictionary),
            ("found by index", &a.found_by_index, &b.found_by_index),
        ] {
            for line in a.iter().filter(|line| !b.contains(line)) {
                let _ = write!(text, "\n      {part}, ours: {line}");
            }
            for line in b.iter().filter(|line| !a.contains(line)) {
                let _ = write!(text, "\n      {part}, native: {line}");
            }
        }
        if a.counter != b.counter {
            let _ = write!(text, "\n      AUTO_INCREMENT, ours: {:?}, native: {:?}", a.counter, b.counter);
        }
        if a.rows.len() != b.rows.len() {
            let _ = write!(text, "\n      {} rows, native: {}", a.rows.len(), b.rows.len());
        }
        // Rows in full would be too much: the columns that differ.
        let differing: Vec<_> = a.rows.iter().zip(&b.rows).filter(|(a, b)| a != b).collect();
        for (a, b) in differing.iter().take(20) {
            for (a, b) in a.split('\t').zip(b.split('\t')).filter(|(a, b)| a != b).take(20) {
                let _ = write!(text, "\n      row, ours: {a}, native: {b}");
            }
        }
        if text.is_empty() {
            text = "\n      the same lines in another order".to_owned();
        }
        Some(text)
    }
}
