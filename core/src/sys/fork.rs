//! Has this process been forked? A word that the child's first instructions change.
//!
//! What must not be shared between parent and child (a node id, a runtime, a connection) notes [`generation`] when it
//! is made and compares it when it is used: a load of one word instead of a system call.
//!
//! A child made by `vfork` or a raw `clone` runs no handlers; it may do nothing but exec, so it does not matter here.

// One call registers a handler with the C library; there is no safe form of it.
#![allow(unsafe_code)]

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

static GENERATION: AtomicU64 = AtomicU64::new(0);
static REGISTER: Once = Once::new();

extern "C" fn in_child() {
    // An atomic add is all that may safely happen between fork and the child's return from it.
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// Begins to watch for forks; further calls do nothing. Whatever notes a generation calls this first.
pub fn watch() {
    REGISTER.call_once(|| {
        // SAFETY: pthread_atfork stores three function pointers that must stay callable for as long as the process can
        // fork; `in_child` is a plain function of this program and does only what is allowed in a forked child: it
        // touches an atomic. The two null handlers mean "none". A failure (out of memory) leaves nothing registered.
        let failed = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        assert_eq!(failed, 0, "the C library had no memory for one fork handler");
    });
}

/// The number of forks between the process that first called [`watch`] and this one.
#[inline]
pub fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// Runs `check` in a forked child and says whether it returned true. The child must not allocate much nor wait for
/// other threads: they do not exist there.
#[cfg(test)]
pub(crate) fn in_forked_child(check: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs `check` and leaves by _exit, without unwinding into the test's frames, and the parent
    // waits for exactly this child.
    unsafe {
        match libc::fork() {
            0 => {
                let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).unwrap_or(false);
                libc::_exit(if held { 0 } else { 1 })
            }
            child => {
                assert!(child > 0, "the test can fork");
                let mut status = -1;
                assert_eq!(libc::waitpid(child, &mut status, 0), child);
                status == 0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_knows_and_its_parent_is_untouched() {
        watch();
        watch();
        let before = generation();
        assert!(in_forked_child(
            || generation() == before + 1 && in_forked_child(|| generation() == before + 2)
        ));
        assert_eq!(generation(), before);
    }
}
