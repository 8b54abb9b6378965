//! Links between the documents lead somewhere.

use crate::{page, root};
use std::path::Path;

/// All Markdown files of the project, relative to its root.
pub fn markdown_files() -> Vec<String> {
    fn walk(folder: &Path, files: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                walk(&path, files);
            } else if name.ends_with(".md") {
                files.push(path.strip_prefix(root()).unwrap().display().to_string());
            }
        }
    }
    let mut files = Vec::new();
    walk(root(), &mut files);
    files.sort();
    files
}

/// A heading's anchor, as the usual renderers make it.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let files = markdown_files();
    assert!(files.iter().any(|file| file == "README.md"), "{files:?}");
    let mut broken = Vec::new();
    for file in &files {
        let text = page(file);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (target, fragment) = link.split_once('#').unwrap_or((link, ""));
            let path = if target.is_empty() { root().join(file) } else { root().join(file).parent().unwrap().join(target) };
            let fragment_is_there = || {
                fragment.is_empty()
                    || std::fs::read_to_string(&path)
                        .unwrap_or_default()
                        .lines()
                        .any(|line| line.starts_with('#') && anchor(line) == fragment)
            };
            if !path.exists() || !fragment_is_there() {
                broken.push(format!("{file}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
