//! A log for whoever looks into a node's attachments: one line per call, only where somebody asks for it.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    model::{Error, NetConf},
    source::Environment,
};

/// The key of a configuration that asks for a log.
const KEY: &str = "logFile";

/// The line of one call.
#[derive(Debug)]
pub struct Journal {
    /// Where to; `None` if nobody asks.
    path: Option<PathBuf>,
    network: String,
    started: Instant,
}

// === impl Journal ===

impl Journal {
    /// Begins with a call that asks by `CNI_LOG_FILE` or, as far as is known yet, not at all.
    pub fn start(environment: &Environment) -> Self {
        let path = Some(&environment.log_file).filter(|path| !path.is_empty());
        Self {
            path: path.map(PathBuf::from),
            network: "-".into(),
            started: Instant::now(),
        }
    }

    /// Notes the network, and whether its configuration asks for a log.
    pub fn note(&mut self, conf: &NetConf) {
        conf.name().clone_into(&mut self.network);
        let key = conf.get(KEY).and_then(|value| value.as_str());
        self.path = self.path.take().or_else(|| key.map(PathBuf::from));
    }

    /// Appends the line: time (seconds of UTC since 1970), plugin, verb, container, interface, network,
    /// milliseconds, and how it went. All at once, so that lines of calls at the same time don't mix.
    pub fn finish(
        &self,
        plugin: &str,
        environment: &Environment,
        answer: Result<&str, &Error>,
    ) -> io::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let outcome = match answer {
            Ok(_) => "ok".to_owned(),
            Err(error) => format!("error {} {:?}", error.code.number(), error.to_string()),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let line = format!(
            "{:.3} {plugin} {} container={} interface={} network={} {}ms {outcome}\n",
            now.unwrap_or(Duration::ZERO).as_secs_f64(),
            environment.command,
            environment.container_id,
            environment.if_name,
            self.network,
            self.started.elapsed().as_millis(),
        );
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).mode(0o600).open(path)?;
        file.write_all(line.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_the_reference() {
        let mut keys = NetConf::keys();
        keys.insert(KEY.to_owned());
        reference::every_key_is_documented("All plugins", &keys);
    }
}
