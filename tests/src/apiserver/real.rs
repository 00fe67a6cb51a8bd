//! The real kube-apiserver with an etcd of its own, for running the same tests against it.

use std::{
    ffi::OsStr,
    fmt, fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use axum::http::{Method, Request};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig as ClientConfig},
};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    kubeconfig::Kubeconfig, object::text_at, resource::Resource, seed::SERVICE_NETWORKS,
    write::namespace_object,
};
use crate::wait_until;

/// The only token that the server knows. It lives as long as the test.
const TOKEN: &str = "lab-token";

/// A running kube-apiserver and its etcd. Both end, and their files go, when this is dropped.
pub struct RealServer {
    url: String,
    runtime: tokio::runtime::Runtime,
    client: Client,
    // In the order in which they are dropped.
    _server: Process,
    _etcd: Process,
    _directory: TempDir,
}

/// A process that is killed when this is dropped.
#[derive(Debug)]
struct Process(Child);

// === impl RealServer ===

impl RealServer {
    /// Starts both programs on free ports of 127.0.0.1, and waits until the server is ready.
    ///
    /// # Errors
    /// When a program can't be started or the server does not get ready; what it said is in the error.
    pub fn start(server: &OsStr, etcd: &OsStr) -> Result<Self> {
        let directory = TempDir::with_prefix("lab-apiserver-").context("make a directory")?;
        let (etcd_port, port) = (free_port()?, free_port()?);
        let url = format!("https://127.0.0.1:{port}");
        write_keys(directory.path())?;
        let etcd = Process::start(
            etcd_command(etcd, directory.path(), etcd_port)?,
            directory.path(),
        )?;
        let command = server_command(server, directory.path(), etcd_port, port);
        let server = Process::start(command, directory.path())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start a runtime")?;
        let client = runtime.block_on(client(&url))?;
        let real = Self {
            url,
            runtime,
            client,
            _server: server,
            _etcd: etcd,
            _directory: directory,
        };
        real.wait_until_ready()?;
        Ok(real)
    }

    /// The server's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Writes a kubeconfig file with the server's URL and token.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn kubeconfig(&self, path: &Path) -> Result<()> {
        kubeconfig(&self.url).write(path)
    }

    /// Creates or replaces an object, its status included, and makes its namespace when that is missing.
    ///
    /// # Errors
    /// When its kind is not known, or the server refuses it.
    pub fn apply(&self, mut object: Value) -> Result<()> {
        let resource = resource_of(&object)?;
        let namespace = match (resource.namespaced, text_at(&object, "/metadata/namespace")) {
            (true, "") => "default".to_owned(),
            (_, given) => given.to_owned(),
        };
        if !namespace.is_empty() {
            self.create_if_missing(namespace_object(&namespace))?;
        }
        let collection = resource.path(&namespace);
        let path = format!("{collection}/{}", text_at(&object, "/metadata/name"));
        if self
            .request(Method::POST, &collection, Some(&object))
            .is_err()
        {
            // A real update of a Service must name the addresses it has; the stand-in's callers do.
            self.request(Method::PUT, &path, Some(&object))?;
        }
        if resource.status && object.get("status").is_some() {
            let current = self.request(Method::GET, &path, None)?;
            object["metadata"] = current["metadata"].clone();
            self.request(Method::PUT, &format!("{path}/status"), Some(&object))?;
        }
        Ok(())
    }

    /// Deletes an object; the namespace is empty for kinds without.
    ///
    /// # Errors
    /// When the kind is not known, or there is no such object.
    pub fn delete(&self, resource: &Resource, namespace: &str, name: &str) -> Result<()> {
        let path = format!("{}/{name}", resource.path(namespace));
        self.request(Method::DELETE, &path, None).map(drop)
    }

    fn create_if_missing(&self, object: Value) -> Result<()> {
        let collection = resource_of(&object)?.path("");
        let path = format!("{collection}/{}", text_at(&object, "/metadata/name"));
        if self.request(Method::GET, &path, None).is_err() {
            self.request(Method::POST, &collection, Some(&object))?;
        }
        Ok(())
    }

    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let attempted = format!("{method} {path}");
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(
                body.map(|value| value.to_string().into_bytes())
                    .unwrap_or_default(),
            )?;
        let answer = self.runtime.block_on(self.client.request(request));
        answer.with_context(|| attempted)
    }

    fn wait_until_ready(&self) -> Result<()> {
        wait_until("kube-apiserver to be ready", || {
            // It is ready when it has made what every cluster has.
            let made = [
                "/api/v1/namespaces/default",
                "/apis/networking.k8s.io/v1/servicecidrs/kubernetes",
            ];
            Ok(made
                .iter()
                .all(|path| self.request(Method::GET, path, None).is_ok()))
        })
    }
}

