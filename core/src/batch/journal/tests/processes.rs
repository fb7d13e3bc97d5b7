//! Real processes that are killed or limited: this test program again, with a variable that says what to be.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::sys::fork::in_forked_child;

const ROLE: &str = "ZMSG_TEST_JOURNAL_ROLE";
const DIR: &str = "ZMSG_TEST_JOURNAL_DIR";
const STREAM: [u8; 16] = [0xCD; 16];
/// A process says on its standard error what it has to say: the test program prints to the other one.
const SEGMENT: usize = 1 << 14;

fn role(name: &str, journal_dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    as_role(&mut command, name, journal_dir);
    command
}

fn as_role(command: &mut Command, name: &str, journal_dir: &Path) {
    command
        .args([
            "--exact",
            "batch::journal::tests::processes::is_a_process",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(ROLE, name)
        .env(DIR, journal_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
}

#[test]
fn is_a_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let journal_dir = PathBuf::from(std::env::var(DIR).unwrap());
    let lock = StreamLock::create(&journal_dir, STREAM).unwrap();
    match role.as_str() {
        "appender" => append_for_ever(lock.dir()),
        "parent" => fork_and_wait(),
        "limited" => append_beyond_the_limit(lock.dir()),
        other => panic!("no role {other}"),
    }
}

/// Tells each number once it is acknowledged.
fn append_for_ever(dir: &Path) {
    let limits = Limits { segment_bytes: SEGMENT, max_bytes: u64::MAX };
    let mut journal = Journal::create(Arc::new(RealDisk), dir, header(Class::Journal), limits).unwrap();
    loop {
        let next = payload(journal.last() + 1);
        let sequence = append(&mut journal, &next);
        if std::io::stderr().write_all(&sequence.to_le_bytes()).is_err() {
            return;
        }
    }
}

fn fork_and_wait() {
    in_forked_child(|| {
        std::io::stderr().write_all(b"forked\n").unwrap();
        // Until the test closes it.
        std::fs::File::open("/dev/stdin").unwrap().read(&mut [0]).is_ok()
    });
}

fn append_beyond_the_limit(dir: &Path) {
    let mut journal = journal(dir, SEGMENT);
    append_up_to(&mut journal, 3);
    let refused = journal.room(1 << 16);
    let Err(Refused::Io(error)) = refused else { panic!("{refused:?}") };
    append_up_to(&mut journal, 4);
    std::io::stderr().write_all(format!("{}\n", error.raw_os_error().unwrap()).as_bytes()).unwrap();
}

fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn all_that_a_killed_process_acknowledged_is_found() {
    for acknowledged in [1, 50, 700, 3_000, 9_000] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = role("appender", folder.path()).spawn().unwrap();
        let mut told = child.stderr.take().unwrap();
        told.read_exact(&mut vec![0; 8 * acknowledged]).unwrap();
        assert!(orphans(&RealDisk, folder.path()).unwrap().is_empty(), "its owner lives");
        kill(&mut child);
        let mut rest = Vec::new();
        told.read_to_end(&mut rest).unwrap();
        let acknowledged = (acknowledged + rest.len() / 8) as u64;
        let found = orphans(&RealDisk, folder.path()).unwrap();
        let lock = StreamLock::try_take(&found[0]).unwrap().unwrap();
        let recovered = read(lock.dir());
        // One more at most: written, and killed before it could be told.
        assert!(
            (acknowledged..=acknowledged + 1).contains(&recovered.last),
            "{acknowledged}: {}",
            recovered.last
        );
        assert_eq!(numbers(&recovered), up_to(recovered.last));
        let after = recovered.last;
        assert!([End::Clean, End::Torn { after }].contains(&recovered.end), "{:?}", recovered.end);
    }
}

#[test]
fn a_forked_child_that_outlives_its_parent_does_not_keep_the_stream() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = role("parent", folder.path()).spawn().unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    told.read_line(&mut line).unwrap();
    assert_eq!(line, "forked\n");
    assert!(orphans(&RealDisk, folder.path()).unwrap().is_empty());
    let keeps_the_child_alive = child.stdin.take();
    kill(&mut child);
    let found = orphans(&RealDisk, folder.path()).unwrap();
    assert!(StreamLock::try_take(&found[0]).unwrap().is_some());
    drop(keeps_the_child_alive);
    // Its end of the pipe closes when the child ends.
    told.read_to_string(&mut line).unwrap();
}

#[test]
fn a_limit_on_file_sizes_refuses_a_segment_and_does_not_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    // In blocks of 512 bytes: a segment fits, a large one does not.
    shell.args(["-c", "ulimit -f 64 && exec \"$0\" \"$@\""]).arg(std::env::current_exe().unwrap());
    as_role(&mut shell, "limited", folder.path());
    let output = shell.spawn().unwrap().wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), told.as_str()), (Some(0), "27\n"), "EFBIG");
    let found = orphans(&RealDisk, folder.path()).unwrap();
    assert_eq!(numbers(&read(&found[0])), up_to(4));
}
