//! The law: what a flush leaves is what the operations leave when each runs alone, in order.
//!
//! Twin tables begin alike. On `a` the operations are aggregated and flushed; on `b` each is a statement of its own. At
//! the end both hold the same texts, row by row (`float8` up to rounding). Lists of operations of many rows are mixed, so
//! that a batch holds what composes, what is ordered, and what turns out to mean one row.
//!
//! A failure prints its seed; `ZMSG_SEED` repeats it. `ZMSG_SOAK=n` runs n thousand worlds.

mod corners;
mod moves;
mod poison;
mod twins;
mod world;

use fastrand::Rng;
use moves::{Insert, Mix, Raw, Style};
use world::{Kind, World};

/// Worlds of a usual run.
const WORLDS: u64 = 44;

/// Prints the seed if the test ends before it is done.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("ZMSG_SEED={} repeats it", self.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_leaves_what_the_operations_leave_alone_in_order() {
    let setting = |name: &str| std::env::var(name).ok().map(|it| it.parse::<u64>().unwrap());
    let soak = setting("ZMSG_SOAK").map(|thousands| thousands * 1_000);
    let (first, worlds) = match setting("ZMSG_SEED") {
        Some(seed) => (seed, soak.unwrap_or(1)),
        None => (fastrand::u64(..u64::MAX / 2), soak.unwrap_or(WORLDS)),
    };
    println!("ZMSG_SEED={first} and the {worlds} from there");
    let scene = crate::scene::Scene::new().await;
    let zm = scene.open().await;
    let (mut lists, mut operations) = (0, 0);
    for seed in first..first + worlds {
        let told = Seed(seed);
        let mut rng = Rng::with_seed(seed);
        let kind = Kind::ALL[(seed % Kind::ALL.len() as u64) as usize];
        let style = style_of(&mut rng, kind);
        let rows = [40, 300, 300, 1_300][rng.usize(..4)];
        let world = World::new(&scene.client, kind, rows, &mut rng).await;
        let moves = moves::moves(&mut rng, &world, &style);
        world.play(&zm, &moves, &mut rng).await;
        world.compare(&scene.client, &moves, &style).await;
        lists += rows;
        operations += moves.len();
        drop(told);
    }
    println!("{lists} lists, {operations} operations");
    zm.close().await.unwrap();
}

/// What the operations of a world are like: often plain, so that composing is what is tested, and sometimes wild.
fn style_of(rng: &mut Rng, kind: Kind) -> Style {
    let wild = rng.u8(..3) == 0;
    let insert = match rng.u8(..4) {
        _ if !kind.is_unique() => Insert::Never,
        0 => Insert::Always,
        1 => Insert::Mixed,
        _ => Insert::Never,
    };
    Style {
        mix: if rng.bool() { Mix::All } else { Mix::Commuting },
        spellings: if rng.u8(..3) == 0 { 6 } else { 1 },
        wild,
        insert,
        raw: match rng.u8(..5) {
            0 => Raw::Some,
            1 => Raw::Keyed,
            _ => Raw::None,
        },
    }
}
