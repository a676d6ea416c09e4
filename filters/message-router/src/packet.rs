//! Socket.IO packets (protocol version 5) in Engine.IO messages (version 4).

/// The JSON array of an event: `42["name",…]`, also with a namespace and a number to acknowledge, `42/admin,7["name"]`.
///
/// None for every other packet. Among them are events with binary attachments: those follow in messages of their own, and
/// all have to go the same way.
pub(crate) fn event(text: &str) -> Option<&str> {
    let packet = text.strip_prefix("42")?;
    let packet = match packet.starts_with('/') {
        true => packet.split_once(',')?.1,
        false => packet,
    };
    let payload = packet.trim_start_matches(|digit: char| digit.is_ascii_digit());
    payload.starts_with('[').then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::event;

    #[test]
    fn events_have_an_array() {
        assert_eq!(event(r#"42["a",1]"#), Some(r#"["a",1]"#));
        assert_eq!(event(r#"42/admin,["a"]"#), Some(r#"["a"]"#));
        assert_eq!(event(r#"4217["a"]"#), Some(r#"["a"]"#));
        assert_eq!(event(r#"42/admin,17["a"]"#), Some(r#"["a"]"#));
    }

    #[test]
    fn other_packets_are_left_alone() {
        for other in [
            "2",
            "3",
            "40",
            "40/admin,{}",
            "41",
            "43[1]",
            r#"451-["a",{"_placeholder":true,"num":0}]"#,
            "42",
            "42/admin",
            "42{}",
            "",
        ] {
            assert_eq!(event(other), None, "{other}");
        }
    }
}
