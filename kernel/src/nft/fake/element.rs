//! Elements of sets.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use super::{
    Attempt, Refused,
    reference::{check_target, target},
    refuse,
};
use crate::nft::{
    Data, DataType, Element, Key, ObservedSet, ObservedTable, Set, SetData, Value, check_comment,
    wire::{encode_values, values_len},
};

/// The longest key in bytes: `NFT_DATA_VALUE_MAXLEN`.
const KEY_LEN: usize = 64;

// === impl Attempt ===

impl Attempt {
    pub(super) fn add_element(&mut self, name: &str, key: &Key, element: &Element) -> Refused {
        check_comment(element.comment.as_deref())?;
        let table = self.table_mut()?;
        if let Some(Data::Verdict(verdict)) = &element.data {
            check_target(table, verdict)?;
        }
        let set = known(table, name)?;
        let key = check_key(set, key)?;
        check_data(set, element.data.as_ref())?;
        if let Some(have) = set.elements.get(&key) {
            let same = have.data == element.data;
            return if same {
                Ok(())
            } else {
                Err(refuse(Errno::EEXIST, "exists with other data"))
            };
        }
        if set.interval && overlaps(set, &key) {
            return Err(refuse(Errno::EEXIST, "overlaps another network"));
        }
        if set.size > 0 && set.elements.len() >= set.size as usize {
            return Err(refuse(Errno::ENFILE, "the set is full"));
        }
        set.elements.insert(key, element.clone());
        Ok(())
    }

    pub(super) fn delete_element(&mut self, name: &str, key: &Key) -> Refused {
        let set = known(self.table_mut()?, name)?;
        let key = check_key(set, key)?;
        let element = set.elements.remove(&key);
        let element = element.ok_or_else(|| refuse(Errno::ENOENT, "no such element"))?;
        if let Some(Data::Verdict(verdict)) = &element.data {
            self.left.extend(target(verdict).cloned());
        }
        Ok(())
    }
}

/// Refuses a set that can't be.
pub(super) fn check_set(set: &Set) -> Refused {
    check_comment(set.comment.as_deref())?;
    let is_address = matches!(
        set.key.as_slice(),
        [DataType::Ipv4Addr | DataType::Ipv6Addr]
    );
    if set.key.is_empty() || values_len(&set.key) > KEY_LEN || (set.interval && !is_address) {
        return Err(refuse(Errno::EINVAL, "no such type of key"));
    }
    Ok(())
}

fn known<'a>(table: &'a mut ObservedTable, name: &str) -> Refused<&'a mut Set> {
    match table.sets.get_mut(name) {
        Some(ObservedSet::Known(set)) => Ok(set),
        Some(ObservedSet::Foreign) => Err(refuse(Errno::EINVAL, "the set is not ours")),
        None => Err(refuse(Errno::ENOENT, "no such set")),
    }
}

/// The key as the kernel keeps it, if it is of the set's type.
fn check_key(set: &Set, key: &Key) -> Refused<Key> {
    let wrong = || refuse(Errno::EINVAL, "the key is not of the set's type");
    match key.as_slice() {
        [Value::Network(network)] if set.interval => {
            let len = encode_values(&[Value::Address(network.ip())])?.len();
            if len == values_len(&set.key) {
                Ok(vec![Value::Network(*network).as_network()])
            } else {
                Err(wrong())
            }
        }
        values if !set.interval && fits(values, &set.key) => Ok(values.to_vec()),
        _ => Err(wrong()),
    }
}

fn check_data(set: &Set, data: Option<&Data>) -> Refused {
    let fitting = match (&set.data, data) {
        (None, None) | (Some(SetData::Verdict), Some(Data::Verdict(_))) => true,
        (Some(SetData::Value(types)), Some(Data::Value(values))) => fits(values, types),
        _ => false,
    };
    if fitting {
        Ok(())
    } else {
        Err(refuse(Errno::EINVAL, "the data is not of the map's type"))
    }
}

fn fits(values: &[Value], types: &[DataType]) -> bool {
    values.len() == types.len()
        && values
            .iter()
            .zip(types)
            .all(|(value, kind)| kind.has(value))
}

fn overlaps(set: &Set, key: &Key) -> bool {
    let contains = |network: &IpNetwork, address: IpAddr| network.contains(address);
    set.elements
        .keys()
        .any(|other| match (other.as_slice(), key.as_slice()) {
            ([Value::Network(a)], [Value::Network(b)]) => {
                contains(a, b.network()) || contains(b, a.network())
            }
            _ => false,
        })
}
