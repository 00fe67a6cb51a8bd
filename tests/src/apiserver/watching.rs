//! Watches: a state to begin with, then what happens, each watch at its own pace.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, stream};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};

use super::{
    State,
    counters::OpenWatch,
    failure::Failure,
    faults::{Ending, Orders},
    object::Object,
    query::{Start, WatchOptions},
    resource::Resource,
    selector::Selector,
    store::{Entry, Happening},
};

/// Ends a connection in the middle of an answer.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the connection is cut, as a test asked for")]
pub struct Cut;

/// A running watch.
#[derive(Debug)]
pub struct Watch {
    state: Arc<State>,
    view: View,
    existing: std::vec::IntoIter<Arc<Object>>,
    /// With how many existing objects left the connection is cut.
    cut_at: Option<usize>,
    /// Whether the end of the existing objects is still to be told.
    ends_list: bool,
    /// Everything up to and with this revision has been told.
    told: u64,
    phase: Phase,
    bookmarks: bool,
    revisions: watch::Receiver<u64>,
    orders: watch::Receiver<Orders>,
    serial: u64,
    bookmark: Interval,
    deadline: Instant,
    _open: OpenWatch,
}

/// Which objects a watch sees.
#[derive(Debug)]
struct View {
    resource: &'static Resource,
    namespace: Option<String>,
    selector: Selector,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Cutting,
    Ended,
}

/// How long a watch lasts when the client does not say; the real server takes 30 to 60 minutes.
const LIFETIME: Duration = Duration::from_secs(30 * 60);

/// About how much is sent at once.
const CHUNK: usize = 64 * 1024;

/// What stands of an event when a connection is cut in its middle.
const HALF_AN_EVENT: &[u8] = br#"{"type":"MODIFIED","object":{"kind":"Ser"#;

// === impl Cut ===

impl Cut {
    /// Lets the connection send what it has first: an error makes it drop that.
    pub async fn after_what_was_said() -> Self {
        tokio::task::yield_now().await;
        Self
    }
}

// === impl Watch ===

impl Watch {
    /// Begins a watch; `cut` ends it half-way through what it begins with.
    ///
    /// # Errors
    /// 504 when the revision is in the future; 410 when it is compacted and that is to be told by HTTP.
    pub fn start(
        state: &Arc<State>,
        resource: &'static Resource,
        namespace: Option<String>,
        options: WatchOptions,
        cut: bool,
    ) -> Result<Self, Failure> {
        let view = View {
            resource,
            namespace,
            selector: options.selector,
        };
        let orders = state.faults.orders();
        let serial = orders.borrow().serial;
        let (existing, told) = view.begin(state, options.start)?;
        let period = state.options.bookmark_interval;
        let mut bookmark = interval_at(Instant::now() + period, period);
        bookmark.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            cut_at: cut.then_some(existing.len() / 2),
            existing: existing.into_iter(),
            ends_list: matches!(options.start, Start::Streaming(_)),
            view,
            told,
            phase: Phase::Running,
            bookmarks: options.bookmarks,
            revisions: state.store.subscribe(),
            serial,
            orders,
            bookmark,
            deadline: Instant::now() + options.timeout.unwrap_or(LIFETIME),
            _open: state.counters.open_watch(),
            state: Arc::clone(state),
        })
    }

    /// The body of the answer: JSON lines.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, Cut>> + Send {
        stream::unfold(self, |mut watch| async move {
            let item = watch.next().await?;
            Some((item, watch))
        })
    }

    async fn next(&mut self) -> Option<Result<Bytes, Cut>> {
        loop {
            match self.phase {
                Phase::Running => {}
                Phase::Cutting => {
                    self.phase = Phase::Ended;
                    return Some(Err(Cut::after_what_was_said().await));
                }
                Phase::Ended => return None,
            }
            let orders = *self.orders.borrow_and_update();
            if orders.serial > self.serial {
                return self.end(orders.ending).map(Ok);
            }
            if !orders.held
                && let Some(chunk) = self.chunk()
            {
                return Some(Ok(chunk));
            }
            if let Some(bookmark) = self.wait(orders.held).await {
                return Some(Ok(bookmark));
            }
        }
    }

    /// Waits until there may be something to send; a bookmark may be due then.
    async fn wait(&mut self, held: bool) -> Option<Bytes> {
        tokio::select! {
            changed = self.revisions.changed(), if !held => {
                if changed.is_err() {
                    self.phase = Phase::Ended;
                }
                None
            }
            changed = self.orders.changed() => {
                if changed.is_err() {
                    self.phase = Phase::Ended;
                }
                None
            }
            _ = self.bookmark.tick(), if self.bookmarks && !held => Some(self.bookmark(false)),
            () = sleep_until(self.deadline) => {
                self.phase = Phase::Ended;
                // The real server sends the last bookmark shortly before the time is over.
                (self.bookmarks && !held).then(|| self.bookmark(false))
            }
        }
    }

    fn end(&mut self, ending: Ending) -> Option<Bytes> {
        self.phase = match ending {
            Ending::Cut => Phase::Cutting,
            Ending::Regular | Ending::Expired => Phase::Ended,
        };
        match ending {
            Ending::Regular => None,
            Ending::Cut => Some(Bytes::from_static(HALF_AN_EVENT)),
            Ending::Expired => {
                let message = format!("too old resource version: {0} ({0})", self.told);
                Some(error_line(&Failure::expired(message)))
            }
        }
    }

    /// What can be sent now.
    fn chunk(&mut self) -> Option<Bytes> {
        let mut lines = BytesMut::new();
        self.write_existing(&mut lines);
        if self.phase == Phase::Running && lines.len() < CHUNK {
            self.write_news(&mut lines);
        }
        (!lines.is_empty()).then(|| lines.freeze())
    }

    fn write_existing(&mut self, lines: &mut BytesMut) {
        while lines.len() < CHUNK {
            if self.cut_at == Some(self.existing.len()) {
                lines.put_slice(HALF_AN_EVENT);
                self.phase = Phase::Cutting;
                return;
            }
            let Some(object) = self.existing.next() else {
                if std::mem::take(&mut self.ends_list) {
                    lines.put_slice(&self.bookmark(true));
                }
                return;
            };
            write_event(lines, "ADDED", self.view.resource, &object);
        }
    }

    fn write_news(&mut self, lines: &mut BytesMut) {
        // Lines that the selector leaves out make no chunk: go on until there is something, or nothing new.
        loop {
            let news = self.state.store.read().news(self.view.resource, self.told);
            match news {
                Ok(news) => {
                    for entry in &news.entries {
                        self.view.write_entry(lines, entry);
                    }
                    self.told = news.until;
                    if news.entries.is_empty() || lines.len() >= CHUNK {
                        return;
                    }
                }
                Err(failure) => {
                    lines.put_slice(&error_line(&failure));
                    self.phase = Phase::Ended;
                    return;
                }
            }
        }
    }

    fn bookmark(&self, ends_list: bool) -> Bytes {
        let resource = self.view.resource;
        let mut event = json!({"type": "BOOKMARK", "object": {
            "kind": resource.kind,
            "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": self.told.to_string(), "creationTimestamp": null},
        }});
        if ends_list {
            event["object"]["metadata"]["annotations"] =
                json!({"k8s.io/initial-events-end": "true"});
        }
        line(&event)
    }
}

