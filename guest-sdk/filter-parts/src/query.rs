//! Percent-encoding: queries and paths as an upstream may read them.

/// The parameters of a query, decoded as those of forms are.
pub fn parameters(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name, true), decoded(value, true))
    })
}

/// The text with its percent-encodings resolved; what is none stays, what is no UTF-8 then becomes `�`.
pub fn decoded(text: &str, plus_is_space: bool) -> String {
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
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let read = |query| parameters(query).collect::<Vec<_>>();
        assert_eq!(read("a=1&b=x%20y+z&c&=d&&a=2%3D").len(), 5);
        assert_eq!(read("a=1&a=2%3D")[1], ("a".to_owned(), "2=".to_owned()));
        assert_eq!(read("b=x%20y+z")[0].1, "x y z");
    }

    #[test]
    fn what_is_no_encoding_stays() {
        assert_eq!(decoded("%zz%4%+%C3%a9", false), "%zz%4%+é");
        assert_eq!(decoded("%ff", false), "\u{fffd}");
    }
}
