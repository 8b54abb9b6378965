//! The pages under `docs/` say what the program does, no more and no less.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, path::Path};

fn page(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands in `code` font in the headings of this level.
fn headings(page: &str, level: &str) -> Vec<String> {
    page.lines().filter_map(|line| line.strip_prefix(level)?.strip_prefix(" `")?.strip_suffix('`')).map(str::to_owned).collect()
}

fn as_set(names: Vec<String>, of: &str) -> BTreeSet<String> {
    let count = names.len();
    let set: BTreeSet<String> = names.into_iter().collect();
    assert_eq!(set.len(), count, "{of}: a heading is there twice");
    set
}

mod metrics {
    use super::*;
    use theseus::telemetry::Metrics;

    #[test]
    fn every_metric_has_its_section_with_its_kind_and_the_reverse() {
        let page = page("docs/reference/metrics.md");
        let metrics = Metrics::new();
        let registered: BTreeSet<String> = metrics.descriptions().iter().map(|d| d.name.clone()).collect();
        assert_eq!(as_set(headings(&page, "###"), "metrics.md"), registered);
        for metric in metrics.descriptions() {
            let section = page.split(&format!("### `{}`\n", metric.name)).nth(1).unwrap();
            let kind = section.split(['.', ',']).next().unwrap();
            assert_eq!(kind.to_lowercase(), metric.kind, "{}", metric.name);
        }
    }
}
