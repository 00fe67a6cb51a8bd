//! Which release a program is of: the version of the workspace, and the commit that it was built from.
//!
//! The commit is what `TWEED_REVISION` says while this is compiled, as `make dist` and the image's build set it.
//! A build without it, as every developer's is, does not ask git: it would be compiled anew with each commit.

use std::sync::LazyLock;

/// The version of all three programs.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit, as `git describe --always --dirty` names it.
pub const REVISION: &str = match option_env!("TWEED_REVISION") {
    Some(revision) => revision,
    None => "unknown commit",
};

static RELEASE: LazyLock<String> = LazyLock::new(|| format!("{VERSION} ({REVISION})"));

/// Both, for people: `0.1.0 (147b5281c3d4)`.
pub fn text() -> &'static str {
    &RELEASE
}

/// Both as labels of a metric whose value is 1.
pub fn labels() -> Vec<(&'static str, &'static str)> {
    vec![("version", VERSION), ("revision", REVISION)]
}
