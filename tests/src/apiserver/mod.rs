//! A stand-in for kube-apiserver: for clients it behaves as the real one, and tests can make it go wrong.
//!
//! It keeps objects in memory and knows little of their types: it fills in few defaults, allocates neither
//! addresses nor ports, validates no fields and runs no controllers. What clients build upon is as in the
//! real one: resourceVersions and conflicts, lists in pages of one consistent state, streaming lists, watches
//! with bookmarks and selectors, 410 after compaction, patches, status subresources, Status objects.
//! It speaks JSON over HTTP/1.1 without TLS. [`Server`] runs the real one where there is one.

mod control;
mod counters;
mod defaults;
mod discovery;
mod environment;
mod failure;
mod faults;
mod http;
mod kubeconfig;
mod life;
mod list;
mod object;
mod patch;
mod path;
mod query;
mod real;
mod resource;
mod seed;
mod selector;
mod store;
mod strategic;
mod watching;
mod write;

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use serde_json::Value;

pub use counters::{Counters, Verb};
pub use environment::Server;
pub use failure::Failure;
pub use faults::{Effect, Fault, Faults};
pub use real::RealServer;
pub use resource::{Created, RESOURCES, Resource};

use kubeconfig::Kubeconfig;
use life::{Life, Running};
use object::Key;
use store::{Inner, Store};
use write::Preconditions;

/// What can be chosen at the start.
#[derive(Clone, Debug)]
pub struct Options {
    /// The bearer token that every request must carry; none is asked for without.
    pub token: Option<String>,
    /// How often watches that allow it get a bookmark.
    pub bookmark_interval: Duration,
    /// How many changes of each kind of object are remembered. A watch that is further behind gets 410.
    pub history: usize,
}

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    state: Arc<State>,
    running: Running,
}

/// What requests share.
#[derive(Debug)]
struct State {
    options: Options,
    store: Store,
    faults: Faults,
    counters: Counters,
    life: Life,
}

// === impl Options ===

impl Default for Options {
    /// No token; bookmarks once a minute, as the real server; 20,000 changes.
    fn default() -> Self {
        Self {
            token: None,
            bookmark_interval: Duration::from_secs(60),
            history: 20_000,
        }
    }
}

// === impl ApiServer ===

impl ApiServer {
    /// Starts a server on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When there is no port, thread or runtime to be had.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("listen on 127.0.0.1")?;
        Self::start_on(listener, Options::default())
    }

    /// Starts a server on a socket, which may have been opened in another network namespace.
    ///
    /// It has threads and a runtime of its own, holds the namespaces and the Service of a new cluster, and
    /// answers when this returns.
    ///
    /// # Errors
    /// When there is no thread or runtime to be had.
    pub fn start_on(listener: TcpListener, options: Options) -> Result<Self> {
        let address = listener
            .local_addr()
            .context("ask for the server's address")?;
        let (life, orders) = Life::new();
        let state = Arc::new(State {
            store: Store::new(options.history),
            faults: Faults::new(),
            counters: Counters::default(),
            options,
            life,
        });
        let server = Self {
            address,
            running: Running::start(listener, Arc::clone(&state), orders)?,
            state,
        };
        for object in seed::objects(address) {
            server.apply(object)?;
        }
        Ok(server)
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server's URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Writes a kubeconfig file with the server's URL and token.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn kubeconfig(&self, path: &Path) -> Result<()> {
        Kubeconfig {
            url: &self.url(),
            token: self.state.options.token.as_deref(),
            insecure: false,
        }
        .write(path)
    }

    /// Creates or replaces an object, its status included, and makes its namespace when that is missing.
    /// What is unchanged is not written. Types are not checked: rubbish in fields is served as it is.
    ///
    /// Answers the resourceVersion.
    ///
    /// # Errors
    /// When the object has no name, or its kind is not served.
    pub fn apply(&self, object: Value) -> Result<u64> {
        let written = self.state.store.write(|inner| write::apply(inner, object));
        Ok(written.map_err(explain)?.revision)
    }

    /// Deletes an object; the namespace is empty for kinds without. Finalizers are kept to.
    ///
    /// # Errors
    /// When the kind is not served, or there is no such object.
    pub fn delete(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Result<()> {
        let resource = find(api_version, kind)?;
        let key = Key::new(namespace, name);
        let none = Preconditions::default();
        let deleted = self
            .state
            .store
            .write(|inner| write::delete(inner, resource, &key, &none));
        deleted.map_err(explain).map(drop)
    }

    /// An object as it is now.
    ///
    /// # Errors
    /// When the kind is not served.
    pub fn get(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>> {
        let resource = find(api_version, kind)?;
        let inner = self.state.store.read();
        let found = inner.get(resource, &Key::new(namespace, name));
        found
            .map(|object| serde_json::from_slice(&object.whole(resource)).context("read an object"))
            .transpose()
    }

    /// The revision of the last change.
    pub fn revision(&self) -> u64 {
        self.state.store.read().revision()
    }

    /// Forgets all history: earlier resourceVersions and continue tokens are answered with 410.
    pub fn compact(&self) {
        self.state.store.write(Inner::compact);
    }

    /// Sends text of one's own to all watches of a kind, in its place among the events. It should end in
    /// a newline.
    ///
    /// # Errors
    /// When the kind is not served.
    pub fn send_line(&self, api_version: &str, kind: &str, text: &str) -> Result<()> {
        let resource = find(api_version, kind)?;
        let line = Bytes::copy_from_slice(text.as_bytes());
        self.state.store.write(|inner| inner.inject(resource, line));
        Ok(())
    }

    /// What can go wrong.
    pub fn faults(&self) -> &Faults {
        &self.state.faults
    }

    /// What was asked.
    pub fn counters(&self) -> &Counters {
        &self.state.counters
    }

    /// Ends all connections and refuses new ones. Objects and history are kept.
    ///
    /// # Errors
    /// When the server's thread has ended.
    pub fn stop_listening(&self) -> Result<()> {
        self.state.life.stop()
    }

    /// Listens again, on the same address.
    ///
    /// # Errors
    /// When the address can't be listened on, or the server's thread has ended.
    pub fn listen_again(&self) -> Result<()> {
        self.state.life.start()
    }

    /// Serves until the process ends.
    pub fn wait(&self) {
        self.running.wait();
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.running.end(&self.state.life);
    }
}

fn find(api_version: &str, kind: &str) -> Result<&'static Resource> {
    Resource::by_kind(api_version, kind)
        .with_context(|| format!("the API server stand-in does not serve {api_version} {kind}"))
}

fn explain(failure: Failure) -> anyhow::Error {
    anyhow!("{} ({} {})", failure.message, failure.code, failure.reason)
}
