//! The options of the health and metrics servers, by kube-proxy's names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Args;

use crate::report::http::Bindings;

const HEALTHZ_PORT: u16 = 10256;
const METRICS_PORT: u16 = 10249;

/// Where others can ask how it goes.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ServingOptions {
    /// Address and port of /healthz and /livez; empty: they are not served.
    #[arg(long, value_name = "IP[:PORT]", default_value = "0.0.0.0:10256",
        value_parser = |text: &str| Binding::parse(text, HEALTHZ_PORT))]
    pub healthz_bind_address: Binding,

    /// Address and port of /metrics and /proxyMode; empty: they are not served.
    #[arg(long, value_name = "IP[:PORT]", default_value = "127.0.0.1:10249",
        value_parser = |text: &str| Binding::parse(text, METRICS_PORT))]
    pub metrics_bind_address: Binding,

    /// End if one of these addresses can't be had; else that is logged and tried again.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t, default_missing_value = "true",
        action = clap::ArgAction::Set)]
    pub bind_address_hard_fail: bool,
}

/// An address to listen at, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding(pub Option<SocketAddr>);

/// No address to listen at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address such as 0.0.0.0:10256, [::]:10256 or 10.0.0.1")]
pub struct InvalidBinding(String);

// === impl ServingOptions ===

impl ServingOptions {
    /// Where to listen.
    pub fn bindings(&self) -> Bindings {
        Bindings {
            healthz: self.healthz_bind_address.0,
            metrics: self.metrics_bind_address.0,
            hard_fail: self.bind_address_hard_fail,
        }
    }
}

// === impl Binding ===

impl Binding {
    /// Reads an address as kube-proxy does: without a port it is the usual one, without an address all.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &str, usual: u16) -> Result<Self, InvalidBinding> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let port_alone = || text.strip_prefix(':')?.parse().ok();
        text.parse::<SocketAddr>()
            .ok()
            .or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, usual)))
            .or_else(|| Some(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port_alone()?)))
            .map(|address| Self(Some(address)))
            .ok_or_else(|| InvalidBinding(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn reads_addresses_as_kube_proxy_does() {
        for (text, expected) in [
            ("0.0.0.0:10256", Some("0.0.0.0:10256")),
            ("10.0.0.1", Some("10.0.0.1:7")),
            ("[::]:9", Some("[::]:9")),
            ("fd00::1", Some("[fd00::1]:7")),
            (":8", Some("0.0.0.0:8")),
            ("", None),
        ] {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(Binding::parse(text, 7), Ok(Binding(expected)), "{text:?}");
        }
        for text in ["localhost", "1.2.3.4:x", ":", "1.2.3.4:70000"] {
            let error = Binding::parse(text, 7).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
