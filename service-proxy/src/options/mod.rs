//! The command line, with kube-proxy's names.
//!
//! As with kube-proxy, a file named by `--config` is the whole configuration: the flags for its keys then have
//! no effect, but for the node's name and the logging.

mod flags;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use clap::Parser;

use crate::{
    configuration::{self, Configuration, Refused, Settings, Span, VModule},
    daemon::SourceSettings,
    dataplane::{iptables::IptablesOptions, ipvs::IpvsOptions},
};

pub use flags::{Flags, boolean};

/// Makes the addresses of Kubernetes Services lead to their endpoints, by nftables, iptables or IPVS.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(
    name = "service-proxy",
    display_name = "tweed service-proxy",
    version = release::text(),
    args_override_self = true
)]
pub struct Options {
    /// A KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1), in YAML or JSON; followed live.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Write the configuration, with defaults where nothing is said, to this file, and exit.
    #[arg(long, value_name = "FILE")]
    pub write_config_to: Option<PathBuf>,

    /// Take Services, EndpointSlices and this Node from the Kubernetes manifests (*.yaml, *.yml, *.json) in
    /// this directory, which is followed live, instead of the API server.
    #[arg(long, value_name = "DIR", conflicts_with = "master")]
    pub manifests: Option<PathBuf>,

    /// The URL of the API server, in the place of the kubeconfig's.
    #[arg(long, value_name = "URL")]
    pub master: Option<String>,

    /// Name of this node in the objects [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,

    /// Remove everything that this program has put into the kernel, and kube-proxy's chains of iptables and virtual
    /// servers, and exit.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean)]
    pub cleanup: Option<bool>,

    /// Set what of the machine takes more than CAP_NET_ADMIN to set, and exit.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean)]
    pub init_only: Option<bool>,

    /// Forget tracked TCP connections to endpoints that are gone from their Service, so that clients that go on
    /// to send are reset instead of waiting in vain; those on their way out that still serve are left alone.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean)]
    pub reset_tcp_to_removed_endpoints: Option<bool>,

    /// With mode ipvs, refuse to start where the kernel has no IPVS, instead of falling back to iptables.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean)]
    pub strict: Option<bool>,

    /// The mode in the place of ipvs, as the kernel has none.
    #[arg(skip)]
    pub instead_of_ipvs: Option<&'static str>,

    /// Of iptables mode, what kube-proxy has no flags for.
    #[command(flatten)]
    pub iptables: IptablesOptions,

    /// Of IPVS mode, what kube-proxy has no flags for.
    #[command(flatten)]
    pub ipvs: IpvsOptions,

    /// How much is logged: from 4 on what is of use for debugging too, from 6 on everything.
    #[arg(short, long, value_name = "NUMBER")]
    pub v: Option<u32>,

    /// No effect: RUST_LOG sets what is logged of a module.
    #[arg(long, value_name = "PATTERN=NUMBER,...", value_delimiter = ',')]
    pub vmodule: Vec<String>,

    /// How is logged: text, or json for an object on each line [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub logging_format: Option<String>,

    /// No effect: lines are written at once.
    #[arg(long, value_name = "DURATION")]
    pub log_flush_frequency: Option<Span>,

    /// No effect: all lines go to stderr.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean)]
    pub log_text_split_stream: Option<bool>,

    /// What the configuration has keys for.
    #[command(flatten)]
    pub flags: Flags,
}

/// What a command line comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub configuration: Configuration,
    /// The text of the configuration's file, if there is one.
    pub text: Option<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// A configuration that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The file can't be read.
    #[error("--config: read {}: {cause}", path.display())]
    Unread {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
    /// It is no configuration.
    #[error("--config {}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: configuration::Unreadable,
    },
    /// It is wrong, or asks for what is not there.
    #[error("{place}: {cause}")]
    Refused {
        /// The file, or that it is the flags.
        place: String,
        /// What is wrong.
        cause: Refused,
    },
    /// There is no name for this node.
    #[error("--hostname-override: a name of nothing but blanks is none")]
    NoName,
}

// === impl Options ===

impl Options {
    /// The configuration that the command line makes, with its file read.
    ///
    /// # Errors
    /// If the file can't be read, or is none.
    pub fn load(&self) -> Result<Loaded, Unusable> {
        let text = self.config.as_deref().map(read).transpose()?;
        self.interpret(text)
    }

