//! Taking away what the agent has left on a node (`--cleanup`).

use std::{
    fs, io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use kernel::{
    Family,
    route::{Change, Handle},
};

use crate::{
    agent::{self, RulesError},
    model::{Host, SubnetEnv},
    plan::{self, Remains},
    report, source,
};

/// Why something of the agent is still there; what was done so far stays done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agent would put everything back.
    #[error("an agent runs on this node and answers at {}: stop it first", .0.display())]
    Running(PathBuf),
    /// The kernel refuses something.
    #[error("{0} (is this root?)")]
    Kernel(#[from] kernel::Error),
    /// The packet filter refuses something.
    #[error("remove the rules for masquerading and forwarding: {0} (is this root?)")]
    Rules(#[from] RulesError),
    /// A file stays.
    #[error("can't remove {}: {cause}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// Removes what the agent with this `subnet.env` has made, and the bridge of pods if none is on it. What is not
/// there is no error. The files go last: they tell what is whose.
///
/// # Errors
/// If the agent runs, or something can't be removed.
pub fn clean_up(subnet_file: &Path) -> Result<(), Error> {
    let socket = report::status_socket(subnet_file);
    if UnixStream::connect(&socket).is_ok() {
        return Err(Error::Running(socket));
    }
    agent::remove_rules()?;
    clean_up_links(&report::previous_subnet_file(subnet_file))?;
    for path in [subnet_file, &socket, &source::wireguard_key_file()] {
        remove_file(path)?;
        remove_if_empty(path.parent())?;
    }
    Ok(())
}

/// Removes routes and devices where this was `subnet.env`.
fn clean_up_links(subnet_env: &str) -> Result<(), Error> {
    let networks = SubnetEnv::previous_networks(subnet_env);
    let subnets = SubnetEnv::previous_subnets(subnet_env);
    let gateways: Vec<_> = subnets
        .iter()
        .map(|(_, subnet)| SubnetEnv::gateway(*subnet))
        .collect();
    let mut kernel = Handle::open()?;
    let host = read(&mut kernel)?;
    let remains = plan::remains(&host, &networks, &gateways);
    for name in remains.unclear.iter().map(|it| &it.name) {
        tracing::warn!(
            "{name} stays: no subnet.env (--subnet-file) tells whose network it is for; if it is the agent's: \
             ip link delete {name}"
        );
    }
    if let Some((bridge, ports)) = remains.busy_bridge {
        let name = &bridge.name;
        tracing::warn!(
            "{name} stays: {ports} pods are on it; once they are gone: ip link delete {name}"
        );
    }
    let (said, changes): (Vec<_>, Vec<_>) = removals(&remains).into_iter().unzip();
    for (outcome, what) in kernel.apply_each(&changes)?.into_iter().zip(said) {
        match outcome {
            // A route goes with its device.
            Err(error) if error.is_not_found() => {}
            other => {
                other?;
                tracing::info!("removed {what}");
            }
        }
    }
    Ok(())
}

fn read(kernel: &mut Handle) -> Result<Host, Error> {
    let mut host = source::read_links(kernel)?;
    for family in Family::ALL {
        host.routes.append(&mut kernel.routes(family)?);
    }
    Ok(host)
}

/// What to say of each removal, and the removal; routes before the devices that they lead to.
fn removals(remains: &Remains<'_>) -> Vec<(String, Change)> {
    let route =
        |it: &&kernel::route::Route| (format!("route {it}"), Change::DeleteRoute((*it).clone()));
    let device =
        |it: &kernel::route::Link| (format!("device {}", it.name), Change::DeleteLink(it.index));
    let routes = remains.routes.iter().map(route);
    let devices = remains.devices.iter().copied().chain(remains.idle_bridge);
    routes.chain(devices.map(device)).collect()
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Ok(()) => {
            tracing::info!("removed {}", path.display());
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(cause) => Err(Error::File {
            path: path.to_owned(),
            cause,
        }),
    }
}

/// Removes the directory that was made for the files, unless it has others or is where something is mounted.
fn remove_if_empty(directory: Option<&Path>) -> Result<(), Error> {
    let Some(directory) = directory.filter(|it| !it.as_os_str().is_empty()) else {
        return Ok(());
    };
    match fs::remove_dir(directory) {
        Ok(()) => {
            tracing::info!("removed {}", directory.display());
            Ok(())
        }
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::DirectoryNotEmpty
                    | io::ErrorKind::ResourceBusy
            ) =>
        {
            Ok(())
        }
        Err(cause) => Err(Error::File {
            path: directory.to_owned(),
            cause,
        }),
    }
}
