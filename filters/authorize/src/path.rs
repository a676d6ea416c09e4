//! Paths and queries as an upstream may read them.

/// The path with its percent-encodings resolved once, without empty and dot segments: `//a/./x/../%62` is `/a/b`. Rules
/// look at this form, so that another spelling of a path does not pass them by.
pub(crate) fn normal(path: &str) -> String {
    let decoded = decoded(path, false);
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    let mut normal = format!("/{}", segments.join("/"));
    let open_end = ["/", "/.", "/.."].iter().any(|end| decoded.ends_with(end));
    if open_end && normal.len() > 1 {
        normal.push('/');
    }
    normal
}

/// The parameters of a query, decoded as those of forms are.
pub(crate) fn parameters(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name, true), decoded(value, true))
    })
}

/// Percent-encodings resolved; what is none stays, what is no UTF-8 then becomes `�`.
fn decoded(text: &str, plus_is_space: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        match rest {
            [] => break,
            [b'%', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                bytes.push(hex(*high) << 4 | hex(*low));
                rest = tail;
            }
            [b'+', tail @ ..] if plus_is_space => {
                bytes.push(b' ');
                rest = tail;
            }
            [byte, tail @ ..] => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The value of a digit that is one.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20).wrapping_sub(b'a').wrapping_add(10),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_a_path_become_one() {
        for path in [
            "/admin/x",
            "//admin//x",
            "/./admin/x",
            "/a/../admin/x",
            "/%61dmin/x",
            "/%2e/admin/x",
            "/../admin/x",
            "/admin%2Fx",
        ] {
            assert_eq!(normal(path), "/admin/x", "{path}");
        }
        assert_eq!(normal("/"), "/");
        assert_eq!(normal("/.."), "/");
        assert_eq!(normal("/a/"), "/a/");
        assert_eq!(normal("/a/b/.."), "/a/");
        assert_eq!(normal("/%zz%4"), "/%zz%4");
        assert_eq!(normal("/%ff"), "/\u{fffd}");
    }

    #[test]
    fn parameters_are_decoded() {
        let read = |query| parameters(query).collect::<Vec<_>>();
        assert_eq!(read("a=1&b=x%20y+z&c&=d&&a=2%3D").len(), 5);
        assert_eq!(read("a=1&a=2%3D")[1], ("a".to_owned(), "2=".to_owned()));
        assert_eq!(read("b=x%20y+z")[0].1, "x y z");
    }

    proptest! {
        #[test]
        fn a_normal_path_stays_as_it_is(path in "(/|[a-c.]|%2e|%2f){0,16}") {
            let once = normal(&path);
            prop_assert!(once.starts_with('/') && !once.contains("//") && !once.contains("/../"));
            prop_assert_eq!(normal(&once), once);
        }
    }
}
