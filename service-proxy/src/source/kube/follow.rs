//! Follows one resource: lists it, watches it, and goes on after whatever happens.
//!
//! What has been told stays in force: a list that ends in its middle takes nothing away, and what a new list
//! lacks goes only once that list is complete.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{AsyncBufReadExt, AsyncReadExt};
use outage::{Backoff, with_causes};
use tokio::{
    sync::mpsc::Sender,
    time::{sleep, timeout},
};

use super::{
    Told,
    access::Access,
    event::{Event, Object, Page},
    failure::Failure,
    incident::Incidents,
    resource::{Resource, Selection},
};
use crate::{
    model::{ObjectKey, ObjectName},
    source::News,
};

/// The first wait between attempts.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// The longest, client-go's.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The longest that a server may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(60);
/// How long a server may say nothing: it sends a bookmark about once a minute. A connection to a server that
/// is no more is noticed by this alone.
const SILENCE: Duration = Duration::from_secs(150);
/// How long a watch has to last to count as one that works, if nothing happens.
const LASTING: Duration = Duration::from_secs(2);
/// For how long a watch is asked for: up to twice as long, so that not all watches of all nodes end at once.
const WATCH_SECONDS: u32 = 140;
/// When to look again for a resource that can't be had.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// Follows one resource.
pub struct Follower {
    access: Access,
    resource: Resource,
    selection: Selection,
    told: Sender<Told>,
    incidents: Arc<Incidents>,
    backoff: Backoff,
    /// Whether the next list is asked for as a stream. A server that refused one is asked again when there is another
    /// to be had: a refusal may have been trouble of a moment, or the server may have been replaced.
    streams: bool,
    /// From where to watch on; `None` if everything is to be listed.
    position: Option<String>,
    /// Where something came that can't be understood.
    stumbled_at: Option<String>,
    /// Whether it was listed once, so that it can be had.
    was_listed: bool,
    /// Whether it was said that the resource can't be had.
    is_without: bool,
    /// Objects that can't be understood, and what was said about each.
    complaints: BTreeMap<ObjectName, String>,
}

/// Nobody listens any more.
struct Unheard;

/// Why an attempt ended.
enum End {
    Failed(Failure),
    Unheard,
}

// === impl Follower ===

impl Follower {
    /// Follows a resource for a node's proxy.
    pub fn new(
        access: Access,
        resource: Resource,
        node: &str,
        told: Sender<Told>,
        incidents: Arc<Incidents>,
    ) -> Self {
        Self {
            access,
            resource,
            selection: resource.selection(node),
            told,
            incidents,
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            streams: true,
            position: None,
            stumbled_at: None,
            was_listed: false,
            is_without: false,
            complaints: BTreeMap::new(),
        }
    }

    /// Runs until nobody listens any more.
    pub async fn run(mut self) {
        loop {
            match self.attempt().await {
                Ok(()) => {}
                Err(End::Failed(failure)) => {
                    let Ok(wait) = self.recover(&failure).await else {
                        return;
                    };
                    sleep(wait).await;
                }
                Err(End::Unheard) => return,
            }
        }
    }

    /// One list, or one watch up to its end in good order.
    async fn attempt(&mut self) -> Result<(), End> {
        if self.position.is_none() && !self.streams {
            return self.list().await;
        }
        let began = Instant::now();
        match self.watch().await {
            // A list that was streamed goes on as a watch; a watch that ends is begun again.
            Ok(progress) => {
                if !progress && began.elapsed() < LASTING {
                    sleep(self.backoff.next_wait()).await;
                }
                Ok(())
            }
            Err(End::Failed(failure)) if self.position.is_none() && failure.is_not_offered() => {
                self.streams = false;
                Ok(())
            }
            Err(end) => Err(end),
        }
    }

