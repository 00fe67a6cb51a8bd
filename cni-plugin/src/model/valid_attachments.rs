//! The attachments that are still in use, as the runtime lists them for GC.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use super::{Code, Error, NetConf};

/// The key of the specification, and the one that libcni sends as well for plugins from before it.
const KEYS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

/// Interfaces of containers that are still in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidAttachments {
    listed: BTreeSet<(String, String)>,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "containerID")]
    container_id: String,
    ifname: String,
}

// === impl ValidAttachments ===

impl ValidAttachments {
    /// The list of a configuration; `None` where there is none. What is not known to be in use is then not
    /// known to be out of use either.
    ///
    /// # Errors
    /// If the list can't be read in full: an entry that was overlooked would cost a container its network.
    pub fn of_conf(conf: &NetConf) -> Result<Option<Self>, Error> {
        let lists: Vec<_> = KEYS
            .into_iter()
            .filter_map(|key| Some((key, conf.get(key)?)))
            .collect();
        let mut listed = BTreeSet::new();
        for (key, list) in &lists {
            listed.extend(read(key, list)?);
        }
        Ok((!lists.is_empty()).then_some(Self { listed }))
    }

    /// Whether an interface of a container is in use.
    pub fn contains(&self, container_id: &str, if_name: &str) -> bool {
        self.listed
            .contains(&(container_id.to_owned(), if_name.to_owned()))
    }

    /// Containers and their interfaces, those that are in use.
    pub fn iter(&self) -> impl Iterator<Item = &(String, String)> {
        self.listed.iter()
    }

    /// The containers of which any interface is in use.
    pub fn container_ids(&self) -> BTreeSet<String> {
        self.listed.iter().map(|(id, _)| id.clone()).collect()
    }

    /// Whether any interface of a container is in use.
    pub fn contains_container(&self, container_id: &str) -> bool {
        self.listed.iter().any(|(id, _)| id == container_id)
    }
}

fn read(key: &str, list: &Value) -> Result<Vec<(String, String)>, Error> {
    let raw: Vec<Raw> = serde_path_to_error::deserialize(list)
        .map_err(|error| Error::new(Code::Decode, format!("{key}: {error}")))?;
    Ok(raw
        .into_iter()
        .map(|it| (it.container_id, it.ifname))
        .collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(mut json: Value) -> Result<Option<ValidAttachments>, Error> {
        json["name"] = "n".into();
        ValidAttachments::of_conf(&NetConf::parse(json.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn a_list_under_either_name_counts_and_no_list_is_no_empty_list() {
        let entry = |id: &str| json!([{"containerID": id, "ifname": "eth0"}]);
        let both =
            json!({"cni.dev/valid-attachments": entry("c1"), "cni.dev/attachments": entry("c2")});
        let list = read(both).unwrap().unwrap();
        assert!(list.contains("c1", "eth0") && list.contains("c2", "eth0"));
        assert!(!list.contains("c1", "net1") && list.contains_container("c1"));
        assert!(!list.contains_container("c3"));
        assert_eq!(
            read(json!({"cni.dev/attachments": []})).unwrap(),
            Some(ValidAttachments::default())
        );
        assert_eq!(read(json!({"cni.dev/attachments": null})).unwrap(), None);
        assert_eq!(read(json!({})).unwrap(), None);
    }

    #[test]
    fn a_list_that_can_not_be_read_in_full_is_an_error() {
        let damaged = json!({"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}, {"ifname": "eth0"}]});
        let error = read(damaged).unwrap_err();
        assert_eq!(
            error.message,
            "cni.dev/valid-attachments: [1]: missing field `containerID`"
        );
    }
}
