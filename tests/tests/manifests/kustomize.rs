//! What `kubectl kustomize` makes of a directory, as far as `deploy/` uses it: `resources` and `patches` by JSON
//! patch with a target of kind and name. Anything else in a kustomization is refused, so that nothing in it goes
//! unseen.

use std::{fs, path::Path};

use json_patch::Patch;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Kustomization {
    api_version: String,
    kind: String,
    resources: Vec<String>,
    #[serde(default)]
    patches: Vec<TargetedPatch>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetedPatch {
    target: Target,
    patch: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    kind: String,
    name: String,
}

/// The objects of a directory with a kustomization.
pub fn render(directory: &Path) -> Vec<Value> {
    let file = directory.join("kustomization.yaml");
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    let kustomization: Kustomization =
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    assert_eq!(kustomization.api_version, "kustomize.config.k8s.io/v1beta1");
    assert_eq!(kustomization.kind, "Kustomization");
    let mut objects = Vec::new();
    for resource in &kustomization.resources {
        let path = directory.join(resource);
        if path.is_dir() {
            objects.extend(render(&path));
        } else {
            let text =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            let documents = serde_saphyr::from_multiple::<Value>(&text);
            objects.extend(documents.unwrap_or_else(|error| panic!("{path:?}: {error}")));
        }
    }
    for TargetedPatch { target, patch } in &kustomization.patches {
        let patch: Patch = serde_saphyr::from_str(patch).unwrap();
        let mut targets = objects.iter_mut().filter(|object| {
            object["kind"] == target.kind && object["metadata"]["name"] == target.name
        });
        let object = targets
            .next()
            .unwrap_or_else(|| panic!("{file:?}: no {}", target.name));
        json_patch::patch(object, &patch).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        assert!(targets.next().is_none());
    }
    objects
}
