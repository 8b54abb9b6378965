//! A table and its mirror: the same statements change both, the engine migrates the one and a native ALTER the other, and they must be equal.

#![allow(dead_code, reason = "each suite uses its own part")]

use crate::support::{Db, controls, join, until};
use std::time::Duration;
use theseus::engine::contract::snapshot::{Outcome, Phase};
use theseus::engine::contract::spec::{Controls, CutOverPolicy};

/// The table `t` and its mirror `m` in a database of its own. Statements name it `{t}`.
pub struct Mirror {
    /// The database.
    pub db: Db,
}

/// Statements in a row.
pub type Statements<'a> = &'a [&'a str];

impl Mirror {
    /// Makes both and runs the first statements on them.
    pub async fn new(url: &str, prefix: &str, statements: Statements<'_>) -> Self {
        let mut mirror = Self { db: Db::on(url, prefix).await };
        mirror.change(statements).await;
        mirror
    }

    /// Runs statements on both.
    pub async fn change(&mut self, statements: Statements<'_>) {
        for sql in statements {
            for table in ["t", "m"] {
                self.db.run(&sql.replace("{t}", table)).await;
            }
        }
    }

    /// Migrates while rows change at three moments: before the first row is copied, in the middle, and at the closed gate.
    pub async fn migrate(&mut self, alter: &str, ahead: Statements<'_>, middle: Statements<'_>, behind: Statements<'_>) {
        let slow = Controls {
            cut_over_policy: CutOverPolicy::Manual,
            target_chunk_time: Duration::from_millis(10),
            nice_ratio_percent: 300,
            workers: 2,
            ..controls()
        };
        let handle = theseus::engine::start(self.db.spec("t", alter), Controls { throttled_by_user: true, ..slow.clone() });
        until(&handle, "it follows the log", |s| s.phase == Phase::Copying).await;
        self.change(ahead).await;
        // Slow only as long as that is needed to be in the middle.
        let fast = Controls { cut_over_policy: CutOverPolicy::Manual, ..controls() };
        if middle.is_empty() {
            handle.control(fast.clone());
        } else {
            handle.control(slow.clone());
            until(&handle, "rows are copied", |s| s.progress.rows_copied > 0).await;
            handle.control(Controls { throttled_by_user: true, ..slow.clone() });
            self.change(middle).await;
            handle.control(fast.clone());
        }
        until(&handle, "the gate is reached", |s| s.phase == Phase::AwaitingCutOver).await;
        self.change(behind).await;
        handle.control(Controls { cut_over_policy: CutOverPolicy::Automatic, ..fast });
        assert_eq!(join(handle).await, Outcome::Succeeded, "{alter}");
        self.assert_equal(alter).await;
    }

    /// Applies the ALTER natively to the mirror and compares definitions and rows.
    pub async fn assert_equal(&mut self, alter: &str) {
        self.db.run(&format!("ALTER TABLE m {alter}")).await;
        let definition = |text: String| {
            let (head, options) = text.split_once('\n').and_then(|(_, rest)| rest.rsplit_once('\n')).expect("several lines").to_owned();
            let options: Vec<&str> = options.split(' ').filter(|o| !o.starts_with("AUTO_INCREMENT=")).collect();
            format!("{head}\n{}", options.join(" ")).replace("`m_chk", "`t_chk")
        };
        assert_eq!(definition(self.db.definition("t").await), definition(self.db.definition("m").await), "{alter}");
        let columns: Vec<Vec<String>> = self
            .db
            .rows(&format!(
                "SELECT CONCAT('`', REPLACE(COLUMN_NAME, '`', '``'), '`') FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = '{}' AND TABLE_NAME = 'm' ORDER BY ORDINAL_POSITION",
                self.db.name
            ))
            .await;
        let columns: Vec<&str> = columns.iter().map(|c| c[0].trim_matches('\'')).collect();
        let list = columns.join(", ");
        let mut expected = self.db.rows(&format!("SELECT {list} FROM m")).await;
        let mut found = self.db.rows(&format!("SELECT {list} FROM t")).await;
        expected.sort();
        found.sort();
        assert_eq!(found.len(), expected.len(), "{alter}: number of rows");
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "{alter}");
        }
        assert_eq!(self.db.tables().await, ["m", "t"], "{alter}: nothing is left");
    }

    /// Drops the database.
    pub async fn drop(self) {
        self.db.drop().await;
    }
}
