//! The file with which clients find a server.

use std::{fs, os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::{Context, Result};
use serde_json::json;

/// What a kubeconfig file says.
pub struct Kubeconfig<'a> {
    /// The server's URL.
    pub url: &'a str,
    /// The bearer token, if one is asked for.
    pub token: Option<&'a str>,
    /// Whether the server's certificate is to be believed unseen.
    pub insecure: bool,
}

// === impl Kubeconfig ===

impl Kubeconfig<'_> {
    /// Writes the file, readable by its owner alone. JSON is YAML.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = self.to_value().to_string();
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options
            .open(path)
            .with_context(|| format!("write {}", path.display()))?;
        std::io::Write::write_all(&mut file, text.as_bytes())
            .with_context(|| format!("write {}", path.display()))
    }

    /// The content of the file.
    pub fn to_value(&self) -> serde_json::Value {
        let mut cluster = json!({"server": self.url});
        if self.insecure {
            cluster["insecure-skip-tls-verify"] = true.into();
        }
        let user = match self.token {
            Some(token) => json!({ "token": token }),
            None => json!({}),
        };
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": cluster}],
            "users": [{"name": "lab", "user": user}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
            "current-context": "lab",
        })
    }
}
