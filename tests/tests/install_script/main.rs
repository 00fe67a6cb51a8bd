//! `deploy/install.sh` into a root of its own, and back: every file is as it was; and on a machine that runs pods by
//! what it installs: so is the kernel.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod broken_off;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use lab::{Host, Lab, Machine, Plan, Programs, Runtime, Service, demo, wait_until};

const SYSTEMCTL: &str = include_str!("../../machine/systemctl");

/// A file: its mode, and what is in it or where it points.
type File = (u32, Vec<u8>);

fn install_script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/install.sh")
}

fn script(root: &Path, argument: impl AsRef<std::ffi::OsStr>) -> Output {
    let mut command = Command::new(install_script());
    command.arg(argument).env("PREFIX", root).output().unwrap()
}

/// A directory with links to the programs under test.
fn binaries(directory: &Path) -> PathBuf {
    let programs = Programs::find().unwrap();
    let binaries = directory.join("binaries");
    fs::create_dir(&binaries).unwrap();
    for program in [
        programs.cni_plugin(),
        programs.flannel_agent(),
        programs.service_proxy(),
    ] {
        symlink(&program, binaries.join(program.file_name().unwrap())).unwrap();
    }
    binaries
}

fn tree(root: &Path) -> BTreeMap<PathBuf, File> {
    let mut files = BTreeMap::new();
    let mut due = vec![root.to_owned()];
    while let Some(directory) = due.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let contents = if metadata.is_dir() {
                due.push(path.clone());
                Vec::new()
            } else if metadata.is_symlink() {
                fs::read_link(&path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes()
            } else {
                fs::read(&path).unwrap()
            };
            let name = path.strip_prefix(root).unwrap().to_owned();
            files.insert(name, (metadata.mode(), contents));
        }
    }
    files
}

/// That a root has the same files as before.
fn assert_same(before: &BTreeMap<PathBuf, File>, root: &Path, when: &str) {
    let mut after = tree(root);
    // Directories above our notes may be anybody's.
    for directory in ["var", "var/lib"] {
        after.remove(Path::new(directory));
    }
    assert!(before.keys().eq(after.keys()), "{when}: {:?}", after.keys());
    assert!(*before == after, "{when}: a file has changed");
}

/// A machine that has Go's plugins, one of them a link.
fn furnish(root: &Path) {
    let plugins = root.join("opt/cni/bin");
    fs::create_dir_all(&plugins).unwrap();
    fs::write(plugins.join("bridge"), "Go's bridge").unwrap();
    fs::set_permissions(plugins.join("bridge"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::write(plugins.join("macvlan"), "Go's macvlan").unwrap();
    symlink("bridge", plugins.join("portmap")).unwrap();
    fs::create_dir_all(root.join("etc/cni/net.d")).unwrap();
    fs::write(root.join("etc/cni/net.d/10-flannel.conflist"), "{}").unwrap();
}

#[test]
fn what_is_installed_goes_again_and_what_was_there_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let binaries = binaries(directory.path());
    for furnished in [true, false] {
        let root = directory.path().join(format!("root-{furnished}"));
        fs::create_dir(&root).unwrap();
        if furnished {
            furnish(&root);
        }
        let before = tree(&root);
        // A second time changes nothing that the way back depends on.
        for _ in 0..2 {
            let output = script(&root, &binaries);
            assert!(output.status.success(), "{output:?}");
        }
        let version = Command::new(root.join("opt/cni/bin/portmap"))
            .env("CNI_COMMAND", "VERSION")
            .output()
            .unwrap();
        assert!(version.status.success(), "{version:?}");
        for path in [
            "usr/local/bin/flannel-agent",
            "usr/local/bin/service-proxy",
            "etc/cni/net.d/10-flannel.conflist",
            "etc/systemd/system/flannel-agent.service",
        ] {
            assert!(root.join(path).is_file(), "{path}");
        }
        let output = script(&root, "--uninstall");
        assert!(output.status.success(), "{output:?}");
        assert_same(&before, &root, "uninstalled");
    }
}

#[test]
fn nothing_is_done_where_something_is_missing() {
    let root = tempfile::tempdir().unwrap();
    for (argument, expected) in [
        ("/nonexistent", "no such program; build them by: make dist"),
        ("--uninstall", "nothing is installed"),
        ("", "usage: install.sh BINARIES"),
        ("--unknown", "usage: install.sh BINARIES"),
        ("--uninstall --unknown", "usage: install.sh BINARIES"),
        (
            "--uninstall --keep-kernel now",
            "usage: install.sh BINARIES",
        ),
        ("one two", "one two is not one directory"),
    ] {
        let mut command = Command::new(install_script());
        command.args(argument.split(' ')).env("PREFIX", root.path());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{argument}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(expected), "{said}");
        assert!(tree(root.path()).is_empty());
    }
    let help = script(root.path(), "--help");
    let told = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success() && told.contains("install.sh --uninstall --keep-kernel"));
    assert!(tree(root.path()).is_empty());
}

