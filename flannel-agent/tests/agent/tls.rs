//! An etcd that wants to know whom it talks to, and has to be known.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::lab::{Lab, eventually};

const CONF: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
const ENDPOINT: &str = "--etcd-endpoints=https://192.168.64.254:2379";

/// An etcd with certificates in the place of the lab's own one.
struct Secure {
    lab: Lab,
    files: TempDir,
    child: Child,
}

// === impl Secure ===

impl Secure {
    fn start(test: &str, arguments: &[&str]) -> Self {
        let mut lab = Lab::new(test, CONF);
        lab.etcd.stop();
        let files = tempfile::tempdir().unwrap();
        authority(&files, "ca");
        authority(&files, "other");
        certificate(
            &files,
            "server",
            "subjectAltName=IP:192.168.64.254,IP:127.0.0.1",
        );
        certificate(&files, "client", "subjectAltName=DNS:client");
        let mut command = Command::new("etcd");
        command
            .current_dir(files.path())
            .args([
                "--data-dir",
                "data",
                "--listen-client-urls",
                "https://0.0.0.0:2379",
            ])
            .args(["--advertise-client-urls", "https://127.0.0.1:2379"])
            .args(["--cert-file", "server.pem", "--key-file", "server.key"])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(fs::File::create(files.path().join("log")).unwrap());
        let child = lab.hub.namespace.run(|| command.spawn().unwrap()).unwrap();
        let secure = Self { lab, files, child };
        eventually("etcd has the configuration", || {
            secure.ctl(&["put", "/coreos.com/network/config", CONF])
        });
        secure
    }

    fn ctl(&self, arguments: &[&str]) -> bool {
        let mut command = Command::new("etcdctl");
        command
            .current_dir(self.files.path())
            .env("ETCDCTL_API", "3")
            .args([
                "--endpoints",
                "https://127.0.0.1:2379",
                "--cacert",
                "ca.pem",
            ])
            .args(["--cert", "client.pem", "--key", "client.key"])
            .args(arguments);
        let output = self.lab.hub.namespace.run(|| command.output().unwrap());
        output.unwrap().status.success()
    }

    fn flag(&self, flag: &str, file: &str) -> String {
        format!("--{flag}={}", self.files.path().join(file).display())
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn openssl(files: &TempDir, arguments: &[&str]) {
    let mut command = Command::new("openssl");
    let output = command
        .current_dir(files.path())
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn authority(files: &TempDir, name: &str) {
    let (key, pem, subject) = (
        format!("{name}.key"),
        format!("{name}.pem"),
        format!("/CN={name}"),
    );
    let request = ["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"];
    let files_and_name = ["-keyout", &key, "-out", &pem, "-subj", &subject];
    let curve = ["-pkeyopt", "ec_paramgen_curve:prime256v1"];
    openssl(files, &[&request[..], &curve, &files_and_name].concat());
}

/// A certificate that the authority `ca` has signed.
fn certificate(files: &TempDir, name: &str, extension: &str) {
    let (key, csr, pem, subject) = (
        format!("{name}.key"),
        format!("{name}.csr"),
        format!("{name}.pem"),
        format!("/CN={name}"),
    );
    let request = ["req", "-new", "-newkey", "ec", "-nodes"];
    let files_and_name = ["-keyout", &key, "-out", &csr, "-subj", &subject];
    let more = [
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-addext",
        extension,
    ];
    openssl(files, &[&request[..], &more, &files_and_name].concat());
    let sign = ["x509", "-req", "-in", &csr, "-out", &pem, "-days", "2"];
    let by = [
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-copy_extensions",
        "copy",
    ];
    openssl(files, &[&sign[..], &by].concat());
}

#[test]
fn a_ca_alone_is_enough_and_has_to_be_the_right_one() {
    let etcd = Secure::start("tlsca", &[]);
    let mut one = etcd.lab.node(1);
    one.start_ready(&[ENDPOINT, &etcd.flag("etcd-cafile", "ca.pem")]);
    let mut two = etcd.lab.node(2);
    two.start(&[ENDPOINT, &etcd.flag("etcd-cafile", "other.pem")]);
    eventually("the agent says that it does not trust the server", || {
        two.log().contains("invalid peer certificate")
    });
}

#[test]
fn certificate_and_password_of_the_client_are_used() {
    let client_auth = ["--client-cert-auth", "--trusted-ca-file", "ca.pem"];
    let etcd = Secure::start("tlsuser", &client_auth);
    assert!(etcd.ctl(&["user", "add", "root:secret"]));
    assert!(etcd.ctl(&["user", "grant-role", "root", "root"]));
    assert!(etcd.ctl(&["auth", "enable"]));
    let ca = etcd.flag("etcd-cafile", "ca.pem");
    let certificate = etcd.flag("etcd-certfile", "client.pem");
    let key = etcd.flag("etcd-keyfile", "client.key");
    let known = [ENDPOINT, &ca, &certificate, &key];
    let user = "--etcd-username=root";
    let mut one = etcd.lab.node(1);
    one.start_ready(&[&known[..], &[user, "--etcd-password=secret"]].concat());
    let mut two = etcd.lab.node(2);
    two.start(&[&known[..], &[user, "--etcd-password=wrong"]].concat());
    let mut three = etcd.lab.node(3);
    three.start(&[ENDPOINT, &ca, user, "--etcd-password=secret"]);
    eventually("wrong passwords are refused", || {
        two.log().contains("authentication failed")
    });
    eventually("unknown clients are refused", || {
        three.log().contains("; trying again, see --etcd-endpoints")
    });
    assert!(!one.log().contains("secret") && !two.log().contains("wrong"));
}
