//! The configuration files of the peers: one worker, no access log, no limit that a benchmark would meet.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

/// nginx as a WebSocket proxy.
pub fn nginx(folder: &Path, listen: SocketAddr, upstream: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 10000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen {listen};
        location / {{
            proxy_pass http://{upstream};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection \"upgrade\";
            proxy_set_header Host $host;
            proxy_read_timeout 1h;
            proxy_send_timeout 1h;
        }}
    }}
}}
"
    )
}

/// HAProxy with one thread.
pub fn haproxy(listen: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "global
    nbthread 1
    maxconn 9000
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout tunnel 1h
frontend clients
    bind {listen}
    default_backend echo
backend echo
    server echo {upstream}
"
    )
}

/// Caddy without its admin interface, and without anything kept in the user's home.
pub fn caddy(folder: &Path, listen: SocketAddr, upstream: SocketAddr) -> String {
    let relay = json!({ "handler": "reverse_proxy", "upstreams": [{ "dial": upstream.to_string() }] });
    let server = json!({
        "listen": [listen.to_string()],
        "automatic_https": { "disable": true },
        "routes": [{ "handle": [relay] }],
    });
    let config = json!({
        "admin": { "disabled": true, "config": { "persist": false } },
        "storage": { "module": "file_system", "root": folder },
        "apps": { "http": { "servers": { "bench": server } } },
    });
    config.to_string()
}

/// The gateway with one worker and, where given, one filter.
pub fn wsgate(folder: &Path, listen: SocketAddr, upstream: SocketAddr, guest: Option<&Path>) -> Result<String> {
    // An empty folder of its own, so that no filter is loaded but the one that is measured.
    fs::create_dir(folder.join("filters")).context("cannot create the gateway's filter folder")?;
    let folder = folder.display();
    let (table, chain) = match guest {
        Some(file) => (format!("\n[filters.bench]\nfile = \"{}\"\n", file.display()), "filters = [\"bench\"]\n"),
        None => (String::new(), ""),
    };
    Ok(format!(
        "[server]
workers = 1
filter_dir = \"{folder}/filters\"

[[listeners]]
address = \"{listen}\"

[admin]
address = \"127.0.0.1:0\"

[log]
level = \"warn\"

[upstreams.echo]
endpoints = [\"ws://{upstream}\"]
{table}
[[routes]]
name = \"bench\"
path = \"/\"
upstream = \"echo\"
{chain}"
    ))
}
