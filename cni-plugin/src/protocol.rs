//! The order in which a plugin checks what it was given, and the texts of what it finds: those of libcni's
//! skeleton (`pkg/skel`, 1.3.0), which runtimes and their tests know.
//!
//! One thing is done otherwise: an ADD into the plugin's own network namespace is refused before anything
//! is made, and not after.

use std::io::Read;

use kernel::{IfName, InvalidIfName, netns::Namespace};

use crate::{
    model::{Attachment, Code, Error, NetConf, SpecVersion, ValidAttachments, is_valid_name},
    plugin::Plugin,
    report::{self, Journal},
    source::Environment,
};

/// Room for most configurations, so that one is read by two system calls.
const USUAL_CONF_BYTES: usize = 8 << 10;

/// What a runtime asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Add,
    Check,
    Del,
    Gc,
    Status,
    Version,
}

/// Answers one call with what is to be printed on stdout.
pub fn answer(
    plugin: Plugin,
    environment: &Environment,
    stdin: &mut dyn Read,
    journal: &mut Journal,
) -> Result<String, Error> {
    let verb = Verb::parse(&environment.command);
    let if_name = check_variables(verb, environment)?;
    if verb == Some(Verb::Version) {
        return Ok(report::versions());
    }
    let mut input = Vec::with_capacity(USUAL_CONF_BYTES);
    stdin
        .read_to_end(&mut input)
        .map_err(|error| Error::io("error reading from stdin".into(), &error))?;
    let conf = NetConf::parse(&input)?;
    journal.note(&conf);
    let attachment = if_name.map(|if_name| Attachment {
        container_id: environment.container_id.clone(),
        if_name,
        netns: environment.netns.clone(),
        args: environment.args.clone(),
    });
    let since =
        |version, verb| SpecVersion::of_conf_for_verb(conf.version(), version, verb).map(drop);
    match (verb, attachment) {
        (Some(Verb::Add), Some(attachment)) => add(plugin, environment, &attachment, &conf),
        (Some(Verb::Del), Some(attachment)) => del(plugin, environment, &attachment, &conf),
        (Some(Verb::Check), Some(attachment)) => {
            since(SpecVersion::V0_4_0, "CHECK")?;
            plugin.check(environment, &attachment, &conf).map(silence)
        }
        (Some(Verb::Gc), _) => {
            since(SpecVersion::V1_1_0, "GC")?;
            gc(plugin, environment, &conf).map(silence)
        }
        (Some(Verb::Status), _) => {
            since(SpecVersion::V1_1_0, "STATUS")?;
            plugin.status(environment, &conf).map(silence)
        }
        _ => Err(Error::new(
            Code::InvalidEnvironment,
            format!("unknown CNI_COMMAND: {}", environment.command),
        )),
    }
}

fn add(
    plugin: Plugin,
    environment: &Environment,
    attachment: &Attachment,
    conf: &NetConf,
) -> Result<String, Error> {
    let version = SpecVersion::of_conf(conf.version())?;
    refuse_own_namespace(environment)?;
    let result = plugin.add(environment, attachment, conf)?;
    report::result(&result, version).map_err(|error| {
        match plugin.del(environment, attachment, conf) {
            Ok(()) => error,
            Err(left) => error.with_details(format!("and it could not be undone: {left}")),
        }
    })
}

fn del(
    plugin: Plugin,
    environment: &Environment,
    attachment: &Attachment,
    conf: &NetConf,
) -> Result<String, Error> {
    SpecVersion::of_conf(conf.version())?;
    plugin.del(environment, attachment, conf)?;
    refuse_own_namespace(environment)?;
    Ok(String::new())
}

/// Without a list of what is in use, nothing is known to be out of use.
fn gc(plugin: Plugin, environment: &Environment, conf: &NetConf) -> Result<(), Error> {
    match ValidAttachments::of_conf(conf)? {
        Some(valid) => plugin.gc(environment, &valid, conf),
        None => Ok(()),
    }
}

/// What verbs without a result print.
fn silence((): ()) -> String {
    String::new()
}

// === impl Verb ===

impl Verb {
    fn parse(command: &str) -> Option<Self> {
        Some(match command {
            "ADD" => Self::Add,
            "CHECK" => Self::Check,
            "DEL" => Self::Del,
            "GC" => Self::Gc,
            "STATUS" => Self::Status,
            "VERSION" => Self::Version,
            _ => return None,
        })
    }

    /// Whether it is about an attachment.
    fn has_attachment(self) -> bool {
        matches!(self, Self::Add | Self::Check | Self::Del)
    }

    /// The variables that have to be set.
    fn required(self, environment: &Environment) -> Vec<(&'static str, &str)> {
        let id = ("CNI_CONTAINERID", environment.container_id.as_str());
        let netns = ("CNI_NETNS", environment.netns.as_str());
        let if_name = ("CNI_IFNAME", environment.if_name.as_str());
        let path = ("CNI_PATH", environment.path.as_str());
        match self {
            Self::Add | Self::Check => vec![id, netns, if_name, path],
            Self::Del => vec![id, if_name, path],
            Self::Gc | Self::Status => vec![path],
            Self::Version => vec![],
        }
    }
}

/// Checks the variables that the verb uses: first those that are there, then that none is missing. Answers
/// with the name of the container's interface, if the verb is about one.
fn check_variables(verb: Option<Verb>, environment: &Environment) -> Result<Option<IfName>, Error> {
    let Some(verb) = verb else { return Ok(None) };
    let mut if_name = None;
    if verb.has_attachment() {
        let id = &environment.container_id;
        if !id.is_empty() && !is_valid_name(id) {
            let error = Error::new(
                Code::InvalidEnvironment,
                "invalid characters in containerID",
            );
            return Err(error.with_details(id));
        }
        if !environment.if_name.is_empty() {
            if_name = Some(environment.if_name.parse().map_err(invalid_if_name)?);
        }
    }
    let missing: Vec<&str> = verb
        .required(environment)
        .into_iter()
        .filter(|(_, value)| value.is_empty())
        .map(|(name, _)| name)
        .collect();
    if missing.is_empty() {
        return Ok(if_name);
    }
    Err(Error::new(
        Code::InvalidEnvironment,
        format!("required env variables [{}] missing", missing.join(",")),
    ))
}

fn invalid_if_name(error: InvalidIfName) -> Error {
    let invalid = |text| Error::new(Code::InvalidEnvironment, text);
    match error {
        InvalidIfName::Empty => invalid("interface name is empty"),
        InvalidIfName::TooLong(_) => invalid("interface name is too long")
            .with_details("interface name should be less than 16 characters"),
        InvalidIfName::Dots => invalid("interface name is . or .."),
        InvalidIfName::Characters(_) => {
            invalid("interface name contains / or : or whitespace characters")
        }
    }
}

/// A path that leads to no namespace is left to the plugin.
fn refuse_own_namespace(environment: &Environment) -> Result<(), Error> {
    let overridden = matches!(
        environment.netns_override.to_uppercase().as_str(),
        "TRUE" | "1"
    );
    if overridden {
        return Ok(());
    }
    match Namespace::is_current(&environment.netns) {
        Ok(true) => Err(Error::new(
            Code::InvalidNetns,
            "plugin's netns and netns from CNI_NETNS should not be the same",
        )),
        _ => Ok(()),
    }
}
