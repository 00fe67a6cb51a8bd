//! Bringing the kernel and `subnet.env` in line with the leases.

mod status;
mod touched;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use kernel::{
    Family,
    route::{Change, Handle, IfIndex, Link, NextHop, Route},
    sysctl,
};
use nix::errno::Errno;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior},
};

use super::{Drift, Site, changes::PeerChanges};
use crate::{
    model::{Attributes, ByFamily, Held, NetConf, Snapshot, SubnetEnv},
    options::Options,
    plan::{self, Device, Peers, Place, Standing, Tables, Tunnels, Watched},
    report::{self, CannotWrite, Health, Metrics, Notices, StatusRequest},
    source,
};

/// How often the kernel is looked at when nothing has happened.
const INTERVAL: Duration = Duration::from_secs(10);

/// How long to wait after an announced change: most do not come alone.
const DEBOUNCE: Duration = Duration::from_millis(5);

/// The least time between two reconciles after announced changes, so that another program that undoes
/// ours does not keep both busy.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the leases of all nodes stand, for messages.
#[derive(Clone, Debug)]
pub struct LeasePlace {
    /// What goes before their names.
    pub prefix: String,
    /// Who keeps them.
    pub store: &'static str,
}

/// Brings the kernel in line.
pub struct Reconciler {
    kernel: Handle,
    site: Site,
    own: watch::Sender<Attributes>,
    conf: watch::Receiver<NetConf>,
    watched: Watched,
    /// The position in the snapshot up to which all of it stands in the kernel, if it does.
    position: Option<u64>,
    /// How many entries were invalid there.
    invalid: usize,
    cleaned: bool,
    subnet_file: PathBuf,
    ip_masq: bool,
    blackhole: bool,
    leases: LeasePlace,
    health: Health,
    peer_changes: PeerChanges,
    questions: mpsc::Receiver<StatusRequest>,
    metrics: Metrics,
    /// Whether nothing but the kernel has changed since all was right.
    repairs: bool,
    notices: Notices,
    failures: Notices,
}

/// Why a reconcile did not come to its end; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refuses something that all else depends on.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// The device is gone or has changed since it was made.
    #[error("{0} does not stay as it was made: does another program configure it?")]
    Device(kernel::IfName),
    /// `subnet.env` can't be written.
    #[error(transparent)]
    SubnetFile(#[from] CannotWrite),
    /// The kernel refuses some of the entries.
    #[error("{refused} of {all} changes were refused, the first: {first}")]
    Refused {
        /// How many.
        refused: usize,
        /// Out of how many.
        all: usize,
        /// The first of them.
        first: kernel::Error,
    },
}

// === impl Reconciler ===

impl Reconciler {
    /// A reconciler; `own` is told what the node says in its lease, and `leases` is where those of all nodes
    /// stand.
    pub fn new(
        kernel: Handle,
        site: Site,
        own: watch::Sender<Attributes>,
        conf: watch::Receiver<NetConf>,
        options: &Options,
        leases: LeasePlace,
        told: report::Told,
    ) -> Self {
        let report::Told {
            health,
            metrics,
            questions,
        } = told;
        Self {
            kernel,
            site,
            own,
            conf,
            watched: Watched::default(),
            position: None,
            invalid: 0,
            cleaned: false,
            subnet_file: options.subnet_file.clone(),
            ip_masq: options.ip_masq,
            blackhole: options.ip_blackhole_route,
            leases,
            health,
            peer_changes: PeerChanges::default(),
            questions,
            metrics,
            repairs: false,
            notices: Notices::default(),
            failures: Notices::default(),
        }
    }

