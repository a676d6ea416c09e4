//! The configuration that `wsgate run --upstream URL` stands for.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use super::{
    Config, absolute,
    check::{A_FILTER_NAME, check_loopback, is_filter_name, parse_endpoint},
    error::{ConfigError, ConfigErrors, Warning},
    filter_file::{A_FILTER_FILE, is_filter_file},
    pattern::PathPattern,
    types::{Admin, ChainSource, Filter, HeaderEdits, Listener, Log, Route, Server, SessionLimits, Target, Upstream},
};

/// The name of the only upstream and of the only route.
const NAME: &str = "default";

impl Config {
    /// Where to listen without `--listen`.
    pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

    /// What `wsgate run --upstream URL [--listen ADDR] [--filter FILE]…` means: one listener, one upstream, one route
    /// for every path, and the filters in this order, each named by its file without `.wasm` or `.js`. Where `listen` or `admin`
    /// is `None` it is 127.0.0.1, port 8080 or 9901. Everything else is as by default.
    ///
    /// # Errors
    /// Everything that is wrong with the arguments.
    pub fn for_upstream(
        upstream_url: &str,
        listen: Option<SocketAddr>,
        admin: Option<SocketAddr>,
        filters: &[PathBuf],
    ) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let mut refuse = |option: &str, message: String| {
            errors.push(ConfigError { file: option.to_owned(), position: None, key: None, message });
        };
        let endpoint = parse_endpoint(upstream_url);
        if let Err(why) = &endpoint {
            refuse("--upstream", format!("not an endpoint: {why}"));
        }
        let admin = admin.map_or_else(Admin::default, |address| Admin { address, tokens: Vec::new() });
        if let Err(why) = check_loopback(admin.address) {
            refuse("--admin", format!("{} is not {why}", admin.address));
        }
        let mut names = Vec::new();
        let mut tables = BTreeMap::new();
        for file in filters {
            match filter_name(file, &names) {
                Ok(name) => {
                    tables.insert(name.clone(), Filter::with_defaults(absolute(file)));
                    names.push(name);
                }
                Err(why) => refuse("--filter", format!("{} {why}", file.display())),
            }
        }
        match endpoint {
            Ok(endpoint) if errors.is_empty() => Ok(Self {
                server: Server::with_filter_dir(absolute(Self::DEFAULT_FILTER_DIR.as_ref())),
                listeners: vec![Listener::at(listen.unwrap_or(Self::DEFAULT_LISTEN))],
                admin,
                health: None,
                log: Log::default(),
                upstreams: BTreeMap::from([(NAME.to_owned(), Upstream::with_endpoints(vec![endpoint]))]),
                jwt: BTreeMap::new(),
                filters: tables,
                stores: BTreeMap::new(),
                routes: vec![route(names)],
            }),
            Ok(_) | Err(_) => Err(ConfigErrors::new("wsgate run", errors)),
        }
    }

    /// What looks wrong with a configuration by [`Config::for_upstream`]: as of a configured one, that anybody may use it.
    #[must_use]
    pub fn warnings_for_upstream(&self) -> Vec<Warning> {
        let open = self.listeners.iter().filter(|listener| check_loopback(listener.address).is_err());
        let warning = |listener: &Listener| Warning {
            file: "--listen".to_owned(),
            position: None,
            key: None,
            message: format!(
                "clients need no token, and the listener {} is not for this machine alone; a configuration file can \
                 name a [jwt.*] table in auth",
                listener.address
            ),
        };
        open.map(warning).collect()
    }
}

/// The name of a filter's file without its extension, if that is one and no earlier file has it.
fn filter_name(file: &std::path::Path, earlier: &[String]) -> Result<String, String> {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if !is_filter_file(file) {
        return Err(format!("is not {A_FILTER_FILE}"));
    }
    if !is_filter_name(stem) {
        return Err(format!("is a file whose name {stem:?} is not {A_FILTER_NAME}"));
    }
    if earlier.iter().any(|name| name == stem) {
        return Err(format!("is the second filter of the name {stem:?}"));
    }
    if !file.is_file() {
        return Err("is not there".to_owned());
    }
    Ok(stem.to_owned())
}

fn route(filters: Vec<String>) -> Route {
    Route {
        name: NAME.to_owned(),
        host: None,
        path: PathPattern { segments: Vec::new(), wildcard: true },
        path_rewrite: None,
        target: Target::Upstream(NAME.to_owned()),
        filters: ChainSource::Names(filters),
        subprotocols: None,
        request_headers: HeaderEdits::default(),
        auth: None,
        claims_to_headers: Vec::new(),
        allowed_origins: crate::config::pattern::OriginRule::DEFAULT.to_vec(),
        limits: SessionLimits::default(),
        traffic: Default::default(),
        auth_request: None,
        http: None,
    }
}
