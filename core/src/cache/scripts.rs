//! The moves of a key's record in Redis; each script says what it needs and why it is safe.

use crate::redis::Script;

/// Every script, from common.lua and the parts that it names: what it does not need would cost it time at each run.
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
    accept: ["time.lua", "entries.lua", "fences.lua", "accept.lua"],
    add: ["time.lua", "entries.lua", "fences.lua", "add.lua"],
    cover: ["time.lua", "entries.lua", "fences.lua", "stays.lua", "raise.lua", "cover.lua"],
    drop: ["drop_alone.lua", "time.lua", "fences.lua", "drop.lua"],
    drop_unless: ["time.lua", "entries.lua", "fences.lua", "stays.lua", "drop_unless.lua"],
    fence: ["time.lua", "entries.lua", "fences.lua", "raise.lua", "fence.lua"],
    fill: ["entries.lua", "fill.lua"],
    hold: ["time.lua", "entries.lua", "hold.lua"],
    incr: ["time.lua", "entries.lua", "fences.lua", "checksum.lua", "incr.lua"],
    lease: ["time.lua", "entries.lua", "fences.lua", "lease.lua"],
    put: ["put_alone.lua", "time.lua", "fences.lua", "put.lua"],
    touch: ["touch.lua"],
    unfence: ["time.lua", "fences.lua", "unfence.lua"],
    untag: ["untag.lua"],
);
