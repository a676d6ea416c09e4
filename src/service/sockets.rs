//! Listening sockets that the service manager holds: they outlive the process, so that a restart refuses nobody.

use std::{
    env, io,
    net::{SocketAddr, TcpListener},
};

use listenfd::ListenFd;
use thiserror::Error;

/// The names of the sockets, in their order.
const NAMES_VARIABLE: &str = "LISTEN_FDNAMES";
/// More are not looked for.
const MAX_SOCKETS: usize = 128;

/// Why the sockets that were handed over cannot be used.
#[derive(Debug, Error)]
pub enum SocketError {
    /// It is no TCP socket.
    #[error("the service manager handed over {what}, which is no listening TCP socket")]
    Unfit {
        /// Its place and name.
        what: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Nothing in the configuration wants it.
    #[error(
        "the service manager handed over a socket for {address} ({name}), which nothing in the configuration listens \
         on; give [[listeners]], [admin] or [health] this address, or name the socket listener-1, listener-2, …, admin or \
         health (FileDescriptorName=)"
    )]
    Extra {
        /// Where it listens.
        address: SocketAddr,
        /// What it is called.
        name: String,
    },
    /// Some listeners have sockets and this one has not.
    #[error(
        "the service manager handed over no socket for {address} ({name} of the configuration), but for other listeners; \
         add ListenStream={address} to the socket unit"
    )]
    Missing {
        /// As configured.
        address: SocketAddr,
        /// What it could be called.
        name: String,
    },
}

/// Sockets that nobody has claimed yet.
#[derive(Debug, Default)]
pub struct Sockets {
    unclaimed: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    name: String,
    address: SocketAddr,
    socket: TcpListener,
}

impl Sockets {
    /// What this process was handed; empty where it was started in another way.
    ///
    /// # Errors
    /// Something that is no listening TCP socket.
    pub fn take() -> Result<Self, SocketError> {
        let names = env::var(NAMES_VARIABLE).unwrap_or_default();
        let mut names = names.split(':');
        let mut handed = ListenFd::from_env();
        let mut unclaimed = Vec::new();
        for place in 0..handed.len().min(MAX_SOCKETS) {
            let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown").to_owned();
            let unfit = |source| SocketError::Unfit { what: format!("socket {} ({name})", place + 1), source };
            let Some(socket) = handed.take_tcp_listener(place).map_err(unfit)? else { continue };
            if !rustix::net::sockopt::socket_acceptconn(&socket).unwrap_or(false) {
                return Err(unfit(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen")));
            }
            let address = socket.local_addr().and_then(|address| socket.set_nonblocking(true).map(|()| address));
            unclaimed.push(Held { address: address.map_err(unfit)?, name, socket });
        }
        Ok(Self { unclaimed })
    }

    /// The socket with this name, or of this address where its name says nothing.
    fn claim(&mut self, name: &str, address: SocketAddr) -> Option<TcpListener> {
        let by_name = self.unclaimed.iter().position(|held| held.name == name);
        let place = by_name.or_else(|| {
            self.unclaimed.iter().position(|held| held.address == address && !is_of_the_configuration(&held.name))
        })?;
        Some(self.unclaimed.remove(place).socket)
    }

    /// The socket of `[admin]` or `[health]`; where there is none, the gateway binds one.
    #[must_use]
    pub fn claim_for(&mut self, table: &str, address: SocketAddr) -> Option<TcpListener> {
        self.claim(table, address)
    }

    /// The sockets of all `[[listeners]]`, in their order: each has one, or none has.
    ///
    /// # Errors
    /// Some have one.
    pub fn claim_listeners(&mut self, addresses: &[SocketAddr]) -> Result<Vec<Option<TcpListener>>, SocketError> {
        let named = |at: usize| format!("listener-{}", at + 1);
        let claimed: Vec<_> =
            addresses.iter().enumerate().map(|(at, address)| self.claim(&named(at), *address)).collect();
        let some_have = claimed.iter().any(Option::is_some);
        match claimed.iter().position(Option::is_none) {
            Some(at) if some_have => Err(SocketError::Missing { address: addresses[at], name: named(at) }),
            Some(_) | None => Ok(claimed),
        }
    }

    /// Everything was claimed.
    ///
    /// # Errors
    /// Something was not.
    pub fn finish(self) -> Result<(), SocketError> {
        match self.unclaimed.into_iter().next() {
            None => Ok(()),
            Some(Held { name, address, .. }) => Err(SocketError::Extra { address, name }),
        }
    }
}

/// Does this name say which table the socket is for?
fn is_of_the_configuration(name: &str) -> bool {
    name == "admin"
        || name == "health"
        || name.strip_prefix("listener-").is_some_and(|number| number.parse::<usize>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(name: &str) -> Held {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        Held { name: name.to_owned(), address: socket.local_addr().unwrap(), socket }
    }

    fn sockets(names: &[&str]) -> (Sockets, Vec<SocketAddr>) {
        let unclaimed: Vec<_> = names.iter().map(|name| held(name)).collect();
        let addresses = unclaimed.iter().map(|held| held.address).collect();
        (Sockets { unclaimed }, addresses)
    }

    fn elsewhere() -> SocketAddr {
        "127.0.0.1:9".parse().unwrap()
    }

    #[test]
    fn a_socket_is_found_by_its_name_or_else_by_its_address() {
        let (mut handed, at) = sockets(&["admin", "listener-2", "wsgate.socket"]);
        let claimed = handed.claim_listeners(&[at[2], elsewhere()]).unwrap();
        let claimed: Vec<_> = claimed.into_iter().map(|socket| socket.unwrap().local_addr().unwrap()).collect();
        assert_eq!(claimed, [at[2], at[1]]);
        assert!(handed.claim_for("health", at[0]).is_none(), "it is named for [admin]");
        assert_eq!(handed.claim_for("admin", elsewhere()).unwrap().local_addr().unwrap(), at[0]);
        handed.finish().unwrap();
    }

    #[test]
    fn one_too_many_or_too_few_is_told() {
        let (mut handed, at) = sockets(&["wsgate.socket", "other.socket"]);
        handed.claim_listeners(&[at[0]]).unwrap();
        let extra = handed.finish().unwrap_err().to_string();
        assert!(extra.contains(&at[1].to_string()) && extra.contains("other.socket"), "{extra}");
        let (mut handed, at) = sockets(&["wsgate.socket"]);
        let missing = handed.claim_listeners(&[at[0], elsewhere()]).unwrap_err().to_string();
        assert!(missing.contains("127.0.0.1:9") && missing.contains("listener-2"), "{missing}");
    }

    #[test]
    fn without_sockets_all_are_bound_by_the_gateway() {
        let mut none = Sockets::default();
        assert!(none.claim_listeners(&[elsewhere(), elsewhere()]).unwrap().iter().all(Option::is_none));
        assert!(none.claim_for("admin", elsewhere()).is_none());
        none.finish().unwrap();
    }
}
