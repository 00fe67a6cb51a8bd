//! `subnet.env`: what the flannel agent tells the plugin of this node.

use std::num::ParseIntError;

use super::{Cidr, ip_text::InvalidCidr};

/// The content of `subnet.env`; at least one network and one subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetEnv {
    /// `FLANNEL_NETWORK`, then `FLANNEL_IPV6_NETWORK`, without doubles: where all pods of the cluster are.
    pub networks: Vec<Cidr>,
    /// `FLANNEL_SUBNET`, then `FLANNEL_IPV6_SUBNET`, without host bits: where this node's pods are.
    pub subnets: Vec<Cidr>,
    /// `FLANNEL_MTU`, in bytes.
    pub mtu: u32,
    /// `FLANNEL_IPMASQ`: the agent masquerades, so that the plugin need not.
    pub ipmasq: bool,
}

/// Why the content is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubnetEnvError {
    /// Keys that have to be there are not.
    #[error("{file} is missing {}", keys.join(", "))]
    Missing {
        /// The file's path.
        file: String,
        /// The missing keys.
        keys: Vec<&'static str>,
    },
    /// A value has not the form that its key wants.
    #[error("{file}: {key}: {reason}")]
    Malformed {
        /// The file's path.
        file: String,
        /// The key.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// The keys seen so far.
#[derive(Default)]
struct Seen {
    v4_networks: Vec<Cidr>,
    v6_networks: Vec<Cidr>,
    v4_subnet: Option<Cidr>,
    v6_subnet: Option<Cidr>,
    mtu: Option<u32>,
    ipmasq: Option<bool>,
}

// === impl SubnetEnv ===

impl SubnetEnv {
    /// Parses the content of the file at the path `file`. Lines with other keys are of no interest; of a
    /// key that is there twice the last line counts.
    pub fn parse(file: &str, text: &str) -> Result<Self, SubnetEnvError> {
        let mut seen = Seen::default();
        for line in text.lines() {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            seen.take(key, value)
                .map_err(|(key, reason)| SubnetEnvError::Malformed {
                    file: file.to_owned(),
                    key,
                    reason,
                })?;
        }
        seen.complete().map_err(|keys| SubnetEnvError::Missing {
            file: file.to_owned(),
            keys,
        })
    }
}

// === impl Seen ===

impl Seen {
    fn take(&mut self, key: &str, value: &str) -> Result<(), (&'static str, String)> {
        match key {
            "FLANNEL_NETWORK" => {
                self.v4_networks =
                    networks(value).map_err(|e| ("FLANNEL_NETWORK", e.to_string()))?
            }
            "FLANNEL_IPV6_NETWORK" => {
                self.v6_networks =
                    networks(value).map_err(|e| ("FLANNEL_IPV6_NETWORK", e.to_string()))?;
            }
            "FLANNEL_SUBNET" => {
                self.v4_subnet =
                    Some(subnet(value).map_err(|e| ("FLANNEL_SUBNET", e.to_string()))?);
            }
            "FLANNEL_IPV6_SUBNET" => {
                self.v6_subnet =
                    Some(subnet(value).map_err(|e| ("FLANNEL_IPV6_SUBNET", e.to_string()))?);
            }
            "FLANNEL_MTU" => {
                let mtu = value
                    .parse()
                    .map_err(|e: ParseIntError| ("FLANNEL_MTU", format!("{value:?}: {e}")))?;
                self.mtu = Some(mtu);
            }
            "FLANNEL_IPMASQ" => {
                let ipmasq = value
                    .parse()
                    .map_err(|_| ("FLANNEL_IPMASQ", format!("{value:?}: want true or false")))?;
                self.ipmasq = Some(ipmasq);
            }
            _ => {}
        }
        Ok(())
    }

    fn complete(self) -> Result<SubnetEnv, Vec<&'static str>> {
        let mut missing = Vec::new();
        let mut networks = self.v4_networks;
        networks.extend(self.v6_networks);
        if networks.is_empty() {
            missing.extend(["FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK"]);
        }
        let subnets: Vec<Cidr> = self.v4_subnet.into_iter().chain(self.v6_subnet).collect();
        if subnets.is_empty() {
            missing.extend(["FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET"]);
        }
        missing.extend(self.mtu.is_none().then_some("FLANNEL_MTU"));
        missing.extend(self.ipmasq.is_none().then_some("FLANNEL_IPMASQ"));
        match (self.mtu, self.ipmasq) {
            (Some(mtu), Some(ipmasq)) if missing.is_empty() => Ok(SubnetEnv {
                networks,
                subnets,
                mtu,
                ipmasq,
            }),
            _ => Err(missing),
        }
    }
}

