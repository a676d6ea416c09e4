use proptest::prelude::*;

use super::*;

fn path(text: &str) -> PathPattern {
    text.parse().unwrap()
}

fn host(text: &str) -> HostPattern {
    text.parse().unwrap()
}

fn parameters(pairs: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    Some(pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[test]
fn literals_match_themselves_alone() {
    assert_eq!(path("/chat").matches("/chat"), parameters(&[]));
    assert_eq!(path("/").matches("/"), parameters(&[]));
    assert_eq!(path("/chat/").matches("/chat/"), parameters(&[]));
    for other in ["/chat/", "/Chat", "/chats", "/cha", "/", "", "chat", "//chat", "/chat/a", "/ch%61t"] {
        assert_eq!(path("/chat").matches(other), None, "{other}");
    }
}

#[test]
fn a_parameter_is_one_segment_that_is_not_empty() {
    assert_eq!(path("/chat/{room}").matches("/chat/a%2Fb"), parameters(&[("room", "a%2Fb")]));
    assert_eq!(path("/{a}/x/{b}").matches("/1/x/2"), parameters(&[("a", "1"), ("b", "2")]));
    for other in ["/chat", "/chat/", "/chat/a/", "/chat/a/b", "/chat//"] {
        assert_eq!(path("/chat/{room}").matches(other), None, "{other}");
    }
}

#[test]
fn a_trailing_star_takes_the_rest_even_if_it_is_empty() {
    assert_eq!(path("/files/*").matches("/files/"), parameters(&[("*", "")]));
    assert_eq!(path("/files/*").matches("/files/a//b/"), parameters(&[("*", "a//b/")]));
    assert_eq!(path("/{a}/*").matches("/x/y"), parameters(&[("a", "x"), ("*", "y")]));
    assert_eq!(path("/*").matches("/"), parameters(&[("*", "")]));
    assert_eq!(path("/files/*").matches("/files"), None);
    assert_eq!(path("/*").matches("*"), None);
}

#[test]
fn dot_segments_match_nothing_in_any_spelling() {
    let spellings = ["..", ".", "%2e%2E", ".%2e", "a%2f..", "..%5Cb", "..\\b", "a/../b", "%2E/b"];
    for spelling in spellings {
        assert_eq!(path("/files/*").matches(&format!("/files/{spelling}")), None, "{spelling}");
    }
    for innocent in ["...", ".a", "a..b", "v1.2", "%2e%2e%2e"] {
        assert!(path("/files/*").matches(&format!("/files/{innocent}")).is_some(), "{innocent}");
    }
}

#[test]
fn bad_patterns_are_refused_with_their_reason() {
    use PathPatternError as E;
    let bad = [
        ("", E::NoLeadingSlash),
        ("chat", E::NoLeadingSlash),
        ("*", E::NoLeadingSlash),
        ("/a//b", E::EmptySegment),
        ("//*", E::EmptySegment),
        ("/../a", E::DotSegment("..".into())),
        ("/%2E", E::DotSegment("%2E".into())),
        ("/a*", E::MisplacedWildcard),
        ("/*/a", E::MisplacedWildcard),
        ("/**", E::MisplacedWildcard),
        ("/{}", E::BadParameter("{}".into())),
        ("/{room", E::BadParameter("{room".into())),
        ("/room}", E::BadParameter("room}".into())),
        ("/a{room}", E::BadParameter("a{room}".into())),
        ("/{*}", E::BadParameter("{*}".into())),
        ("/{a}/{a}", E::DuplicateParameter("a".into())),
        ("/a b", E::BadCharacter(' ')),
        ("/a?b=1", E::BadCharacter('?')),
        ("/é", E::BadCharacter('é')),
    ];
    for (text, error) in bad {
        assert_eq!(text.parse::<PathPattern>(), Err(error), "{text}");
    }
    assert_eq!(format!("/{}", "a".repeat(1024)).parse::<PathPattern>(), Err(E::TooLong));
}

#[test]
fn a_template_puts_parameters_where_it_names_them() {
    let pattern = path("/chat/{room}/{user}/*");
    let matched = pattern.matches("/chat/blue/eve/a/b").unwrap();
    let rendered = |text| PathTemplate::parse(text, &pattern).unwrap().render(&matched);
    assert_eq!(rendered("/v2/{user}/in-{room}.{user}/*"), "/v2/eve/in-blue.eve/a/b");
    assert_eq!(rendered("/"), "/");
    assert_eq!(rendered("/*"), "/a/b");
}

#[test]
fn bad_templates_are_refused_with_their_reason() {
    use PathTemplateError as E;
    let bad = [
        ("v2", E::NoLeadingSlash),
        ("/{user}", E::UnknownParameter("user".into())),
        ("/v2/*", E::UnknownParameter("*".into())),
        ("/*/a", E::MisplacedWildcard),
        ("/a*", E::MisplacedWildcard),
        ("/{room", E::BadParameter),
        ("/room}", E::BadParameter),
        ("/{}", E::BadParameter),
        ("/a/../{room}", E::DotSegment),
        ("/a?room={room}", E::BadCharacter('?')),
    ];
    for (text, error) in bad {
        assert_eq!(PathTemplate::parse(text, &path("/{room}")), Err(error), "{text}");
    }
    assert_eq!(PathTemplate::parse(&format!("/{}", "a".repeat(1024)), &path("/")), Err(E::TooLong));
}

#[test]
fn hosts_match_whatever_their_case_and_trailing_dot() {
    assert!(host("Chat.example.com").matches("chat.EXAMPLE.com"));
    assert!(host("chat.example.com.").matches("chat.example.com"));
    assert!(host("chat.example.com").matches("chat.example.com."));
    assert!(host("[::1]").matches("::1") && host("0::1").matches("[::1]"));
    assert!(!host("chat.example.com").matches("example.com"));
    assert!(!host("chat.example.com").matches("chat.example.com.evil.net"));
}

#[test]
fn a_suffix_matches_below_it_only() {
    assert!(host("*.example.com").matches("a.Example.com"));
    assert!(host("*.example.com").matches("a.b.example.com"));
    for other in ["example.com", ".example.com", "aexample.com", "example.com.evil.net", "", "é.net"] {
        assert!(!host("*.example.com").matches(other), "{other}");
    }
}

#[test]
fn bad_hosts_are_refused_with_their_reason() {
    use HostPatternError as E;
    let bad = [
        ("", E::Empty),
        ("example.com:80", E::Port),
        ("[::1]:80", E::Port),
        ("*", E::MisplacedWildcard),
        ("*example.com", E::MisplacedWildcard),
        ("a.*.com", E::MisplacedWildcard),
        ("a..b", E::NotAHost),
        ("-a.com", E::NotAHost),
        ("é.com", E::NotAHost),
        ("https://example.com", E::NotAHost),
        ("[::1", E::NotAHost),
        ("*.", E::NotAHost),
    ];
    for (text, error) in bad {
        assert_eq!(text.parse::<HostPattern>(), Err(error), "{text}");
    }
}

/// Two letters and the odd cases are enough: what matters is how many segments there are and which are empty.
fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["", "a", "b", "ab", "."]), 1..5)
        .prop_map(|segments| format!("/{}", segments.join("/")))
}

