//! A descriptor that one side raises and the other watches: an eventfd on Linux, a pipe elsewhere.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::{read, write};

/// Readable from [`Signal::raise`] until [`Signal::clear`].
pub(crate) struct Signal {
    watched: OwnedFd,
    #[cfg(not(target_os = "linux"))]
    raised: OwnedFd,
}

impl Signal {
    #[cfg(target_os = "linux")]
    pub(crate) fn new() -> io::Result<Signal> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Signal { watched: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn new() -> io::Result<Signal> {
        let (watched, raised) = rustix::pipe::pipe()?;
        for end in [&watched, &raised] {
            rustix::io::ioctl_fionbio(end, true)?;
            rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
        }
        Ok(Signal { watched, raised })
    }

    pub(crate) fn fileno(&self) -> i32 {
        self.watched.as_raw_fd()
    }

    pub(crate) fn raise(&self) {
        #[cfg(target_os = "linux")]
        let end = &self.watched;
        #[cfg(not(target_os = "linux"))]
        let end = &self.raised;
        // Full means raised already.
        let _ = write(end, &1u64.to_ne_bytes());
    }

    pub(crate) fn clear(&self) {
        let mut bytes = [0u8; 512];
        // Nothing to read means that it was not raised.
        let _ = read(&self.watched, &mut bytes);
    }
}
