//! Requests about Nodes.

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use futures_util::Stream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams, WatchParams},
    core::{ApiResource, DynamicObject, ObjectList, WatchEvent},
};
use serde_json::{Value, json};

use super::Error;
use crate::{model::Node, report::Metrics};

/// How long a request may take. A watch has no end, but has to begin within it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// How many Nodes are asked for at a time.
const PAGE: u32 = 500;

/// What flannel's annotations begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnotationPrefix(String);

/// Not the beginning of an annotation's name. The texts are flannel's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPrefix {
    /// Too many parts.
    #[error("prefix can contain at most single slash")]
    Slashes,
    /// Not of a domain and a name.
    #[error("prefix must be in a format: fqdn/[0-9a-z-_]*")]
    Format,
}

/// The Nodes of a cluster, of which one is this.
#[derive(Clone)]
pub struct Nodes {
    api: Api<DynamicObject>,
    prefix: AnnotationPrefix,
    metrics: Metrics,
    /// The name of the one that this is.
    pub own_name: String,
}

// === impl AnnotationPrefix ===

impl AnnotationPrefix {
    /// Completes a prefix as flannel does: by a slash, or behind one by a dash.
    pub fn parse(text: &str) -> Result<Self, InvalidPrefix> {
        let (domain, name) = match text.split_once('/') {
            Some((_, name)) if name.contains('/') => return Err(InvalidPrefix::Slashes),
            Some((domain, name)) => (domain, name.strip_suffix('-').unwrap_or(name)),
            None => (text, ""),
        };
        let is_word = |text: &str| {
            let mut chars = text.chars();
            !text.is_empty() && chars.all(|it| matches!(it, 'a'..='z' | '0'..='9' | '_' | '-'))
        };
        let is_domain = domain.contains('.') && domain.split('.').all(is_word);
        match name {
            _ if !is_domain => Err(InvalidPrefix::Format),
            "" => Ok(Self(format!("{domain}/"))),
            name if is_word(name) => Ok(Self(format!("{domain}/{name}-"))),
            _ => Err(InvalidPrefix::Format),
        }
    }
}

// === impl Nodes ===

impl Nodes {
    /// The Nodes as a client sees them; `metrics` counts.
    pub fn new(
        client: Client,
        prefix: AnnotationPrefix,
        own_name: String,
        metrics: Metrics,
    ) -> Self {
        let resource = ApiResource::erase::<v1::Node>(&());
        Self {
            api: Api::all_with(client, &resource),
            prefix,
            metrics,
            own_name,
        }
    }

    /// What counts.
    pub(super) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The own Node, if there is one.
    pub async fn own(&self) -> Result<Option<Node>, Error> {
        let name = &self.own_name;
        let found = answer(format!("get node {name}"), self.api.get_opt(name)).await?;
        Ok(found.map(|object| self.node(&object)))
    }

