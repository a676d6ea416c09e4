//! The modules of the gateway that read what strangers send, with a property for each.
//!
//! They are the gateway's own files, compiled here under the same names but without the rest: what `crate::…` in them
//! needs is in this tree. So a build takes seconds, no WebAssembly engine is in it, and the gateway has no entry that is
//! there for the fuzzer alone. A property sees what its module shows its parent.

#![allow(dead_code, unused_imports, reason = "not all of what the gateway uses of its modules is used here")]

use std::{io, path::Path};

// A link to the gateway's: its modules name it by its path in the crate.
mod config;

#[path = "../../src"]
mod gateway {
    pub mod http_head;
    pub mod identity;
    pub mod message;
    pub mod secret_file;
}

use gateway::{http_head, identity, message, secret_file};

/// Frames of one direction, in whatever pieces they arrive.
#[path = "../../src/session"]
mod session {
    mod scan;
    #[path = "../../fuzz/src/properties/frames.rs"]
    pub mod frames;
}

/// The header of a balancer in front of a connection.
#[path = "../../src/door"]
mod door {
    mod proxy_header;
    #[path = "../../fuzz/src/properties/proxy_header.rs"]
    pub mod property;

    /// As in `src/door.rs`.
    #[derive(Clone, Debug)]
    pub struct Visitor {
        pub address: std::net::SocketAddr,
        pub secure: bool,
        pub certificate: Option<std::sync::Arc<str>>,
        pub trusted_proxies: std::sync::Arc<crate::config::TrustedProxies>,
    }
}

/// Request heads.
#[path = "../../src/handshake"]
mod handshake {
    mod forwarded;
    mod headers;
    mod origin;
    mod parser;
    mod request;
    #[path = "../../fuzz/src/properties/handshake.rs"]
    pub mod property;

    /// The statuses alone: the gateway's refusals also speak of filters and upstreams.
    pub mod refusal {
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub struct Refusal(pub u16);

        impl Refusal {
            pub fn bad_request(_: &'static str) -> Self {
                Self(400)
            }
            pub fn upgrade_required() -> Self {
                Self(426)
            }
            pub fn version_required() -> Self {
                Self(426)
            }
            pub fn origin() -> Self {
                Self(403)
            }
        }
    }
}

/// Tokens.
#[path = "../../src/auth"]
mod auth {
    pub mod credentials;
    mod keys;
    mod verify;
    #[path = "../../fuzz/src/properties/token.rs"]
    pub mod property;
}

mod filter {
    /// As in `src/filter.rs`.
    #[derive(Clone, Debug, Default)]
    pub struct Edits {
        pub set: Vec<(http::HeaderName, http::HeaderValue)>,
        pub append: Vec<(http::HeaderName, http::HeaderValue)>,
        pub remove: Vec<http::HeaderName>,
    }
}

#[path = "properties/config.rs"]
pub mod config_text;
#[path = "properties/json.rs"]
pub mod json;
mod pieces;
mod seeds;

/// A property each: `run` panics where it does not hold, and answers whether the input was taken as valid; `seeds` are
/// inputs to begin with.
pub mod targets {
    pub use crate::{
        auth::property as token, config_text as config, door::property as proxy_header,
        handshake::property as handshake, json, session::frames,
    };
}

pub use seeds::{NAMED, Target, dictionary};

/// What a target's program does outside the fuzzer: it runs the files that it is given.
///
/// # Errors
/// A file that cannot be read.
pub fn replay(run: fn(&[u8]) -> bool) -> io::Result<()> {
    for path in std::env::args_os().skip(1) {
        let valid = run(&std::fs::read(&path)?);
        println!("{}: {}", Path::new(&path).display(), if valid { "valid" } else { "refused" });
    }
    Ok(())
}
