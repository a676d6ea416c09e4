//! What the service manager gives and hears, where one has started the process: sockets that it holds, and how it goes
//! (systemd's protocols `LISTEN_FDS` and `NOTIFY_SOCKET`).

mod sockets;

use std::time::Duration;

use sd_notify::NotifyState;

pub use self::sockets::{SocketError, Sockets};

/// All listeners accept.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Another configuration is being loaded; [`ready`] says when that is over.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now, NotifyState::Status("loading another configuration")]),
        Err(error) => tracing::debug!(%error, "the service manager is not told of a reload: no clock"),
    }
}

/// The process is on its way down.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// One line for `systemctl status`.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// How often the manager wants to hear that the process works; `None` where it does not ask for it.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero())
}

/// The process works.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Does nothing where no manager listens.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager does not hear");
    }
}
