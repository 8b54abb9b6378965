//! `docs/reference/reasons.md`.

use crate::{headings, page, section};
use std::collections::BTreeSet;
use theseus::engine::contract::reason::{Passes, Reason};

#[test]
fn every_reason_has_its_section_and_the_reverse() {
    let all: BTreeSet<String> = Reason::ALL.iter().map(|reason| reason.as_str().to_owned()).collect();
    assert_eq!(all.len(), Reason::ALL.len(), "two reasons have the same word");
    assert_eq!(headings(&page("docs/reference/reasons.md"), "##"), all);
}

/// `ALL` is written by hand: a variant that is missing there would be missing on the page too.
#[test]
fn all_reasons_are_all() {
    let source = page("src/engine/contract/reason.rs");
    let body = source.split_once("pub enum Reason {").unwrap().1.split_once("\n}").unwrap().0;
    let variants: BTreeSet<String> = body
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//") && !line.starts_with('#'))
        .filter_map(|line| line.split(&[',', ' ', '=', '('][..]).next())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let all: BTreeSet<String> = Reason::ALL.iter().map(|reason| format!("{reason:?}")).collect();
    assert_eq!(variants, all);
}

/// Each says what happened, what is left and what to do, in this order.
#[test]
fn every_section_answers_the_three_questions() {
    let page = page("docs/reference/reasons.md");
    for reason in Reason::ALL {
        let section = section(&page, "##", reason.as_str());
        let places: Vec<_> =
            ["**What happened.** ", "**What is left.** ", "**What to do.** "].map(|question| section.find(question)).into();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{reason}: {places:?}");
    }
}

/// What the program retries the page calls retried, in the same words everywhere, and nothing else; and where a retry starts over it says so.
#[test]
fn every_section_says_whether_it_passes_by_itself() {
    let page = page("docs/reference/reasons.md");
    for reason in Reason::ALL {
        let section = section(&page, "##", reason.as_str()).replace('\n', " ");
        let (always, begun) = (section.contains(" Retried. "), section.contains(" Retried once the migration has begun"));
        let says = match (always, begun) {
            (true, false) => Passes::ByItself,
            (false, true) => Passes::OnceBegun,
            (false, false) => Passes::Never,
            (true, true) => panic!("{reason} is both"),
        };
        assert_eq!(says, reason.passes(), "{reason}");
        if reason.restarts_copy() {
            assert!(section.contains("starts over"), "{reason}");
        }
    }
}
