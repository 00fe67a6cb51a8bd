//! The bandwidth plugin's view of its configuration.

use std::num::NonZeroU64;

use kernel::tc::Tbf;
use serde::Deserialize;

use super::{Error, NetConf, net_conf::null_is_default};

/// What a container may receive and send; what is `None` has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BandwidthConf {
    /// `ingressRate`, `ingressBurst`: to the container.
    pub ingress: Option<Tbf>,
    /// `egressRate`, `egressBurst`: from the container.
    pub egress: Option<Tbf>,
}

/// Bits per second, and bits.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    ingress_rate: Option<u64>,
    ingress_burst: Option<u64>,
    egress_rate: Option<u64>,
    egress_burst: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Root {
    #[serde(default, deserialize_with = "null_is_default")]
    runtime_config: RuntimeConfig,
}

#[derive(Default, Deserialize)]
struct RuntimeConfig {
    bandwidth: Option<Raw>,
}

// === impl BandwidthConf ===

impl BandwidthConf {
    /// Checks a configuration. Keys of the network's own come before those of the runtime, as the reference
    /// has it.
    pub fn of(conf: &NetConf) -> Result<Self, Error> {
        // Two views, not one with the other flattened into it: errors would not name the key.
        let (fixed, root): (Raw, Root) = (conf.view()?, conf.view()?);
        let fixed = fixed.is_given().then_some(fixed);
        let Some(raw) = fixed.or(root.runtime_config.bandwidth) else {
            return Ok(Self::default());
        };
        Ok(Self {
            ingress: bucket("ingressRate", raw.ingress_rate, raw.ingress_burst)?,
            egress: bucket("egressRate", raw.egress_rate, raw.egress_burst)?,
        })
    }

    /// Whether there is no limit at all.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

// === impl Raw ===

impl Raw {
    fn is_given(&self) -> bool {
        let keys = [
            self.ingress_rate,
            self.ingress_burst,
            self.egress_rate,
            self.egress_burst,
        ];
        keys.iter().any(Option::is_some)
    }
}

fn bucket(key: &str, rate: Option<u64>, burst: Option<u64>) -> Result<Option<Tbf>, Error> {
    let refuse = |text: &str| Err(Error::config(text));
    let (rate, burst) = match (rate.unwrap_or_default(), burst.unwrap_or_default()) {
        (0, 0) => return Ok(None),
        (_, 0) => return refuse("if rate is set, burst must also be set"),
        (0, _) => return refuse("if burst is set, rate must also be set"),
        (rate, burst) => (rate / 8, burst / 8),
    };
    let burst = u32::try_from(burst).ok().filter(|burst| *burst < u32::MAX);
    let Some(burst) = burst else {
        return refuse("burst cannot be more than 4GB");
    };
    match NonZeroU64::new(rate) {
        Some(rate) => Ok(Some(Tbf::new(rate, burst, Tbf::LATENCY))),
        None => refuse(&format!("{key}: less than a byte per second")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    fn conf(keys: Value) -> Result<BandwidthConf, String> {
        let mut object = json!({"name": "n"});
        for (key, value) in keys.as_object().unwrap() {
            object[key] = value.clone();
        }
        let conf = NetConf::parse(object.to_string().as_bytes()).unwrap();
        BandwidthConf::of(&conf).map_err(|error| error.message)
    }

    #[test]
    fn bits_become_bytes_and_own_keys_come_first() {
        let runtime = json!({"bandwidth": {"egressRate": 800, "egressBurst": 80}});
        let by_runtime = conf(json!({"runtimeConfig": runtime})).unwrap();
        assert_eq!(by_runtime.ingress, None);
        assert_eq!(by_runtime.egress.unwrap().rate, 100);
        let own = json!({"ingressRate": 80, "ingressBurst": 8, "runtimeConfig": runtime});
        let own = conf(own).unwrap();
        assert_eq!((own.ingress.unwrap().rate, own.egress), (10, None));
        assert!(conf(json!({"runtimeConfig": null})).unwrap().is_unlimited());
        let zero = json!({"ingressRate": 0, "ingressBurst": 0});
        assert!(conf(zero).unwrap().is_unlimited());
    }

    #[test]
    fn nonsense_is_refused_in_the_words_of_the_reference() {
        for (rate, burst, text) in [
            (8, 0, "if rate is set, burst must also be set"),
            (0, 8, "if burst is set, rate must also be set"),
            (8, 8 * u64::from(u32::MAX), "burst cannot be more than 4GB"),
            (7, 8, "egressRate: less than a byte per second"),
        ] {
            let error = conf(json!({"egressRate": rate, "egressBurst": burst})).unwrap_err();
            assert_eq!(error, text);
        }
    }

    #[test]
    fn every_key_is_in_the_reference() {
        let mut keys = reference::keys::<Raw>();
        keys.extend(reference::keys::<Root>());
        reference::every_key_is_documented("bandwidth", &keys);
    }
}