/// What a machine has in its kernel that the programs could have made: links, routes, neighbours, rules.
fn kernel_state(machine: &Machine) -> String {
    machine
        .sh(
            "ip -o link; ip -o -4 address; ip -4 route show table all; ip -6 route show table main
            ip neigh show nud permanent; nft list ruleset; cat /proc/net/ip_tables_names",
        )
        .unwrap()
}

#[test]
fn a_machine_that_ran_pods_is_as_it_was() {
    let name = format!("install{}", std::process::id());
    let programs = Programs::find().unwrap();
    let mut lab = Lab::create(Plan::new(&name, 2).unwrap(), programs).unwrap();
    lab.start_etcd().unwrap();
    lab.write_network_config(demo::NETWORK_CONFIG).unwrap();
    lab.start_agent("node2").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let binaries = binaries(directory.path());
    let node = lab.node_plan("node1").unwrap();
    let host = lab.node("node1").unwrap();
    let machine = Machine::create(host, &node.directory.join("machine")).unwrap();
    machine
        .write("/usr/local/bin/systemctl", SYSTEMCTL)
        .unwrap();
    machine.write("/run/systemd/system/here", "").unwrap();
    machine.sh("chmod +x /usr/local/bin/systemctl").unwrap();
    let script = install_script();
    let script = script.display();
    // What is mounted in the machine's /tmp is its own.
    let programs = machine.path("/root/bin");
    fs::create_dir_all(&programs).unwrap();
    for entry in fs::read_dir(&binaries).unwrap() {
        let path = entry.unwrap().path();
        symlink(
            fs::read_link(&path).unwrap(),
            programs.join(path.file_name().unwrap()),
        )
        .unwrap();
    }
    let (files, kernel) = (machine.differences().unwrap(), kernel_state(&machine));

    machine.sh(&format!("{script} /root/bin")).unwrap();
    let environment = format!("FLANNELD_ETCD_ENDPOINTS={}\n", lab.plan().etcd_endpoint());
    machine
        .write("/etc/tweed/flannel-agent.env", &environment)
        .unwrap();
    let web = Service {
        name: "web".to_owned(),
        cluster_ip: "10.97.97.97".parse().unwrap(),
        port: 80,
        endpoints: Vec::new(),
    };
    web.write(&machine.path("/etc/tweed/manifests")).unwrap();
    machine
        .sh("systemctl daemon-reload; systemctl enable --now flannel-agent service-proxy")
        .unwrap();
    let stands = || {
        let sees_node2 = machine.sh("flannel-agent status");
        let has_service = machine.sh("nft list table ip tweed-proxy");
        Ok(sees_node2.is_ok() && has_service.is_ok_and(|it| it.contains("10.97.97.97")))
    };
    let logs = || machine.sh("cat /tmp/systemctl/*.log").unwrap();
    wait_until("the programs to work", stands)
        .unwrap_or_else(|error| panic!("{error}: {}", logs()));
    let pod = Host::create(&lab.plan().namespace("pod")).unwrap();
    let path = Path::new(kernel::netns::NAMED).join(pod.name());
    let runtime = Runtime {
        host,
        machine: Some(&machine),
        plugins: "/opt/cni/bin".into(),
        conflist: "/etc/cni/net.d/10-flannel.conflist".into(),
    };
    let result = runtime.add("pod", &path).unwrap();
    assert!(kernel_state(&machine).contains("cni0"));
    runtime.delete("pod", &path, &result).unwrap();

    // What the operator has written is the operator's to remove.
    machine
        .sh("rm /etc/tweed/flannel-agent.env /etc/tweed/manifests/web.yaml")
        .unwrap();
    let said = machine.sh(&format!("{script} --uninstall 2>&1")).unwrap();
    assert_eq!(kernel_state(&machine), kernel, "{said}");
    let left = machine.differences().unwrap();
    assert_eq!(left, files, "{said}");
    for what in [
        "device flannel.1",
        "device cni0",
        "subnet.env",
        "removed /opt/cni/bin/flannel",
    ] {
        assert!(said.contains(what), "{what}: {said}");
    }
}
