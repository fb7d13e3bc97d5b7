//! The moves of a key's record in Redis; each script says what it needs and why it is safe.

use std::sync::Arc;

use crate::redis::{Script, Together};

/// Keys in one run that reads the beginning of each, and sets or deletes it.
const LIGHT: usize = 128;
/// Keys in one run that may copy a value of each, or make a digest of it: up to 256 KiB.
const HEAVY: usize = 8;

/// Every script, from common.lua and the parts that it names: what it does not need would cost it time at each run. How many
/// keys one run may be about, when there are many at once, is said before them.
macro_rules! scripts {
    ($($name:ident: $kind:tt [$($file:literal),+]),* $(,)?) => {
        pub(super) struct Scripts {
            $(pub(super) $name: scripts!(@type $kind),)*
        }

        impl Scripts {
            pub(super) fn new() -> Scripts {
                Scripts {
                    $($name: scripts!(@new $kind $($file),+),)*
                }
            }
        }
    };
    (@type alone) => { Script };
    (@type $at_most:tt) => { Arc<Together> };
    (@new alone $($file:literal),+) => { Script::new(scripts!(@text ""; ""; $($file),+)) };
    (@new $at_most:tt $($file:literal),+) => {
        Arc::new(Together::new(
            scripts!(@text ""; ""; $($file),+),
            scripts!(@text include_str!("scripts/each.lua"); include_str!("scripts/each_end.lua"); $($file),+),
            $at_most,
        ))
    };
    (@text $before:expr; $after:expr; $($file:literal),+) => {
        concat!(
            include_str!("scripts/common.lua"),
            $before,
            $(include_str!(concat!("scripts/", $file)),)+
            $after
        )
    };
}

scripts!(
    accept: LIGHT ["time.lua", "entries.lua", "fences.lua", "accept.lua"],
    add: alone ["time.lua", "entries.lua", "fences.lua", "add.lua"],
    cover: HEAVY ["time.lua", "entries.lua", "fences.lua", "stays.lua", "raise.lua", "cover.lua"],
    drop: LIGHT ["drop_alone.lua", "time.lua", "fences.lua", "drop.lua"],
    drop_unless: HEAVY ["time.lua", "entries.lua", "fences.lua", "stays.lua", "drop_unless.lua"],
    fence: HEAVY ["time.lua", "entries.lua", "fences.lua", "raise.lua", "fence.lua"],
    fill: alone ["entries.lua", "fill.lua"],
    hold: alone ["time.lua", "entries.lua", "hold.lua"],
    incr: alone ["time.lua", "entries.lua", "fences.lua", "checksum.lua", "incr.lua"],
    lease: alone ["time.lua", "entries.lua", "fences.lua", "lease.lua"],
    put: LIGHT ["put_alone.lua", "time.lua", "fences.lua", "put.lua"],
    touch: alone ["touch.lua"],
    unfence: HEAVY ["time.lua", "fences.lua", "unfence.lua"],
    untag: alone ["untag.lua"],
);
