//! `[[routes]]`

use std::{collections::BTreeMap, fmt::Display, path::PathBuf, str::FromStr, time::Duration};

use super::{
    super::{
        leaf::{At, Table, Word},
        pattern::{HostPattern, OriginRule, PathPattern, PathTemplate},
        raw::{RawRoute, RawTarget},
        types::{ChainSource, Route, SessionLimits, Target},
    },
    A_PLAIN_NAME, Checker,
    filter::Presence,
    is_plain_name, show_size,
};

/// A message is held in memory as a whole.
const MAX_PAYLOAD_BYTES: usize = 1 << 30;

const MAX_QUEUE_BYTES: usize = 4 << 30;

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);

/// A route that was read well enough to be compared with others, and its `path` in the file.
type Placed<'a> = (&'a At<String>, Route);

impl Checker<'_> {
    pub(super) fn routes(&mut self, raw: &[At<Table<RawRoute>>]) -> Vec<Route> {
        if raw.is_empty() {
            let message = "there is no [[routes]] table; every request will be answered with 404";
            self.warn_at(&(0..0), Some("routes".to_owned()), message.to_owned());
        }
        let mut names = BTreeMap::new();
        for name in raw.iter().filter_map(|at| at.value.name.as_ref()) {
            self.route_name(name, &mut names);
        }
        let mut derived = BTreeMap::new();
        let mut placed: Vec<Placed<'_>> = Vec::new();
        for at in raw {
            if let Some((path, mut route)) = self.route(at) {
                if at.value.name.is_none() {
                    route.name = derived_name(&route, &mut derived);
                }
                placed.push((path, route));
            }
        }
        self.warn_of_covered(&placed);
        placed.into_iter().map(|(_, route)| route).collect()
    }

    fn route_name<'r>(&mut self, at: &'r At<String>, names: &mut BTreeMap<&'r str, &'r At<String>>) {
        if !is_plain_name(&at.value) {
            self.refuse_as(at, A_PLAIN_NAME);
        }
        let first = *names.entry(&at.value).or_insert(at);
        if first.span != at.span {
            let line = self.document.position(&first.span).line;
            self.refuse_as(at, format!("accepted; the route in line {line} has this name already"));
        }
    }

    fn route<'r>(&mut self, at: &'r At<Table<RawRoute>>) -> Option<Placed<'r>> {
        let raw = &at.value;
        if raw.path.is_none() {
            self.refuse_key(Some(at), "path", "missing; write a path such as \"/chat/{room}\" or \"/*\"");
        }
        let path = raw.path.as_ref().and_then(|path| self.pattern::<PathPattern>(path, "a path pattern"));
        let host = raw.host.as_ref().and_then(|host| self.pattern::<HostPattern>(host, "a host pattern"));
        let path_rewrite = raw.path_rewrite.as_ref().zip(path.as_ref()).and_then(|(at, path)| self.template(at, path));
        let target = self.target(at);
        self.folder_has_its_target(raw);
        let http = self.http(raw, target.as_ref());
        if matches!(target, Some(Target::Echo | Target::Filters))
            && let Some(at) = &raw.path_rewrite
        {
            self.warn(at, "this target has no upstream that would see this path");
        }
        let filters = self.chain(at);
        if let Some(Target::Filters) = target
            && let ChainSource::Names(names) = &filters
            && names.is_empty()
            && !self.has_wrong(at, "filters")
            && let Some(at) = &raw.target
        {
            self.refuse(
                at,
                "the target \"filters\" needs somebody to answer; write filters = [\"name\"] or filters_folder",
            );
        }
        let subprotocols = raw.subprotocols.as_ref().map(|raw| self.subprotocols(raw));
        let request_headers = self.header_edits(&raw.request_headers);
        let auth = self.auth(raw);
        let auth_request = self.auth_request(raw.auth_request.as_ref());
        let claims_to_headers = self.claims_to_headers(raw);
        let allowed_origins = self.allowed_origins(raw);
        let limits = self.limits(at);
        let traffic = self.route_limits(raw, limits.client_max_payload_bytes);
        let name = raw.name.as_ref().map(|name| name.value.clone()).unwrap_or_default();
        let route = Route {
            name,
            host,
            path: path?,
            path_rewrite,
            target: target?,
            filters,
            subprotocols,
            request_headers,
            auth,
            claims_to_headers,
            allowed_origins,
            limits,
            traffic,
            auth_request,
            http,
        };
        Some((raw.path.as_ref()?, route))
    }

    fn allowed_origins(&mut self, raw: &RawRoute) -> Vec<OriginRule> {
        let Some(list) = &raw.allowed_origins else { return OriginRule::DEFAULT.to_vec() };
        if list.value.is_empty() {
            self.refuse(list, "nobody could connect; write at least \"absent\", for clients that are no browsers");
        }
        self.all_differ(&list.value, "origin");
        list.value.iter().filter_map(|at| self.pattern(at, "an origin")).collect()
    }

    pub(super) fn pattern<T: FromStr<Err: Display>>(&mut self, at: &At<String>, what: &str) -> Option<T> {
        let parsed = at.value.parse();
        if let Err(why) = &parsed {
            self.refuse_as(at, format!("{what}: {why}"));
        }
        parsed.ok()
    }

    fn template(&mut self, at: &At<String>, path: &PathPattern) -> Option<PathTemplate> {
        let parsed = PathTemplate::parse(&at.value, path);
        if let Err(why) = &parsed {
            self.refuse_as(at, format!("a path for the upstream: {why}"));
        }
        parsed.ok()
    }

    fn target(&mut self, at: &At<Table<RawRoute>>) -> Option<Target> {
        match (&at.value.upstream, &at.value.target) {
            (Some(upstream), None) => {
                self.known_upstream(upstream);
                Some(Target::Upstream(upstream.value.clone()))
            }
            (None, Some(At { value: Word(RawTarget::Echo), .. })) => Some(Target::Echo),
            (None, Some(At { value: Word(RawTarget::Filters), .. })) => Some(Target::Filters),
            (None, Some(At { value: Word(RawTarget::Static), .. })) => self.static_files(at).map(Target::Static),
            (Some(_), Some(target)) => {
                self.refuse(target, "a route has either upstream or target; remove one of them");
                None
            }
            (None, None) => {
                if !self.has_wrong(at, "target") {
                    self.refuse_key(
                        Some(at),
                        "upstream",
                        "missing; write upstream = \"name\", or target = \"filters\", \"echo\" or \"static\"",
                    );
                }
                None
            }
        }
    }

    fn chain(&mut self, at: &At<Table<RawRoute>>) -> ChainSource {
        let raw = &at.value;
        let grace = Duration::from_secs(10);
        let removal_grace = self.time(raw.removal_grace.as_ref(), grace, Duration::ZERO);
        let names = raw.filters.as_ref().map(|names| self.filter_names(names, Presence::Needed)).unwrap_or_default();
        let required = raw.required_filters.as_ref();
        let required_names = required.map(|names| self.filter_names(names, Presence::Later)).unwrap_or_default();
        if let Some(folder) = &raw.filters_folder {
            if let Some(filters) = &raw.filters {
                self.refuse(filters, "a route has either filters or filters_folder; remove one of them");
            }
            return ChainSource::Folder { path: self.folder(folder), required: required_names, removal_grace };
        }
        const ALONE: &str = "is only for a route with filters_folder; remove it";
        if let Some(required) = required
            && !self.has_wrong(at, "filters_folder")
        {
            self.refuse(required, ALONE);
        }
        if let Some(grace) = &raw.removal_grace
            && !self.has_wrong(at, "filters_folder")
        {
            self.refuse(grace, ALONE);
        }
        ChainSource::Names(names)
    }

    pub(super) fn folder(&mut self, at: &At<String>) -> PathBuf {
        let path = self.path(at);
        if !path.is_dir() {
            self.refuse_as(at, format!("a folder: there is no folder {}", path.display()));
        }
        path
    }

    fn limits(&mut self, at: &At<Table<RawRoute>>) -> SessionLimits {
        let raw = &at.value;
        let default = SessionLimits::default();
        let payload = |checker: &mut Self, raw, default| checker.size(raw, default, 1..=MAX_PAYLOAD_BYTES);
        let client = payload(self, raw.client_max_payload.as_ref(), default.client_max_payload_bytes);
        let upstream = payload(self, raw.upstream_max_payload.as_ref(), default.upstream_max_payload_bytes);
        let largest = client.max(upstream);
        let queue = self.size(raw.queue_max_size.as_ref(), default.queue_max_bytes.max(largest), 1..=MAX_QUEUE_BYTES);
        let (larger, other) = match client > upstream {
            true => ("client_max_payload", "upstream_max_payload"),
            false => ("upstream_max_payload", "client_max_payload"),
        };
        if let Some(size) = &raw.queue_max_size
            && queue < largest
            && !self.has_wrong(at, larger)
            && !self.has_wrong(at, other)
        {
            self.refuse_as(size, format!("accepted; write at least {:?}, which is {larger}", show_size(largest)));
        }
        SessionLimits {
            client_max_payload_bytes: client,
            upstream_max_payload_bytes: upstream,
            queue_max_bytes: queue,
            overflow: raw.overflow.map_or(default.overflow, |word| word.0),
            push_overflow: raw.push_overflow.map_or(default.push_overflow, |word| word.0),
            handshake_timeout: self.time(raw.handshake_timeout.as_ref(), default.handshake_timeout, MILLISECOND),
            send_timeout: self.time(raw.send_timeout.as_ref(), default.send_timeout, MILLISECOND),
            ping_interval: self.time_or_off(raw.ping_interval.as_ref(), default.ping_interval),
            pong_timeout: self.time(raw.pong_timeout.as_ref(), default.pong_timeout, MILLISECOND),
            idle_timeout: self.time_or_off(raw.idle_timeout.as_ref(), default.idle_timeout),
            max_connection_duration: self
                .time_or_off(raw.max_connection_duration.as_ref(), default.max_connection_duration),
        }
    }

    fn warn_of_covered(&mut self, routes: &[Placed<'_>]) {
        for (index, (at, route)) in routes.iter().enumerate() {
            if let Some((first, earlier)) = routes[..index].iter().find(|(_, earlier)| earlier.covers(route)) {
                let line = self.document.position(&first.span).line;
                self.warn(
                    at,
                    format!(
                        "this route can never match: the route {:?} (line {line}) before it takes every such request",
                        earlier.name
                    ),
                );
            }
        }
    }
}

/// Host and path; a second route for the same requests has a number behind it. Names that users give have no slash.
fn derived_name(route: &Route, names: &mut BTreeMap<String, usize>) -> String {
    let host = route.host.as_ref().map(ToString::to_string).unwrap_or_default();
    let name = format!("{host}{}", route.path);
    let count = names.entry(name.clone()).and_modify(|count| *count += 1).or_insert(1);
    if *count == 1 { name } else { format!("{name}#{count}") }
}