fn any_pattern() -> impl Strategy<Value = PathPattern> {
    (prop::collection::vec(0..3, 0..4), any::<bool>(), any::<bool>()).prop_map(|(kinds, wildcard, slash)| {
        let mut segments: Vec<_> = (0..)
            .zip(kinds)
            .map(|(index, kind)| match kind {
                0 => Segment::Literal("a".to_owned()),
                1 => Segment::Literal("b".to_owned()),
                _ => Segment::Parameter(format!("p{index}")),
            })
            .collect();
        if !wildcard && (slash || segments.is_empty()) {
            segments.push(Segment::Literal(String::new()));
        }
        PathPattern { segments, wildcard }
    })
}

fn any_host() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "aa"]), 1..4).prop_map(|labels| labels.join("."))
}

/// Every path of up to five segments from a small alphabet.
fn small_paths() -> Vec<String> {
    let mut all = vec![String::new()];
    let mut longest = all.clone();
    for _ in 0..5 {
        longest = longest.iter().flat_map(|path| ["", "a", "b", "c"].map(|end| format!("{path}/{end}"))).collect();
        all.extend(longest.iter().cloned());
    }
    all
}

proptest! {
    #[test]
    fn a_pattern_reads_back_as_it_was_written(pattern in any_pattern()) {
        prop_assert_eq!(pattern.to_string().parse::<PathPattern>(), Ok(pattern));
    }

    #[test]
    fn a_pattern_used_as_template_renders_the_path_that_it_matched(pattern in any_pattern(), text in any_path()) {
        if let Some(parameters) = pattern.matches(&text) {
            let template = PathTemplate::parse(&pattern.to_string(), &pattern).unwrap();
            prop_assert_eq!(template.render(&parameters), text);
            prop_assert_eq!(template.to_string(), pattern.to_string());
        }
    }

    #[test]
    fn a_pattern_matches_what_was_rendered_from_it(pattern in any_pattern(), values in prop::collection::vec("[a-z%]{1,4}", 4), rest in "[a-z/]{0,6}") {
        let mut values = values.into_iter();
        let parameters: Vec<_> = pattern
            .parameters()
            .map(|name| (name.to_owned(), if name == REST { rest.clone() } else { values.next().unwrap() }))
            .collect();
        let text = PathTemplate::parse(&pattern.to_string(), &pattern).unwrap().render(&parameters);
        prop_assert_eq!(pattern.matches(&text), Some(parameters));
    }

    #[test]
    fn one_pattern_covers_another_exactly_when_no_path_escapes(first in any_pattern(), second in any_pattern()) {
        let paths = small_paths();
        let escape = paths.iter().find(|path| second.matches(path).is_some() && first.matches(path).is_none());
        prop_assert_eq!(first.covers(&second), escape.is_none(), "{} / {}: {:?}", first, second, escape);
    }

    #[test]
    fn matching_any_text_does_not_panic(pattern in any_pattern(), text in ".*", other in any_host()) {
        let _ = pattern.matches(&text);
        let _ = host(&other).matches(&text);
        let _ = host(&format!("*.{other}")).matches(&text);
        let _ = (text.parse::<PathPattern>(), text.parse::<HostPattern>(), PathTemplate::parse(&text, &pattern));
    }

    #[test]
    fn host_covering_agrees_with_matching(first in any_host(), second in any_host(), star in any::<(bool, bool)>(), text in any_host()) {
        let pattern = |name: &str, star| host(&if star { format!("*.{name}") } else { name.to_owned() });
        let (first, second) = (pattern(&first, star.0), pattern(&second, star.1));
        if first.covers(&second) && second.matches(&text) {
            prop_assert!(first.matches(&text));
        }
    }
}
