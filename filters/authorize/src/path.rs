//! Paths as an upstream may read them.

use filter_parts::query::decoded;

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

    proptest! {
        #[test]
        fn a_normal_path_stays_as_it_is(path in "(/|[a-c.]|%2e|%2f){0,16}") {
            let once = normal(&path);
            prop_assert!(once.starts_with('/') && !once.contains("//") && !once.contains("/../"));
            prop_assert_eq!(normal(&once), once);
        }
    }
}
