//! What is said on stdout once the gateway serves.

use std::io::{self, Write};

use tokio::net::TcpListener;

use super::Gateway;
use crate::{
    config::{ChainSource, Target},
    filter::FilterStatus,
};

impl Gateway {
    /// What runs, in lines that scripts can read; the last is `ready`.
    pub(super) fn announcement(&self, admin: &TcpListener, health: Option<&TcpListener>) -> io::Result<String> {
        let mut out = String::new();
        let mut line = |what: &str, text: &str| out.push_str(&format!("{what:<10}{text}\n"));
        line("wsgate", env!("CARGO_PKG_VERSION"));
        let mut try_url = None;
        for url in self.listeners.urls() {
            line("listener", &url);
            try_url.get_or_insert(url);
        }
        line("admin", &format!("http://{}", admin.local_addr()?));
        if let Some(health) = health {
            line("health", &format!("http://{}", health.local_addr()?));
        }
        for route in &self.config.routes {
            let target = match &route.target {
                Target::Echo => "echo".to_owned(),
                Target::Filters => "filters".to_owned(),
                Target::Static(folder) => format!("files of {}", folder.display()),
                Target::Upstream(name) => format!("upstream {name}"),
            };
            let chain = match &route.filters {
                ChainSource::Names(names) if names.is_empty() => "no filters".to_owned(),
                ChainSource::Names(names) => format!("filters {}", names.join(", ")),
                ChainSource::Folder { path, .. } => format!("filters from {}", path.display()),
            };
            line("route", &format!("{}  {} -> {target}  ({chain})", route.name, route.path));
        }
        for FilterStatus { name, file, generation, max_sessions, .. } in self.catalogue.status() {
            let generation = generation.as_deref().unwrap_or("not loaded");
            let own =
                max_sessions.map(|sessions| format!("  (an instance for each of at most {sessions} connections)"));
            line("filter", &format!("{name}  {generation}  {}{}", file.display(), own.unwrap_or_default()));
        }
        if let (Some(url), Some(route)) = (try_url, self.config.routes.first()) {
            line("try", &format!("wsgate connect {url}{}", route.path.to_string().trim_end_matches('*')));
        }
        out.push_str("ready\n");
        Ok(out)
    }
}

/// Says it on stdout. On a thread of its own: a pipe that nobody reads is no reason not to serve.
pub(super) fn say(announcement: String) {
    tokio::task::spawn_blocking(move || {
        // Nor is one that is closed.
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(announcement.as_bytes()).and_then(|()| stdout.flush());
    });
}
