//! Where the programs under test are.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

/// The directory of the built programs.
#[derive(Clone, Debug)]
pub struct Programs {
    directory: PathBuf,
}

// === impl Programs ===

impl Programs {
    /// `$TWEED_BIN_DIR`, or else the directory that cargo built the running program into.
    pub fn find() -> Result<Self> {
        let directory = match env::var_os("TWEED_BIN_DIR") {
            Some(directory) => PathBuf::from(directory),
            None => {
                let running = env::current_exe().context("find the running program")?;
                let directory = running
                    .parent()
                    .context("the running program has no directory")?;
                // Tests are in a directory of their own below the programs.
                match directory.file_name() {
                    Some(name) if name == "deps" => {
                        directory.parent().unwrap_or(directory).to_owned()
                    }
                    _ => directory.to_owned(),
                }
            }
        };
        let programs = Self { directory };
        for path in [
            programs.cni_plugin(),
            programs.flannel_agent(),
            programs.service_proxy(),
            programs.lab(),
        ] {
            ensure!(
                path.is_file(),
                "{} is missing: run `cargo build --workspace`, or name the programs' directory in TWEED_BIN_DIR",
                path.display()
            );
        }
        Ok(programs)
    }

    /// The CNI plugin.
    pub fn cni_plugin(&self) -> PathBuf {
        self.path("cni-plugin")
    }

    /// The overlay agent.
    pub fn flannel_agent(&self) -> PathBuf {
        self.path("flannel-agent")
    }

    /// The service proxy.
    pub fn service_proxy(&self) -> PathBuf {
        self.path("service-proxy")
    }

    /// The lab's command line, which is also the server that runs in pods.
    pub fn lab(&self) -> PathBuf {
        self.path("lab")
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(&self.directory).join(name)
    }
}
