//! The configuration, in kube-proxy's form: `KubeProxyConfiguration` of `kubeproxy.config.k8s.io/v1alpha1`.
//!
//! [`document`] reads it from a file, the [`options`](crate::options) write it from flags, [`check`] says what
//! is wrong with it, and [`Settings`] are what of it has an effect.

mod check;
mod document;
mod duration;
mod fields;
mod follow;
mod in_force;
mod mode;
mod node_ports;
mod settings;

pub use check::{Problem, check};
pub use document::{Document, Unreadable, parse, print};
pub use duration::{InvalidDuration, Span};
pub use fields::{
    ClientConnection, Configuration, Conntrack, DetectLocal, IpTables, Ipvs, Logging, NfTables,
    VModule, Winkernel, append_port,
};
pub use follow::{Follow, Unwatched};
pub use mode::{TooOld, check_kernel};
pub use node_ports::NodePorts;
pub use settings::{Detector, LogFormat, Refused, Settings};

/// The apiVersion and kind of the configuration.
pub const KIND: [&str; 2] = ["kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration"];
