//! The parameters of lists and watches, and which of them go together.
//!
//! The rules are those of apimachinery's `ValidateListOptions` and the table "Semantics for resource
//! versions" of the Kubernetes API concepts.

use std::time::Duration;

use axum::{extract::Query, http::Uri};
use serde::Deserialize;

use super::{failure::Failure, resource::Resource, selector::Selector};

/// The parameters as they come.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase")]
pub struct Parameters {
    /// Whether to watch.
    pub watch: String,
    /// Which labels.
    pub label_selector: String,
    /// Which fields.
    pub field_selector: String,
    /// How many items in a page.
    pub limit: String,
    /// Where the page begins.
    #[serde(rename = "continue")]
    pub continue_token: String,
    /// As of which change.
    pub resource_version: String,
    /// How `resourceVersion` is meant.
    pub resource_version_match: String,
    /// Whether a watch may send bookmarks.
    pub allow_watch_bookmarks: String,
    /// Whether a watch begins with what is there.
    pub send_initial_events: String,
    /// How long a watch lasts.
    pub timeout_seconds: String,
    /// Not offered.
    pub dry_run: String,
}

/// From when a list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The latest.
    Latest,
    /// Any: a cache may answer.
    Any,
    /// This one or a later one.
    NotOlderThan(u64),
    /// Just this one.
    Exact(u64),
}

/// What a list asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListOptions {
    /// Which objects.
    pub selector: Selector,
    /// As of when.
    pub version: Version,
    /// At most this many, 0 for all.
    pub limit: usize,
    /// The token of the page before, or empty.
    pub continue_token: String,
}

/// How a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With ADDED events for what is there (a watch without a resourceVersion).
    Existing,
    /// The same, ended by a marked bookmark (a streaming list), not older than a revision.
    Streaming(u64),
    /// With what happened after a revision.
    After(u64),
    /// With what happens from now on.
    Now,
}

/// What a watch asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchOptions {
    /// Which objects.
    pub selector: Selector,
    /// From when.
    pub start: Start,
    /// Whether bookmarks may be sent.
    pub bookmarks: bool,
    /// After what time it ends.
    pub timeout: Option<Duration>,
}

const NOT_OLDER: &str = "NotOlderThan";
const EXACT: &str = "Exact";

// === impl Parameters ===

impl Parameters {
    /// Reads the query of a request.
    ///
    /// # Errors
    /// 400 when it can't be parsed or asks for a dry run, which is not offered.
    pub fn parse(uri: &Uri) -> Result<Self, Failure> {
        let Query(parameters): Query<Self> = Query::try_from_uri(uri)
            .map_err(|error| Failure::bad_request(format!("query {:?}: {error}", uri.query())))?;
        if !parameters.dry_run.is_empty() {
            return Err(Failure::bad_request(
                "dryRun is not offered by the lab's API server",
            ));
        }
        Ok(parameters)
    }

    /// Whether the request is a watch.
    ///
    /// # Errors
    /// 400 when the parameter is no boolean.
    pub fn is_watch(&self) -> Result<bool, Failure> {
        Ok(boolean("watch", &self.watch)?.unwrap_or(false))
    }

    /// What a list asks for.
    ///
    /// # Errors
    /// 400 for what can't be parsed, 422 for what does not go together.
    pub fn list(&self, resource: &Resource) -> Result<ListOptions, Failure> {
        self.check_list()?;
        let limit = number("limit", &self.limit)?.unwrap_or(0);
        let version = match (self.revision()?, self.resource_version_match.as_str()) {
            (None, _) => Version::Latest,
            (Some(0), _) => Version::Any,
            (Some(revision), EXACT) => Version::Exact(revision),
            // Before there was resourceVersionMatch, a limit made it exact.
            (Some(revision), "") if limit > 0 => Version::Exact(revision),
            (Some(revision), _) => Version::NotOlderThan(revision),
        };
        Ok(ListOptions {
            selector: self.selector(resource)?,
            version,
            // The real server's cache answers `resourceVersion=0` in one piece.
            limit: match version {
                Version::Any => 0,
                _ => usize::try_from(limit).unwrap_or(usize::MAX),
            },
            continue_token: self.continue_token.clone(),
        })
    }

    /// What a watch asks for, from a server that offers streaming lists or doesn't.
    ///
    /// # Errors
    /// 400 for what can't be parsed, 422 for what does not go together.
    pub fn watch(&self, resource: &Resource, streaming: bool) -> Result<WatchOptions, Failure> {
        let initial = boolean("sendInitialEvents", &self.send_initial_events)?;
        self.check_watch(initial, streaming)?;
        let bookmarks = boolean("allowWatchBookmarks", &self.allow_watch_bookmarks)?;
        let bookmarks = bookmarks.unwrap_or(false);
        let start = match (initial, self.revision()?) {
            (Some(true), revision) if bookmarks => Start::Streaming(revision.unwrap_or(0)),
            (Some(true), _) => Start::Existing,
            (Some(false), None | Some(0)) => Start::Now,
            (None, None | Some(0)) => Start::Existing,
            (_, Some(revision)) => Start::After(revision),
        };
        let timeout = number("timeoutSeconds", &self.timeout_seconds)?;
        Ok(WatchOptions {
            selector: self.selector(resource)?,
            start,
            bookmarks,
            timeout: timeout
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
        })
    }

    /// Which objects a deletion of many is about.
    ///
    /// # Errors
    /// 400 for what can't be parsed.
    pub fn selector(&self, resource: &Resource) -> Result<Selector, Failure> {
        Selector::parse(resource, &self.label_selector, &self.field_selector)
    }