/// A comma-separated list of networks, without host bits and doubles.
fn networks(value: &str) -> Result<Vec<Cidr>, InvalidCidr> {
    let mut networks = Vec::new();
    for text in value.split(',') {
        let network = subnet(text)?;
        if !networks.contains(&network) {
            networks.push(network);
        }
    }
    Ok(networks)
}

fn subnet(text: &str) -> Result<Cidr, InvalidCidr> {
    text.parse().map(Cidr::masked)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "/run/flannel/subnet.env";

    fn texts(cidrs: &[Cidr]) -> Vec<String> {
        cidrs.iter().map(Cidr::to_string).collect()
    }

    #[test]
    fn flannels_own_file_is_read() {
        let text = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n";
        let env = SubnetEnv::parse(FILE, text).unwrap();
        assert_eq!(texts(&env.networks), ["10.1.0.0/16"]);
        assert_eq!(texts(&env.subnets), ["10.1.17.0/24"]);
        assert_eq!((env.mtu, env.ipmasq), (1472, true));
    }

    #[test]
    fn lists_families_and_unknown_keys_are_read() {
        let text = "FLANNEL_NETWORK=10.1.0.0/16,10.2.0.0/16,10.1.0.0/16\nFLANNEL_IPV6_NETWORK=fd00::/48\n\
             FLANNEL_SUBNET=10.1.17.1/24\nFLANNEL_IPV6_SUBNET=fd00:0:0:1::1/64\n# comment\nOTHER=1\n\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false";
        let env = SubnetEnv::parse(FILE, text).unwrap();
        assert_eq!(
            texts(&env.networks),
            ["10.1.0.0/16", "10.2.0.0/16", "fd00::/48"]
        );
        assert_eq!(texts(&env.subnets), ["10.1.17.0/24", "fd00:0:0:1::/64"]);
        assert!(!env.ipmasq);
    }

    #[test]
    fn what_is_missing_is_named() {
        for (text, message) in [
            (
                "",
                "/run/flannel/subnet.env is missing FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK, FLANNEL_SUBNET, FLANNEL_IPV6_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ",
            ),
            (
                "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\nFLANNEL_IPMASQ=true",
                "/run/flannel/subnet.env is missing FLANNEL_MTU",
            ),
            (
                "FLANNEL_SUBNET=10.1.17.1",
                "/run/flannel/subnet.env: FLANNEL_SUBNET: invalid CIDR address: 10.1.17.1",
            ),
            (
                "FLANNEL_NETWORK",
                "/run/flannel/subnet.env: FLANNEL_NETWORK: invalid CIDR address: ",
            ),
            (
                "FLANNEL_MTU=big",
                r#"/run/flannel/subnet.env: FLANNEL_MTU: "big": invalid digit found in string"#,
            ),
            (
                "FLANNEL_IPMASQ=1",
                r#"/run/flannel/subnet.env: FLANNEL_IPMASQ: "1": want true or false"#,
            ),
        ] {
            let error = SubnetEnv::parse(FILE, text).unwrap_err();
            assert_eq!(error.to_string(), message, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text: String) {
            drop(SubnetEnv::parse(FILE, &text));
        }
    }
}
