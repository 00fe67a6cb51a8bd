//! What a daemon does while a server that it follows is away: it waits longer and longer between attempts, and says why
//! in one line.

mod backoff;
mod causes;

pub use backoff::Backoff;
pub use causes::with_causes;
