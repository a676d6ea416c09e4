//! `[server]`, `[health]`, `[log]`.

use std::{net::SocketAddr, time::Duration};

use super::{
    super::{
        leaf::{At, Table, Workers},
        raw::{RawConfig, RawHealth, RawLog, RawServer},
        types::{Admin, Log, Server},
    },
    Checker,
};

const MAX_WORKERS: usize = 1024;

const AN_ADDRESS: &str = "an address; write an IP address and a port, such as \"127.0.0.1:8080\" or \"[::]:8080\"";

impl Checker<'_> {
    pub(super) fn server(&mut self, raw: &RawServer) -> Server {
        let default = Server::with_filter_dir(self.filter_dir.clone());
        Server {
            workers: self.workers(raw.workers.as_ref(), default.workers),
            filter_dir: raw.filter_dir.as_ref().map_or(default.filter_dir, |at| self.path(at)),
            state_dir: raw.state_dir.as_ref().map(|at| self.path(at)),
            js_compiler: raw.js_compiler.as_ref().map(|at| self.path(at)),
            drain_delay: self.time(raw.drain_delay.as_ref(), default.drain_delay, Duration::ZERO),
            drain_timeout: self.time(raw.drain_timeout.as_ref(), default.drain_timeout, Duration::ZERO),
            limits: self.server_limits(&raw.limits),
        }
    }

    fn workers(&mut self, raw: Option<&At<Workers>>, default: usize) -> usize {
        match raw {
            None | Some(At { value: Workers::Auto, .. }) => default,
            Some(At { value: Workers::Count(count @ 1..=MAX_WORKERS), .. }) => *count,
            Some(at @ At { value: Workers::Count(_), .. }) => {
                self.refuse_as(at, format!("accepted; write \"auto\" or a number from 1 to {MAX_WORKERS}"));
                default
            }
        }
    }

    pub(super) fn health(&mut self, raw: Option<&At<Table<RawHealth>>>) -> Option<SocketAddr> {
        raw.and_then(|at| self.required_address(at, at.value.address.as_ref()))
    }

    pub(super) fn log(&mut self, raw: &RawLog) -> Log {
        let mut log = Log::default();
        if let Some(at) = &raw.level {
            match at.value.split(',').all(is_directive) {
                true => log.level.clone_from(&at.value),
                false => self.refuse_as(
                    at,
                    "a log level; write error, warn, info, debug, trace or off, then possibly others for parts of the \
                     program, such as \"info,wsgate::session=debug\"",
                ),
            }
        }
        log.format = raw.format.map_or(log.format, |word| word.0);
        log
    }

    /// No two listeners of any kind can have one address; port 0 is a different port each time.
    pub(super) fn addresses_differ(&mut self, raw: &RawConfig) {
        let listeners = raw.listeners.iter().filter_map(|at| at.value.address.as_ref());
        let health = raw.health.as_ref().and_then(|at| at.value.address.as_ref());
        let written: Vec<_> = listeners.chain(&raw.admin.address).chain(health).collect();
        let mut seen: Vec<(SocketAddr, String)> = Vec::new();
        if raw.admin.address.is_none() {
            seen.push((Admin::default().address, "the default of admin.address".to_owned()));
        }
        for at in written {
            let Ok(address) = at.value.parse::<SocketAddr>() else { continue };
            match seen.iter().find(|(other, _)| collide(address, *other)) {
                Some((_, other)) => {
                    let message = format!("accepted; {other} is on the same address and port");
                    self.refuse_as(at, message);
                }
                None => seen.push((address, self.document.key(&at.span).unwrap_or_default())),
            }
        }
    }

    pub(super) fn required_address<T>(&mut self, table: &At<T>, raw: Option<&At<String>>) -> Option<SocketAddr> {
        match raw {
            Some(at) => self.address(at),
            None => {
                self.refuse_key(
                    Some(table),
                    "address",
                    "missing; write an IP address and a port, such as \"127.0.0.1:8080\"",
                );
                None
            }
        }
    }

    pub(super) fn address(&mut self, at: &At<String>) -> Option<SocketAddr> {
        let address = at.value.parse().ok();
        if address.is_none() {
            self.refuse_as(at, AN_ADDRESS);
        }
        address
    }
}

/// An unspecified address takes the port on every address of its family.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip =
        a.ip() == b.ip() || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified()));
    a.port() == b.port() && a.port() != 0 && same_ip
}

/// `level` or `target=level`
fn is_directive(directive: &str) -> bool {
    let (target, level) = directive.rsplit_once('=').unwrap_or(("all", directive));
    let is_target = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    !target.is_empty() && target.bytes().all(is_target) && levels.contains(&level)
}