impl fmt::Debug for RealServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RealServer")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

// === impl Process ===

impl Process {
    /// Starts a program, whose output goes to a file beside its data.
    fn start(mut command: Command, directory: &Path) -> Result<Self> {
        let program = command.get_program().to_owned();
        let name = Path::new(&program).file_name().unwrap_or_default();
        let log = fs::File::create(directory.join(name).with_extension("log"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(Self(child))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait().map(drop)) {
            eprintln!("end process {}: {error}", self.0.id());
        }
    }
}

fn etcd_command(program: &OsStr, directory: &Path, port: u16) -> Result<Command> {
    let (client, peer) = (
        format!("http://127.0.0.1:{port}"),
        format!("http://127.0.0.1:{}", free_port()?),
    );
    let mut command = Command::new(program);
    command
        .arg("--data-dir")
        .arg(directory.join("etcd"))
        .args(["--name", "lab", "--unsafe-no-fsync"])
        .args(["--listen-client-urls", &client])
        .args(["--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer])
        .args(["--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("lab={peer}")])
        .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH);
    Ok(command)
}

fn server_command(program: &OsStr, directory: &Path, etcd_port: u16, port: u16) -> Command {
    let mut command = Command::new(program);
    command
        .arg(format!("--etcd-servers=http://127.0.0.1:{etcd_port}"))
        .arg("--bind-address=127.0.0.1")
        .arg(format!("--secure-port={port}"))
        .arg(format!(
            "--service-cluster-ip-range={}",
            SERVICE_NETWORKS.join(",")
        ))
        .arg("--authorization-mode=AlwaysAllow")
        // As kubeadm has it: containers that set the machine up are privileged.
        .arg("--allow-privileged=true")
        .arg("--disable-admission-plugins=ServiceAccount")
        .arg("--service-account-issuer=https://lab.invalid");
    for (option, file) in [
        ("cert-dir", "certificates"),
        ("token-auth-file", "tokens.csv"),
        ("service-account-key-file", "accounts.key"),
        ("service-account-signing-key-file", "accounts.key"),
    ] {
        command.arg(format!("--{option}={}", directory.join(file).display()));
    }
    command
}

/// The token file, and the key that service accounts' tokens are signed with.
fn write_keys(directory: &Path) -> Result<()> {
    let tokens = format!("{TOKEN},lab,lab,system:masters\n");
    fs::write(directory.join("tokens.csv"), tokens).context("write the token file")?;
    let made = Command::new("openssl")
        .args(["genrsa", "-out"])
        .arg(directory.join("accounts.key"))
        .arg("2048")
        .output()
        .context("run openssl genrsa")?;
    ensure!(
        made.status.success(),
        "openssl genrsa: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    Ok(())
}

fn kubeconfig(url: &str) -> Kubeconfig<'_> {
    Kubeconfig {
        url,
        token: Some(TOKEN),
        // The server signs its certificate itself at its start.
        insecure: true,
    }
}

async fn client(url: &str) -> Result<Client> {
    let file: ClientConfig = serde_json::from_value(kubeconfig(url).to_value())?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Client::try_from(config).context("make a client")
}

fn resource_of(object: &Value) -> Result<&'static Resource> {
    let (version, kind) = (text_at(object, "/apiVersion"), text_at(object, "/kind"));
    match Resource::by_kind(version, kind) {
        Some(resource) => Ok(resource),
        None => bail!("{version} {kind} is not among the kinds of the lab's API server"),
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    Ok(listener.local_addr()?.port())
}
