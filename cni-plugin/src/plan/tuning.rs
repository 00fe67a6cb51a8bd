//! Which settings of an interface are to be changed, and which are not what they should be.

use kernel::{
    IfName,
    route::{Link, LinkDetails, LinkSettings},
};

use crate::model::{Error, TuningBackup, TuningConf};

/// The path of a kernel setting below `/proc/sys`, with the interface's name in the place of the first
/// `IFNAME`.
///
/// # Errors
/// If it is not one of the network's.
pub fn sysctl_path(key: &str, if_name: &IfName) -> Result<String, Error> {
    let path = key.replace('.', "/");
    // After that: a name may have dots of its own.
    let path = path.replacen("IFNAME", if_name.as_str(), 1);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.len() > 1 && parts[0] == "net" {
        return Ok(parts.join("/"));
    }
    Err(Error::config(format!("invalid net sysctl key: {path:?}")))
}

/// The changes that a configuration asks for, in the reference's order.
pub fn changes(conf: &TuningConf) -> Vec<LinkSettings> {
    let promiscuous = conf.promisc.then_some(true);
    let [mac, promiscuous, mtu, all_multicast, tx_queue_len] = each(&TuningBackup {
        mac: conf.mac,
        promisc: promiscuous,
        mtu: conf.mtu,
        allmulti: conf.allmulti,
        tx_queue_len: conf.tx_queue_len,
        network: String::new(),
    });
    given([mac, promiscuous, mtu, all_multicast, tx_queue_len])
}

/// The changes that restore what was there, in the reference's order.
pub fn restoration(backup: &TuningBackup) -> Vec<LinkSettings> {
    let [mac, promiscuous, mtu, all_multicast, tx_queue_len] = each(backup);
    given([mtu, mac, promiscuous, all_multicast, tx_queue_len])
}

/// What an ADD is about to change of an interface.
pub fn backup(
    conf: &TuningConf,
    network: &str,
    link: &Link,
    details: &LinkDetails,
) -> TuningBackup {
    TuningBackup {
        mac: conf.mac.and(link.mac),
        promisc: conf.promisc.then_some(details.promiscuous),
        mtu: conf.mtu.map(|_| link.mtu),
        allmulti: conf.allmulti.map(|_| details.all_multicast),
        tx_queue_len: conf.tx_queue_len.map(|_| details.tx_queue_len),
        network: network.to_owned(),
    }
}

/// The first setting that is not what it should be, in the reference's words.
pub fn difference(conf: &TuningConf, link: &Link, details: &LinkDetails) -> Option<String> {
    let name = &link.name;
    let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    let differs = |what: &str, want: String, have: String| {
        (want != have).then(|| {
            format!("Error: Tuning configured {what} of {name} is {want}, current value is {have}")
        })
    };
    let promisc = || {
        (conf.promisc != details.promiscuous).then(|| {
            format!(
                "Error: Tuning link {name} configured promisc is {}, current value is {}",
                conf.promisc,
                u8::from(details.promiscuous)
            )
        })
    };
    let number = |what, want: Option<u32>, have: u32| {
        want.and_then(|want| differs(what, want.to_string(), have.to_string()))
    };
    let all = conf.allmulti.map(|want| want.to_string());
    conf.mac
        .and_then(|want| differs("Ethernet", want.to_string(), mac))
        .or_else(promisc)
        .or_else(|| number("MTU", conf.mtu, link.mtu))
        .or_else(|| {
            let have = details.all_multicast.to_string();
            all.and_then(|want| differs("all-multicast mode", want, have))
        })
        .or_else(|| {
            number(
                "Transmit Queue Length",
                conf.tx_queue_len,
                details.tx_queue_len,
            )
        })
}

/// A change for each setting, so that the one that fails is known.
fn each(settings: &TuningBackup) -> [LinkSettings; 5] {
    let none = LinkSettings::default;
    [
        LinkSettings {
            mac: settings.mac,
            ..none()
        },
        LinkSettings {
            promiscuous: settings.promisc,
            ..none()
        },
        LinkSettings {
            mtu: settings.mtu,
            ..none()
        },
        LinkSettings {
            all_multicast: settings.allmulti,
            ..none()
        },
        LinkSettings {
            tx_queue_len: settings.tx_queue_len,
            ..none()
        },
    ]
}

fn given(settings: [LinkSettings; 5]) -> Vec<LinkSettings> {
    let given = settings.into_iter();
    given.filter(|it| *it != LinkSettings::default()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn keys_become_paths_of_the_network_alone() {
        let vlan: IfName = "eth0.5".parse().unwrap();
        for (key, path) in [
            ("net.core.somaxconn", "net/core/somaxconn"),
            ("net/core/somaxconn", "net/core/somaxconn"),
            (
                "net.ipv4.conf.IFNAME.arp_notify",
                "net/ipv4/conf/eth0.5/arp_notify",
            ),
            ("net..core.x", "net/core/x"),
        ] {
            assert_eq!(sysctl_path(key, &vlan).unwrap(), path);
        }
        // No path leads upwards: dots are separators.
        let path = sysctl_path("net/../kernel/hostname", &vlan);
        assert_eq!(path.unwrap(), "net/kernel/hostname");
        for (key, shown) in [
            ("kernel.hostname", "kernel/hostname"),
            ("net", "net"),
            ("network.x", "network/x"),
            ("..kernel.net", "//kernel/net"),
        ] {
            let message = sysctl_path(key, &vlan).unwrap_err().message;
            assert_eq!(message, format!("invalid net sysctl key: {shown:?}"));
        }
    }

    #[test]
    fn only_what_is_asked_for_changes() {
        assert!(changes(&TuningConf::default()).is_empty());
        let conf = TuningConf {
            promisc: true,
            tx_queue_len: Some(0),
            ..TuningConf::default()
        };
        let texts: Vec<_> = changes(&conf).iter().map(ToString::to_string).collect();
        assert_eq!(texts, [" promisc on", " txqueuelen 0"]);
        let backup = TuningBackup {
            mac: Some("02:00:00:00:00:01".parse().unwrap()),
            mtu: Some(1500),
            allmulti: Some(false),
            ..TuningBackup::default()
        };
        let texts: Vec<_> = restoration(&backup)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            texts,
            [
                " mtu 1500",
                " address 02:00:00:00:00:01",
                " allmulticast off"
            ]
        );
    }
}
