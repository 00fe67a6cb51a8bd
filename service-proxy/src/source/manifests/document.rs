//! What a manifest file holds.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
};

use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
    networking::v1::ServiceCIDR,
};
use serde_json::Value;

use super::defaults;
use crate::{
    model::{Change, ObjectKey},
    source::object,
};

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `.yaml`, `.yml`: documents between lines of `---`.
    Yaml,
    /// `.json`: one document.
    Json,
}

/// What a file holds.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The Services and EndpointSlices.
    pub objects: BTreeMap<ObjectKey, Change>,
    /// What could not be understood.
    pub problems: Vec<Problem>,
}

/// A document of a file that could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which document, from 1.
    pub document: usize,
    /// The line that the document starts at, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub wrong: String,
}

/// A document as text.
#[derive(Debug, PartialEq, Eq)]
struct Document<'a> {
    line: usize,
    text: &'a str,
}

// === impl Problem ===

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "document {} (from line {}): {}",
            self.document, self.line, self.wrong
        )
    }
}

// === impl Parsed ===

impl Parsed {
    /// A file that can't be understood at all.
    pub fn broken(wrong: impl fmt::Display) -> Self {
        Self {
            objects: BTreeMap::new(),
            problems: vec![Problem {
                document: 1,
                line: 1,
                wrong: wrong.to_string(),
            }],
        }
    }

    fn add(&mut self, object: Change) -> Result<(), String> {
        let key = object.key();
        match self.objects.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(object);
                Ok(())
            }
            Entry::Occupied(known) => Err(format!(
                "{}: is in this file already, the first one counts",
                known.key()
            )),
        }
    }
}

/// Reads the text of a file. A document that is wrong does not keep the others from being read.
pub fn parse(text: &str, format: Format) -> Parsed {
    let documents = match format {
        Format::Yaml => split(text),
        Format::Json => vec![Document { line: 1, text }],
    };
    let mut parsed = Parsed::default();
    let mut number = 0;
    for document in documents {
        let outcomes = match read(document.text, format) {
            // Between separators there can be nothing but comments: no document to a reader.
            Ok(Value::Null) => continue,
            Ok(value) => objects(value),
            Err(wrong) => vec![Err(wrong)],
        };
        number += 1;
        for outcome in outcomes {
            let added =
                outcome.and_then(|object| object.map_or(Ok(()), |object| parsed.add(object)));
            parsed.problems.extend(added.err().map(|wrong| Problem {
                document: number,
                line: document.line,
                wrong,
            }));
        }
    }
    parsed
}

fn read(text: &str, format: Format) -> Result<Value, String> {
    match format {
        Format::Yaml => yaml(text),
        Format::Json => serde_json::from_str(text).map_err(|error| error.to_string()),
    }
}

/// Splits at lines that start with `---`, as kubectl does, so that a document that is no YAML ends where
/// the next one starts. Documents with nothing but comments in them count but are empty.
fn split(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut at) = (0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if is_separator(line) && at > start {
            documents.push(Document {
                line: start_line,
                text: &text[start..at],
            });
            (start, start_line) = (at, index + 1);
        }
        at += line.len();
    }
    documents.push(Document {
        line: start_line,
        text: &text[start..],
    });
    documents
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// One YAML document; null if there is nothing in it.
fn yaml(text: &str) -> Result<Value, String> {
    // The files are the administrator's own: large lists are fine, only the depth is limited, as it is
    // stack.
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_total_scalar_bytes: usize::MAX,
        },
    };
    let value: Option<Value> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
    Ok(value.unwrap_or(Value::Null))
}

/// The Services and EndpointSlices of a document: itself, or the items of a list. Other kinds are none.
fn objects(value: Value) -> Vec<Result<Option<Change>, String>> {
    if value.is_null() {
        return Vec::new();
    }
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    match (text("apiVersion"), text("kind")) {
        ("v1", "List" | "ServiceList" | "NodeList")
        | ("discovery.k8s.io/v1", "EndpointSliceList")
        | ("networking.k8s.io/v1", "ServiceCIDRList") => items(value),
        ("v1", "Service") => vec![read_service(value)],
        ("v1", "Node") => vec![read_node(value)],
        ("networking.k8s.io/v1", "ServiceCIDR") => vec![read_service_cidr(value)],
        ("discovery.k8s.io/v1", "EndpointSlice") => vec![read_slice(value)],
        ("", _) => vec![Err(
            "apiVersion: is missing, so this is no Kubernetes object".into(),
        )],
        (_, "") => vec![Err(
            "kind: is missing, so this is no Kubernetes object".into()
        )],
        _ => Vec::new(),
    }
}

fn items(mut list: Value) -> Vec<Result<Option<Change>, String>> {
    let Some(Value::Array(items)) = list.get_mut("items").map(Value::take) else {
        return vec![Err("items: is no list".into())];
    };
    let numbered = items.into_iter().enumerate();
    numbered
        .flat_map(|(index, item)| {
            let at = move |wrong: String| format!("items[{index}]: {wrong}");
            objects(item)
                .into_iter()
                .map(move |outcome| outcome.map_err(at))
        })
        .collect()
}

fn read_service(value: Value) -> Result<Option<Change>, String> {
    let mut service: Service = object::typed(value)?;
    defaults::service(&mut service);
    object::service(&service).map(Some)
}

fn read_slice(value: Value) -> Result<Option<Change>, String> {
    let mut slice: EndpointSlice = object::typed(value)?;
    defaults::endpoint_slice(&mut slice);
    object::endpoint_slice(&slice).map(Some)
}

