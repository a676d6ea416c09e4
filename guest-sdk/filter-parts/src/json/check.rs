//! The grammar, without recursion: the open arrays and objects are bits of one number.

use super::Invalid;

/// The arrays and objects that are open, the innermost in the lowest bit: 1 is an object.
struct Open {
    kinds: u128,
    depth: u8,
    max_depth: u8,
}

impl Open {
    fn push(&mut self, object: bool) -> Result<(), Invalid> {
        if self.depth >= self.max_depth {
            return Err(Invalid::TooDeep);
        }
        self.depth += 1;
        self.kinds = self.kinds << 1 | u128::from(object);
        Ok(())
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.kinds >>= 1;
    }

    fn in_object(&self) -> bool {
        self.kinds & 1 == 1
    }
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

pub(super) fn check(bytes: &[u8], max_depth: u8) -> Result<(), Invalid> {
    let mut scan = Scan { bytes, at: 0 };
    let mut open = Open { kinds: 0, depth: 0, max_depth };
    loop {
        scan.space();
        let empty = match scan.peek() {
            Some(b'{') => {
                scan.at += 1;
                open.push(true)?;
                scan.space();
                let empty = scan.take(b'}');
                if !empty {
                    scan.key()?;
                }
                empty
            }
            Some(b'[') => {
                scan.at += 1;
                open.push(false)?;
                scan.space();
                scan.take(b']')
            }
            _ => {
                scan.scalar()?;
                if scan.closes(&mut open)? {
                    return Ok(());
                }
                continue;
            }
        };
        if empty {
            open.pop();
            if scan.closes(&mut open)? {
                return Ok(());
            }
        }
    }
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn wrong<T>(&self) -> Result<T, Invalid> {
        Err(Invalid::Syntax { at: self.at })
    }

    /// Behind a value: closes what ends here. True at the end of the text, else the next value follows.
    fn closes(&mut self, open: &mut Open) -> Result<bool, Invalid> {
        loop {
            self.space();
            if open.depth == 0 {
                return if self.at == self.bytes.len() { Ok(true) } else { self.wrong() };
            }
            match (self.peek(), open.in_object()) {
                (Some(b','), object) => {
                    self.at += 1;
                    if object {
                        self.space();
                        self.key()?;
                    }
                    return Ok(false);
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    self.at += 1;
                    open.pop();
                }
                _ => return self.wrong(),
            }
        }
    }

    fn key(&mut self) -> Result<(), Invalid> {
        if self.peek() != Some(b'"') {
            return self.wrong();
        }
        self.string()?;
        self.space();
        if self.take(b':') { Ok(()) } else { self.wrong() }
    }

    fn scalar(&mut self) -> Result<(), Invalid> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            _ => self.wrong(),
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Invalid> {
        let found = self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word));
        if !found {
            return self.wrong();
        }
        self.at += word.len();
        Ok(())
    }

    fn string(&mut self) -> Result<(), Invalid> {
        self.at += 1;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let plain = rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20);
            let Some(plain) = plain else {
                self.at = self.bytes.len();
                return self.wrong();
            };
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                _ => return self.wrong(),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Invalid> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let digits = self.bytes.get(self.at + 1..self.at + 5);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return self.wrong();
                }
                self.at += 5;
            }
            _ => return self.wrong(),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Invalid> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// At least one.
    fn digits(&mut self) -> Result<(), Invalid> {
        let begin = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at > begin { Ok(()) } else { self.wrong() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::super::{Invalid, Json};

    fn valid(text: &str) -> bool {
        Json::check(text, 100).is_ok()
    }

    #[test]
    fn only_one_whole_value_is_json() {
        for text in ["1", " null ", "\"\"", "[]", "{}", "[1,2 , 3]", r#"{"a":{"b":[{}]},"c":-1.5e+7}"#, "\t[\n]\r"] {
            assert!(valid(text), "{text}");
        }
        for text in [
            "",
            " ",
            "{",
            "}",
            "[",
            "]",
            "[1,]",
            "{,}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            "{a:1}",
            "[}",
            "{]",
            "1 2",
            "{} {}",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "tru",
            "nul",
            "True",
            "\"",
            "\"\\\"",
            "\"\n\"",
            r#""\x""#,
            r#""\u12g4""#,
            r#""\u123"#,
            "'a'",
            "\u{feff}{}",
            "[1 2]",
            "NaN",
            "/**/1",
        ] {
            assert!(!valid(text), "{text}");
        }
    }

    #[test]
    fn an_error_says_where() {
        assert_eq!(Json::check("[1,x]", 9).unwrap_err(), Invalid::Syntax { at: 3 });
        assert_eq!(Json::check("{} x", 9).unwrap_err().to_string(), "no JSON from byte 3 on");
    }

    #[test]
    fn depth_is_bounded_and_does_not_cost_stack() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Json::check(&nested(7), 7).is_ok());
        assert_eq!(Json::check(&nested(8), 7), Err(Invalid::TooDeep));
        assert_eq!(Json::check("[]", 0), Err(Invalid::TooDeep));
        assert!(Json::check(&nested(128), u8::MAX).is_ok());
        assert_eq!(Json::check(&nested(129), u8::MAX), Err(Invalid::TooDeep));
        assert_eq!(Json::check(&"[{\"a\":".repeat(1 << 18), 100), Err(Invalid::TooDeep));
        assert!(Json::check(&format!("[{}1]", "[],{},".repeat(1 << 16)), 2).is_ok());
    }

    /// Texts that are nearly JSON.
    fn nearly() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"a\"", "\"", "\\", "\\u00e9", "\\n", "1", "0", "-", ".5", "e3", "true",
            "null", " ", "\n", "\u{1}", "é", "{\"a\":", "[1,", "\"k\":",
        ]);
        prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn another_parser_agrees(text in nearly()) {
            prop_assert_eq!(valid(&text), serde_json::from_str::<IgnoredAny>(&text).is_ok(), "{}", text);
        }

        #[test]
        fn any_text_is_taken_or_refused(text in ".{0,64}") {
            let _ = Json::check(&text, 4);
        }
    }
}
