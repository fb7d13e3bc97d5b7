//! Random histories of three processes, their clocks and the server's: no id comes twice.

use std::collections::HashSet;

use proptest::prelude::*;

use super::layout::split;
use super::model::{Fault, Model};
use super::tests::{HOUR_MS, NOW_MS, Process, deadline};

/// What may happen to three processes that share a database with two nodes.
#[derive(Debug, Clone)]
enum Event {
    Make(usize, u16),
    Renew(usize),
    Advance(usize, i64),
    StepServer(i64),
    Restart(usize),
    Kill(usize),
    Fail(bool),
    Heal,
}

fn event() -> impl Strategy<Value = Event> {
    let process = 0..3usize;
    prop_oneof![
        4 => (process.clone(), 1..5_000u16).prop_map(|(p, n)| Event::Make(p, n)),
        4 => process.clone().prop_map(Event::Renew),
        3 => (process.clone(), 0..900_000i64).prop_map(|(p, ms)| Event::Advance(p, ms)),
        3 => (-HOUR_MS..HOUR_MS).prop_map(Event::StepServer),
        2 => (0..1_000i64).prop_map(Event::StepServer),
        1 => process.clone().prop_map(Event::Restart),
        1 => process.prop_map(Event::Kill),
        1 => any::<bool>().prop_map(Event::Fail),
        2 => Just(Event::Heal),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Any order of pauses, clock steps of every clock, lost replies, closes and kills: no id comes twice, and those of
    /// one process grow.
    #[test]
    fn no_history_repeats_an_id(events in proptest::collection::vec(event(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let model = Model::new(NOW_MS);
            model.keep_nodes(2);
            let mut processes: Vec<Process> = (0..3).map(|_| Process::new(&model)).collect();
            let mut last = [-1i64; 3];
            let mut seen = HashSet::new();
            for event in events {
                match event {
                    Event::Make(p, count) => {
                        for _ in 0..count {
                            let Ok(id) = processes[p].ids.next_number() else { break };
                            prop_assert!(seen.insert(id), "{:?} came twice", split(id));
                            prop_assert!(id > last[p], "{:?} after {:?}", split(id), split(last[p]));
                            last[p] = id;
                        }
                        processes[p].advance(1 + i64::from(count) / 4_096);
                    }
                    Event::Renew(p) => drop(processes[p].ids.renew(deadline()).await),
                    Event::Advance(p, ms) => processes[p].advance(ms),
                    // Not before 2024, which is an error of its own.
                    Event::StepServer(ms) => model.step(ms.max(NOW_MS - 10 * HOUR_MS - model.now_ms())),
                    Event::Restart(p) => {
                        drop(processes[p].ids.close(deadline()).await);
                        (processes[p], last[p]) = (Process::new(&model), -1);
                    }
                    Event::Kill(p) => (processes[p], last[p]) = (Process::new(&model), -1),
                    Event::Fail(reply) => model.fail(if reply { Fault::ReplyLost } else { Fault::Away }),
                    Event::Heal => model.fail(Fault::None),
                }
            }
            Ok(())
        })?;
    }
}
