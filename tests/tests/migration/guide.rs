//! The commands of the guide.

use std::path::Path;

/// The blocks of commands below a heading, in their order.
pub fn commands(heading: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/migration.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1);
    let blocks: Vec<_> = blocks
        .map(|it| it.split("```").next().unwrap().to_owned())
        .collect();
    assert!(blocks.len() > 2, "{heading}: {blocks:?}");
    blocks
}
