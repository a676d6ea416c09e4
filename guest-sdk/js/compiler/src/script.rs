//! The source that came in.

/// The longest source. What is generated may be long; a filter that people write has a hundredth of it.
pub(crate) const SOURCE_BYTES: u64 = 1 << 20;

/// What wants requests, where it is not the SDK's `wsgate/http`.
const HTTP_CLIENT: &str = "wsgate:filter/http-client";

/// A script and what errors call it.
pub(crate) struct Script {
    pub(crate) name: String,
    pub(crate) source: String,
}

impl Script {
    /// Refuses what cannot be JavaScript.
    pub(crate) fn new(name: String, source: Vec<u8>) -> Result<Self, String> {
        if source.len() as u64 > SOURCE_BYTES {
            return Err(format!("{name}: it is larger than {} MiB", SOURCE_BYTES >> 20));
        }
        match String::from_utf8(source) {
            Ok(source) => {
                Ok(Self { name, source: source.strip_prefix('\u{feff}').map_or_else(|| source.clone(), str::to_owned) })
            }
            Err(error) => {
                let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
                let column = 1 + valid.iter().rev().take_while(|byte| **byte != b'\n').count();
                Err(format!("{name}:{line}:{column}: not UTF-8 text"))
            }
        }
    }

    /// Does it name the import itself?
    pub(crate) fn names_http_client(&self) -> bool {
        self.source.contains(HTTP_CLIENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_refused_with_its_place() {
        let refused = |source: &[u8]| Script::new("a.js".to_owned(), source.to_vec()).err();
        assert_eq!(refused(b"let a;\nlet \xff").as_deref(), Some("a.js:2:5: not UTF-8 text"));
        assert_eq!(refused(b"let a = '\xc3\xa4';"), None);
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let refused = |bytes: u64| Script::new("a.js".to_owned(), vec![b' '; bytes as usize]).err();
        assert_eq!(refused(SOURCE_BYTES), None);
        assert_eq!(refused(SOURCE_BYTES + 1).as_deref(), Some("a.js: it is larger than 1 MiB"));
    }

    #[test]
    fn a_mark_at_the_beginning_is_no_source() {
        let script = Script::new("a.js".to_owned(), "\u{feff}let a;".into()).map(|script| script.source);
        assert_eq!(script.as_deref(), Ok("let a;"));
    }
}
