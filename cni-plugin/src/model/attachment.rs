//! The container's side of an ADD or DEL.

use kernel::IfName;

/// One interface of one container on a network: what ADD makes and DEL removes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`: the interface's name in the container.
    pub if_name: IfName,
    /// `CNI_NETNS`: path of the container's network namespace. At a DEL it may be empty, or lead nowhere.
    pub netns: String,
    /// `CNI_ARGS` as given; each plugin knows other keys.
    pub args: String,
}
