//! What a kubelet does with a pod of our DaemonSets, on a machine of the lab: its init containers, then its container,
//! each with its files, its environment and its rights, and nothing more.

use std::{collections::BTreeMap, fs::File, path::Path, process::Child, process::Stdio};

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Container, PodSpec, Volume},
};
use lab::{Machine, Programs};

/// Makes the file system of a container in a mount namespace, and becomes its program: `$1` is what setpriv is told, or
/// empty for one that is privileged; then come the mounts up to `--`.
const START: &str = r#"
set -eu
rights=$1
shift
while [ "$1" != -- ]; do
    mount --bind "$1" "$2"
    shift 2
done
shift
# A tmpfs is the container's own /tmp and holds its ConfigMaps; all else is as the image: not to be written to.
mount -o remount,bind,ro /
# As a container runtime has it, unless the container is privileged.
[ -z "$rights" ] || { mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys; }
[ -z "$rights" ] || set -- setpriv --no-new-privs --inh-caps=-all --bounding-set="$rights" "$@"
exec "$@"
"#;

/// The pods of one node.
pub struct Kubelet<'a> {
    pub machine: &'a Machine,
    pub node: &'a str,
    /// The ConfigMaps by name.
    pub config_maps: &'a BTreeMap<String, BTreeMap<String, String>>,
    /// What is asked of a program beyond its manifest, by the container's name.
    pub arguments: &'a BTreeMap<&'static str, Vec<String>>,
}

// === impl Kubelet ===

impl Kubelet<'_> {
    /// Runs the init containers of a pod to their end, and starts its container.
    pub fn start(&self, set: &DaemonSet) -> Child {
        let pod = set.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
        self.write_config_maps(pod);
        for container in pod.init_containers.iter().flatten() {
            let mut child = self.run(pod, container);
            let ended = child.wait().unwrap();
            let log = self.log(&container.name);
            assert!(ended.success(), "{}: {ended}: {log}", container.name);
        }
        self.run(pod, &pod.containers[0])
    }

    /// What a container has said.
    pub fn log(&self, container: &str) -> String {
        let path = self.machine.path(&format!("/tmp/{container}.log"));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// Whether a probe of a container is answered well.
    pub fn probe(&self, container: &Container, is_ready: bool) -> bool {
        let probe = if is_ready {
            &container.readiness_probe
        } else {
            &container.liveness_probe
        };
        let get = probe.as_ref().unwrap().http_get.as_ref().unwrap();
        let (host, path) = (get.host.as_ref().unwrap(), get.path.as_ref().unwrap());
        let port = serde_json::to_value(&get.port).unwrap();
        self.machine
            .sh(&format!("curl --silent --fail http://{host}:{port}{path}"))
            .is_ok()
    }

    fn write_config_maps(&self, pod: &PodSpec) {
        for volume in pod.volumes.iter().flatten() {
            let Some(map) = &volume.config_map else {
                continue;
            };
            for (key, text) in &self.config_maps[&map.name] {
                self.machine
                    .write(&format!("/tmp/{}/{key}", map.name), text)
                    .unwrap();
            }
        }
    }

    fn run(&self, pod: &PodSpec, container: &Container) -> Child {
        let volumes = pod.volumes.as_deref().unwrap_or_default();
        let mut command = self.machine.command("unshare");
        command
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                START,
                "sh",
            ])
            .arg(rights(container));
        for mount in container.volume_mounts.iter().flatten() {
            let volume = volumes.iter().find(|it| it.name == mount.name).unwrap();
            let source = self.source(volume);
            self.machine
                .sh(&format!("[ -e {0} ] || mkdir -p {0}", mount.mount_path))
                .unwrap();
            command.args([&source, &mount.mount_path]);
        }
        let programs = Programs::find().unwrap();
        let words = container.command.as_ref().unwrap();
        let program = programs.cni_plugin().with_file_name(&words[0]);
        assert!(Path::new(&program).is_file(), "{program:?}");
        let arguments = words[1..].iter().chain(container.args.iter().flatten());
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.machine.path(&format!("/tmp/{}.log", container.name)))
            .unwrap();
        command
            .arg("--")
            .arg(program)
            .args(arguments.map(|it| it.replace("$(NODE_NAME)", self.node)))
            .args(
                self.arguments
                    .get(container.name.as_str())
                    .into_iter()
                    .flatten(),
            )
            .env("NODE_NAME", self.node)
            .stdout(Stdio::null())
            .stderr(log);
        command.spawn().unwrap()
    }

    /// Where a volume is on the machine; made if it may be.
    fn source(&self, volume: &Volume) -> String {
        if let Some(map) = &volume.config_map {
            return format!("/tmp/{}", map.name);
        }
        let host = volume.host_path.as_ref().unwrap();
        let make = match host.type_.as_deref() {
            Some("DirectoryOrCreate") => format!("mkdir -p {}", host.path),
            Some("FileOrCreate") => format!("touch {}", host.path),
            other => panic!("{}: {other:?}", volume.name),
        };
        self.machine.sh(&make).unwrap();
        host.path.clone()
    }
}

/// The capabilities of a container in setpriv's words, or nothing where it is privileged.
fn rights(container: &Container) -> String {
    let security = container.security_context.as_ref().unwrap();
    if security.privileged == Some(true) {
        return String::new();
    }
    let capabilities = security.capabilities.as_ref().unwrap();
    let added = capabilities.add.iter().flatten();
    let added: String = added.map(|it| format!(",+{}", it.to_lowercase())).collect();
    format!("-all{added}")
}
