//! The moves of a key's record in Redis; each script says what it needs and why it is safe.

use crate::redis::Script;

/// Every script, behind what all of them begin with.
macro_rules! scripts {
    ($($name:ident),*) => {
        pub(super) struct Scripts {
            $(pub(super) $name: Script,)*
        }

        impl Scripts {
            pub(super) fn new() -> Scripts {
                Scripts {
                    $($name: Script::new(concat!(
                        include_str!("scripts/common.lua"),
                        include_str!(concat!("scripts/", stringify!($name), ".lua")),
                    )),)*
                }
            }
        }
    };
}

scripts!(accept, drop, drop_unless, fence, fill, hold, lease, put, unfence);
