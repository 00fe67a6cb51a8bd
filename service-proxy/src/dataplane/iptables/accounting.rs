//! The kernel's accounting objects, under kube-proxy's names. Everything works without them; two metrics do not.

use kernel::accounting::Handle;

use crate::plan::iptables::{ACCOUNTED, INVALID_DROPPED, LOCALHOST_ACCEPTED};

const OBJECTS: [&str; 2] = [INVALID_DROPPED, LOCALHOST_ACCEPTED];

/// Makes them unless they are there; answers whether they are there now.
pub fn ensure() -> bool {
    let made = Handle::open().and_then(|mut handle| {
        let mut names = OBJECTS.into_iter();
        names.try_for_each(|name| handle.ensure(name))
    });
    if let Err(error) = &made {
        tracing::info!("{error}; dropped and accepted packets are not counted");
    }
    made.is_ok()
}

/// Makes them unless they are there, if rules of a text for `iptables-restore` count in them: such rules are refused
/// where others have removed what no rule counted in.
pub fn ensure_for(text: &str) {
    if text.contains(ACCOUNTED) {
        ensure();
    }
}

/// Whether they are there.
pub fn are_there() -> bool {
    let asked = Handle::open().and_then(|mut handle| {
        let mut names = OBJECTS.into_iter();
        names.try_fold(true, |all, name| Ok(all && handle.packets(name)?.is_some()))
    });
    asked.unwrap_or(false)
}

/// Removes them, but those that rules of others count in.
pub fn remove() {
    for name in OBJECTS {
        let removed = Handle::open().and_then(|mut handle| handle.remove(name));
        if let Err(error) = removed {
            tracing::debug!("{error}");
        }
    }
}