    /// The revision of a read that may not be older.
    ///
    /// # Errors
    /// 400 when it is no number.
    pub fn revision(&self) -> Result<Option<u64>, Failure> {
        number("resourceVersion", &self.resource_version)
    }

    fn check_list(&self) -> Result<(), Failure> {
        let version_match = self.resource_version_match.as_str();
        let continues = !self.continue_token.is_empty();
        if continues && !["", "0"].contains(&self.resource_version.as_str()) {
            return Err(Failure::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let wrong = match version_match {
            _ if !self.send_initial_events.is_empty() => {
                "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"
            }
            "" => return Ok(()),
            _ if self.resource_version.is_empty() => {
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless \
                 resourceVersion is provided"
            }
            _ if continues => {
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue \
                 is provided"
            }
            EXACT if self.resource_version == "0" => {
                "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for \
                 resourceVersion \"0\""
            }
            EXACT | NOT_OLDER => return Ok(()),
            _ => {
                "resourceVersionMatch: Unsupported value: supported values: \"Exact\", \"NotOlderThan\""
            }
        };
        Err(Failure::invalid("ListOptions.meta.k8s.io", "", wrong))
    }

    fn check_watch(&self, initial: Option<bool>, streaming: bool) -> Result<(), Failure> {
        let not_older = self.resource_version_match == NOT_OLDER;
        let wrong = match initial {
            Some(_) if !streaming => {
                "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the \
                 WatchList feature gate is enabled"
            }
            Some(_) if !not_older => {
                "resourceVersionMatch: Forbidden: sendInitialEvents requires setting \
                 resourceVersionMatch to NotOlderThan"
            }
            None if !self.resource_version_match.is_empty() => {
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless \
                 sendInitialEvents is provided"
            }
            _ => return Ok(()),
        };
        Err(Failure::invalid("ListOptions.meta.k8s.io", "", wrong))
    }
}

/// A boolean as Go's `strconv.ParseBool` reads it, which is what the real server uses.
fn boolean(name: &str, text: &str) -> Result<Option<bool>, Failure> {
    match text {
        "" => Ok(None),
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
        other => Err(Failure::bad_request(format!(
            "{name}: {other:?} is no boolean"
        ))),
    }
}

fn number(name: &str, text: &str) -> Result<Option<u64>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse().map(Some);
    parsed
        .map_err(|error| Failure::bad_request(format!("{name}: Invalid value: {text:?}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> (&'static Resource, Parameters) {
        let uri = format!("/api/v1/services?{query}").parse().unwrap();
        let services = Resource::by_plural("", "v1", "services").unwrap();
        (services, Parameters::parse(&uri).unwrap())
    }

    #[test]
    fn versions_of_lists() {
        for (query, expected) in [
            ("", Ok((Version::Latest, 0))),
            ("limit=5", Ok((Version::Latest, 5))),
            ("resourceVersion=0&limit=5", Ok((Version::Any, 0))),
            ("resourceVersion=7", Ok((Version::NotOlderThan(7), 0))),
            ("resourceVersion=7&limit=5", Ok((Version::Exact(7), 5))),
            (
                "resourceVersion=7&limit=5&resourceVersionMatch=NotOlderThan",
                Ok((Version::NotOlderThan(7), 5)),
            ),
            (
                "resourceVersion=7&resourceVersionMatch=Exact",
                Ok((Version::Exact(7), 0)),
            ),
            (
                "resourceVersion=0&resourceVersionMatch=NotOlderThan",
                Ok((Version::Any, 0)),
            ),
            ("resourceVersion=0&resourceVersionMatch=Exact", Err(422)),
            ("resourceVersionMatch=Exact", Err(422)),
            ("resourceVersion=7&resourceVersionMatch=Newer", Err(422)),
            ("sendInitialEvents=true", Err(422)),
            ("continue=abc&resourceVersion=7", Err(400)),
            ("resourceVersion=x", Err(400)),
            ("limit=-1", Err(400)),
        ] {
            let (services, parameters) = parse(query);
            let found = parameters.list(services);
            let found = found.map(|list| (list.version, list.limit));
            assert_eq!(found.map_err(|failure| failure.code), expected, "{query}");
        }
    }

    #[test]
    fn starts_of_watches() {
        let list = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
        for (query, streaming, expected) in [
            ("watch=1", true, Ok(Start::Existing)),
            ("watch=1&resourceVersion=0", true, Ok(Start::Existing)),
            ("watch=1&resourceVersion=7", true, Ok(Start::After(7))),
            (
                &format!("{list}&allowWatchBookmarks=true"),
                true,
                Ok(Start::Streaming(0)),
            ),
            (
                &format!("{list}&allowWatchBookmarks=1&resourceVersion=7"),
                true,
                Ok(Start::Streaming(7)),
            ),
            (list, true, Ok(Start::Existing)),
            (list, false, Err(422)),
            ("sendInitialEvents=true", true, Err(422)),
            ("resourceVersionMatch=NotOlderThan", true, Err(422)),
            (
                "sendInitialEvents=false&resourceVersionMatch=NotOlderThan",
                true,
                Ok(Start::Now),
            ),
            ("sendInitialEvents=perhaps", true, Err(400)),
        ] {
            let (services, parameters) = parse(query);
            let found = parameters
                .watch(services, streaming)
                .map(|watch| watch.start);
            assert_eq!(found.map_err(|failure| failure.code), expected, "{query}");
        }
    }
}
