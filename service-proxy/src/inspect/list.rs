//! Every port of every Service.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::SocketAddr,
};

use kernel::{
    Family,
    conntrack::{Flow, Handle},
};
use serde::Serialize;

use super::source::Objects;
use crate::{
    flows::tracked,
    model::{Here, Protocol, Service, ServicePort, candidates, choose},
    plan::{Address, Frontend},
};

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    /// `namespace/name:port`.
    service_port: String,
    r#type: &'static str,
    addresses: Vec<String>,
    port: u16,
    protocol: String,
    node_port: Option<u16>,
    /// Those that connections to the cluster IP may go to.
    endpoints: Vec<String>,
    /// How many are listed.
    listed: usize,
    /// How many tracked connections go to it; `None` where they can't be counted.
    sessions: Option<usize>,
    #[serde(skip)]
    frontends: Vec<Frontend>,
}

/// Prints every port of every Service.
pub fn print(objects: &Objects, json: bool, out: &mut impl Write) -> io::Result<()> {
    let mut rows = rows(objects);
    match sessions() {
        Ok(sessions) => count(&mut rows, &sessions),
        Err(error) => tracing::warn!("{error}; sessions are not counted"),
    }
    if json {
        return writeln!(out, "{}", serde_json::json!(rows));
    }
    let lines: Vec<_> = rows.iter().map(Row::columns).collect();
    let header = [
        "SERVICE PORT",
        "TYPE",
        "ADDRESSES",
        "PORT",
        "NODEPORT",
        "ENDPOINTS",
        "SESSIONS",
    ];
    print_table(&header.map(str::to_owned), &lines, out)
}

// === impl Row ===

impl Row {
    fn new(objects: &Objects, service: &Service, port: &ServicePort) -> Self {
        let here = objects.here();
        let slices = objects.catalogue.slices_of(&service.name);
        let candidates = candidates(port, slices);
        let addresses = service
            .cluster_ips
            .iter()
            .chain(&service.load_balancer_ips)
            .chain(&service.external_ips);
        Self {
            service_port: service.port_name(port).to_string(),
            r#type: service.kind.name(),
            addresses: addresses.clone().map(ToString::to_string).collect(),
            port: port.port,
            protocol: port.protocol.to_string(),
            node_port: port.node_port,
            endpoints: Self::endpoints(objects, service, port, here),
            listed: candidates.len(),
            sessions: None,
            frontends: addresses
                .map(|address| (Address::Own(*address), port.port))
                .chain(port.node_port.map(|number| (Address::Node, number)))
                .map(|(address, number)| Frontend {
                    address,
                    protocol: port.protocol,
                    port: number,
                })
                .collect(),
        }
    }

    /// Those that are chosen, family by family.
    fn endpoints(
        objects: &Objects,
        service: &Service,
        port: &ServicePort,
        here: Here<'_>,
    ) -> Vec<String> {
        let mut endpoints = Vec::new();
        for family in Family::ALL {
            let slices = objects.catalogue.slices_of(&service.name);
            let slices = slices.filter(|slice| slice.family == family);
            let candidates = candidates(port, slices);
            let chosen = choose(&candidates, here).cluster;
            endpoints.extend(
                chosen
                    .iter()
                    .map(|it| SocketAddr::new(it.endpoint.address, it.port).to_string()),
            );
        }
        endpoints
    }

    fn columns(&self) -> [String; 7] {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        [
            self.service_port.clone(),
            self.r#type.to_owned(),
            self.addresses.join(","),
            format!("{}/{}", self.port, self.protocol),
            or_none(self.node_port.map(|port| port.to_string())),
            format!("{} of {}", self.endpoints.len(), self.listed),
            or_none(self.sessions.map(|sessions| sessions.to_string())),
        ]
    }
}

fn rows(objects: &Objects) -> Vec<Row> {
    let services = objects.catalogue.all();
    services
        .flat_map(|service| service.ports.iter().map(move |port| (service, port)))
        .map(|(service, port)| Row::new(objects, service, port))
        .collect()
}

/// How many tracked connections were translated, by what the clients connected to.
fn sessions() -> kernel::Result<BTreeMap<Frontend, usize>> {
    let mut kernel = Handle::open()?;
    let mut sessions = BTreeMap::new();
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        for family in Family::ALL {
            let flows = kernel.flows(family, tracked(protocol))?;
            for flow in flows.iter().filter(|flow| is_translated(flow)) {
                *sessions.entry(frontend(flow, protocol)).or_default() += 1;
            }
        }
    }
    Ok(sessions)
}

/// Whether somebody else answers than was asked. IPVS leaves no other trace of it in a flow.
fn is_translated(flow: &Flow) -> bool {
    flow.reply.source != flow.original.destination
}

/// What the client of a flow connected to, as an address of a Service.
fn frontend(flow: &Flow, protocol: Protocol) -> Frontend {
    let to = flow.original.destination;
    Frontend {
        address: Address::Own(to.ip()),
        protocol,
        port: to.port(),
    }
}

/// Gives each row its sessions. What goes to no Service's address is for a NodePort.
fn count(rows: &mut [Row], sessions: &BTreeMap<Frontend, usize>) {
    let mut by_frontend: BTreeMap<Frontend, usize> = BTreeMap::new();
    for (index, row) in rows.iter_mut().enumerate() {
        row.sessions = Some(0);
        for frontend in &row.frontends {
            by_frontend.entry(*frontend).or_insert(index);
        }
    }
    for (frontend, count) in sessions {
        let node_port = Frontend {
            address: Address::Node,
            ..*frontend
        };
        let index = by_frontend
            .get(frontend)
            .or_else(|| by_frontend.get(&node_port));
        if let Some(row) = index.and_then(|index| rows.get_mut(*index)) {
            *row.sessions.get_or_insert(0) += count;
        }
    }
}

/// Prints columns as wide as what is in them.
fn print_table<const N: usize>(
    header: &[String; N],
    lines: &[[String; N]],
    out: &mut impl Write,
) -> io::Result<()> {
    let widths: Vec<_> = (0..N)
        .map(|column| {
            let all = lines.iter().chain([header]);
            all.map(|line| line[column].len()).max().unwrap_or(0)
        })
        .collect();
    for line in [header].into_iter().chain(lines) {
        let cells = line.iter().zip(&widths);
        let text: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        writeln!(out, "{}", text.join("  ").trim_end())?;
    }
    Ok(())
}
