//! The moves of a key's record in Redis; each script says what it needs and why it is safe.

use crate::redis::Script;

/// Every script, behind what all of them begin with.
macro_rules! scripts {
    ($($name:ident: [$($file:literal),+]),* $(,)?) => {
        pub(super) struct Scripts {
            $(pub(super) $name: Script,)*
        }

        impl Scripts {
            pub(super) fn new() -> Scripts {
                Scripts {
                    $($name: Script::new(concat!(
                        include_str!("scripts/common.lua"),
                        $(include_str!(concat!("scripts/", $file)),)+
                    )),)*
                }
            }
        }
    };
}

scripts!(
    accept: ["accept.lua"],
    add: ["add.lua"],
    cover: ["stays.lua", "raise.lua", "cover.lua"],
    drop: ["drop.lua"],
    drop_unless: ["stays.lua", "drop_unless.lua"],
    fence: ["raise.lua", "fence.lua"],
    fill: ["fill.lua"],
    hold: ["hold.lua"],
    incr: ["checksum.lua", "incr.lua"],
    lease: ["lease.lua"],
    put: ["put.lua"],
    touch: ["touch.lua"],
    unfence: ["unfence.lua"],
    untag: ["untag.lua"],
);
