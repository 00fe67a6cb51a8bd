//! Who holds a reserved address: the content of a host-local address file.

use kernel::IfName;

use super::{Attachment, ValidAttachments, is_valid_name};

/// Between container id and interface name, also on Linux (host-local's `LineBreak`).
const LINE_BREAK: &str = "\r\n";

/// The attachment that an address is reserved for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    container_id: String,
    /// `None` in files of old versions of host-local, which wrote only the id.
    if_name: Option<String>,
}

// === impl Owner ===

impl Owner {
    /// Reads the content of an address file; `None` if there is nothing in it: its writer was killed, or
    /// the machine lost power, between making and filling it.
    pub fn parse(content: &str) -> Option<Self> {
        let content = content.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        if content.is_empty() {
            return None;
        }
        Some(match content.split_once(LINE_BREAK) {
            Some((container_id, if_name)) => Self {
                container_id: container_id.to_owned(),
                if_name: Some(if_name.to_owned()),
            },
            None => Self {
                container_id: content.to_owned(),
                if_name: None,
            },
        })
    }

    /// The content of an attachment's address files.
    pub fn content_for(attachment: &Attachment) -> String {
        format!(
            "{}{LINE_BREAK}{}",
            attachment.container_id, attachment.if_name
        )
    }

    /// A file name for it that is different from every other owner's; `None` where the file names what can't
    /// be a container or an interface, such as a path: no attachment is looked up by that.
    pub fn key(&self) -> Option<String> {
        if !is_valid_name(&self.container_id) {
            return None;
        }
        match &self.if_name {
            Some(if_name) => {
                let if_name: IfName = if_name.parse().ok()?;
                Some(key(&self.container_id, &if_name))
            }
            None => Some(self.container_id.clone()),
        }
    }

    /// The key of an attachment as owner, and that of its container without an interface.
    pub fn keys_of(attachment: &Attachment) -> [String; 2] {
        let id = &attachment.container_id;
        [key(id, &attachment.if_name), id.clone()]
    }

    /// Whether it is this very attachment.
    pub fn is(&self, attachment: &Attachment) -> bool {
        self.container_id == attachment.container_id
            && self.if_name.as_deref() == Some(attachment.if_name.as_str())
    }

    /// Whether it is in use, or may be: the file names a container of which an interface is.
    pub fn is_one_of(&self, valid: &ValidAttachments) -> bool {
        match &self.if_name {
            Some(if_name) => valid.contains(&self.container_id, if_name),
            None => valid.contains_container(&self.container_id),
        }
    }

    /// Container id and interface name, where the file names both.
    pub fn names(&self) -> Option<(&str, &str)> {
        Some((&self.container_id, self.if_name.as_deref()?))
    }

    /// Whether it may be this attachment: the file names its container and no interface.
    pub fn may_be(&self, attachment: &Attachment) -> bool {
        self.container_id == attachment.container_id && self.if_name.is_none()
    }
}

/// No container id has this character in it.
fn key(container_id: &str, if_name: &IfName) -> String {
    format!("{container_id}@{if_name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(container_id: &str, if_name: &str) -> Attachment {
        Attachment {
            container_id: container_id.into(),
            if_name: if_name.parse().unwrap(),
            netns: String::new(),
            args: String::new(),
        }
    }

    #[test]
    fn content_names_container_and_interface() {
        let eth0 = attachment("c1", "eth0");
        assert_eq!(Owner::content_for(&eth0), "c1\r\neth0");
        let owner = Owner::parse("c1\r\neth0").unwrap();
        assert!(owner.is(&eth0) && !owner.may_be(&eth0));
        assert!(!owner.is(&attachment("c1", "net1")) && !owner.is(&attachment("c2", "eth0")));
    }

    #[test]
    fn old_content_names_the_container_alone() {
        let owner = Owner::parse("c1\n").unwrap();
        assert!(owner.may_be(&attachment("c1", "eth0")) && !owner.is(&attachment("c1", "eth0")));
        assert!(!owner.may_be(&attachment("c2", "eth0")));
    }

    #[test]
    fn no_key_leads_out_of_a_directory() {
        let key = |content| Owner::parse(content).unwrap().key();
        assert_eq!(key("c1\r\neth0").as_deref(), Some("c1@eth0"));
        assert_eq!(key("c1").as_deref(), Some("c1"));
        for content in [
            "/etc/x",
            "../../x",
            "..",
            ".stamp",
            "c1\r\n/../x",
            "c\0x",
            "c1@eth0",
            "c1\r\n..",
            "c1\r\neth0@x/y",
            "a b",
        ] {
            assert_eq!(key(content), None, "{content:?}");
        }
    }

    #[test]
    fn an_empty_or_zeroed_file_has_no_owner() {
        for content in ["", "\r\n", " \n", "\0\0\0\0"] {
            assert_eq!(Owner::parse(content), None, "{content:?}");
        }
    }
}
