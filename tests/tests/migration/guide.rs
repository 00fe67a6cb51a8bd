//! The commands of the guides.

use reference::commands::{Kind, blocks};

/// The blocks of commands below a heading of a page, in their order.
pub fn commands(page: &str, heading: &str) -> Vec<String> {
    let steps = blocks()
        .into_iter()
        .filter(|it| it.page == page && it.heading == heading && it.kind() == Some(Kind::Step));
    let steps: Vec<_> = steps.map(|it| it.text).collect();
    assert!(!steps.is_empty(), "{page}, {heading}");
    steps
}
