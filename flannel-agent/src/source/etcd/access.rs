//! How the servers are sure of whom they talk to, and the agent of them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use etcd_client::{Certificate, Identity, TlsOptions};

/// Files and names as they were given on the command line. Not to be printed, as there is a password.
#[derive(Clone, Default)]
pub struct Credentials {
    /// `--etcd-cafile`: who vouches for the servers.
    pub ca: Option<PathBuf>,
    /// `--etcd-certfile`.
    pub certificate: Option<PathBuf>,
    /// `--etcd-keyfile`.
    pub key: Option<PathBuf>,
    /// `--etcd-username`.
    pub username: Option<String>,
    /// `--etcd-password`.
    pub password: Option<String>,
}

/// What has been read of it; not to be printed either.
#[derive(Clone, Default)]
pub struct Access {
    tls: Option<TlsOptions>,
    user: Option<(String, String)>,
}

/// Why credentials are no use.
#[derive(Debug, thiserror::Error)]
pub enum InvalidCredentials {
    /// A file can't be read.
    #[error("--{flag}: can't read {}: {cause}", .path.display())]
    File {
        /// The flag that names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// One of two that belong together is missing.
    #[error("--{given} is given, but not --{missing}: it takes both")]
    Incomplete {
        /// What there is.
        given: &'static str,
        /// What there is not.
        missing: &'static str,
    },
    /// Servers can't be trusted without knowing by whom.
    #[error("--etcd-endpoints has {endpoint}, which takes --etcd-cafile to know the server by")]
    NoCa {
        /// The endpoint.
        endpoint: String,
    },
    /// They would not be used.
    #[error(
        "--etcd-cafile is given, but --etcd-endpoints has {endpoint}, which is not encrypted: want https://"
    )]
    NotEncrypted {
        /// The endpoint.
        endpoint: String,
    },
}

// === impl Credentials ===

impl Credentials {
    /// Reads the files. Endpoints without a scheme get that of the credentials.
    ///
    /// # Errors
    /// Also if endpoints and credentials do not go together: nothing that was asked for is left out.
    pub fn read(&self, endpoints: &mut [String]) -> Result<Access, InvalidCredentials> {
        let access = Access {
            tls: self.tls()?,
            user: both(
                ("etcd-username", self.username.clone()),
                ("etcd-password", self.password.clone()),
            )?,
        };
        let scheme = if access.tls.is_some() {
            "https"
        } else {
            "http"
        };
        for endpoint in endpoints {
            if !endpoint.contains("://") {
                *endpoint = format!("{scheme}://{endpoint}");
            }
            let endpoint = endpoint.clone();
            match (endpoint.starts_with("https:"), &access.tls) {
                (true, None) => return Err(InvalidCredentials::NoCa { endpoint }),
                (false, Some(_)) => return Err(InvalidCredentials::NotEncrypted { endpoint }),
                _ => {}
            }
        }
        Ok(access)
    }

    /// A CA alone is enough; a client's certificate comes on top of it.
    fn tls(&self) -> Result<Option<TlsOptions>, InvalidCredentials> {
        let identity = both(
            ("etcd-certfile", self.certificate.as_deref()),
            ("etcd-keyfile", self.key.as_deref()),
        )?;
        let Some((ca, identity)) = (match (self.ca.as_deref(), identity) {
            (None, Some(_)) => {
                return Err(InvalidCredentials::Incomplete {
                    given: "etcd-certfile",
                    missing: "etcd-cafile",
                });
            }
            (ca, identity) => ca.map(|ca| (ca, identity)),
        }) else {
            return Ok(None);
        };
        let ca = Certificate::from_pem(file("etcd-cafile", ca)?);
        let mut tls = TlsOptions::new().ca_certificate(ca);
        if let Some((certificate, key)) = identity {
            tls = tls.identity(Identity::from_pem(
                file("etcd-certfile", certificate)?,
                file("etcd-keyfile", key)?,
            ));
        }
        Ok(Some(tls))
    }
}

// === impl Access ===

impl Access {
    pub(super) const fn tls(&self) -> Option<&TlsOptions> {
        self.tls.as_ref()
    }

    pub(super) const fn user(&self) -> Option<&(String, String)> {
        self.user.as_ref()
    }
}

/// Both or none of two flags.
fn both<T>(
    (first, one): (&'static str, Option<T>),
    (second, other): (&'static str, Option<T>),
) -> Result<Option<(T, T)>, InvalidCredentials> {
    let incomplete = |given, missing| Err(InvalidCredentials::Incomplete { given, missing });
    match (one, other) {
        (Some(one), Some(other)) => Ok(Some((one, other))),
        (None, None) => Ok(None),
        (Some(_), None) => incomplete(first, second),
        (None, Some(_)) => incomplete(second, first),
    }
}

fn file(flag: &'static str, path: &Path) -> Result<Vec<u8>, InvalidCredentials> {
    fs::read(path).map_err(|cause| InvalidCredentials::File {
        flag,
        path: path.to_owned(),
        cause,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn refusal(credentials: &Credentials, endpoint: &str) -> String {
        let read = credentials.read(&mut [endpoint.to_owned()]);
        read.err().unwrap().to_string()
    }

    #[test]
    fn nothing_is_left_out_silently() {
        let path = |text: &str| Some(PathBuf::from(text));
        let ca = Credentials {
            ca: path("/dev/null"),
            ..Credentials::default()
        };
        let none = Credentials::default();
        for (credentials, endpoint, refused) in [
            (none.clone(), "https://a:1", "takes --etcd-cafile"),
            (
                ca.clone(),
                "http://a:1",
                "http://a:1, which is not encrypted",
            ),
            (
                Credentials {
                    ca: path("/nowhere"),
                    ..none.clone()
                },
                "a:1",
                "--etcd-cafile: can't read /nowhere",
            ),
            (
                Credentials {
                    key: path("/dev/null"),
                    ..ca.clone()
                },
                "a:1",
                "not --etcd-certfile",
            ),
            (
                Credentials {
                    key: path("/dev/null"),
                    certificate: path("/dev/null"),
                    ..none.clone()
                },
                "a:1",
                "not --etcd-cafile",
            ),
            (
                Credentials {
                    username: Some("u".into()),
                    ..none.clone()
                },
                "a:1",
                "not --etcd-password",
            ),
        ] {
            let text = refusal(&credentials, endpoint);
            assert!(text.contains(refused), "{text}");
        }
        for (credentials, scheme) in [(ca, "https"), (none, "http")] {
            let mut endpoints = ["a:1".to_owned()];
            credentials.read(&mut endpoints).unwrap();
            assert_eq!(endpoints, [format!("{scheme}://a:1")]);
        }
    }
}