    /// Reconciles at every change, of leases and in the kernel, and at intervals, for ever; first when
    /// there are both a lease and a complete snapshot.
    pub async fn run(
        &mut self,
        drift: &mut Drift,
        mut held: watch::Receiver<Option<Held>>,
        mut snapshots: watch::Receiver<Option<Snapshot>>,
    ) -> Infallible {
        let mut timer = tokio::time::interval(INTERVAL);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut due: Option<Instant> = None;
        let mut earliest = Instant::now();
        loop {
            let mut leases_alone = false;
            // The senders live as long as the agent; without them the others go on.
            tokio::select! {
                Ok(()) = held.changed() => self.repairs = false,
                Ok(()) = self.conf.changed() => self.repairs = false,
                Ok(()) = snapshots.changed() => {
                    self.repairs = false;
                    leases_alone = !held.has_changed().is_ok_and(|it| it);
                }
                Some(question) = self.questions.recv() => {
                    let snapshot = snapshots.borrow().clone();
                    self.answer(question, *held.borrow(), snapshot);
                    continue;
                }
                _ = timer.tick() => {}
                () = drift.next(&self.watched), if due.is_none() => {
                    due = Some(earliest.max(Instant::now() + DEBOUNCE));
                    continue;
                }
                () = tokio::time::sleep_until(due.unwrap_or(earliest)), if due.is_some() => {
                    earliest = Instant::now() + PAUSE;
                }
            }
            let snapshot = snapshots.borrow_and_update();
            let now = *held.borrow();
            // What is known to stand may be another program's by now.
            leases_alone &= due.is_none() && !drift.has_happened(&self.watched);
            if let (true, Some(held), Some(snapshot)) = (leases_alone, now, snapshot.as_ref())
                && self.follow_touched(&held, snapshot)
            {
                continue;
            }
            due = None;
            drift.forget();
            if let (Some(held), Some(snapshot)) = (*held.borrow_and_update(), snapshot.as_ref()) {
                self.run_once(&held, snapshot);
            }
        }
    }

    /// One reconcile with all that is to be told about it.
    fn run_once(&mut self, held: &Held, snapshot: &Snapshot) {
        let before = self.kernel.sent();
        let outcome = self.reconcile(held, snapshot);
        self.position = outcome.is_ok().then(|| snapshot.position());
        let changes = self.kernel.sent() - before;
        if changes > 0 {
            tracing::info!("reconciled: {changes} changes");
        }
        match outcome {
            Ok(()) => {
                if self.failures.clear() {
                    tracing::info!("the kernel agrees with the leases again");
                }
                self.health.set_ready();
                self.repairs = true;
                self.metrics.applied();
            }
            Err(error) => self.failures.set([format!("{error}; trying again")]),
        }
    }

    /// One reconcile, and what there is to be said of it.
    fn reconcile(&mut self, held: &Held, snapshot: &Snapshot) -> Result<(), Error> {
        let mut notices: Vec<_> = snapshot
            .invalid()
            .map(|(name, fault)| {
                let LeasePlace { prefix, store } = &self.leases;
                format!("{prefix}{name} in {store} is ignored: {fault}")
            })
            .collect();
        self.invalid = snapshot.invalid().count();
        self.metrics.leases(snapshot.leases().count(), self.invalid);
        let conf = self.conf.borrow_and_update().clone();
        match self.site.follow(&mut self.kernel, &conf) {
            Ok(true) => {
                self.repairs = false;
                self.own.send_replace(self.site.own());
            }
            Ok(false) => {}
            Err(error) => notices.push(error.to_string()),
        }
        let outcome = self.bring_in_line(held, snapshot, &mut notices);
        self.notices.set(notices);
        outcome
    }

    /// Devices first, then `subnet.env`, then all that leads to other nodes, as flannel does; what an
    /// earlier configuration has left goes last.
    fn bring_in_line(
        &mut self,
        held: &Held,
        snapshot: &Snapshot,
        notices: &mut Vec<String>,
    ) -> Result<(), Error> {
        let places = self.places(notices)?;
        let written = report::write_subnet_file(&self.subnet_file, &self.subnet_env(held))?;
        if written {
            tracing::info!("{} written for {}", self.subnet_file.display(), held.key);
        }
        let own = self.site.own();
        let backend = self.site.backend().clone();
        let peers: Vec<_> = places
            .iter()
            .map(|(family, _)| plan::peers(family, &backend, &own, &held.key, snapshot))
            .collect();
        let places: Vec<_> = places.iter().map(|(_, place)| place).zip(peers).collect();
        let mut outcome = self.tunnels(&places);
        for (place, peers) in places {
            outcome = outcome.and(self.tables(place, held, peers, notices));
        }
        outcome.and_then(|()| self.clean(notices))
    }

    /// Where the entries of every family belong, once the devices are as they should be.
    fn places(&mut self, notices: &mut Vec<String>) -> Result<ByFamily<Place>, Error> {
        let underlay = self.site.underlay();
        let (name, underlay) = (underlay.name.clone(), underlay.interface);
        let overlays = self.site.overlays().clone();
        self.watched = Watched {
            names: vec![name],
            devices: Vec::new(),
            link: self.site.routes_directly().then_some(underlay),
            networks: overlays.iter().map(|(_, it)| it.network).collect(),
            standing: ByFamily::default(),
        };
        let mut places = ByFamily::default();
        for (family, overlay) in overlays.iter() {
            let device = match &overlay.device {
                Some(device) => Some(self.watched_device(device, notices)?),
                None => None,
            };
            let in_whole = |device: &Device| device.takes_whole_network();
            let place = Place {
                family,
                device,
                underlay,
                network: overlay.network,
                whole_network: overlay.device.as_ref().is_some_and(in_whole),
            };
            places.insert(family, place);
        }
        Ok(places)
    }

