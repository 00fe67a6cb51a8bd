//! One value per IP address family: what keeps IPv4 and IPv6 on one code path.

use kernel::Family;

/// A value for IPv4, for IPv6, for both or for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByFamily<T> {
    v4: Option<T>,
    v6: Option<T>,
}

// === impl ByFamily ===

impl<T> ByFamily<T> {
    /// The value of a family.
    pub const fn get(&self, family: Family) -> Option<&T> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }

    /// The value of a family, to change it.
    pub const fn get_mut(&mut self, family: Family) -> Option<&mut T> {
        match family {
            Family::V4 => self.v4.as_mut(),
            Family::V6 => self.v6.as_mut(),
        }
    }

    /// Sets the value of a family.
    pub fn insert(&mut self, family: Family, value: T) {
        *match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        } = Some(value);
    }

    /// The families that have a value, and the values; IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = (Family, &T)> {
        Family::ALL
            .into_iter()
            .filter_map(|family| Some((family, self.get(family)?)))
    }

    /// The values, to be changed; that of IPv4 first.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.v4.iter_mut().chain(self.v6.iter_mut())
    }

    /// Whether no family has a value.
    pub const fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }
}

impl<T> Default for ByFamily<T> {
    fn default() -> Self {
        Self { v4: None, v6: None }
    }
}

impl<T> FromIterator<(Family, T)> for ByFamily<T> {
    fn from_iter<I: IntoIterator<Item = (Family, T)>>(values: I) -> Self {
        let mut all = Self::default();
        for (family, value) in values {
            all.insert(family, value);
        }
        all
    }
}
