//! Which server answers, and what follows from it: the one place that knows flavours and compares versions.
//!
//! As little as possible is concluded from a version: whether a change can be INSTANT, what an account may do, how long a table's id stays
//! is tried on the server that is there. What has to be known beforehand (how a statement is called) is a [`Feature`], each with the
//! source for its version. A test holds that no other code compares versions, and `docs/reference/versions.md` is made from these tables.

/// Major, minor, patch.
pub type Version = (u16, u16, u16);

/// Who made the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    /// Oracle, and the clouds that serve its code.
    #[default]
    MySql,
    /// Percona.
    Percona,
    /// MariaDB speaks the protocol but has other rules.
    MariaDb,
}

impl Flavour {
    /// Its name for people and for `status.flavour`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MySql => "MySQL",
            Self::Percona => "Percona Server",
            Self::MariaDb => "MariaDB",
        }
    }
}

impl std::fmt::Display for Flavour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that servers have from a version on.
#[derive(Debug)]
pub struct Feature {
    /// What it is.
    pub name: &'static str,
    /// The first version that has it.
    pub from: Version,
    /// What is done on a server that has it.
    pub with: &'static str,
    /// What is done on one that has not.
    pub without: &'static str,
    /// Where that is written; empty where no such page could be opened, and the rule is seen on the tested version only.
    pub source: &'static str,
}

impl Feature {
    /// Whether a server of this version has it.
    pub fn of(&self, version: Version) -> bool {
        version >= self.from
    }
}

/// Two tables are exchanged while the session holds their locks.
pub const SWAP_UNDER_LOCK: Feature = Feature {
    name: "`RENAME TABLE` of tables that the session has locked",
    from: (8, 0, 13),
    with: "the cut-over: lock, apply the last changes, rename, unlock",
    without: "refused, `ServerNotSupported`",
    source: "https://dev.mysql.com/doc/refman/8.0/en/rename-table.html",
};
/// A text with an offset is an instant, whatever the session's time zone.
pub const OFFSET_LITERALS: Feature = Feature {
    name: "`'2024-06-01 03:00:00+00:00'`, a time with its offset",
    from: (8, 0, 19),
    with: "TIMESTAMP columns are copied as points in time where values depend on a time zone with daylight saving time",
    without: "a change of a table with TIMESTAMP columns whose values depend on such a zone is refused, `ServerNotSupported`",
    source: "https://dev.mysql.com/doc/refman/8.0/en/time-zone-support.html",
};
/// Statements say REPLICA instead of SLAVE.
pub const REPLICA_STATEMENTS: Feature = Feature {
    name: "statements that say `REPLICA`",
    from: (8, 0, 22),
    with: "`SHOW REPLICAS`, `SHOW REPLICA STATUS`, `STOP REPLICA`",
    without: "`SHOW SLAVE HOSTS`, `SHOW SLAVE STATUS`, `STOP SLAVE`",
    source: "https://dev.mysql.com/doc/refman/8.0/en/replication-administration-status.html",
};
/// Columns that `SELECT *` does not show.
pub const INVISIBLE_COLUMNS: Feature = Feature {
    name: "invisible columns",
    from: (8, 0, 23),
    with: "the key that is proposed for a table without one is an invisible column",
    without: "the key that is proposed for a table without one is a visible column",
    source: "https://dev.mysql.com/doc/refman/8.0/en/invisible-columns.html",
};
/// Dropping a table does not walk through the buffer pool.
pub const LAZY_DROP: Feature = Feature {
    name: "`DROP TABLE` without a scan of the buffer pool",
    from: (8, 0, 23),
    with: "an old table is dropped in one statement; the partitions of a big one are emptied first",
    without: "the partitions of any old table are emptied first",
    source: "https://dev.mysql.com/blog-archive/a-250x-improvement-to-tablespace-truncation-in-mysql-server-8-0-23/",
};
/// Variables say `replica` instead of `slave`.
pub const REPLICA_VARIABLES: Feature = Feature {
    name: "variables that say `replica`",
    from: (8, 0, 26),
    with: "`log_replica_updates`, `replica_type_conversions`",
    without: "`log_slave_updates`, `slave_type_conversions`",
    source: "https://dev.mysql.com/doc/mysqld-version-reference/en/optvar-changes-8-0.html",
};
/// Indexes are built in several threads.
pub const INDEX_THREADS: Feature = Feature {
    name: "`innodb_ddl_threads`",
    from: (8, 0, 27),
    with: "set to 1 where more threads would slow down other sessions",
    without: "an index is built in one thread anyway",
    source: "https://dev.mysql.com/doc/refman/8.0/en/online-ddl-parallel-thread-configuration.html",
};
/// The statement that tells the end of the binary log has its new name.
pub(super) const BINARY_LOG_STATUS: Feature = Feature {
    name: "`SHOW BINARY LOG STATUS`",
    from: (8, 2, 0),
    with: "used",
    without: "`SHOW MASTER STATUS`",
    source: "https://dev.mysql.com/doc/refman/8.1/en/show-binary-log-status.html",
};
/// The rows of a table may be of 255 versions.
pub const MANY_ROW_VERSIONS: Feature = Feature {
    name: "255 row versions of a table",
    from: (9, 1, 0),
    with: "INSTANT is not tried on a table that has used up 255",
    without: "INSTANT is not tried on a table that has used up 64",
    source: "",
};

/// All of them, from the oldest to the newest.
pub const FEATURES: [&Feature; 9] = [
    &SWAP_UNDER_LOCK,
    &OFFSET_LITERALS,
    &REPLICA_STATEMENTS,
    &INVISIBLE_COLUMNS,
    &LAZY_DROP,
    &REPLICA_VARIABLES,
    &INDEX_THREADS,
    &BINARY_LOG_STATUS,
    &MANY_ROW_VERSIONS,
];

