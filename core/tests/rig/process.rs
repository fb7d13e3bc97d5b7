//! A process of the test program hears orders, can be stopped, killed, and dies where it is told to.

use std::time::Duration;

use crate::support::process::{Process, Start, answer, in_role, orders};

const ROLE: &str = "process::is_an_echo";

fn echo() -> Process {
    let mut process = Start::role(ROLE).with("ZMSG_TEST_GREETING", "hello").start();
    assert_eq!(process.answer(), "hello");
    process
}

/// Not a test: the process itself.
#[test]
fn is_an_echo() {
    if !in_role(ROLE) {
        return;
    }
    answer(&std::env::var("ZMSG_TEST_GREETING").unwrap());
    for order in orders() {
        if order == "die" {
            std::process::abort();
        }
        answer(&order);
    }
}

#[test]
fn it_hears_orders_and_ends_when_there_are_no_more() {
    let mut process = echo();
    process.tell("one");
    process.tell("two");
    assert_eq!((process.answer(), process.answer()), ("one".to_owned(), "two".to_owned()));
    process.close();
}

#[test]
fn a_stopped_process_says_nothing_until_it_goes_on() {
    let mut process = echo();
    process.stop();
    process.tell("one");
    assert_eq!(process.answer_within(Duration::from_millis(50)), None);
    process.go_on();
    assert_eq!(process.answer(), "one");
    process.kill();
}

#[test]
fn an_end_without_an_answer_is_noticed_and_told_from_a_crash_point() {
    let mut process = echo();
    process.tell("die");
    assert_eq!(process.answer_or_end(), None);
    assert!(!process.crashed(), "SIGABRT is not SIGKILL");
    // That a crash point kills is a test of the crate itself, which has points to come to.
    let mut armed =
        Start::role(ROLE).with("ZMSG_TEST_GREETING", "hi").crash_at("flush.after_commit", 1).start();
    assert_eq!(armed.answer(), "hi");
    armed.close();
}
