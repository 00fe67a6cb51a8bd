//! Where the running agent is asked for its status: a socket beside `subnet.env`, for root alone.

use std::{
    fs::{self, DirBuilder},
    io::{self, Read},
    os::unix::{fs::DirBuilderExt, net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::stat::{Mode, umask};
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream as Connection},
    sync::{mpsc, oneshot},
};

use super::Status;

/// The name of the socket.
const NAME: &str = "flannel-agent.sock";

/// How long the agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who wants a status.
pub type StatusRequest = oneshot::Sender<Status>;

/// The running agent does not tell its status.
#[derive(Debug, thiserror::Error)]
pub enum NoStatus {
    /// Nobody answers.
    #[error(
        "the agent does not answer at {}: {cause}; does it run (and with the same --subnet-file)?", .path.display()
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the kernel says.
        cause: io::Error,
    },
    /// It is not an agent of this version, or has no lease yet.
    #[error("the agent has no status to tell: it has no lease, or does not know the others' yet")]
    NotReady,
}

/// Serves for ever. A socket that can't be had is a warning: the overlay does not depend on it.
pub async fn serve_status(
    subnet_file: &Path,
    requests: mpsc::Sender<StatusRequest>,
) -> std::convert::Infallible {
    let path = status_socket(subnet_file);
    let failed = match listen(&path) {
        Ok(listener) => loop {
            match listener.accept().await {
                Ok((connection, _)) => answer(connection, &requests).await,
                Err(error) => break error,
            }
        },
        Err(error) => error,
    };
    let path = path.display();
    tracing::warn!("flannel-agent status does not work: can't serve {path}: {failed}");
    std::future::pending().await
}

/// Asks the running agent.
///
/// # Errors
/// When there is none, or it has nothing to tell yet.
pub fn ask_status(subnet_file: &Path) -> Result<Status, NoStatus> {
    let path = status_socket(subnet_file);
    let ask = || {
        let mut stream = UnixStream::connect(&path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text)?;
        Ok(text)
    };
    let text = ask().map_err(|cause| NoStatus::NotRunning {
        path: path.clone(),
        cause,
    })?;
    serde_json::from_slice(&text).map_err(|_| NoStatus::NotReady)
}

/// Where the agent with this `subnet.env` is asked.
pub fn status_socket(subnet_file: &Path) -> PathBuf {
    subnet_file.with_file_name(NAME)
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The mode comes from the umask, so that there is no moment at which others could connect.
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

/// Who goes away before the answer does not matter.
async fn answer(mut connection: Connection, requests: &mpsc::Sender<StatusRequest>) {
    let (sender, status) = oneshot::channel();
    if requests.send(sender).await.is_err() {
        return;
    }
    let Ok(status) = status.await else { return };
    let written = match serde_json::to_vec(&status) {
        Ok(text) => connection.write_all(&text).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = written {
        tracing::debug!("the status was not read: {error}");
    }
}
