//! How long things take. Prints, and fails nobody: `cargo test --release -- --ignored --nocapture measures`.

use super::*;
use crate::base::Clock;

const RECORDS: u64 = 10_000_000;

#[test]
#[ignore = "a measurement"]
fn measures_append_and_recovery() {
    let clock = Clock::system();
    for class in [Class::Memory, Class::Journal] {
        let folder = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> =
            if class == Class::Memory { Arc::new(MemoryDisk) } else { Arc::new(RealDisk) };
        let limits = Limits { segment_bytes: 4 << 20, max_bytes: u64::MAX };
        let mut journal = Journal::create(disk, folder.path(), header(class), limits).unwrap();
        let begin = clock.mono_ms();
        for number in 0..RECORDS {
            append(&mut journal, &number.to_le_bytes()[..6]);
        }
        let appended = clock.mono_ms() - begin;
        println!("{class:?}: {:.1} ns per append of 6 bytes", appended as f64 * 1e6 / RECORDS as f64);
        if class == Class::Journal {
            let begin = clock.mono_ms();
            let recovered = read(folder.path());
            let checked = clock.mono_ms() - begin;
            let sum: usize = recovered.read_from(0).map(|record| record.payload.len()).sum();
            let both = clock.mono_ms() - begin;
            assert_eq!((recovered.last, sum as u64), (RECORDS, 6 * RECORDS));
            let rate = |ms: u64| RECORDS as f64 / ms as f64 / 1e3;
            println!(
                "recovery: {:.1} M records/s checked, {:.1} M/s with reading",
                rate(checked),
                rate(both)
            );
        }
    }
}
