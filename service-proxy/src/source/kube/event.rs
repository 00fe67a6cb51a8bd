//! What the API server sends: events of a watch, a line each, and pages of lists.

use std::{borrow::Cow, collections::BTreeMap};

use kube::core::Status;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::failure::Failure;

/// An event of a watch (`metav1.WatchEvent`).
#[derive(Debug)]
pub enum Event<'a> {
    /// An object is there, new or different.
    Applied(Object<'a>),
    /// An object is gone, or is no longer one of those that were asked for.
    Deleted(Object<'a>),
    /// Everything up to a resourceVersion has been told.
    Bookmark {
        /// The resourceVersion.
        version: String,
        /// Whether that ends what a streaming list begins with.
        ends_list: bool,
    },
}

/// An object, of which only the metadata has been read.
#[derive(Debug)]
pub struct Object<'a> {
    /// The object.
    pub text: &'a RawValue,
    /// Its namespace; empty for kinds without.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its resourceVersion.
    pub version: String,
}

/// A page of a list.
#[derive(Debug)]
pub struct Page<'a> {
    /// The objects.
    pub items: Vec<Object<'a>>,
    /// Where the list is from.
    pub version: String,
    /// With what the next page is asked for; `None` if this is the last.
    pub next: Option<String>,
}

/// What marks the bookmark that ends what a streaming list begins with (KEP-3157).
const ENDS_LIST: &str = "k8s.io/initial-events-end";

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct List<'a> {
    metadata: ListMetadata,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    resource_version: String,
    #[serde(default)]
    r#continue: String,
}

// === impl Event ===

impl<'a> Event<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// What the server tells by an event of type ERROR, or that the line is no event.
    pub fn read(line: &'a [u8]) -> Result<Self, Failure> {
        let envelope: Envelope<'a> = serde_json::from_slice(line).map_err(garbage)?;
        match &*envelope.kind {
            "ADDED" | "MODIFIED" => Object::read(envelope.object).map(Self::Applied),
            "DELETED" => Object::read(envelope.object).map(Self::Deleted),
            "BOOKMARK" => {
                let meta: Meta = serde_json::from_str(envelope.object.get()).map_err(garbage)?;
                Ok(Self::Bookmark {
                    ends_list: meta
                        .metadata
                        .annotations
                        .get(ENDS_LIST)
                        .is_some_and(|is| is == "true"),
                    version: meta.metadata.resource_version,
                })
            }
            "ERROR" => {
                let status: Status =
                    serde_json::from_str(envelope.object.get()).map_err(garbage)?;
                Err(Failure::Refused(status.boxed()))
            }
            other => Err(Failure::Garbage(format!("an event of type {other:?}"))),
        }
    }
}

// === impl Object ===

impl<'a> Object<'a> {
    fn read(text: &'a RawValue) -> Result<Self, Failure> {
        let Meta { metadata } = serde_json::from_str(text.get()).map_err(garbage)?;
        Ok(Self {
            text,
            namespace: metadata.namespace,
            name: metadata.name,
            version: metadata.resource_version,
        })
    }
}

// === impl Page ===

impl<'a> Page<'a> {
    /// Reads a page.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(text: &'a [u8]) -> Result<Self, Failure> {
        let list: List<'a> = serde_json::from_slice(text).map_err(garbage)?;
        let items = list.items.into_iter().flatten();
        Ok(Self {
            items: items.map(Object::read).collect::<Result<_, _>>()?,
            version: list.metadata.resource_version,
            next: Some(list.metadata.r#continue).filter(|token| !token.is_empty()),
        })
    }
}

fn garbage(error: serde_json::Error) -> Failure {
    Failure::Garbage(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn show(line: &str) -> String {
        match Event::read(line.as_bytes()) {
            Ok(Event::Applied(it)) => format!("+ {}/{} {}", it.namespace, it.name, it.version),
            Ok(Event::Deleted(it)) => format!("- {}/{} {}", it.namespace, it.name, it.version),
            Ok(Event::Bookmark { version, ends_list }) => format!("{version} {ends_list}"),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn events() {
        let object = r#"{"metadata":{"namespace":"n","name":"a","resourceVersion":"7"},"x":[1]}"#;
        let end = r#"{"metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}}}"#;
        for (kind, object, expected) in [
            ("ADDED", object, "+ n/a 7"),
            ("MODIFIED", object, "+ n/a 7"),
            ("DELETED", object, "- n/a 7"),
            (
                "BOOKMARK",
                r#"{"metadata":{"resourceVersion":"8"}}"#,
                "8 false",
            ),
            ("BOOKMARK", end, "9 true"),
            (
                "ERROR",
                r#"{"kind":"Status","code":410,"reason":"Expired","message":"too old"}"#,
                "too old (410 Expired)",
            ),
            (
                "HELLO",
                object,
                "the answer can't be understood: an event of type \"HELLO\"",
            ),
        ] {
            let line = format!(r#"{{"type":"{kind}","object":{object}}}"#);
            assert_eq!(show(&line), expected, "{line}");
        }
        for line in ["", "{", "[]", r#"{"type":"ADDED"}"#] {
            assert!(
                show(line).starts_with("the answer can't be understood"),
                "{line}"
            );
        }
    }

    #[test]
    fn pages() {
        for (text, expected) in [
            (
                r#"{"metadata":{"resourceVersion":"5"},"items":null}"#,
                (0, None),
            ),
            (
                r#"{"metadata":{"resourceVersion":"5","continue":""},"items":[]}"#,
                (0, None),
            ),
            (
                r#"{"metadata":{"resourceVersion":"5","continue":"x"},"items":[{"metadata":{"name":"a"}}, {}]}"#,
                (2, Some("x")),
            ),
        ] {
            let page = Page::read(text.as_bytes()).unwrap();
            assert_eq!((page.items.len(), page.next.as_deref()), expected);
            assert_eq!(page.version, "5");
        }
        assert!(Page::read(br#"{"metadata":{"resourceVersion":"5"},"items":[{"#).is_err());
    }
}
