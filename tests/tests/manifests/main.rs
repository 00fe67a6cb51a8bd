//! The manifests of `deploy/`: every overlay is what Kubernetes and our own programs accept.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cluster;
mod kubelet;
mod kustomize;

use std::path::{Path, PathBuf};

use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{ConfigMap, Container, Namespace, ServiceAccount},
        rbac::v1::{ClusterRole, ClusterRoleBinding},
    },
    serde::{Serialize, de::DeserializeOwned},
};
use serde_json::Value;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// Every overlay, and the objects in it.
fn overlays() -> Vec<(String, Vec<Value>)> {
    let directory = deploy().join("manifests/overlays");
    let mut overlays: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, kustomize::render(&path))
        })
        .collect();
    overlays.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(overlays.len() >= 4);
    overlays
}

/// An object as its type, all of it: what the type does not know is lost in it, and found missing here.
fn typed<T: DeserializeOwned + Serialize>(object: &Value) -> T {
    let typed: T = serde_json::from_value(object.clone()).unwrap();
    let again = serde_json::to_value(&typed).unwrap();
    assert_known(object, &again, "");
    typed
}

fn assert_known(written: &Value, known: &Value, path: &str) {
    match (written, known) {
        (Value::Object(written), Value::Object(known)) => {
            for (key, value) in written {
                let path = format!("{path}.{key}");
                let known = known.get(key);
                assert_known(
                    value,
                    known.unwrap_or_else(|| panic!("{path} is unknown")),
                    &path,
                );
            }
        }
        (Value::Array(written), Value::Array(known)) => {
            assert_eq!(written.len(), known.len(), "{path}");
            for (number, (value, known)) in written.iter().zip(known).enumerate() {
                assert_known(value, known, &format!("{path}[{number}]"));
            }
        }
        _ => assert_eq!(written, known, "{path}"),
    }
}

fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

/// A key of a ConfigMap.
fn config(objects: &[Value], name: &str, key: &str) -> String {
    let map = of_kind(objects, "ConfigMap").find(|it| it["metadata"]["name"] == name);
    let map: ConfigMap = typed(map.unwrap());
    map.data.unwrap()[key].clone()
}

fn containers(set: &DaemonSet) -> impl Iterator<Item = &Container> {
    let pod = set.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    pod.init_containers.iter().flatten().chain(&pod.containers)
}

fn daemon_sets(objects: &[Value]) -> Vec<DaemonSet> {
    of_kind(objects, "DaemonSet").map(typed).collect()
}

#[test]
fn every_field_is_one_that_kubernetes_knows() {
    for (_, objects) in overlays() {
        for object in &objects {
            match object["kind"].as_str().unwrap() {
                "Namespace" => drop(typed::<Namespace>(object)),
                "ServiceAccount" => drop(typed::<ServiceAccount>(object)),
                "ClusterRole" => drop(typed::<ClusterRole>(object)),
                "ClusterRoleBinding" => drop(typed::<ClusterRoleBinding>(object)),
                "ConfigMap" => drop(typed::<ConfigMap>(object)),
                "DaemonSet" => drop(typed::<DaemonSet>(object)),
                other => panic!("{other} is not expected"),
            }
        }
    }
}

#[test]
fn what_is_named_is_there() {
    for (overlay, objects) in overlays() {
        let names = |kind: &str| -> Vec<String> {
            let name = |it: &Value| it["metadata"]["name"].as_str().unwrap().to_owned();
            of_kind(&objects, kind).map(name).collect()
        };
        for set in daemon_sets(&objects) {
            let spec = set.spec.as_ref().unwrap();
            let labels = spec
                .template
                .metadata
                .as_ref()
                .unwrap()
                .labels
                .clone()
                .unwrap();
            for (key, value) in spec.selector.match_labels.as_ref().unwrap() {
                assert_eq!(labels.get(key), Some(value), "{overlay}");
            }
            let pod = spec.template.spec.as_ref().unwrap();
            let account = pod.service_account_name.as_ref().unwrap();
            assert!(names("ServiceAccount").contains(account), "{overlay}");
            let volumes = pod.volumes.as_ref().unwrap();
            for map in volumes.iter().filter_map(|it| it.config_map.as_ref()) {
                assert!(names("ConfigMap").contains(&map.name), "{overlay}");
            }
            for mount in containers(&set).flat_map(|it| it.volume_mounts.iter().flatten()) {
                let found = volumes.iter().any(|volume| volume.name == mount.name);
                assert!(found, "{overlay}: {}", mount.name);
            }
        }
        for binding in of_kind(&objects, "ClusterRoleBinding") {
            let binding: ClusterRoleBinding = typed(binding);
            assert!(
                names("ClusterRole").contains(&binding.role_ref.name),
                "{overlay}"
            );
            for subject in binding.subjects.unwrap() {
                assert!(names("ServiceAccount").contains(&subject.name), "{overlay}");
            }
        }
    }
}

#[test]
fn only_the_step_that_sets_sysctls_is_privileged() {
    for (overlay, objects) in overlays() {
        for container in daemon_sets(&objects).iter().flat_map(containers) {
            let security = container.security_context.as_ref().unwrap();
            let name = container.name.as_str();
            if name == "init" {
                continue;
            }
            assert!(!security.privileged.unwrap_or_default(), "{overlay} {name}");
            assert_eq!(security.allow_privilege_escalation, Some(false));
            assert_eq!(security.read_only_root_filesystem, Some(true));
            let capabilities = security.capabilities.as_ref().unwrap();
            assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]));
            let added = capabilities.add.clone().unwrap_or_default();
            let expected: &[&str] = match name {
                "install-cni" => &[],
                "kube-flannel" | "kube-proxy" => &["NET_ADMIN", "NET_RAW"],
                other => panic!("{other} is not expected"),
            };
            assert_eq!(added, expected, "{overlay} {name}");
        }
    }
}

#[test]
fn the_list_of_plugins_is_the_one_that_the_lab_runs() {
    let deployed = std::fs::read_to_string(deploy().join("10-flannel.conflist")).unwrap();
    let deployed: Value = serde_json::from_str(&deployed).unwrap();
    for (overlay, objects) in overlays() {
        let conf = config(&objects, "kube-flannel-cfg", "cni-conf.json");
        let conf: Value = serde_json::from_str(&conf).unwrap();
        assert_eq!(conf, deployed, "{overlay}");
    }
}

#[test]
fn the_image_is_the_one_that_is_built() {
    let image = concat!("tweed.local/tweed:", env!("CARGO_PKG_VERSION"));
    for (overlay, objects) in overlays() {
        for container in daemon_sets(&objects).iter().flat_map(containers) {
            assert_eq!(
                container.image.as_deref(),
                Some(image),
                "{overlay} {}",
                container.name
            );
        }
    }
}
