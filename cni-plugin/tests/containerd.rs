//! A real runtime: Debian's containerd runs containers through the binary in /opt/cni/bin and the deployed
//! conflist in /etc/cni/net.d. Both directories, and all of the runtime's state, are in a mount namespace
//! of the test's own; the machine sees nothing of it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use lab::Host;
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::Pid,
};

const CONFLIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/10-flannel.conflist");
const SOCKET: &str = "/run/tweed-test/containerd.sock";
const BUSYBOX: &str = "/bin/busybox";
/// So that a container ends also where nobody is left to end it.
const LONGEST: &str = "60";

/// A running containerd, of the mount and network namespace of the thread that started it.
struct Runtime {
    daemon: Child,
    rootfs: PathBuf,
    mounts: PathBuf,
}

// === impl Runtime ===

impl Runtime {
    fn start(state: &Path) -> Self {
        prctl::set_child_subreaper(true).unwrap();
        let mounts = enter_own_mounts();
        install(state);
        let rootfs = state.join("rootfs");
        for dir in ["bin", "proc", "sys", "dev", "etc"] {
            fs::create_dir_all(rootfs.join(dir)).unwrap();
        }
        fs::copy(BUSYBOX, rootfs.join("bin/busybox")).unwrap();
        let log = fs::File::create(state.join("containerd.log")).unwrap();
        let daemon = Command::new("containerd")
            .arg("--config")
            .arg(state.join("containerd.toml"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let runtime = Self {
            daemon,
            rootfs,
            mounts,
        };
        runtime.wait(&state.join("containerd.log"));
        runtime
    }

    fn wait(&self, log: &Path) {
        for _ in 0..300 {
            let asked = self.ctr(&["version"]).output().unwrap();
            if asked.status.success() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("no containerd: {}", fs::read_to_string(log).unwrap());
    }

    fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command
            .args(["--address", SOCKET, "--namespace", &namespace()])
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// A container that runs one of busybox's programs.
    fn container(&self, id: &str, program: &[&str]) -> Command {
        let mut command = self.ctr(&["run", "--rm", "--cni", "--rootfs"]);
        command.arg(&self.rootfs).arg(id).arg(BUSYBOX).args(program);
        command
    }

    /// What a container printed that ran to its end.
    fn run(&self, id: &str, program: &[&str]) -> String {
        let output = self.container(id, program).output().unwrap();
        assert!(output.status.success(), "{id} {program:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // Containers have mounts of their own, but end with what they have to do.
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(id) = entry.file_name().to_string_lossy().parse::<i32>() else {
                continue;
            };
            if fs::read_link(entry.path().join("ns/mnt")).is_ok_and(|it| it == self.mounts) {
                let killed = kill(Pid::from_raw(id), Signal::SIGKILL);
                assert!(matches!(killed, Ok(()) | Err(Errno::ESRCH)), "{killed:?}");
            }
        }
        self.daemon.wait().unwrap();
        // The shims, which containerd leaves to whoever reaps.
        while waitpid(None, None).is_ok() {}
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
        let roots = hierarchies.map(|entry| entry.unwrap().path());
        for root in roots.chain([PathBuf::from("/sys/fs/cgroup")]) {
            remove_cgroup(&root.join(namespace()));
        }
    }
}

/// containerd's namespace, which its control groups are named by: the tests of another checkout may run at once.
fn namespace() -> String {
    format!("tweed-test-{}", std::process::id())
}

/// Removes a control group once the kernel is done with the processes that were in it.
fn remove_cgroup(path: &Path) {
    for _ in 0..300 {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                thread::sleep(Duration::from_millis(100));
            }
            Ok(()) => return,
            // Not every hierarchy is used, and beside them are files.
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory => return,
                _ => panic!("{path:?}: {error}"),
            },
        }
    }
    panic!("{path:?} stays busy");
}

/// Has the calling thread see empty directories where the runtime and the plugin keep things. Answers with
/// the mount namespace.
fn enter_own_mounts() -> PathBuf {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    for dir in ["/run", "/opt", "/var/lib"] {
        mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    for dir in ["/run/etc/upper", "/run/etc/work"] {
        fs::create_dir_all(dir).unwrap();
    }
    let layers = "lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work";
    let overlay = Some("overlay");
    mount(overlay, "/etc", overlay, MsFlags::empty(), Some(layers)).unwrap();
    fs::read_link("/proc/thread-self/ns/mnt").unwrap()
}

/// Installs the plugin as a node has it, and writes the runtime's configuration.
fn install(state: &Path) {
    for dir in [
        "/opt/cni/bin",
        "/etc/cni/net.d",
        "/run/flannel",
        "/run/tweed-test",
    ] {
        fs::create_dir_all(dir).unwrap();
    }
    let installed = Command::new(env!("CARGO_BIN_EXE_cni-plugin"))
        .args(["install", "/opt/cni/bin", CONFLIST])
        .arg("/etc/cni/net.d/10-flannel.conflist")
        .stdout(Stdio::null())
        .status();
    assert!(installed.unwrap().success());
    fs::write("/run/flannel/subnet.env", lab::SUBNET_ENV).unwrap();
    let conf = format!(
        "version = 2\nroot = \"/var/lib/containerd\"\nstate = \"/run/tweed-test/state\"\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
         [grpc]\naddress = \"{SOCKET}\"\n"
    );
    fs::write(state.join("containerd.toml"), conf).unwrap();
}

/// The names in a directory, sorted; none if there is no directory.
fn names(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Whether Debian's packages `containerd`, `runc` and `busybox-static` are installed.
fn is_installed() -> bool {
    let in_path = |name: &str| {
        ["/usr/bin", "/usr/sbin", "/bin"]
            .iter()
            .any(|dir| Path::new(dir).join(name).exists())
    };
    ["containerd", "ctr", "runc", "busybox"]
        .into_iter()
        .all(in_path)
}

#[test]
fn containerd_runs_containers_that_talk_and_leave_nothing() {
    if !is_installed() {
        eprintln!(
            "skipped: containerd, runc or busybox-static is not installed (`make packages` does)"
        );
        return;
    }
    let host = Host::new();
    let state = tempfile::tempdir().unwrap();
    host.netns.run(|| {
        let runtime = Runtime::start(state.path());
        let shown = runtime.run("tweed-one", &["ip", "address", "show", "eth0"]);
        assert!(shown.contains("inet 10.1.17.2/24"), "{shown}");
        assert!(shown.contains("inet6 fd00:0:0:17::2/64"), "{shown}");
        for gateway in ["10.1.17.1", "fd00:0:0:17::1"] {
            runtime.run("tweed-two", &["ping", "-c1", "-W10", gateway]);
        }
        // The fourth container, with the fourth pair of addresses.
        let script = format!("echo ready; exec sleep {LONGEST}");
        let mut server = runtime
            .container("tweed-server", &["sh", "-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = server.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        for address in ["10.1.17.5", "fd00:0:0:17::5"] {
            runtime.run("tweed-client", &["ping", "-c1", "-W10", address]);
        }
        let killed = runtime
            .ctr(&["task", "kill", "-s", "KILL", "tweed-server"])
            .status();
        assert!(killed.unwrap().success());
        server.wait().unwrap();
        assert_eq!(host.netns.links(), ["cni0", "lo"]);
        assert_eq!(
            names("/var/lib/cni/networks/cbr0"),
            ["last_reserved_ip.0", "last_reserved_ip.1", "lock"]
        );
        for dir in ["/var/lib/cni/flannel", "/var/lib/cni/results"] {
            assert!(names(dir).is_empty(), "{dir}: {:?}", names(dir));
        }
    });
}