    /// The configuration that the command line makes with a text in the configuration's file.
    ///
    /// # Errors
    /// If the text is no configuration.
    pub fn interpret(&self, text: Option<String>) -> Result<Loaded, Unusable> {
        let (mut configuration, mut warnings) = match (&self.config, &text) {
            (Some(path), Some(text)) => self.read_file(path, text)?,
            _ => (Configuration::usual(), Vec::new()),
        };
        if self.config.is_none() {
            self.flags.clone().apply(&mut configuration);
            warnings.extend(self.flags.deprecations());
        }
        self.log_flags(&mut configuration);
        if let Some(mode) = self
            .instead_of_ipvs
            .filter(|_| configuration.mode == "ipvs")
        {
            mode.clone_into(&mut configuration.mode);
        }
        if let Some(name) = self
            .hostname_override
            .as_deref()
            .filter(|name| !name.is_empty())
        {
            configuration.hostname_override = name.trim().to_lowercase();
            if configuration.hostname_override.is_empty() {
                return Err(Unusable::NoName);
            }
        }
        Ok(Loaded {
            configuration,
            text,
            warnings,
        })
    }

    /// The settings of a configuration, and what of it has no effect.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn settings(
        &self,
        configuration: &Configuration,
    ) -> Result<(Settings, Vec<String>), Unusable> {
        let understood = Settings::of(configuration).map(|(mut settings, notes)| {
            let reset = self.reset_tcp_to_removed_endpoints == Some(true);
            settings.tuning.reset_tcp = reset;
            self.iptables.apply(&mut settings.mode);
            let backend = self.iptables.backend();
            self.ipvs.apply(&mut settings.mode, reset, backend);
            (settings, notes)
        });
        understood.map_err(|cause| Unusable::Refused {
            place: match &self.config {
                Some(path) => format!("--config {}", path.display()),
                None => "options (by the keys of the configuration that they stand for)".to_owned(),
            },
            cause,
        })
    }

    /// Where Services come from.
    pub fn source(&self, settings: &Settings) -> SourceSettings {
        match &self.manifests {
            Some(directory) => SourceSettings::Manifests(directory.clone()),
            None => SourceSettings::Kube {
                kubeconfig: settings.kubeconfig.clone(),
                master: self.master.clone(),
            },
        }
    }

    fn read_file(&self, path: &Path, text: &str) -> Result<(Configuration, Vec<String>), Unusable> {
        let document = configuration::parse(text).map_err(|cause| Unusable::File {
            path: path.to_owned(),
            cause,
        })?;
        let place = |warning| format!("--config {}: {warning}", path.display());
        let mut warnings: Vec<_> = document.warnings.into_iter().map(place).collect();
        if !self.flags.is_empty() {
            warnings.push(
                "with --config, the flags for its keys have no effect (but --hostname-override and those of \
                 logging)"
                    .to_owned(),
            );
        }
        Ok((document.configuration, warnings))
    }

    fn log_flags(&self, configuration: &mut Configuration) {
        let logging = &mut configuration.logging;
        logging.verbosity = self.v.unwrap_or(logging.verbosity);
        if let Some(format) = &self.logging_format {
            logging.format.clone_from(format);
        }
        let modules = self.vmodule.iter().filter_map(|text| text.split_once('='));
        logging
            .vmodule
            .extend(modules.map(|(pattern, verbosity)| VModule {
                file_pattern: pattern.to_owned(),
                verbosity: verbosity.parse().unwrap_or_default(),
            }));
    }
}

/// Makes kube-proxy's other way to write the names of flags the usual one: `_` for `-`.
pub fn normalized(argument: String) -> String {
    let Some(flag) = argument.strip_prefix("--") else {
        return argument;
    };
    match flag.split_once('=') {
        Some((name, value)) => format!("--{}={value}", name.replace('_', "-")),
        None => format!("--{}", flag.replace('_', "-")),
    }
}

