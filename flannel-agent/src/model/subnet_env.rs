//! `subnet.env`: what the CNI plugin needs to know (spec 1.6).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnetwork::IpNetwork;
use kernel::Family;

use super::ByFamily;

/// The content of `subnet.env`; its [`Display`](fmt::Display) is the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetEnv {
    /// The network of each family that all nodes share.
    pub networks: ByFamily<IpNetwork>,
    /// This node's subnets, without host bits.
    pub subnets: ByFamily<IpNetwork>,
    /// MTU for pods, in bytes.
    pub mtu: u32,
    /// Whether the agent masquerades, so that the CNI plugin need not.
    pub ip_masq: bool,
}

// === impl SubnetEnv ===

impl SubnetEnv {
    /// The subnets that a file names: those that the node had before. What can't be understood is left
    /// out, a previous subnet is no more than a preference.
    pub fn previous_subnets(text: &str) -> ByFamily<IpNetwork> {
        let subnet = |family| {
            let key = format!("{}SUBNET=", key_prefix(family));
            let value = text.lines().find_map(|line| line.strip_prefix(&key))?;
            let address: IpNetwork = value.trim().parse().ok()?;
            let subnet = IpNetwork::new(address.network(), address.prefix()).ok()?;
            (Family::of_network(&subnet) == family).then_some((family, subnet))
        };
        Family::ALL.into_iter().filter_map(subnet).collect()
    }

    /// The networks that a file names, of which flannel lists several where a cluster had others before. What
    /// can't be understood is left out.
    pub fn previous_networks(text: &str) -> Vec<IpNetwork> {
        let networks = |family| {
            let key = format!("{}NETWORK=", key_prefix(family));
            let value = text.lines().find_map(|line| line.strip_prefix(&key));
            value.unwrap_or_default().split(',')
        };
        let families = Family::ALL.into_iter().flat_map(networks);
        families.filter_map(|it| it.trim().parse().ok()).collect()
    }

    /// The address that the bridge of pods has in a subnet.
    pub fn gateway(subnet: IpNetwork) -> IpAddr {
        first_host(subnet.network())
    }
}

impl fmt::Display for SubnetEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (family, subnet) in self.subnets.iter() {
            let prefix = key_prefix(family);
            if let Some(network) = self.networks.get(family) {
                writeln!(f, "{prefix}NETWORK={network}")?;
            }
            let gateway = Self::gateway(*subnet);
            writeln!(f, "{prefix}SUBNET={gateway}/{}", subnet.prefix())?;
        }
        writeln!(f, "FLANNEL_MTU={}", self.mtu)?;
        writeln!(f, "FLANNEL_IPMASQ={}", self.ip_masq)
    }
}

const fn key_prefix(family: Family) -> &'static str {
    match family {
        Family::V4 => "FLANNEL_",
        Family::V6 => "FLANNEL_IPV6_",
    }
}

/// The address that the bridge gets.
fn first_host(subnet: IpAddr) -> IpAddr {
    match subnet {
        IpAddr::V4(subnet) => Ipv4Addr::from(u32::from(subnet) | 1).into(),
        IpAddr::V6(subnet) => Ipv6Addr::from(u128::from(subnet) | 1).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(subnets: &[&str], networks: &[&str]) -> SubnetEnv {
        let by_family = |texts: &[&str]| {
            let parsed = texts.iter().map(|text| text.parse::<IpNetwork>().unwrap());
            parsed
                .map(|network| (Family::of_network(&network), network))
                .collect()
        };
        SubnetEnv {
            networks: by_family(networks),
            subnets: by_family(subnets),
            mtu: 1450,
            ip_masq: false,
        }
    }

    #[test]
    fn text_is_flannels() {
        assert_eq!(
            env(&["10.5.72.0/24"], &["10.5.0.0/16"]).to_string(),
            "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
        );
        assert_eq!(
            env(
                &["10.5.72.0/24", "fd00:12:0:5::/64"],
                &["10.5.0.0/16", "fd00:12::/48"]
            )
            .to_string(),
            "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.72.1/24\n\
             FLANNEL_IPV6_NETWORK=fd00:12::/48\nFLANNEL_IPV6_SUBNET=fd00:12:0:5::1/64\n\
             FLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
        );
    }

    #[test]
    fn what_was_written_is_remembered() {
        let env = env(
            &["10.5.72.0/24", "fd00:12:0:5::/64"],
            &["10.5.0.0/16", "fd00:12::/48"],
        );
        assert_eq!(SubnetEnv::previous_subnets(&env.to_string()), env.subnets);
    }

    #[test]
    fn what_is_not_understood_is_left_out() {
        for text in [
            "",
            "\0",
            "FLANNEL_SUBNET=",
            "FLANNEL_SUBNET=x/24",
            "FLANNEL_SUBNET=fd00::1/64",
            "XFLANNEL_SUBNET=10.5.72.1/24",
        ] {
            assert!(SubnetEnv::previous_subnets(text).is_empty(), "{text:?}");
        }
    }
}