    fn watched_device(
        &mut self,
        device: &Device,
        notices: &mut Vec<String>,
    ) -> Result<IfIndex, Error> {
        self.watched.names.push(device.name.clone());
        let interface = self.device(device, notices)?;
        self.watched.devices.push(interface);
        Ok(interface)
    }

    /// Removes, once, the devices and routes that an earlier configuration has left behind.
    fn clean(&mut self, notices: &mut Vec<String>) -> Result<(), Error> {
        if self.cleaned {
            return Ok(());
        }
        let host = source::read_links(&mut self.kernel)?;
        let networks = self.site.overlays();
        let networks = networks.iter().map(|(family, it)| (family, it.network));
        let outdated = plan::outdated_devices(
            &host,
            self.site.node(),
            &networks.collect(),
            &self.watched.names,
        );
        for link in outdated {
            tracing::info!(
                "{} is left from an earlier configuration: removing it",
                link.name
            );
            self.kernel.apply(&[Change::DeleteLink(link.index)])?;
        }
        for family in Family::ALL {
            if self.site.overlays().get(family).is_none() {
                let routes = self.routes(family)?;
                self.apply(&plan::leftover_routes(&routes), notices)?;
            }
        }
        self.cleaned = true;
        Ok(())
    }

    /// Makes the device as it should be, and answers with its index.
    fn device(&mut self, device: &Device, notices: &mut Vec<String>) -> Result<IfIndex, Error> {
        let standing = self.kernel.link_by_name(&device.name)?;
        let changes = plan::link_changes(standing.as_ref(), device);
        let link = if changes.is_empty() {
            standing
        } else {
            self.count(&changes);
            self.kernel.apply(&changes)?;
            self.kernel.link_by_name(&device.name)?
        };
        let is_right = |link: &Link| plan::link_changes(Some(link), device).is_empty();
        let link = link
            .filter(is_right)
            .ok_or_else(|| Error::Device(device.name.clone()))?;
        notices.extend(refuse_router_advertisements(device)?);
        Ok(link.index)
    }

    /// Brings in line what is in WireGuard devices, of which one may carry several families.
    fn tunnels(&mut self, places: &[(&Place, Peers)]) -> Result<(), Error> {
        let mut devices = BTreeMap::<IfIndex, (Family, Tunnels)>::new();
        for (place, peers) in places {
            if let Some(device) = place.device.filter(|_| place.whole_network) {
                let empty = || (place.family, Tunnels::default());
                devices.entry(device).or_insert_with(empty).1.add(peers);
            }
        }
        for (device, (family, tunnels)) in &devices {
            if self.site.reconcile_tunnels(*device, *family, tunnels)? {
                tracing::info!("reconciled: WireGuard to {} nodes", tunnels.0.len());
            }
        }
        Ok(())
    }

    /// Brings in line what leads to other nodes.
    fn tables(
        &mut self,
        place: &Place,
        held: &Held,
        mut peers: Peers,
        notices: &mut Vec<String>,
    ) -> Result<(), Error> {
        let Some(subnet) = held.key.subnet(place.family) else {
            return Ok(());
        };
        if self.site.routes_directly() {
            peers.route_directly(&self.on_link(peers.addresses(), place.underlay)?);
        }
        self.peer_changes.note(place.family, &peers.by_subnet);
        let mut want = plan::wanted(place, subnet, &peers.by_subnet);
        if self.blackhole {
            want.routes.push(plan::blackhole_route(subnet));
        }
        let have = self.standing(place)?;
        let diff = plan::diff(&have, &want, place);
        notices.append(&mut peers.skipped);
        notices.extend(diff.conflicts.iter().map(|route| {
            format!("route {route} is not this agent's and stays, though a lease has its destination; remove it")
        }));
        let programmed = peers.by_subnet.len().saturating_sub(diff.conflicts.len());
        self.apply(&diff.changes, notices)?;
        self.metrics.programmed(place.family, programmed);
        let standing = Standing::new(*place, subnet, peers, want, &have.routes);
        self.watched.standing.insert(place.family, standing);
        Ok(())
    }