    /// Decides how to go on after a failure, and when.
    async fn recover(&mut self, failure: &Failure) -> Result<Duration, Unheard> {
        if failure.is_gone() || self.stumbles_again(failure) {
            self.position = None;
        }
        let none_to_be_had = failure.is_unknown() || failure.is_forbidden();
        // An API server that has just started refuses everything until it knows the roles.
        if none_to_be_had && !self.was_listed && !self.resource.is_needed() {
            self.do_without(failure);
            self.tell(Told::Complete(self.resource)).await?;
            return Ok(LOOK_AGAIN);
        }
        // A silent watch is asked for again; if the server is away, that is what fails.
        if !matches!(failure, Failure::Silent(_)) {
            self.incidents.failed(self.resource, failure);
        }
        if failure.is_unauthorized()
            && let Ok(access) = self.access.renewed().await
        {
            self.access = access;
        }
        Ok(longer(self.backoff.next_wait(), failure.retry_after()))
    }

    /// Whether something that can't be understood comes a second time in the same place, so that there is no
    /// going on from there.
    fn stumbles_again(&mut self, failure: &Failure) -> bool {
        if !matches!(failure, Failure::Garbage(_)) || self.position.is_none() {
            return false;
        }
        let before = std::mem::replace(&mut self.stumbled_at, self.position.clone());
        before == self.position
    }

    /// Goes on without a resource that can't be had, after it was said once.
    fn do_without(&mut self, failure: &Failure) {
        if !std::mem::replace(&mut self.is_without, true) {
            self.incidents.none_to_be_had(self.resource, failure);
        }
        self.incidents.is_well(self.resource);
    }

    /// Lists everything in pages.
    async fn list(&mut self) -> Result<(), End> {
        let mut names = BTreeSet::new();
        let mut next = None;
        loop {
            let request = self.selection.list(next)?;
            let mut text = Vec::new();
            let mut answer = Box::pin(self.access.client().request_stream(request).await?);
            timeout(SILENCE, answer.read_to_end(&mut text))
                .await
                .map_err(|_| Failure::Silent(SILENCE))?
                .map_err(broken)?;
            let page = Page::read(&text)?;
            for object in &page.items {
                self.apply(object, Some(&mut names)).await?;
            }
            next = page.next;
            if next.is_none() {
                return self.listed(names, page.version).await;
            }
        }
    }

    /// Watches on, or lists everything in a stream and then watches on. Answers whether anything was told.
    async fn watch(&mut self) -> Result<bool, End> {
        let seconds = WATCH_SECONDS + random(WATCH_SECONDS);
        let request = self.selection.watch(self.position.as_deref(), seconds)?;
        let answer = self.access.client().request_stream(request);
        let answer = timeout(SILENCE, answer)
            .await
            .map_err(|_| Failure::Silent(SILENCE))??;
        let mut lines = Box::pin(answer);
        let mut names = self.position.is_none().then(BTreeSet::new);
        let (mut line, mut progress) = (Vec::new(), false);
        loop {
            let patience = if progress { SILENCE } else { LASTING };
            let read = timeout(patience, lines.read_until(b'\n', &mut line)).await;
            match read {
                // It has lasted long enough to count as one that works.
                Err(_) if !progress => {
                    progress = true;
                    if names.is_none() {
                        self.recovered();
                    }
                    continue;
                }
                Err(_) => return Err(Failure::Silent(SILENCE).into()),
                Ok(Err(error)) => return Err(broken(error).into()),
                Ok(Ok(_)) if line.is_empty() && names.is_none() => return Ok(progress),
                Ok(Ok(_)) if line.last() != Some(&b'\n') => return Err(Failure::Cut.into()),
                Ok(Ok(_)) => {}
            }
            self.event(&line, &mut names).await?;
            if names.is_none() && !progress {
                self.recovered();
            }
            progress = true;
            forget(&mut line);
        }
    }

