//! The commands of the pages: what stands between fences, and how it is marked.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// How a fenced block is marked: what stands behind the first fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `sh test`: run on a node of the lab.
    Node,
    /// `sh test iptables`: run on a node whose proxy is in iptables mode.
    IptablesNode,
    /// `sh guide`: a step of a guide, run on a machine that follows it.
    Step,
    /// `sh cluster`: run against a Kubernetes API server, where there is one.
    Cluster,
    /// `sh build`: builds or measures, and takes minutes.
    Build,
    /// `text`: no commands.
    Text,
}

/// What stands between two fences of a page.
#[derive(Clone, Debug)]
pub struct Block {
    /// The page below the workspace, such as `docs/cni.md`.
    pub page: String,
    /// The heading above.
    pub heading: String,
    /// The line of the first fence.
    pub line: usize,
    /// What stands behind the first fence.
    pub info: String,
    /// The lines between, without the fence's indentation.
    pub text: String,
}

// === impl Block ===

impl Block {
    /// How it is marked; nothing if it isn't.
    pub fn kind(&self) -> Option<Kind> {
        Some(match self.info.as_str() {
            "sh test" => Kind::Node,
            "sh test iptables" => Kind::IptablesNode,
            "sh guide" => Kind::Step,
            "sh cluster" => Kind::Cluster,
            "sh build" => Kind::Build,
            "text" => Kind::Text,
            _ => return None,
        })
    }
}

/// The pages below the workspace, with their texts: the README, those in `docs`, and the READMEs in `deploy`.
///
/// # Panics
/// If one can't be read.
pub fn pages() -> Vec<(String, String)> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = vec!["README.md".to_owned()];
    for directory in ["docs", "deploy"] {
        add_pages(&workspace, Path::new(directory), &mut pages);
    }
    let read = |page: String| match fs::read_to_string(workspace.join(&page)) {
        Ok(text) => (page, text),
        Err(error) => panic!("read {page}: {error}"),
    };
    pages.into_iter().map(read).collect()
}

/// The blocks of all pages, in their order.
///
/// # Panics
/// If a page can't be read, or a fence is never closed.
pub fn blocks() -> Vec<Block> {
    let pages = pages();
    let blocks = pages.iter().flat_map(|(page, text)| of_page(page, text));
    blocks.collect()
}

fn add_pages(workspace: &Path, directory: &Path, pages: &mut Vec<String>) {
    let entries = fs::read_dir(workspace.join(directory));
    let entries = entries.unwrap_or_else(|error| panic!("read {}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.flatten().map(|it| it.path()).collect();
    paths.sort();
    for path in paths {
        let below = directory.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            add_pages(workspace, &below, pages);
        } else if path.extension().is_some_and(|it| it == "md") {
            pages.push(below.display().to_string());
        }
    }
}

/// The blocks of a page.
///
/// # Panics
/// If a fence is never closed.
pub fn of_page(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut heading = String::new();
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        if line.starts_with('#') {
            line.trim_start_matches('#').trim().clone_into(&mut heading);
        }
        let Some(info) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        let indentation = line.len() - line.trim_start().len();
        let mut inside = String::new();
        loop {
            let next = lines.next();
            let (line, _) = next.unwrap_or_else(|| panic!("{page}:{number}: is never closed"));
            if line.trim() == "```" {
                break;
            }
            inside.push_str(line.get(indentation..).unwrap_or_default());
            inside.push('\n');
        }
        blocks.push(Block {
            page: page.to_owned(),
            heading: heading.clone(),
            line: number,
            info: info.to_owned(),
            text: inside,
        });
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_with_their_marks() {
        let page = "# One\n\n```sh test\na\n  b\n```\n\n## Two\n\n1. Step\n\n   ```sh guide\n   c\n   ```\n```\nd\n```\n";
        let blocks = of_page("page.md", page);
        let read: Vec<_> = blocks
            .iter()
            .map(|it| (it.heading.as_str(), it.line, it.kind(), it.text.as_str()))
            .collect();
        assert_eq!(
            read,
            [
                ("One", 3, Some(Kind::Node), "a\n  b\n"),
                ("Two", 12, Some(Kind::Step), "c\n"),
                ("Two", 15, None, "d\n"),
            ]
        );
    }
}
