//! `docs/reference/metrics.md`.

use crate::{headings, page, section};
use std::collections::BTreeSet;
use theseus::telemetry::Metrics;

#[test]
fn every_metric_has_its_section_with_its_kind_and_the_reverse() {
    let page = page("docs/reference/metrics.md");
    let metrics = Metrics::new();
    let registered: BTreeSet<String> = metrics.descriptions().iter().map(|d| d.name.clone()).collect();
    assert_eq!(headings(&page, "###"), registered);
    for metric in metrics.descriptions() {
        let kind = section(&page, "###", &metric.name).split(['.', ',']).next().unwrap().trim();
        assert_eq!(kind.to_lowercase(), metric.kind, "{}", metric.name);
    }
}

/// A query on the page names metrics that exist.
#[test]
fn queries_name_metrics_that_exist() {
    let metrics = Metrics::new();
    let page = page("docs/reference/metrics.md");
    for word in page.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| word.starts_with("theseus_") && word.len() > 8) {
        let known = |name: &str| metrics.descriptions().iter().any(|metric| metric.name == name);
        assert!(known(word) || word.strip_suffix("_bucket").is_some_and(known), "{word}");
    }
}
