//! Inputs to begin with.

use std::collections::BTreeSet;

use crate::targets;

/// One fuzz target.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]) -> bool,
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Each of them.
pub const NAMED: [Target; 6] = [
    Target { name: "config", run: targets::config::run, seeds: targets::config::seeds },
    Target { name: "frames", run: targets::frames::run, seeds: targets::frames::seeds },
    Target { name: "handshake", run: targets::handshake::run, seeds: targets::handshake::seeds },
    Target { name: "json", run: targets::json::run, seeds: targets::json::seeds },
    Target { name: "proxy_header", run: targets::proxy_header::run, seeds: targets::proxy_header::seeds },
    Target { name: "token", run: targets::token::run, seeds: targets::token::seeds },
];

/// Words that a fuzzer would have to guess, in libFuzzer's form: the keys of the configuration, names of headers and of claims.
pub fn dictionary() -> String {
    let mut words = BTreeSet::new();
    collect(&crate::config::Config::json_schema(), &mut words);
    let others = [
        "HTTP/1.1",
        "GET",
        "Host",
        "Upgrade",
        "websocket",
        "Connection",
        "Transfer-Encoding",
        "chunked",
        "Content-Length",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Protocol",
        "bearer",
        "Origin",
        "null",
        "Forwarded",
        "for=",
        "proto=",
        "host=",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "Cookie",
        "token=",
        "access_token=",
        "PROXY ",
        "TCP4",
        "TCP6",
        "UNKNOWN",
        "alg",
        "HS256",
        "HS384",
        "EdDSA",
        "none",
        "typ",
        "kid",
        "crit",
        "iss",
        "aud",
        "exp",
        "nbf",
        "scope",
        "scp",
        "jti",
        "sid",
        "[::1]",
        "127.0.0.1",
        "ws://",
        "https://",
        "10ms",
        "1MiB",
    ];
    words.extend(others.map(str::to_owned));
    words.iter().filter(|word| word.len() < 60).map(|word| format!("{word:?}\n")).collect()
}

fn collect(schema: &serde_json::Value, words: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(members) => {
            if let Some(serde_json::Value::Object(properties)) = members.get("properties") {
                words.extend(properties.keys().cloned());
            }
            for choices in ["enum", "const"].iter().filter_map(|name| members.get(*name)) {
                let choices = choices.as_array().map_or(std::slice::from_ref(choices), Vec::as_slice);
                words.extend(choices.iter().filter_map(|choice| choice.as_str().map(str::to_owned)));
            }
            members.values().for_each(|member| collect(member, words));
        }
        serde_json::Value::Array(elements) => elements.iter().for_each(|element| collect(element, words)),
        _ => {}
    }
}
