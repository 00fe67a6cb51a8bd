//! Traffic control: a token bucket at an interface's root, and what an interface receives sent through
//! the bucket of an ifb device first.
//!
//! Both are made as the reference `bandwidth` plugin of CNI makes them (TBF `1:` at the root; `ingress`
//! with a `u32` filter that matches everything and a `mirred` action), so that either can check and
//! remove what the other made. Formats: `linux/pkt_sched.h`, `linux/pkt_cls.h`, `linux/tc_act/tc_mirred.h`.

mod change;
mod handle;
mod message;
mod redirect;
mod tbf;

pub use change::Change;
pub use handle::{Handle, Qdisc};
pub use redirect::Redirect;
pub use tbf::Tbf;