fn read_node(value: Value) -> Result<Option<Change>, String> {
    let node: Node = object::typed(value)?;
    object::node(&node).map(Some)
}

fn read_service_cidr(value: Value) -> Result<Option<Change>, String> {
    let cidr: ServiceCIDR = object::typed(value)?;
    object::service_cidr(&cidr).map(Some)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.0.1
  ports: [{port: 80}]
";

    const SLICE: &str = "\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1]}]
ports: [{port: 8080}]
";

    fn keys(parsed: &Parsed) -> Vec<String> {
        parsed.objects.keys().map(ToString::to_string).collect()
    }

    fn problems(parsed: &Parsed) -> Vec<String> {
        parsed.problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn documents_lists_and_other_kinds() {
        let list = format!(
            "apiVersion: v1\nkind: List\nitems:\n{}",
            [SERVICE, SLICE]
                .map(|item| format!("- {}", item.trim_end().replace('\n', "\n  ")))
                .join("\n")
        );
        let other = "apiVersion: apps/v1\nkind: Deployment\nspec: {}\n";
        for text in [
            format!("{SERVICE}---\n{SLICE}"),
            format!("# license\n---\n{SERVICE}--- # and\n{SLICE}...\n---\n"),
            format!("{other}---\n{list}"),
            list.clone(),
        ] {
            let parsed = parse(&text, Format::Yaml);
            assert_eq!(problems(&parsed), [""; 0], "{text}");
            assert_eq!(
                keys(&parsed),
                ["Service default/web", "EndpointSlice default/web-1"],
                "{text}"
            );
        }
    }

    #[test]
    fn fills_in_what_the_api_server_would() {
        let parsed = parse(SLICE, Format::Yaml);
        let Some(Change::EndpointSlice(_, Some(slice))) = parsed.objects.values().next() else {
            panic!("{parsed:?}");
        };
        assert_eq!((&*slice.ports[0].name, slice.ports[0].port), ("", 8080));
    }

    #[test]
    fn nodes_have_zones() {
        let text = "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/zone: a}}\n";
        let parsed = parse(text, Format::Yaml);
        assert_eq!(
            (keys(&parsed), problems(&parsed)),
            (vec!["Node n1".into()], vec![])
        );
        let Some(Change::Node(_, Some(node))) = parsed.objects.values().next() else {
            panic!("{parsed:?}");
        };
        assert_eq!(node.zone.as_deref(), Some("a"));
    }

    #[test]
    fn json_is_one_document() {
        let text = r#"{"apiVersion": "v1", "kind": "ServiceList", "items": [
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
             "spec": {"clusterIP": "None"}}]}"#;
        let parsed = parse(text, Format::Json);
        assert_eq!(
            (keys(&parsed), problems(&parsed)),
            (vec!["Service shop/web".into()], vec![])
        );
    }

    #[test]
    fn a_bad_document_is_named_and_the_others_are_read() {
        for (bad, wrong) in [
            ("kind: [", "document 2 (from line 8): "),
            (
                "just text",
                "document 2 (from line 8): apiVersion: is missing, so this is no Kubernetes object",
            ),
            (
                "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: http}]}",
                "document 2 (from line 8): spec.ports[0].port: invalid type: string \"http\", expected i32",
            ),
            (
                "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {clusterIP: 10.96}",
                "document 2 (from line 8): spec.clusterIP: invalid type: floating point `10.96`, expected a string",
            ),
            (
                "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {clusterIP: a.b}",
                "document 2 (from line 8): Service x: spec.clusterIP: \"a.b\" is no IP address",
            ),
            (
                "apiVersion: v1\nkind: List\nitems: 1",
                "document 2 (from line 8): items: is no list",
            ),
            (
                "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Service}]",
                "document 2 (from line 8): items[0]: Service without name: metadata.name: is missing",
            ),
            (
                SERVICE,
                "document 2 (from line 8): Service default/web: is in this file already, the first one counts",
            ),
        ] {
            let text = format!("{SERVICE}\n---\n{}\n---\n{SLICE}", bad.trim_end());
            let parsed = parse(&text, Format::Yaml);
            assert_eq!(
                keys(&parsed),
                ["Service default/web", "EndpointSlice default/web-1"],
                "{bad}"
            );
            let problems = problems(&parsed);
            assert_eq!(problems.len(), 1, "{bad}: {problems:?}");
            assert!(problems[0].starts_with(wrong), "{}", problems[0]);
            assert!(!problems[0].contains('\n'), "{}", problems[0]);
        }
    }

    #[test]
    fn separators_are_whole_words_at_the_start_of_a_line() {
        let lines = |text| {
            split(text)
                .iter()
                .map(|document| document.line)
                .collect::<Vec<_>>()
        };
        assert_eq!(lines("a\n---\nb\n--- c\n"), [1, 2, 4]);
        assert_eq!(lines("---\na\n---x\n ---\n"), [1]);
        assert_eq!(lines(""), [1]);
    }

    proptest! {
        #[test]
        fn never_panics(text in ".*") {
            parse(&text, Format::Yaml);
            parse(&text, Format::Json);
        }

        #[test]
        fn never_panics_on_damaged_manifests(
            at in 0..SERVICE.len() + SLICE.len(), length in 0..40_usize, rubbish in "[-\\[\\]{}:#&*!|>'\"% \\n\\ta-c0-9.]{0,12}",
        ) {
            let text = format!("{SERVICE}---\n{SLICE}");
            let end = (at + length).min(text.len());
            let damaged = format!("{}{rubbish}{}", &text[..at], &text[end..]);
            parse(&damaged, Format::Yaml);
        }
    }
}
