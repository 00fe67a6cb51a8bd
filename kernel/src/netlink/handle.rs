//! What the handles of kernel interfaces have in common.

/// Opens a handle whose one field is a `socket` of a [`Protocol`](super::Protocol).
macro_rules! opens {
    ($handle:ident, $protocol:ident) => {
        impl $handle {
            /// Works on the calling thread's network namespace. What the kernel lacks is seen when it is asked for the
            /// first time.
            ///
            /// # Errors
            /// If there is no socket to be had.
            pub fn open() -> $crate::Result<Self> {
                let socket = $crate::netlink::open($crate::netlink::Protocol::$protocol)?;
                Ok(Self { socket })
            }

            /// Works on another network namespace.
            ///
            /// # Errors
            /// If it can't be entered, or there is no socket to be had.
            pub fn open_in(namespace: &$crate::netns::Namespace) -> $crate::Result<Self> {
                namespace.run(Self::open)?
            }
        }
    };
}

pub(crate) use opens;