    /// Those of the addresses that packets from here reach on the underlay's own link.
    fn on_link(
        &mut self,
        addresses: BTreeSet<IpAddr>,
        underlay: IfIndex,
    ) -> Result<BTreeSet<IpAddr>, Error> {
        let mut on_link = BTreeSet::new();
        for address in addresses {
            let way = self.kernel.lookup(address)?;
            if way.is_some_and(|it| it.interface == underlay && it.gateway.is_none() && !it.local) {
                on_link.insert(address);
            }
        }
        Ok(on_link)
    }

    fn standing(&mut self, place: &Place) -> Result<Tables, Error> {
        let routes = self.routes(place.family)?;
        let Some(interface) = place.device else {
            return Ok(Tables {
                routes,
                ..Tables::default()
            });
        };
        let mut addresses = self.kernel.addresses(Some(interface))?;
        addresses.retain(|address| Family::of_network(&address.address) == place.family);
        Ok(Tables {
            addresses,
            neighbours: self.kernel.neighbours(place.family, interface)?,
            fdb: self.kernel.fdb(interface)?,
            routes,
        })
    }

    /// The routes of a family. A kernel without IPv6 answers with those of IPv4.
    fn routes(&mut self, family: Family) -> Result<Vec<Route>, Error> {
        let mut routes = self.kernel.routes(family)?;
        routes.retain(|route| Family::of_network(&route.destination) == family);
        Ok(routes)
    }

    /// Carries out all changes, whichever are refused. What is to be removed may be gone already, and a
    /// node that is not on the link does not hold up the others.
    fn apply(&mut self, changes: &[Change], notices: &mut Vec<String>) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        self.count(changes);
        let outcomes = self.kernel.apply_each(changes)?;
        let (off_link, mut refusals): (Vec<_>, Vec<_>) = outcomes
            .into_iter()
            .zip(changes)
            .filter_map(|(outcome, change)| outcome.err().map(|error| (error, change)))
            .filter(|(error, change)| !(error.is_not_found() && removes(change)))
            .partition(|(error, change)| is_off_link(error, change));
        if let Some((first, _)) = off_link.first() {
            notices.push(format!(
                "nodes that are not on this node's link can't be reached: {} of them, the first: {first}",
                off_link.len()
            ));
        }
        if refusals.is_empty() {
            return Ok(());
        }
        Err(Error::Refused {
            refused: refusals.len(),
            all: changes.len(),
            first: refusals.swap_remove(0).0,
        })
    }

    fn count(&self, changes: &[Change]) {
        for change in changes {
            self.metrics.changed(change, self.repairs);
        }
    }

    fn subnet_env(&self, held: &Held) -> SubnetEnv {
        let overlays = || self.site.overlays().iter();
        SubnetEnv {
            networks: overlays()
                .map(|(family, it)| (family, it.network))
                .collect(),
            subnets: *held.key.subnets(),
            // Pods have one MTU for both families.
            mtu: overlays().map(|(_, it)| it.mtu).min().unwrap_or_default(),
            ip_masq: self.ip_masq,
        }
    }
}

const fn removes(change: &Change) -> bool {
    matches!(
        change,
        Change::DeleteAddress(_)
            | Change::DeleteRoute(_)
            | Change::DeleteNeighbour(_)
            | Change::DeleteFdb(_)
    )
}

/// Whether a route is refused for its gateway.
fn is_off_link(error: &kernel::Error, change: &Change) -> bool {
    let has_gateway = |route: &Route| matches!(route.next_hop, NextHop::Gateway { .. });
    matches!(change, Change::ReplaceRoute(route) if has_gateway(route))
        && matches!(
            error.errno(),
            Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH)
        )
}

/// A pod on another node must not be able to configure the device (`accept_ra`, spec 1.7). A kernel
/// without IPv6 has no such setting. Answers with what is to be said where `/proc/sys` is read-only, as it is in
/// a container that is not privileged.
fn refuse_router_advertisements(device: &Device) -> kernel::Result<Option<String>> {
    let key = format!("net/ipv6/conf/{}/accept_ra", device.name);
    match sysctl::set(&key, "0") {
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) if error.errno() == Some(Errno::EROFS) => Ok(Some(format!(
            "{error}; goes on without: IPv6 router advertisements from pods of other nodes can configure this node \
             unless it forwards IPv6; set it on the node, outside the container"
        ))),
        other => other.map(|_| None),
    }
}
