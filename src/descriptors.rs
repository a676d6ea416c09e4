//! File descriptors. Some are kept in reserve: when clients have taken all others, the admin API, metrics, logs and reloads
//! still work.

use std::{os::fd::AsRawFd, sync::LazyLock};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Sockets of clients and upstreams take none of the last of them.
pub const RESERVED: u64 = 64;

/// The first of those that are kept in reserve.
static FIRST_RESERVED: LazyLock<u64> = LazyLock::new(|| {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // Where there are so few that nothing would be left, half is.
    limit.saturating_sub(RESERVED).max(limit / 2)
});

/// Raises the limit of this process to what it may have. Shells and service managers set a low one for programs that use
/// `select`, which this one does not.
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Where that is refused, the limit is as it was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    tracing::debug!(from = current, to = maximum, "limit of file descriptors");
}

/// Is this socket in the reserve? The kernel gives the lowest number that is free, so then all others are taken.
pub fn is_reserved(socket: &impl AsRawFd) -> bool {
    u64::try_from(socket.as_raw_fd()).is_ok_and(|number| number >= *FIRST_RESERVED)
}
