use proptest::prelude::{Strategy, prop, proptest};

use super::*;

/// `name`, `host` (empty: any), `path`, `path_rewrite` (empty: none).
fn table(routes: &[(&str, &str, &str, &str)]) -> RouteTable {
    let route = |(name, host, path, rewrite): &(&str, &str, &str, &str)| {
        let path: PathPattern = path.parse().unwrap();
        config::Route {
            name: (*name).to_owned(),
            host: (!host.is_empty()).then(|| host.parse().unwrap()),
            path_rewrite: (!rewrite.is_empty()).then(|| PathTemplate::parse(rewrite, &path).unwrap()),
            path,
            target: Target::Echo,
            http: None,
            filters: config::ChainSource::Names(Vec::new()),
            subprotocols: None,
            request_headers: HeaderEdits::default(),
            auth: None,
            claims_to_headers: Vec::new(),
            allowed_origins: crate::config::pattern::OriginRule::DEFAULT.to_vec(),
            limits: SessionLimits::default(),
            traffic: Default::default(),
            auth_request: None,
        }
    };
    let routes: Vec<_> = routes.iter().map(route).collect();
    let metrics = Arc::new(Metrics::new().unwrap());
    RouteTable::of(&routes, false, &Limits::new(&metrics), &metrics, None)
}

fn found(table: &RouteTable, host: &str, path: &str) -> Option<String> {
    table.find(host, path).map(|matched| matched.route.name.clone())
}

#[test]
fn the_first_match_in_file_order_wins() {
    let table = table(&[
        ("exact", "a.example", "/chat/lobby", ""),
        ("room", "a.example", "/chat/{room}", ""),
        ("sub", "*.example", "/chat/{room}", ""),
        ("rest", "", "/*", ""),
    ]);
    let cases = [
        ("a.example", "/chat/lobby", "exact"),
        ("a.example", "/chat/x", "room"),
        ("b.example", "/chat/lobby", "sub"),
        ("other.test", "/chat/lobby", "rest"),
        ("a.example", "/chat", "rest"),
    ];
    for (host, path, expected) in cases {
        assert_eq!(found(&table, host, path).as_deref(), Some(expected), "{host}{path}");
    }
}

#[test]
fn nothing_is_found_beside_the_patterns() {
    let table = table(&[("room", "a.example", "/chat/{room}", ""), ("files", "a.example", "/files/*", "")]);
    for (host, path) in [
        ("b.example", "/chat/x"),
        ("x.a.example", "/chat/x"),
        ("a.example", "/chat"),
        ("a.example", "/chat/"),
        ("a.example", "/chat/x/y"),
        ("a.example", "/Chat/x"),
        ("a.example", "/files/../admin"),
        ("a.example", "/files/%2e%2E/admin"),
        ("a.example", "/files/..%2fadmin"),
        ("a.example", "/files/..\\admin"),
    ] {
        assert_eq!(found(&table, host, path), None, "{host}{path}");
    }
}

#[test]
fn the_upstream_sees_the_rewritten_path_and_the_query_as_it_came() {
    let table = table(&[
        ("rewritten", "", "/chat/{room}", "/v2/rooms-{room}"),
        ("rest", "", "/a/*", "/b/*"),
        ("as-is", "", "/*", ""),
    ]);
    let seen = |path: &str, query| table.find("h", path).unwrap().upstream_path_and_query(path, query);
    assert_eq!(seen("/chat/a%2Fb", Some("x=1?&y")), "/v2/rooms-a%2Fb?x=1?&y");
    assert_eq!(seen("/a/b/c", None), "/b/b/c");
    assert_eq!(seen("/c/d", Some("")), "/c/d?");
}

#[test]
fn subprotocols_of_the_client_are_cut_to_those_of_the_route() {
    let table = table(&[("any", "", "/*", "")]);
    let offered = ["b".to_owned(), "A".to_owned(), "a".to_owned()];
    let mut route = Arc::into_inner(table.routes.into_iter().next().unwrap()).unwrap();
    assert_eq!(route.allowed_subprotocols(&offered), offered);
    route.subprotocols = Some(vec!["a".to_owned(), "b".to_owned()]);
    assert_eq!(route.allowed_subprotocols(&offered), ["b", "a"]);
    route.subprotocols = Some(Vec::new());
    assert!(route.allowed_subprotocols(&offered).is_empty());
}

fn pattern() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", "{p}"]);
    (prop::option::of(segment.clone()), prop::option::of(prop::sample::select(vec!["a", "b", "*"]))).prop_map(
        |(one, two)| format!("/{}{}", one.unwrap_or("c"), two.map(|two| format!("/{two}")).unwrap_or_default()),
    )
}

proptest! {
    #[test]
    fn what_is_found_is_the_first_that_matches_alone(
        patterns in prop::collection::vec(pattern(), 1..6),
        path in "/[abc](/[abc]?){0,2}",
    ) {
        let names: Vec<String> = (0..patterns.len()).map(|n| n.to_string()).collect();
        let all: Vec<_> = names.iter().zip(&patterns).map(|(name, path)| (name.as_str(), "", path.as_str(), "")).collect();
        let first = all.iter().find_map(|route| found(&table(&[*route]), "h", &path));
        assert_eq!(found(&table(&all), "h", &path), first);
    }
}
