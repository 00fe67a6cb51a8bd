//! What a client asks to learn what is served.

use serde_json::{Value, json};

use super::{
    counters::Verb,
    resource::{RESOURCES, Resource},
};

/// The version of Kubernetes whose behaviour is imitated.
const MINOR: &str = "33";

/// The answer to a path that is about the server itself.
pub fn answer(path: &str) -> Option<Value> {
    let words: Vec<&str> = path.trim_matches('/').split('/').collect();
    match words.as_slice() {
        ["version"] => Some(version()),
        ["api"] => Some(json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [],
        })),
        ["api", version] => resources("", version),
        ["apis"] => {
            let groups: Vec<_> = groups().into_iter().map(group).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] => {
            let mut found = groups().contains(name).then(|| group(name))?;
            found["kind"] = "APIGroup".into();
            found["apiVersion"] = "v1".into();
            Some(found)
        }
        ["apis", group, version] => resources(group, version),
        _ => None,
    }
}

fn version() -> Value {
    json!({
        "major": "1",
        "minor": MINOR,
        "gitVersion": format!("v1.{MINOR}.0+lab"),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{}", std::env::consts::ARCH),
    })
}

/// The names of the groups but the core one, each once.
fn groups() -> Vec<&'static str> {
    let mut names: Vec<_> = RESOURCES
        .iter()
        .map(|resource| resource.group)
        .filter(|group| !group.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn group(name: &str) -> Value {
    let mut versions: Vec<_> = RESOURCES
        .iter()
        .filter(|resource| resource.group == name)
        .map(
            |resource| json!({"groupVersion": resource.api_version(), "version": resource.version}),
        )
        .collect();
    versions.dedup();
    json!({"name": name, "preferredVersion": versions.first(), "versions": versions})
}

fn resources(group: &str, version: &str) -> Option<Value> {
    let served: Vec<_> = RESOURCES
        .iter()
        .filter(|resource| resource.group == group && resource.version == version)
        .collect();
    let group_version = served.first()?.api_version();
    let entries: Vec<_> = served.into_iter().flat_map(entries).collect();
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": entries,
    }))
}

fn entries(resource: &Resource) -> Vec<Value> {
    let verbs = [
        Verb::Create,
        Verb::Delete,
        Verb::DeleteCollection,
        Verb::Get,
        Verb::List,
        Verb::Patch,
        Verb::Update,
        Verb::Watch,
    ];
    let mut entries = vec![json!({
        "name": resource.plural,
        "singularName": resource.kind.to_lowercase(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": verbs,
    })];
    if resource.status {
        entries.push(json!({
            "name": format!("{}/status", resource.plural),
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": [Verb::Get, Verb::Patch, Verb::Update],
        }));
    }
    entries
}
