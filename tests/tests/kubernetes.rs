//! The image and the manifests in a real Kubernetes cluster (`tests/kubernetes/run.sh`), where `TWEED_KUBERNETES` names
//! a directory with Kubernetes' programs.

#![allow(clippy::unwrap_used)]

use std::{env, path::Path, process::Command};

#[test]
fn the_image_and_the_manifests_work_in_a_cluster() {
    if env::var_os("TWEED_KUBERNETES").is_none() {
        println!("skipped: TWEED_KUBERNETES names no directory with Kubernetes' programs");
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes/run.sh");
    let status = Command::new(script).status().unwrap();
    assert!(status.success(), "run.sh: {status}");
}
