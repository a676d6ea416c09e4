//! What goes wrong, or is chosen, outside of messages.

use serde::Deserialize;
use wsgate_sdk::prelude::*;

use crate::Faulty;
use crate::command::{close_info, number};
use crate::fault::Fault;

/// One entry of `modes`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub(crate) enum Mode {
    Init(Fault),
    InitError(String),
    Open(Fault),
    Refuse(Refusal),
    UpstreamHeaders(HeaderEdits),
    ClientHeaders(HeaderEdits),
    Subprotocol(String),
    Upstream(String),
    Tag(String, String),
    Narrow,
    Tick(u32),
    TickFault(Fault),
    TickError,
    Identity,
    Delivery,
    Resume(Fault),
    ResumeClose(CloseInfo),
    ResumeKeep(String),
    Save(usize),
    SaveFault(Fault),
    Close(Fault),
    Always(String),
}

impl Mode {
    /// What this mode does to an admission.
    pub(crate) fn apply_to(&self, admission: &mut Admission<Faulty>) -> Result<(), Refusal> {
        match self {
            Self::Open(fault) => fault.commit("open"),
            Self::Refuse(refusal) => return Err(refusal.clone()),
            Self::UpstreamHeaders(edits) => add(&mut admission.upstream_headers, edits),
            Self::ClientHeaders(edits) => add(&mut admission.client_headers, edits),
            Self::Subprotocol(name) => admission.subprotocol = Some(name.clone()),
            Self::Upstream(name) => admission.upstream = Some(name.clone()),
            Self::Tag(name, value) => admission.tags.push((name.clone(), value.clone())),
            _ => {}
        }
        Ok(())
    }
}

fn add(edits: &mut HeaderEdits, more: &HeaderEdits) {
    edits.set.extend_from_slice(&more.set);
    edits.append.extend_from_slice(&more.append);
    edits.remove.extend_from_slice(&more.remove);
}

impl TryFrom<String> for Mode {
    type Error = Error;

    fn try_from(mode: String) -> Result<Self, Error> {
        let (word, argument) = match mode.split_once(':') {
            Some((word, argument)) => (word, Some(argument)),
            None => (mode.as_str(), None),
        };
        let text = |default: &str| argument.unwrap_or(default).to_owned();
        let pair = || {
            let (name, value) = argument
                .and_then(|argument| argument.split_once(':'))
                .ok_or_else(|| Error::new(format_args!("`{mode}` needs a name and a value")))?;
            Ok::<_, Error>((name.to_owned(), value.to_owned()))
        };
        let edits = HeaderEdits::new();
        Ok(match word {
            "init-error" => Self::InitError(text("init failed")),
            "init-trap" | "init-spin" | "init-grow" | "init-sleep" => Self::Init(Fault::parse(&word[5..], argument)?),
            "open-trap" | "open-spin" | "open-sleep" => Self::Open(Fault::parse(&word[5..], argument)?),
            "refuse" => {
                let info = close_info(argument)?;
                let refusal = Refusal::new(info.code).with_header("x-refused-by", "faulty");
                Self::Refuse(refusal.with_body(info.reason))
            }
            "upstream-header" => Self::UpstreamHeaders(pair().map(|(name, value)| edits.set(name, value))?),
            "client-header" => Self::ClientHeaders(pair().map(|(name, value)| edits.set(name, value))?),
            "append-upstream-header" => Self::UpstreamHeaders(pair().map(|(name, value)| edits.append(name, value))?),
            "append-client-header" => Self::ClientHeaders(pair().map(|(name, value)| edits.append(name, value))?),
            "remove-upstream-header" => Self::UpstreamHeaders(edits.remove(text(""))),
            "remove-client-header" => Self::ClientHeaders(edits.remove(text(""))),
            "subprotocol" => Self::Subprotocol(text("")),
            "upstream" => Self::Upstream(text("")),
            "tag" => pair().map(|(name, value)| Self::Tag(name, value))?,
            "narrow" => Self::Narrow,
            "tick" => Self::Tick(number(argument, 100)?),
            "tick-error" => Self::TickError,
            "tick-trap" | "tick-spin" => Self::TickFault(Fault::parse(&word[5..], argument)?),
            "identity" => Self::Identity,
            "delivery" => Self::Delivery,
            "resume-close" => Self::ResumeClose(close_info(argument.or(Some("4000:not resumed")))?),
            "resume-keep" => Self::ResumeKeep(text("kept")),
            "resume-trap" | "resume-spin" | "resume-sleep" => Self::Resume(Fault::parse(&word[7..], argument)?),
            "save" => Self::Save(number(argument, 16)?),
            "save-trap" | "save-spin" => Self::SaveFault(Fault::parse(&word[5..], argument)?),
            "close-trap" | "close-spin" => Self::Close(Fault::parse(&word[6..], argument)?),
            "always" => Self::Always(text("forward")),
            _ => return Err(Error::new(format_args!("`{mode}` is no mode"))),
        })
    }
}

#[cfg(test)]
mod tests {
    use wsgate_sdk::testing;

    use super::*;

    fn opened(modes: &str) -> Result<Admission<Faulty>, Refusal> {
        let (config, _) = testing::init::<Faulty>(&format!(r#"{{ "modes": {modes} }}"#)).unwrap();
        Faulty::open(&config, &testing::handshake("/"))
    }

    #[test]
    fn modes_add_up_in_an_admission() {
        let admission = opened(r#"["upstream-header:x-a:1", "remove-upstream-header:cookie", "tag:t:v:w"]"#).unwrap();
        assert_eq!(admission.upstream_headers, HeaderEdits::new().set("x-a", "1").remove("cookie"));
        assert_eq!(admission.tags, [("t".to_owned(), "v:w".to_owned())]);
    }

    #[test]
    fn a_refusal_has_its_status_and_body() {
        let refusal = opened(r#"["refuse:403:go away"]"#).unwrap_err();
        assert_eq!((refusal.status, refusal.body.as_slice()), (403, b"go away".as_slice()));
    }

    #[test]
    fn what_is_no_mode_is_refused_at_its_index() {
        let refused = |json| testing::init::<Faulty>(json).unwrap_err().to_string();
        assert_eq!(refused(r#"{ "modes": ["narrow", "wide"] }"#), "modes[1]: `wide` is no mode");
        assert_eq!(refused(r#"{ "mode": "tag:x" }"#), "mode: `tag:x` needs a name and a value");
        assert_eq!(refused(r#"{ "mode": "init-error:nope" }"#), "nope");
    }
}