    /// All Nodes, and the revision that they were read at.
    pub(super) async fn list(&self) -> Result<(Vec<Node>, String), Error> {
        let mut nodes = Vec::new();
        let mut parameters = ListParams::default().limit(PAGE);
        loop {
            let page: ObjectList<_> = answer("list nodes", self.api.list(&parameters)).await?;
            nodes.extend(page.items.iter().map(|object| self.node(object)));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => return Ok((nodes, page.metadata.resource_version.unwrap_or_default())),
            }
        }
    }

    /// Watches from a revision on.
    pub(super) async fn watch(
        &self,
        revision: &str,
    ) -> Result<impl Stream<Item = kube::Result<WatchEvent<DynamicObject>>> + use<>, Error> {
        let parameters = WatchParams::default();
        answer("watch nodes", self.api.watch(&parameters, revision)).await
    }

    /// Changes annotations of the own Node; `None` removes one.
    pub async fn annotate(
        &self,
        changes: &BTreeMap<&'static str, Option<String>>,
    ) -> Result<(), Error> {
        let AnnotationPrefix(prefix) = &self.prefix;
        let annotations: BTreeMap<_, _> = changes
            .iter()
            .map(|(name, text)| (format!("{prefix}{name}"), text))
            .collect();
        self.patch(
            "annotate",
            json!({"metadata": {"annotations": annotations}}),
        )
        .await
    }

    /// Tells the scheduler that pods of the own Node can reach others (spec 1.10).
    pub async fn set_network_available(&self) -> Result<(), Error> {
        let now = Timestamp::now()
            .round(jiff::Unit::Second)
            .unwrap_or_default();
        let condition = json!({
            "type": "NetworkUnavailable",
            "status": "False",
            "reason": "FlannelIsUp",
            "message": "Flannel is running on this node",
            "lastTransitionTime": now.to_string(),
            "lastHeartbeatTime": now.to_string(),
        });
        self.patch(
            "set NetworkUnavailable=False of",
            json!({"status": {"conditions": [condition]}}),
        )
        .await
    }

    /// By the status subresource, for which flannel's role has the right.
    async fn patch(&self, what: &str, patch: Value) -> Result<(), Error> {
        let name = &self.own_name;
        let parameters = PatchParams::default();
        let patch = Patch::Strategic(patch);
        let request = self.api.patch_status(name, &parameters, &patch);
        answer(format!("{what} node {name}"), request)
            .await
            .map(drop)
    }

    /// What there is to know of an object.
    pub(super) fn node(&self, object: &DynamicObject) -> Node {
        let AnnotationPrefix(prefix) = &self.prefix;
        let annotations = object.annotations().iter().filter_map(|(name, text)| {
            Some((name.strip_prefix(prefix.as_str())?.to_owned(), text.clone()))
        });
        Node {
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            pod_cidrs: pod_cidrs(&object.data),
            annotations: annotations.collect(),
            network_unavailable: network_unavailable(&object.data),
        }
    }
}

fn pod_cidrs(node: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all: Vec<_> = match node.pointer("/spec/podCIDRs").and_then(Value::as_array) {
        Some(all) if !all.is_empty() => all.iter().map(text).collect(),
        _ => node
            .pointer("/spec/podCIDR")
            .map(text)
            .into_iter()
            .collect(),
    };
    all.into_iter().filter(|text| !text.is_empty()).collect()
}

fn network_unavailable(node: &Value) -> Option<(String, String)> {
    let conditions = node.pointer("/status/conditions")?.as_array()?;
    let condition = conditions
        .iter()
        .find(|it| it["type"] == "NetworkUnavailable")?;
    let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("reason")))
}

async fn answer<T>(
    attempted: impl Display,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(|error| Error::new(attempted, &error)),
        Err(_) => Err(Error::no_answer(attempted)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_completed_as_flannels() {
        for (text, whole) in [
            ("flannel.alpha.coreos.com", "flannel.alpha.coreos.com/"),
            ("flannel.alpha.coreos.com/", "flannel.alpha.coreos.com/"),
            ("a.b/c", "a.b/c-"),
            ("a.b/c-", "a.b/c-"),
        ] {
            assert_eq!(
                AnnotationPrefix::parse(text),
                Ok(AnnotationPrefix(whole.into()))
            );
        }
        for (text, error) in [
            ("a.b/c/d", InvalidPrefix::Slashes),
            ("com", InvalidPrefix::Format),
            ("A.b", InvalidPrefix::Format),
            ("a..b", InvalidPrefix::Format),
            ("a.b/C", InvalidPrefix::Format),
            ("", InvalidPrefix::Format),
        ] {
            assert_eq!(AnnotationPrefix::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn rubbish_in_a_node_is_none() {
        for (node, expected) in [
            (json!({}), &[][..]),
            (json!({"spec": {"podCIDR": ""}}), &[]),
            (
                json!({"spec": {"podCIDR": "10.5.1.0/24"}}),
                &["10.5.1.0/24"],
            ),
            (
                json!({"spec": {"podCIDRs": [], "podCIDR": "10.5.1.0/24"}}),
                &["10.5.1.0/24"],
            ),
            (json!({"spec": {"podCIDRs": "x"}}), &[]),
            (
                json!({"spec": {"podCIDRs": ["10.5.1.0/24", "fd00::/64"], "podCIDR": "10.5.1.0/24"}}),
                &["10.5.1.0/24", "fd00::/64"],
            ),
        ] {
            assert_eq!(pod_cidrs(&node), expected);
        }
        let node = json!({"status": {"conditions": [7, {"type": "NetworkUnavailable", "status": "True"}]}});
        assert_eq!(
            network_unavailable(&node),
            Some(("True".into(), String::new()))
        );
    }
}
