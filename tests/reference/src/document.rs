//! The tables of the pages in `docs/`.

use std::{collections::BTreeSet, fs, path::Path};

/// The page of flags, keys and variables.
const REFERENCE: &str = "configuration.md";

/// A row of a table whose first column names something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What stands in the first column as code, in its order.
    pub names: Vec<String>,
    /// The other columns.
    pub columns: Vec<String>,
}

/// The rows of the tables of the configuration reference below a heading, up to the next heading.
///
/// # Panics
/// If there is no such heading.
pub fn documented(heading: &str) -> Vec<Row> {
    table(REFERENCE, heading)
}

/// The rows of the tables of a page below a heading, up to the next heading.
///
/// # Panics
/// If there is no such page, or no such heading on it.
pub fn table(page: &str, heading: &str) -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(page);
    let text = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    let is_heading = |line: &&str| line.trim_start_matches('#') == format!(" {heading}");
    let mut lines = text.lines().skip_while(|line| !is_heading(line));
    assert!(lines.next().is_some(), "{page} has no heading {heading:?}");
    lines
        .take_while(|line| !line.starts_with('#'))
        .filter_map(row)
        .collect()
}

/// Asserts that the tables below a heading name these keys, and none besides. Keys are compared in lower case where the
/// parser's own are.
///
/// # Panics
/// If they don't.
pub fn every_key_is_documented(heading: &str, taken: &BTreeSet<String>) {
    let lower = taken.iter().all(|key| key.to_lowercase() == *key);
    let rows = documented(heading);
    let told: BTreeSet<String> = rows
        .into_iter()
        .flat_map(|row| row.names)
        .map(|name| if lower { name.to_lowercase() } else { name })
        .collect();
    let missing: Vec<_> = taken.difference(&told).collect();
    let unknown: Vec<_> = told.difference(taken).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "docs/configuration.md, {heading}: lacks {missing:?}; has {unknown:?}, which nobody reads"
    );
}

/// What stands as code in a text, in its order.
pub fn code(text: &str) -> Vec<String> {
    let parts = text.split('`').skip(1).step_by(2);
    parts.map(str::to_owned).collect()
}

fn row(line: &str) -> Option<Row> {
    let mut columns = line.strip_prefix("| ")?.split(" |").map(str::trim);
    let names = code(columns.next()?);
    (!names.is_empty()).then(|| Row {
        names,
        columns: columns.map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read() {
        for (line, names, columns) in [
            (
                "| `a`, `b[].c` | `1` | as `d` |",
                &["a", "b[].c"][..],
                &["`1`", "as `d`", ""],
            ),
            (
                "| `--v` `LEVEL` |  | How much |",
                &["--v", "LEVEL"],
                &["", "How much", ""],
            ),
        ] {
            let read = row(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(read.names, names);
            assert_eq!(read.columns, columns);
        }
        assert_eq!(row("| Key | Default | |"), None);
        assert_eq!(row("|---|---|---|"), None);
        assert_eq!(row("text with `code`"), None);
    }
}