// === impl View ===

impl View {
    /// What a watch begins with, and the revision up to which that tells everything.
    fn begin(&self, state: &State, start: Start) -> Result<(Vec<Arc<Object>>, u64), Failure> {
        let inner = state.store.read();
        let now = inner.revision();
        match start {
            Start::Now => Ok((Vec::new(), now)),
            Start::After(revision) => {
                if state.faults.gone_by_http() {
                    inner.news(self.resource, revision)?;
                }
                Ok((Vec::new(), revision))
            }
            Start::Streaming(revision) if revision > now => Err(Failure::too_large(revision, now)),
            Start::Existing | Start::Streaming(_) => {
                let namespace = self.namespace.as_deref();
                let mut objects = inner.objects(self.resource, now, namespace, None)?;
                objects.retain(|object| self.shows(object));
                Ok((objects, now))
            }
        }
    }

    fn shows(&self, object: &Object) -> bool {
        let namespace = self.namespace.as_ref();
        namespace.is_none_or(|namespace| object.key.namespace == *namespace)
            && self.selector.matches(&object.labels, &object.fields)
    }

    /// Tells what happened as it looks through the selector, as the real server's watch cache does: an
    /// object that leaves the view is DELETED, in its old form under the new revision.
    fn write_entry(&self, lines: &mut BytesMut, entry: &Entry) {
        match &entry.what {
            Happening::Line(text) => lines.put_slice(text),
            Happening::Deleted { old, last } => {
                if self.shows(old) {
                    write_event(lines, "DELETED", self.resource, last);
                }
            }
            Happening::Written { old, new } => {
                let before = old.as_ref().filter(|old| self.shows(old));
                match (before, self.shows(new)) {
                    (None, true) => write_event(lines, "ADDED", self.resource, new),
                    (Some(_), true) => write_event(lines, "MODIFIED", self.resource, new),
                    (Some(old), false) => {
                        let left = old.at_revision(self.resource, entry.revision);
                        write_event(lines, "DELETED", self.resource, &left);
                    }
                    (None, false) => {}
                }
            }
        }
    }
}

fn write_event(lines: &mut BytesMut, kind: &str, resource: &Resource, object: &Object) {
    lines.put_slice(br#"{"type":""#);
    lines.put_slice(kind.as_bytes());
    lines.put_slice(br#"","object":"#);
    object.write_whole(resource, lines);
    lines.put_slice(b"}\n");
}

fn error_line(failure: &Failure) -> Bytes {
    line(&json!({"type": "ERROR", "object": failure.to_status()}))
}

fn line(event: &serde_json::Value) -> Bytes {
    Bytes::from(format!("{event}\n"))
}
