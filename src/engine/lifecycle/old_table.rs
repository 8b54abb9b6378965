//! Drops an old table without a long stall, as far as the server allows.
//!
//! What costs, and what can be done about it by SQL:
//! * MySQL before 8.0.23 walks through the buffer pool's pages for each tablespace that is dropped, while other sessions wait for the same
//!   latches. The cost is that of the buffer pool, not of the table. Nothing but time between two drops can be given; a table in one piece is
//!   dropped in one statement.
//! * 8.0.23 and later let the pages age out. What is left is the removal of the files, which takes the file system as long as they are big.
//! * A partitioned table is many tablespaces in one statement. Its partitions are emptied one by one first, with a pause between them: that
//!   works for every kind of partitioning, spreads the work here and on replicas, and goes on where it stopped.
//!
//! <https://dev.mysql.com/doc/relnotes/mysql/8.0/en/news-8-0-23.html>

use crate::engine::contract::error::EngineError;
use crate::mysql::Session;
use crate::mysql::session::{LONG, SHORT};
use crate::mysql::versions::{LAZY_DROP, Version};
use crate::sql::quote;
use std::time::Duration;

/// Between two steps: the server's other work gets its turn.
const PAUSE: Duration = Duration::from_millis(200);
/// A partitioned table smaller than this is dropped in one statement on such a server.
const SMALL_TABLE: u64 = 1 << 30;
/// A partition smaller than this is (as good as) empty: emptied already, or not worth a step.
const SMALL_PARTITION: u64 = 1 << 20;

/// A partition, and what it holds in bytes (statistics).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Partition {
    pub name: String,
    /// Data and indexes.
    pub bytes: u64,
}

/// Partitions to be emptied one by one before the table is dropped. Pure.
fn drop_plan(version: Version, partitions: &[Partition]) -> Vec<&str> {
    let total: u64 = partitions.iter().map(|partition| partition.bytes).sum();
    if partitions.len() < 2 || LAZY_DROP.of(version) && total < SMALL_TABLE {
        return Vec::new();
    }
    partitions.iter().filter(|partition| partition.bytes >= SMALL_PARTITION).map(|partition| partition.name.as_str()).collect()
}

/// Drops it as a server of this version needs it; that it is not there is fine. May be broken off and begun again at any point. Tells how
/// many partitions were emptied first.
///
/// # Errors
/// The server's: someone reads the table (the session's `lock_wait_timeout` passes), a lost connection.
pub async fn drop_in_steps(control: &mut Session, version: Version, database: &str, table: &str) -> Result<usize, EngineError> {
    let name = quote::qualified(database, table);
    let sql = format!(
        "SELECT PARTITION_NAME, CAST(SUM(IFNULL(DATA_LENGTH, 0) + IFNULL(INDEX_LENGTH, 0)) AS UNSIGNED) FROM information_schema.PARTITIONS \
         WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} AND PARTITION_NAME IS NOT NULL GROUP BY PARTITION_NAME, PARTITION_ORDINAL_POSITION \
         ORDER BY PARTITION_ORDINAL_POSITION",
        quote::string(database),
        quote::string(table)
    );
    let partitions: Vec<Partition> = control
        .rows::<(String, u64)>("read the old table's partitions", SHORT, &sql)
        .await?
        .into_iter()
        .map(|(name, bytes)| Partition { name, bytes })
        .collect();
    let steps = drop_plan(version, &partitions);
    for partition in &steps {
        let sql = format!("ALTER TABLE {name} TRUNCATE PARTITION {}", quote::identifier(partition));
        control.run("empty a partition of the old table", LONG, &sql).await?;
        tokio::time::sleep(PAUSE).await;
    }
    control.run("drop the old table", LONG, &format!("DROP TABLE IF EXISTS {name}")).await?;
    Ok(steps.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_emptied_one_by_one_where_it_helps() {
        const GIB: u64 = 1 << 30;
        let parts = |bytes: &[u64]| {
            bytes.iter().enumerate().map(|(i, bytes)| Partition { name: format!("p{i}"), bytes: *bytes }).collect::<Vec<_>>()
        };
        for (version, bytes, expected) in [
            ((9, 7, 4), &[][..], &[][..]),
            ((9, 7, 4), &[GIB * 5], &[]),
            ((9, 7, 4), &[GIB / 4, GIB / 4], &[]),
            ((9, 7, 4), &[GIB, GIB], &["p0", "p1"]),
            // Begun before: what is empty is not emptied again.
            ((9, 7, 4), &[16384, 16384, 2 * GIB], &["p2"]),
            // Each drop costs a walk through the buffer pool, however small the table.
            ((8, 0, 22), &[GIB / 4, GIB / 4], &["p0", "p1"]),
            ((8, 0, 22), &[16384, 16384], &[]),
            ((8, 0, 22), &[GIB * 5], &[]),
            ((8, 0, 23), &[GIB / 4, GIB / 4], &[]),
        ] {
            assert_eq!(drop_plan(version, &parts(bytes)), expected, "{version:?} {bytes:?}");
        }
    }
}
