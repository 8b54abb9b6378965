//! `docs/reference/versions.md`: what was run, what follows from documentation, and what is refused, from the tables that the code goes by.

use crate::{made_part, page};
use std::fmt::Write as _;
use theseus::mysql::versions::{FEATURES, Product, REFUSED_MARIADB, SWAP_UNDER_LOCK, Standing, TESTED, Version};

const PAGE: &str = "docs/reference/versions.md";

fn dotted((major, minor, patch): Version) -> String {
    format!("{major}.{minor}.{patch}")
}

#[test]
fn the_page_says_what_was_run() {
    let standing = |version: &str, comment: &str| Product::new(version, comment).standing();
    let mut table = String::from("| server | | how we know |\n|---|---|---|\n");
    for tested in TESTED.map(dotted) {
        assert_eq!(standing(&tested, ""), Standing::Tested);
        writeln!(table, "| MySQL {tested} | tested | every suite runs on it, with replicas |").unwrap();
    }
    let oldest = dotted(SWAP_UNDER_LOCK.from);
    assert_eq!((standing(&oldest, ""), standing(&oldest, "Percona Server")), (Standing::Documentation, Standing::Documentation));
    writeln!(
        table,
        "| MySQL {oldest} to {}, and their other patch releases | according to the documentation | not tested; features that depend on the version are listed below with their source |",
        dotted(TESTED[TESTED.len() - 1])
    )
    .unwrap();
    writeln!(table, "| Percona Server from {oldest} | according to the documentation | it follows MySQL's versions |").unwrap();
    writeln!(table, "| later MySQL | newer than tested | accepted, but untested |").unwrap();
    writeln!(table, "| MySQL before {oldest} | refused | `ServerNotSupported`, according to the documentation |").unwrap();
    for series in REFUSED_MARIADB {
        assert_eq!(standing(&format!("{series}.1-MariaDB"), ""), Standing::Refused);
        writeln!(table, "| MariaDB {series} | refused | `ServerNotSupported`, tested on it |").unwrap();
    }
    writeln!(table, "| other MariaDB | refused | `ServerNotSupported` |").unwrap();
    made_part(PAGE, "servers", &table);
}

#[test]
fn the_page_has_every_branch_by_version() {
    let mut table = String::from("| from | what | newer servers | older servers | source |\n|---|---|---|---|---|\n");
    for feature in FEATURES {
        let source = match feature.source.trim_end_matches('/').rsplit('/').next().unwrap() {
            "" => format!("not opened: seen on {} only", dotted(TESTED[TESTED.len() - 1])),
            page => format!("[{page}]({})", feature.source),
        };
        writeln!(table, "| {} | {} | {} | {} | {source} |", dotted(feature.from), feature.name, feature.with, feature.without).unwrap();
    }
    made_part(PAGE, "features", &table);
}

/// The README names the same versions.
#[test]
fn the_readme_claims_what_was_run() {
    let readme = page("README.md");
    for version in TESTED {
        assert!(readme.contains(&format!("MySQL {}", dotted(version))), "{version:?}");
    }
    assert!(readme.contains("reference/versions.md"));
}
