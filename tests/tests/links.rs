//! Links between the pages lead to files and headings that are there.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fs, path::Path};

use reference::commands::pages;

/// What stands in the brackets of `[text](target)`, but for other sites.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split(')').next());
    targets.filter(|it| !it.starts_with("http")).collect()
}

/// The names of the headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let name = |line: &str| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = |it: &char| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_');
        let kept: String = words.chars().filter(kept).collect();
        kept.replace(' ', "-")
    };
    headings.map(name).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut lost = Vec::new();
    let mut followed = 0;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (page, text) in pages() {
        let page = workspace.join(page);
        for link in links(&text) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                page.clone()
            } else {
                page.parent().unwrap().join(file)
            };
            let is_there = target.exists()
                && (anchor.is_empty()
                    || anchors(&fs::read_to_string(&target).unwrap()).contains(anchor));
            followed += 1;
            if !is_there {
                lost.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
    assert!(followed > 20, "{followed}");
}

#[test]
fn headings_have_githubs_names() {
    let text = "# What goes wrong in flannel, and can't here\n";
    assert!(anchors(text).contains("what-goes-wrong-in-flannel-and-cant-here"));
    assert_eq!(links("[a](b.md#c), [d](https://e)"), ["b.md#c"]);
}