fn read(path: &Path) -> Result<String, Unusable> {
    fs::read_to_string(path).map_err(|cause| Unusable::Unread {
        path: path.to_owned(),
        cause,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::configuration::{KIND, print};

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        let arguments = arguments.iter().map(|text| normalized((*text).to_owned()));
        Options::try_parse_from(["service-proxy".to_owned()].into_iter().chain(arguments))
            .map_err(|error| error.to_string())
    }

    fn loaded(arguments: &[&str]) -> Loaded {
        parse(arguments).unwrap().load().unwrap()
    }

    /// What a command line changes of the usual configuration: lines as they are written.
    fn differences(arguments: &[&str]) -> Vec<String> {
        let usual = print(&Configuration::usual()).unwrap();
        let lines = print(&loaded(arguments).configuration).unwrap();
        let usual: Vec<_> = usual.lines().collect();
        let new = lines.lines().filter(|line| !usual.contains(line));
        new.map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn flags_make_the_configuration() {
        for (arguments, expected) in [
            (&[][..], &[][..]),
            (&["--proxy-mode=nftables"], &["mode: nftables"]),
            (&["--cluster_cidr=10.0.0.0/8"], &["clusterCIDR: 10.0.0.0/8"]),
            (
                &["--masquerade-all"],
                &["masqueradeAll: true", "masqueradeAll: true"],
            ),
            (&["--masquerade-all", "--masquerade-all=false"], &[]),
            (
                &["--iptables-sync-period=45s"],
                &["syncPeriod: 45s", "syncPeriod: 45s"],
            ),
            (
                &["--nodeport-addresses", "10.0.0.0/8,fd00::/64"],
                &["nodePortAddresses:", "- 10.0.0.0/8", "- fd00::/64"],
            ),
            (&["--conntrack-tcp-be-liberal=1"], &["tcpBeLiberal: true"]),
            (&["--oom-score-adj", "-5"], &["oomScoreAdj: -5"]),
            (
                &["--hostname-override", " Node1 "],
                &["hostnameOverride: node1"],
            ),
            (
                &["--metrics-bind-address", "10.0.0.1"],
                &["metricsBindAddress: 10.0.0.1:10249"],
            ),
            (&["-v", "4"], &["verbosity: 4"]),
            (
                &["--feature-gates=A=true,B=false"],
                &["featureGates:", "A: true", "B: false"],
            ),
        ] {
            let found = differences(arguments);
            assert_eq!(found, expected, "{arguments:?}");
        }
        let healthz = loaded(&["--healthz-port=0"]);
        assert_eq!(healthz.configuration.healthz_bind_address, "");
        assert!(healthz.warnings[0].contains("--healthz-port is deprecated"));
    }

    #[test]
    fn a_file_is_the_whole_configuration_but_for_a_few_flags() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.conf");
        let [version, kind] = KIND;
        fs::write(
            &path,
            format!("apiVersion: {version}\nkind: {kind}\nclusterCIDR: 10.0.0.0/8\n"),
        )
        .unwrap();
        let file = path.to_str().unwrap();
        let flags = [
            "--config",
            file,
            "--cluster-cidr=10.1.0.0/16",
            "--hostname-override=n",
            "-v=4",
        ];
        let loaded = loaded(&flags);
        assert_eq!(loaded.configuration.cluster_cidr, "10.0.0.0/8");
        assert_eq!(loaded.configuration.hostname_override, "n");
        assert_eq!(loaded.configuration.logging.verbosity, 4);
        assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (arguments, words) in [
            (
                &["--sync-period", "1"][..],
                &["--iptables-sync-period", "is no duration"][..],
            ),
            (
                &["--masquerade-all=maybe"],
                &["--masquerade-all", "true or false"],
            ),
            (
                &["--manifests", "/m", "--master", "https://10.0.0.1:6443"],
                &["--manifests", "--master"],
            ),
            (
                &["--manifests", "/m", "--kubeconfig", "/k"],
                &["--manifests", "--kubeconfig"],
            ),
            (&["--unheard-of"], &["--unheard-of"]),
        ] {
            let error = parse(arguments).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
        for (arguments, words) in [
            (
                &["--proxy-mode=userspace"][..],
                "mode: \"userspace\" must be",
            ),
            (&["--cluster-cidr=x"], "clusterCIDR: \"x\" must be"),
            (
                &["--config=/no/such/file"],
                "--config: read /no/such/file: No such file",
            ),
            (&["--hostname-override= "], "--hostname-override: "),
        ] {
            let options = parse(arguments).unwrap();
            let settings = options
                .load()
                .and_then(|loaded| options.settings(&loaded.configuration));
            let error = settings.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