    async fn event(
        &mut self,
        line: &[u8],
        names: &mut Option<BTreeSet<ObjectName>>,
    ) -> Result<(), End> {
        match Event::read(line)? {
            Event::Applied(object) => {
                self.apply(&object, names.as_mut()).await?;
                self.reached(object.version, names);
            }
            Event::Deleted(object) => {
                let name = self.name_of(&object);
                if let Some(names) = names {
                    names.remove(&name);
                }
                self.complaints.remove(&name);
                let gone = ObjectKey::new(self.resource.kind(), name).gone();
                self.tell(Told::News(News::Change(gone))).await?;
                self.reached(object.version, names);
            }
            Event::Bookmark { version, ends_list } => match names.take() {
                Some(all) if ends_list => self.listed(all, version).await?,
                unfinished => {
                    *names = unfinished;
                    self.reached(version, names);
                }
            },
        }
        Ok(())
    }

    /// Takes note of how far a watch has come; a list has to be complete to count.
    fn reached(&mut self, version: String, names: &Option<BTreeSet<ObjectName>>) {
        if names.is_none() && !version.is_empty() {
            self.position = Some(version);
        }
    }

    async fn apply(
        &mut self,
        object: &Object<'_>,
        names: Option<&mut BTreeSet<ObjectName>>,
    ) -> Result<(), Unheard> {
        let name = self.name_of(object);
        if let Some(names) = names {
            names.insert(name.clone());
        }
        match self.resource.read(object) {
            Ok(change) => {
                self.complaints.remove(&name);
                self.tell(Told::News(News::Change(change))).await
            }
            Err(wrong) => {
                self.complain(name, wrong);
                Ok(())
            }
        }
    }

    fn complain(&mut self, name: ObjectName, wrong: String) {
        if self.complaints.get(&name) != Some(&wrong) {
            let ObjectName { namespace, .. } = &name;
            tracing::warn!(
                "namespace {namespace:?}, {wrong}; left out, and what is known of it from before stays in force \
                 until it is put right"
            );
            self.complaints.insert(name, wrong);
        }
    }

    async fn listed(&mut self, names: BTreeSet<ObjectName>, version: String) -> Result<(), End> {
        self.complaints.retain(|name, _| names.contains(name));
        let listed = News::Listed(self.resource.kind(), names);
        self.tell(Told::News(listed)).await?;
        self.tell(Told::Complete(self.resource)).await?;
        self.position = Some(version);
        self.streams = true;
        self.was_listed = true;
        self.recovered();
        Ok(())
    }

    fn recovered(&mut self) {
        self.backoff.reset();
        self.incidents.is_well(self.resource);
    }

    async fn tell(&self, told: Told) -> Result<(), Unheard> {
        self.told.send(told).await.map_err(|_| Unheard)
    }

    fn name_of(&self, object: &Object<'_>) -> ObjectName {
        self.resource.name(&object.namespace, &object.name)
    }
}

// === impl End ===

impl<E: Into<Failure>> From<E> for End {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Unheard> for End {
    fn from(Unheard: Unheard) -> Self {
        Self::Unheard
    }
}

/// A wait that is at least what the server asks for.
fn longer(wait: Duration, asked: Option<Duration>) -> Duration {
    asked.map_or(wait, |asked| wait.max(asked.min(LONGEST_ASKED)))
}

/// Empties the buffer of lines; one that was large for once does not stay so.
fn forget(line: &mut Vec<u8>) {
    line.clear();
    line.shrink_to(64 * 1024);
}

fn broken(error: std::io::Error) -> Failure {
    Failure::Connection(with_causes(&error))
}

fn random(below: u32) -> u32 {
    let number = RandomState::new().hash_one(0) % u64::from(below.max(1));
    u32::try_from(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_asks_for_is_waited_but_not_for_ever() {
        let seconds = Duration::from_secs;
        for (wait, asked, expected) in [
            (5, None, 5),
            (5, Some(2), 5),
            (5, Some(20), 20),
            (5, Some(3600), 60),
        ] {
            let waits = longer(seconds(wait), asked.map(seconds));
            assert_eq!(waits, seconds(expected), "{wait} {asked:?}");
        }
    }
}
