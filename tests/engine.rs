//! The engine against a real server: one migration at a time, each thing it promises.
mod support;

use support::{Db, controls, migrate};
use theseus::engine::snapshot::Outcome;

/// The plainest case: rows arrive, the definition is the new one, nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_migrated_and_nothing_is_left() {
    let mut db = Db::new("plain").await;
    db.run("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(20) NOT NULL, b INT, KEY (b))").await;
    db.run("INSERT INTO t (a, b) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT CONCAT('row ', i), i FROM n").await;
    let outcome =
        migrate(db.spec("t", "ADD COLUMN status VARCHAR(20) NOT NULL DEFAULT 'new', ADD INDEX (status), MODIFY b BIGINT"), controls())
            .await;
    assert_eq!(outcome, Outcome::Succeeded);
    assert_eq!(db.tables().await, ["t"]);
    assert_eq!(db.value::<u64>("SELECT COUNT(*) FROM t WHERE status = 'new' AND a = CONCAT('row ', b) AND id = b").await, 1000);
    assert!(db.definition("t").await.contains("`b` bigint DEFAULT NULL"));
    db.drop().await;
}
