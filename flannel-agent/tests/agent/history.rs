//! What was written to etcd, by a watch from the beginning.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use etcd_client::{Client, EventType, GetOptions, KeyValue, WatchOptions};
use flannel_agent::model::{Lease, Owner};
use kernel::{Family, netns::Namespace};
use tokio::sync::oneshot;

use crate::lab::{Lab, PREFIX, eventually, runtime};

/// One write; `None` for a deletion.
pub type Write = (String, Option<String>);

/// Records all writes below the prefix until it is ended, also what was written while etcd went away and
/// came back.
pub struct History {
    shared: Arc<Shared>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// All that was written, or stood there at the beginning. `None` where the store was replaced by another.
pub struct Writes(Vec<Option<Write>>);

#[derive(Default)]
struct Shared {
    writes: Mutex<Vec<Option<Write>>>,
    /// The next revision to be watched; 0 to begin with what stands.
    next: AtomicI64,
}

// === impl History ===

impl History {
    pub fn record(lab: &Lab) -> Self {
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel();
        let namespace = Namespace::open(lab.hub.namespace.path()).unwrap();
        let into = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let record = || {
                runtime().block_on(async {
                    tokio::select! {
                        () = watch(&into) => {}
                        _ = stopped => {}
                    }
                });
            };
            namespace.run(record).unwrap();
        });
        eventually("the watch stands", || {
            shared.next.load(Ordering::SeqCst) > 0
        });
        Self {
            shared,
            stop,
            thread,
        }
    }

    /// The store, which is stopped now, is replaced by another: begins anew.
    pub fn forget(&self) {
        self.shared.next.store(0, Ordering::SeqCst);
        self.shared.writes.lock().unwrap().push(None);
    }

    pub fn end(self) -> Writes {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap();
        Writes(std::mem::take(&mut self.shared.writes.lock().unwrap()))
    }
}

/// Begins again whenever it fails, for ever.
async fn watch(into: &Shared) {
    loop {
        // Fails as long as etcd is away.
        watch_until_failure(into).await.unwrap_or_default();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn watch_until_failure(into: &Shared) -> Result<(), etcd_client::Error> {
    let mut client = Client::connect(["http://127.0.0.1:2379"], None).await?;
    let from = into.next.load(Ordering::SeqCst);
    let from = if from == 0 {
        stock(&mut client, into).await?
    } else {
        from
    };
    let options = WatchOptions::new().with_prefix().with_start_revision(from);
    let mut stream = client.watch(format!("{PREFIX}/"), Some(options)).await?;
    while let Some(response) = stream.message().await? {
        if response.canceled() {
            // Compacted: what was written meanwhile shows in what stands.
            into.next.store(0, Ordering::SeqCst);
            break;
        }
        for event in response.events() {
            let kv = event.kv().unwrap();
            let is_put = event.event_type() == EventType::Put;
            note(into, kv, is_put)?;
        }
    }
    Ok(())
}

/// Notes what stands, and answers from which revision on to watch.
async fn stock(client: &mut Client, into: &Shared) -> Result<i64, etcd_client::Error> {
    let options = GetOptions::new().with_prefix();
    let found = client.get(format!("{PREFIX}/"), Some(options)).await?;
    for kv in found.kvs() {
        note(into, kv, true)?;
    }
    let next = found.header().unwrap().revision() + 1;
    into.next.store(next, Ordering::SeqCst);
    Ok(next)
}

fn note(into: &Shared, kv: &KeyValue, is_put: bool) -> Result<(), etcd_client::Error> {
    let key = kv.key_str()?.trim_start_matches(PREFIX).to_owned();
    let value = is_put
        .then(|| kv.value_str().map(str::to_owned))
        .transpose()?;
    into.writes.lock().unwrap().push(Some((key, value)));
    into.next.fetch_max(kv.mod_revision() + 1, Ordering::SeqCst);
    Ok(())
}

// === impl Writes ===

impl Writes {
    /// Leases that another node wrote while they stood, but for what is `excused`.
    pub fn taken_over(&self, excused: &BTreeSet<Write>) -> Vec<String> {
        let mut holders: BTreeMap<&str, IpAddr> = BTreeMap::new();
        let mut taken = Vec::new();
        for write in &self.0 {
            let Some(write) = write else {
                holders.clear();
                continue;
            };
            let (key, Some(value)) = write else {
                holders.remove(write.0.as_str());
                continue;
            };
            let Some(name) = key.strip_prefix("/subnets/") else {
                continue;
            };
            // What is no lease is nobody's: who had it before has it still.
            let Ok(lease) = Lease::parse(name, value.as_bytes()) else {
                continue;
            };
            let holder = *lease.attributes.public.get(Family::V4).unwrap();
            let before = holders.insert(key, holder);
            if before.is_some_and(|before| before != holder) && !excused.contains(write) {
                taken.push(format!("{key}: {before:?} -> {value}"));
            }
        }
        taken
    }

    /// Who has ever written each lease, by Ethernet addresses.
    pub fn owners(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (key, value) in self.0.iter().flatten() {
            let (Some(name), Some(value)) = (key.strip_prefix("/tweed/owners/"), value) else {
                continue;
            };
            let owner: Owner = serde_json::from_str(value).unwrap();
            let macs = owners.entry(name.to_owned()).or_default();
            macs.insert(owner.mac.unwrap().to_string());
        }
        owners
    }
}