/// The versions of MySQL that every suite runs on.
pub const TESTED: [Version; 1] = [(9, 7, 4)];
/// The series of MariaDB whose refusal is tested.
pub const REFUSED_MARIADB: [&str; 2] = ["10.11", "11.8"];

/// How we know that a server is served well, or that it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Every suite runs on this very version.
    Tested,
    /// The documentation says that what is relied upon holds; no suite has run on it.
    Documentation,
    /// Newer than all that was tested, and so than the documentation that was read.
    Newer,
    /// Nothing is done on it.
    Refused,
}

impl Standing {
    /// For programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tested => "Tested",
            Self::Documentation => "ByDocumentation",
            Self::Newer => "NewerThanTested",
            Self::Refused => "Refused",
        }
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tested => "tested",
            Self::Documentation => "supported according to the documentation, not tested",
            Self::Newer => "newer than any tested version",
            Self::Refused => "not supported",
        })
    }
}

/// A server as it says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Product {
    /// Who made it.
    pub flavour: Flavour,
    /// E.g. `(9, 7, 4)`.
    pub version: Version,
    /// E.g. `9.7.4` or `8.0.36-28`.
    pub text: String,
}

impl Product {
    /// From `@@version` and `@@version_comment`.
    pub fn new(version: &str, comment: &str) -> Self {
        let flavour = if version.contains("MariaDB") || comment.contains("MariaDB") {
            Flavour::MariaDb
        } else if comment.contains("Percona") {
            Flavour::Percona
        } else {
            Flavour::MySql
        };
        let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Self { flavour, version: (next(), next(), next()), text: version.to_owned() }
    }

    /// Why no migration can run on it, and what to do; `None` when one can.
    pub fn refusal(&self) -> Option<String> {
        let fits = self.flavour != Flavour::MariaDb && SWAP_UNDER_LOCK.of(self.version);
        (!fits).then(|| {
            let (major, minor, patch) = SWAP_UNDER_LOCK.from;
            format!(
                "the server is {} {}, which refuses RENAME TABLE under LOCK TABLES, and so the swap; MySQL or Percona Server {major}.{minor}.{patch} or later is needed",
                self.flavour, self.text
            )
        })
    }

    /// How we know what it does.
    pub fn standing(&self) -> Standing {
        if self.refusal().is_some() {
            Standing::Refused
        } else if self.flavour == Flavour::MySql && TESTED.contains(&self.version) {
            Standing::Tested
        } else if TESTED.iter().all(|tested| (tested.0, tested.1) < (self.version.0, self.version.1)) {
            Standing::Newer
        } else {
            Standing::Documentation
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_known_by_what_they_say() {
        for (version, comment, flavour, numbers, standing) in [
            ("9.7.4", "(Debian)", Flavour::MySql, (9, 7, 4), Standing::Tested),
            ("9.7.5", "MySQL Community Server - GPL", Flavour::MySql, (9, 7, 5), Standing::Documentation),
            ("9.7.4-1", "Percona Server (GPL), Release 1", Flavour::Percona, (9, 7, 4), Standing::Documentation),
            ("8.0.36-28", "Percona Server (GPL), Release 28, Revision 47601f19", Flavour::Percona, (8, 0, 36), Standing::Documentation),
            ("8.4.3-cloud", "Source distribution", Flavour::MySql, (8, 4, 3), Standing::Documentation),
            ("8.0.13", "MySQL Community Server - GPL", Flavour::MySql, (8, 0, 13), Standing::Documentation),
            ("8.0.12", "MySQL Community Server - GPL", Flavour::MySql, (8, 0, 12), Standing::Refused),
            ("5.7.44-log", "MySQL Community Server (GPL)", Flavour::MySql, (5, 7, 44), Standing::Refused),
            ("10.11.14-MariaDB-0+deb12u2-log", "Debian 12", Flavour::MariaDb, (10, 11, 14), Standing::Refused),
            ("11.8.9-MariaDB-0+deb13u1", "Debian 13", Flavour::MariaDb, (11, 8, 9), Standing::Refused),
            ("9.8.0", "MySQL Community Server - GPL", Flavour::MySql, (9, 8, 0), Standing::Newer),
            ("10.0.1", "MySQL Community Server - GPL", Flavour::MySql, (10, 0, 1), Standing::Newer),
            ("", "", Flavour::MySql, (0, 0, 0), Standing::Refused),
        ] {
            let product = Product::new(version, comment);
            assert_eq!((product.flavour, product.version, product.standing()), (flavour, numbers, standing), "{version}");
            assert_eq!(product.refusal().is_some(), standing == Standing::Refused, "{version}");
        }
        let refusal = Product::new("10.11.14-MariaDB", "").refusal().expect("it is refused");
        assert!(refusal.contains("MariaDB 10.11.14-MariaDB") && refusal.contains("8.0.13 or later"), "{refusal}");
    }

    #[test]
    fn features_begin_with_their_version_and_have_a_source() {
        for feature in FEATURES {
            let (major, minor, patch) = feature.from;
            assert!(feature.of(feature.from) && feature.of((u16::MAX, 0, 0)), "{}", feature.name);
            let before = if patch > 0 { (major, minor, patch - 1) } else { (major, minor - 1, u16::MAX) };
            assert!(!feature.of(before), "{}", feature.name);
            assert!(feature.source.is_empty() || feature.source.starts_with("https://dev.mysql.com/"), "{}", feature.name);
        }
        assert!(FEATURES.is_sorted_by_key(|feature| feature.from));
    }
}
