//! What an interface receives, redirected to another.

use crate::{
    netlink::{
        array_at,
        attribute::{Body, attributes, find, text},
    },
    route::IfIndex,
};

const TCA_U32_CLASSID: u16 = 1;
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;

/// Class 1:1, which the reference writes and nothing looks at.
const CLASS: u32 = 0x0001_0001;
/// `struct tc_u32_sel` with one `struct tc_u32_key` whose mask is empty, so that everything matches.
const SELECTOR_LEN: usize = 32;
const TC_U32_TERMINAL: u8 = 1;
/// Length of `struct tc_mirred`.
const MIRRED_LEN: usize = 28;
const ACTION_AT: usize = 8;
const EGRESS_ACTION_AT: usize = 20;
const INTERFACE_AT: usize = 24;
const TC_ACT_STOLEN: u32 = 4;
const TCA_EGRESS_REDIR: u32 = 1;

/// A filter that sends everything that an interface receives to another interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Redirect {
    /// Its place among the filters of the interface; the lowest comes first.
    pub priority: u16,
    /// Where to.
    pub to: IfIndex,
}

// === impl Redirect ===

impl Redirect {
    /// The classifier, as the reference uses it.
    pub(super) const KIND: &'static str = "u32";

    pub(super) fn put_options(&self, options: &mut Body) {
        let mut selector = [0; SELECTOR_LEN];
        selector[0] = TC_U32_TERMINAL;
        // One key.
        selector[2] = 1;
        let mut mirred = [0; MIRRED_LEN];
        for (at, value) in [
            (ACTION_AT, TC_ACT_STOLEN),
            (EGRESS_ACTION_AT, TCA_EGRESS_REDIR),
            (INTERFACE_AT, self.to.0),
        ] {
            mirred[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        options.put(TCA_U32_CLASSID, &CLASS.to_ne_bytes());
        options.put(TCA_U32_SEL, &selector);
        options.nest(TCA_U32_ACT, |actions| {
            actions.nest(1, |action| {
                action.put_text(TCA_ACT_KIND, "mirred");
                action.nest(TCA_ACT_OPTIONS, |options| {
                    options.put(TCA_MIRRED_PARMS, &mirred);
                });
            });
        });
    }

    /// `None` for filters that do not match everything, or do something else.
    pub(super) fn parse_options(priority: u16, options: &[u8]) -> Option<Self> {
        let selector = find(options, TCA_U32_SEL)?;
        // Mask and value of each key.
        let mut keys = selector.get(16..)?.chunks(16);
        if !keys.all(|key| key.starts_with(&[0; 8])) {
            return None;
        }
        attributes(find(options, TCA_U32_ACT)?)
            .find_map(|(_, action)| redirected_to(action))
            .map(|to| Self { priority, to })
    }
}

fn redirected_to(action: &[u8]) -> Option<IfIndex> {
    if find(action, TCA_ACT_KIND).and_then(text) != Some("mirred") {
        return None;
    }
    let mirred = find(find(action, TCA_ACT_OPTIONS)?, TCA_MIRRED_PARMS)?;
    let number = |at| array_at(mirred, at).map(u32::from_ne_bytes);
    let redirects = number(EGRESS_ACTION_AT)? == TCA_EGRESS_REDIR;
    number(INTERFACE_AT).filter(|_| redirects).map(IfIndex)
}
