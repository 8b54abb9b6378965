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

/// Each looks for prepared transactions, in a view that the server refreshes only when nobody has read it for a moment: at one pace they
/// kept each other from ever seeing the present. With and without the privilege to list them directly.
#[tokio::test(flavor = "multi_thread")]
async fn migrations_that_start_together_do_not_hold_each_other_up() {
    let mut db = Db::new("together").await;
    let user = format!("together_{}", std::process::id());
    db.run(&format!("CREATE USER {user} IDENTIFIED BY 'secret'")).await;
    db.run(&format!("GRANT ALL ON `{}`.* TO {user}", db.name)).await;
    db.run(&format!("GRANT REPLICATION SLAVE, REPLICATION CLIENT, PROCESS ON *.* TO {user}")).await;
    db.run(&format!("GRANT SELECT ON performance_schema.* TO {user}")).await;
    let mut running = Vec::new();
    for n in 0..8 {
        db.run(&format!("CREATE TABLE t{n} (id INT PRIMARY KEY)")).await;
        db.run(&format!("INSERT INTO t{n} VALUES (1)")).await;
        let mut spec = db.spec(&format!("t{n}"), "ADD COLUMN a INT");
        if n % 2 == 0 {
            (spec.server.username, spec.server.password) = (user.clone(), "secret".to_owned());
        }
        running.push(tokio::spawn(async move {
            let handle = theseus::engine::start(spec, controls());
            let mut watch = handle.watch();
            let retried =
                tokio::spawn(async move { watch.wait_for(|s| s.retrying.is_some()).await.map(|s| s.retrying.clone()).ok().flatten() });
            (support::join(handle).await, retried.await.expect("a watcher"))
        }));
    }
    for run in running {
        assert_eq!(run.await.expect("a migration"), (Outcome::Succeeded, None));
    }
    db.run(&format!("DROP USER {user}")).await;
    db.drop().await;
}
