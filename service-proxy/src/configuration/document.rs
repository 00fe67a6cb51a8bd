//! The configuration as text: YAML or JSON.

use std::fmt::Display;

use serde_json::Value;
use serde_saphyr::DuplicateKeyPolicy;

use super::{Configuration, KIND};

/// A configuration, and what a person should know of its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The configuration, with defaults where nothing is said.
    pub configuration: Configuration,
    /// What strict reading would refuse: keys that don't exist or are there twice.
    pub warnings: Vec<String>,
}

/// A text that is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

/// Reads a configuration: strictly, and if that fails for nothing but unknown or duplicate keys, as
/// kube-proxy does, without them; the last of duplicates counts.
///
/// # Errors
/// If it is no `KubeProxyConfiguration`, with the key that is wrong.
pub fn parse(text: &str) -> Result<Document, Unreadable> {
    let mut warnings = Vec::new();
    let mut value = match yaml(text, DuplicateKeyPolicy::Error) {
        Ok(value) => value,
        Err(strict) => {
            let value = yaml(text, DuplicateKeyPolicy::LastWins).map_err(unreadable)?;
            warnings.push(format!("{strict}; the last one counts"));
            value
        }
    };
    drop_nulls(&mut value);
    take_kind(&mut value)?;
    let mut unknown = |path: serde_ignored::Path<'_>| {
        warnings.push(format!("{path}: there is no such key; it has no effect"));
    };
    let ignoring = serde_ignored::Deserializer::new(value, &mut unknown);
    let mut configuration: Configuration =
        serde_path_to_error::deserialize(ignoring).map_err(unreadable)?;
    configuration.fill_in();
    Ok(Document {
        configuration,
        warnings,
    })
}

/// Writes a configuration as YAML.
///
/// # Errors
/// If it can't be written, which is a fault of this program.
pub fn print(configuration: &Configuration) -> Result<String, Unreadable> {
    let [version, kind] = KIND;
    let mut value = serde_json::json!({"apiVersion": version, "kind": kind});
    let fields = serde_json::to_value(configuration).map_err(unreadable)?;
    if let (Value::Object(all), Value::Object(fields)) = (&mut value, fields) {
        all.extend(fields);
    }
    serde_saphyr::to_string(&value).map_err(unreadable)
}

fn yaml(text: &str, duplicates: DuplicateKeyPolicy) -> Result<Value, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        duplicate_keys: duplicates,
    };
    let value: Option<Value> = serde_saphyr::from_str_with_options(text, options)?;
    Ok(value.unwrap_or(Value::Null))
}

/// To Go, null is what nothing is.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn take_kind(value: &mut Value) -> Result<(), Unreadable> {
    for (key, expected) in ["apiVersion", "kind"].into_iter().zip(KIND) {
        let fields = value.as_object_mut();
        let found = fields.and_then(|fields| fields.shift_remove(key));
        let found = found.as_ref().and_then(Value::as_str).unwrap_or_default();
        if found != expected {
            return Err(Unreadable(format!("{key}: {found:?} is not {expected}")));
        }
    }
    Ok(())
}

fn unreadable(error: impl Display) -> Unreadable {
    Unreadable(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::configuration::Span;

    fn with_kind(text: &str) -> String {
        let [version, kind] = KIND;
        format!("apiVersion: {version}\nkind: {kind}\n{text}")
    }

    #[test]
    fn what_kubeadm_writes() {
        let text = with_kind(
            "bindAddress: 0.0.0.0\n\
             bindAddressHardFail: false\n\
             clientConnection: {acceptContentTypes: '', burst: 0, contentType: '', kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 0}\n\
             clusterCIDR: 10.244.0.0/16\n\
             configSyncPeriod: 0s\n\
             conntrack: {maxPerCore: null, min: null, tcpBeLiberal: false, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null, udpStreamTimeout: 0s, udpTimeout: 0s}\n\
             detectLocal: {bridgeInterface: '', interfaceNamePrefix: ''}\n\
             detectLocalMode: ''\n\
             enableProfiling: false\n\
             healthzBindAddress: ''\n\
             hostnameOverride: ''\n\
             iptables: {localhostNodePorts: null, masqueradeAll: true, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 45s}\n\
             ipvs: {excludeCIDRs: null, minSyncPeriod: 0s, scheduler: '', strictARP: false, syncPeriod: 0s, tcpFinTimeout: 0s, tcpTimeout: 0s, udpTimeout: 0s}\n\
             logging: {flushFrequency: 0, options: {json: {infoBufferSize: '0'}, text: {infoBufferSize: '0'}}, verbosity: 0}\n\
             metricsBindAddress: ''\n\
             mode: ''\n\
             nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}\n\
             nodePortAddresses: null\n\
             oomScoreAdj: null\n\
             portRange: ''\n\
             showHiddenMetricsForVersion: ''\n\
             winkernel: {enableDSR: false, forwardHealthCheckVip: false, networkName: '', rootHnsEndpointName: '', sourceVip: ''}\n",
        );
        let Document {
            configuration,
            warnings,
        } = parse(&text).unwrap();
        assert_eq!(warnings, [""; 0]);
        assert_eq!(configuration.healthz_bind_address, "0.0.0.0:10256");
        assert_eq!(configuration.oom_score_adj, Some(-999));
        assert_eq!(configuration.conntrack.min, Some(131_072));
        // Nothing is said of the mode: what is said of kube-proxy's default is meant.
        assert!(configuration.nftables.masquerade_all);
        assert_eq!(configuration.nftables.sync_period, Span::seconds(45));
    }

    #[test]
    fn what_is_printed_reads_the_same() {
        let text = print(&Configuration::usual()).unwrap();
        let read = parse(&text).unwrap();
        assert_eq!(read.warnings, [""; 0], "{text}");
        assert_eq!(read.configuration, Configuration::usual(), "{text}");
    }

    #[test]
    fn strict_first_then_lenient_with_a_warning() {
        let text = with_kind("mode: nftables\nmode: ''\nnftabels: {}\nipvs: {strictArp: true}\n");
        let Document {
            configuration,
            warnings,
        } = parse(&text).unwrap();
        assert_eq!(configuration.mode, "");
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[0].contains("mode"), "{warnings:?}");
        assert!(warnings[1].starts_with("nftabels: "), "{warnings:?}");
        assert!(warnings[2].starts_with("ipvs.strictArp: "), "{warnings:?}");
    }

    #[test]
    fn what_is_no_configuration_names_the_key() {
        for (text, words) in [
            (String::new(), "apiVersion: \"\" is not"),
            (
                "apiVersion: v1\nkind: Pod\n".into(),
                "apiVersion: \"v1\" is not",
            ),
            (with_kind("mode: [nftables]\n"), "mode: "),
            (
                with_kind("conntrack: {maxPerCore: many}\n"),
                "conntrack.maxPerCore: ",
            ),
            (
                with_kind("iptables: {syncPeriod: 30}\n"),
                "iptables.syncPeriod: ",
            ),
            (
                with_kind("iptables: {syncPeriod: 30x}\n"),
                "iptables.syncPeriod: \"30x\" is no duration",
            ),
            (with_kind("mode: {\n"), ""),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
