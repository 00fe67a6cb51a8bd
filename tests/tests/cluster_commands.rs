//! The commands of the pages for a cluster, as they stand there, with a real API server and the controllers that make
//! DaemonSets and namespaces what they are. There are no nodes: what the pods do is for other tests.
//!
//! `TWEED_KUBERNETES` names the directory of Kubernetes' programs; without it nothing is run.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use lab::{apiserver::RealServer, wait_until};
use reference::commands::{Block, Kind, blocks};

/// The DaemonSets and ConfigMaps of flannel's own manifest and of kubeadm, as far as the guide goes by them.
const BEFORE: &str = include_str!("cluster_commands/before.yaml");

/// What is done before the blocks of a page, for there to be what they are about.
const PREPARED: [(&str, &str); 2] = [
    (
        "docs/upgrade.md",
        "kubectl -n kube-flannel rollout status daemonset/kube-flannel-ds
        kubectl -n kube-system rollout status daemonset/kube-proxy
        kubectl -n kube-flannel set image daemonset/kube-flannel-ds kube-flannel=newer
        kubectl -n kube-system set image daemonset/kube-proxy kube-proxy=newer
        kubectl -n kube-flannel rollout status daemonset/kube-flannel-ds
        kubectl -n kube-system rollout status daemonset/kube-proxy",
    ),
    (
        "docs/migration.md",
        "kubectl delete -k deploy/manifests/overlays/kube
        kubectl create namespace kube-flannel
        kubectl create -f before.yaml",
    ),
];

/// A directory in which the commands are run, and the cluster that they are for.
struct Cluster {
    programs: PathBuf,
    directory: tempfile::TempDir,
    /// Before the server that it asks.
    _controllers: Controllers,
    _server: RealServer,
}

/// kube-controller-manager, with what has DaemonSets rolled out and their leftovers removed. It ends when this is dropped.
struct Controllers(Child);

// === impl Cluster ===

impl Cluster {
    fn start(programs: PathBuf) -> Self {
        let server = programs.join("kube-apiserver");
        let server = RealServer::start(server.as_os_str(), "etcd".as_ref()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("kubeconfig");
        server.kubeconfig(&kubeconfig).unwrap();
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        let deploy = deploy.canonicalize().unwrap();
        symlink(deploy, directory.path().join("deploy")).unwrap();
        fs::write(directory.path().join("before.yaml"), BEFORE).unwrap();
        let cluster = Self {
            _controllers: Controllers::start(&programs, &kubeconfig),
            programs,
            directory,
            _server: server,
        };
        // kubectl looks there how objects have to be.
        wait_until("the server's types", || {
            Ok(cluster
                .run("kubectl apply --dry-run=client -k deploy/manifests/overlays/kube")
                .is_ok())
        })
        .unwrap();
        cluster
    }

    /// Runs commands; what they said if one of them failed.
    fn run(&self, commands: &str) -> Result<String, String> {
        let path = env::var("PATH").unwrap();
        let output = Command::new("timeout")
            .args(["120", "bash", "-euo", "pipefail", "-c", commands])
            .current_dir(self.directory.path())
            .env("PATH", format!("{}:{path}", self.programs.display()))
            .env("KUBECONFIG", self.directory.path().join("kubeconfig"))
            .env("ADDRESS", "192.0.2.1")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let said = text(&output.stdout) + &text(&output.stderr);
        println!("{commands}\n---\n{said}");
        if output.status.success() {
            Ok(said)
        } else {
            Err(said)
        }
    }
}

// === impl Controllers ===

impl Controllers {
    fn start(programs: &Path, kubeconfig: &Path) -> Self {
        let log = fs::File::create(kubeconfig.with_file_name("controllers.log")).unwrap();
        let child = Command::new(programs.join("kube-controller-manager"))
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args([
                "--controllers=daemonset-controller,namespace-controller,garbage-collector-controller",
                "--leader-elect=false",
            ])
            .args(["--secure-port=0"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Controllers {
    fn drop(&mut self) {
        if self.0.kill().is_ok() {
            drop(self.0.wait());
        }
    }
}

/// The blocks in the order in which a cluster meets them.
fn for_clusters() -> Vec<Block> {
    let mut blocks = blocks();
    blocks.retain(|it| it.kind() == Some(Kind::Cluster));
    blocks.sort_by_key(|it| match it.page.as_str() {
        "deploy/README.md" => 0,
        "README.md" => 1,
        "docs/migration.md" => 3,
        _ => 2,
    });
    blocks
}

#[test]
fn the_commands_for_clusters_work() {
    let Some(programs) = env::var_os("TWEED_KUBERNETES") else {
        return;
    };
    let cluster = Cluster::start(programs.into());
    let mut page = String::new();
    let blocks = for_clusters();
    for block in &blocks {
        if block.page != page {
            block.page.clone_into(&mut page);
            for (_, commands) in PREPARED.iter().filter(|it| it.0 == page) {
                cluster.run(commands).unwrap();
            }
        }
        let said = cluster.run(&block.text);
        said.unwrap_or_else(|said| panic!("{page}:{}: {said}", block.line));
    }
    assert!(blocks.len() > 5);
    let proxy = cluster.run("kubectl -n kube-system get daemonset kube-proxy -o yaml");
    let proxy = proxy.unwrap();
    assert!(
        proxy.contains("kube-proxy:v1.36.2"),
        "the way back leads to where it came from: {proxy}"
    );
}
