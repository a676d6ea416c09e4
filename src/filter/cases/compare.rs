//! What happened beside what was expected.

use std::ops::Range;

use super::{
    expect::Expect,
    format::{Admission, HeaderEdits, Opening, Refused},
    payload::{shown, shown_bytes},
    report::{CaseReport, Lines, Mismatch},
    step::{Input, Step},
};
use crate::{
    filter::{self, Edits, Effect, FaultRecord, NotAdmitted, recorder::Record},
    message::{CloseFrame, Direction},
};

/// What `open` came to.
pub(super) enum Opened {
    Admitted(filter::Admission),
    NotAdmitted(NotAdmitted),
    /// There is no generation that could be asked.
    NotLoaded(String),
}

/// What a step came to.
pub(super) enum Outgoing {
    Effects(Vec<Effect>),
    Moved,
    Kept,
    /// The generation to move to could not be made.
    NotLoaded(String),
    /// The filter wants no ticks.
    NoTick,
    /// The end, as the step wanted it.
    Closed,
}

/// Collects what differs.
pub(super) struct Judge<'t> {
    pub(super) lines: Lines<'t>,
    /// What is being looked at, such as `step 2 (message)`.
    place: String,
    pub(super) mismatches: Vec<Mismatch>,
    notes: Vec<String>,
}

impl<'t> Judge<'t> {
    pub(super) fn new(lines: Lines<'t>) -> Self {
        Self { lines, place: "open".to_owned(), mismatches: Vec::new(), notes: Vec::new() }
    }

    pub(super) fn failed(&self) -> bool {
        !self.mismatches.is_empty()
    }

    pub(super) fn report(self, name: &str, line: usize) -> CaseReport {
        let notes = if self.mismatches.is_empty() { Vec::new() } else { self.notes };
        CaseReport { name: name.to_owned(), line, mismatches: self.mismatches, notes }
    }

    /// From now on this step is looked at. Answers its line.
    pub(super) fn enter(&mut self, index: usize, step: &Step, place: &Range<usize>) -> usize {
        let name = step.name.as_ref().map(|name| format!(" {name:?}")).unwrap_or_default();
        self.place = format!("step {}{name} ({})", index + 1, step.input.label());
        self.lines.line(place)
    }

    pub(super) fn differs(&mut self, line: usize, key: &str, expected: impl Into<String>, got: impl Into<String>) {
        let what = if key.is_empty() { self.place.clone() } else { format!("{}: {key}", self.place) };
        self.mismatches.push(Mismatch { line, what, expected: expected.into(), got: got.into(), hint: None });
    }

    pub(super) fn over(&mut self, line: usize) {
        self.differs(line, "", "an open connection", "it was closed by an earlier step");
    }

    pub(super) fn no_such_store(&mut self, key: &str, store: &str, line: usize) {
        self.differs(line, key, "a store that `allow.key_value` names", store);
    }

    pub(super) fn not_stored(&mut self, store: &str, key: &str, why: &str, line: usize) {
        self.differs(line, &format!("given.stores.{store}.{key}"), "an entry that fits", why);
    }

    /// Keeps what may explain a difference.
    pub(super) fn note(&mut self, record: &Record) {
        self.notes.extend(record.faults.iter().map(fault_words));
        let denied = |(import, asked): &(&str, String)| format!("denied by `allow`: {import} {asked}");
        self.notes.extend(record.denied.iter().map(denied));
        self.notes.extend(record.lines.iter().map(|line| format!("log: {line}")));
    }

    /// A fault of `open` that nobody expects.
    pub(super) fn faults_of_open(&mut self, opening: &Opening, record: &Record, line: usize) {
        self.note(record);
        match (opening, record.faults.first()) {
            (Opening::Error(text), Some(_)) if has(record, text.get_ref()) => {}
            (Opening::Error(text), _) => {
                let got = record.faults.first().map_or_else(|| "no error".to_owned(), fault_words);
                let expected = format!("an error that contains {:?}", text.get_ref());
                self.differs(self.lines.line(&text.span()), "error", expected, got);
            }
            (Opening::Admitted(_) | Opening::Refused(_), Some(fault)) => {
                self.differs(line, "", "no fault", fault_words(fault));
            }
            (Opening::Admitted(_) | Opening::Refused(_), None) => {}
        }
    }

    pub(super) fn opening(&mut self, opening: &Opening, opened: &Opened, line: usize) {
        match (opening, opened) {
            (Opening::Admitted(None), Opened::Admitted(_)) => {}
            (Opening::Admitted(Some(expected)), Opened::Admitted(found)) => {
                self.admission(expected.get_ref(), found, self.lines.line(&expected.span()));
            }
            (Opening::Refused(expected), Opened::NotAdmitted(NotAdmitted::Refused { status, headers, body, .. })) => {
                let at = self.lines.line(&expected.span());
                self.refusal(expected.get_ref(), status.as_u16(), headers, body, at);
            }
            (Opening::Error(text), Opened::NotLoaded(why)) if why.contains(text.get_ref()) => {}
            // What was a fault has been said already.
            (Opening::Error(_), Opened::Admitted(_) | Opened::NotAdmitted(_)) => {}
            (_, Opened::NotAdmitted(NotAdmitted::Fault { .. })) if self.failed() => {}
            (opening, opened) => {
                let (at, key, expected) = match opening {
                    Opening::Admitted(_) => (line, "", "admitted".to_owned()),
                    Opening::Refused(refused) => {
                        (self.lines.line(&refused.span()), "refused", format!("status {}", refused.get_ref().status))
                    }
                    Opening::Error(text) => {
                        (self.lines.line(&text.span()), "error", format!("an error that contains {:?}", text.get_ref()))
                    }
                };
                self.differs(at, key, expected, opened.words());
            }
        }
    }

    fn admission(&mut self, expected: &Admission, found: &filter::Admission, line: usize) {
        let edits = [
            ("upstream_headers", &expected.upstream_headers, &found.upstream_headers),
            ("client_headers", &expected.client_headers, &found.client_headers),
        ];
        for (key, expected, found) in edits {
            let (Some(expected), found) = (expected, edit_words(found)) else { continue };
            let expected = expected_edit_words(expected);
            if expected != found {
                self.differs(line, &format!("admission.{key}"), expected, found);
            }
        }
        let texts = [
            ("subprotocol", &expected.subprotocol, &found.subprotocol),
            ("upstream", &expected.upstream, &found.upstream),
        ];
        for (key, expected, found) in texts {
            if expected.is_some() && expected != found {
                let words = |text: &Option<String>| text.as_ref().map_or_else(|| "none".to_owned(), Clone::clone);
                self.differs(line, &format!("admission.{key}"), words(expected), words(found));
            }
        }
        if let Some(expected) = &expected.tags {
            let found = found.tags.iter().cloned().collect();
            if *expected != found {
                self.differs(line, "admission.tags", format!("{expected:?}"), format!("{found:?}"));
            }
        }
    }

    fn refusal(
        &mut self,
        expected: &Refused,
        status: u16,
        headers: &[(http::HeaderName, http::HeaderValue)],
        body: &[u8],
        line: usize,
    ) {
        if expected.status != status {
            self.differs(line, "refused.status", expected.status.to_string(), status.to_string());
        }
        if let Some(wanted) = &expected.body
            && !wanted.matches_bytes(body)
        {
            self.differs(line, "refused.body", wanted.to_string(), shown_bytes(body));
        }
        for (name, value) in &expected.headers {
            let named = headers.iter().find(|(found, _)| found.as_str().eq_ignore_ascii_case(name));
            let found = named.map(|(_, value)| String::from_utf8_lossy(value.as_bytes()).into_owned());
            if found.as_ref() != Some(value) {
                let found = found.unwrap_or_else(|| "none".to_owned());
                self.differs(line, &format!("refused.headers.{name}"), value, found);
            }
        }
    }

    /// What a step came to.
    pub(super) fn outcome(&mut self, step: &Step, outgoing: &Outgoing, record: &Record, line: usize) {
        self.note(record);
        let (expect, at) = match &step.expect {
            Some(expect) => (Some(expect.get_ref()), self.lines.line(&expect.span())),
            None => (None, line),
        };
        if let Some(Expect::Error(text)) = expect {
            let refused = matches!(outgoing, Outgoing::NotLoaded(why) if why.contains(text));
            if !refused && !has(record, text) {
                let got = record.faults.first().map_or_else(|| outgoing.words(&step.input), fault_words);
                self.differs(at, "expect", format!("an error that contains {text:?}"), got);
            }
            return;
        }
        if let Some(fault) = record.faults.first() {
            let expected = expect.map_or_else(|| "no fault".to_owned(), Expect::words);
            self.differs(at, "expect", expected, fault_words(fault));
            return;
        }
        let fits = match (expect, outgoing) {
            (None | Some(Expect::Moved), Outgoing::Moved) | (Some(Expect::Kept), Outgoing::Kept) => true,
            (None, Outgoing::Closed) => true,
            (None, Outgoing::Effects(effects)) => {
                !(matches!(step.input, Input::Reload(_)) && matches!(effects[..], [Effect::Close { .. }]))
            }
            (Some(expect), Outgoing::Effects(effects)) => expect.fits(&step.input, effects),
            (_, Outgoing::NoTick | Outgoing::Moved | Outgoing::Kept | Outgoing::NotLoaded(_) | Outgoing::Closed) => {
                false
            }
        };
        if !fits {
            let expected = expect.map_or_else(|| step.input.usual().to_owned(), Expect::words);
            self.differs(at, "expect", expected, outgoing.words(&step.input));
            if let (Some(mismatch), Some(expect), Outgoing::Effects(effects)) =
                (self.mismatches.last_mut(), expect, outgoing)
            {
                mismatch.hint = expect.hint(effects);
            }
        }
    }
}

fn has(record: &Record, text: &str) -> bool {
    record.faults.iter().any(|fault| fault.cause.contains(text))
}

fn fault_words(fault: &FaultRecord) -> String {
    let trace = if fault.trace.is_empty() { String::new() } else { format!(" ({})", fault.trace.join(" < ")) };
    format!("fault in {} ({}): {}{trace}", fault.hook, fault.kind, fault.cause)
}

fn edit_words(edits: &Edits) -> String {
    let mut words: Vec<_> = edits.remove.iter().map(|name| format!("remove {name}")).collect();
    let value = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    words.extend(edits.set.iter().map(|(name, found)| format!("set {name}: {}", value(found))));
    words.extend(edits.append.iter().map(|(name, found)| format!("append {name}: {}", value(found))));
    words.sort();
    if words.is_empty() { "no edits".to_owned() } else { words.join(", ") }
}

fn expected_edit_words(edits: &HeaderEdits) -> String {
    let lower = str::to_ascii_lowercase;
    let mut words: Vec<_> = edits.remove.iter().map(|name| format!("remove {}", lower(name))).collect();
    words.extend(edits.set.iter().map(|(name, value)| format!("set {}: {value}", lower(name))));
    words.extend(edits.append.iter().map(|(name, value)| format!("append {}: {value}", lower(name))));
    words.sort();
    if words.is_empty() { "no edits".to_owned() } else { words.join(", ") }
}

impl Opened {
    fn words(&self) -> String {
        match self {
            Self::Admitted(_) => "admitted".to_owned(),
            Self::NotLoaded(why) => format!("not loaded: {why}"),
            Self::NotAdmitted(NotAdmitted::Refused { status, body, .. }) => {
                format!("refused with status {}, body {}", status.as_u16(), shown_bytes(body))
            }
            Self::NotAdmitted(NotAdmitted::Fault { .. }) => "a fault of the filter (500)".to_owned(),
            Self::NotAdmitted(
                NotAdmitted::Closed { .. } | NotAdmitted::Capacity { .. } | NotAdmitted::Client { .. },
            ) => "no room for the connection (503)".to_owned(),
        }
    }
}

impl Outgoing {
    fn words(&self, input: &Input) -> String {
        match self {
            Self::Moved => "moved".to_owned(),
            Self::Kept => "kept".to_owned(),
            Self::NotLoaded(why) => format!("not loaded: {why}"),
            Self::NoTick => "the filter's interest has no tick-ms".to_owned(),
            Self::Closed => "closed".to_owned(),
            Self::Effects(effects) => effect_words(input, effects),
        }
    }
}

/// In the words of the file, where it has any.
fn effect_words(input: &Input, effects: &[Effect]) -> String {
    let sent = match input {
        Input::Message(direction, payload) => Some((*direction, payload.message())),
        Input::Delivery { message, .. } => Some((Direction::ToClient, message.message())),
        Input::Tick | Input::Identity(_) | Input::Reload(_) | Input::Close { .. } => None,
    };
    match (effects, &sent) {
        ([], Some(_)) => "drop".to_owned(),
        ([], None) => "nothing".to_owned(),
        ([Effect::Send(to, found)], Some((direction, message))) if to == direction && found == message => {
            "forward".to_owned()
        }
        ([Effect::Send(to, found)], Some((direction, _))) if to == direction => format!("replace: {}", shown(found)),
        ([Effect::Send(_, found)], Some(_)) => format!("reply: {}", shown(found)),
        ([Effect::Close { frame, .. }], _) => frame_words(frame),
        (effects, _) => {
            let words = effects.iter().map(|effect| match effect {
                Effect::Send(direction, message) => format!("{}: {}", direction.label(), shown(message)),
                Effect::Route { upstream, message } => format!("route to {upstream}: {}", shown(message)),
                Effect::Close { frame, .. } => frame_words(frame),
            });
            words.collect::<Vec<_>>().join("; ")
        }
    }
}

pub(super) fn frame_words(frame: &CloseFrame) -> String {
    format!("close {} {:?}", frame.code_or_1005(), frame.reason)
}

pub(super) fn closing_words(code: u16, reason: Option<&str>) -> String {
    reason.map_or_else(|| format!("close {code}"), |reason| format!("close {code} {reason:?}"))
}

impl Input {
    /// What is expected where nothing is written.
    fn usual(&self) -> &'static str {
        match self {
            Self::Reload(_) => "moved",
            Self::Tick => "a tick",
            Self::Message(..) | Self::Delivery { .. } | Self::Identity(_) | Self::Close { .. } => "anything",
        }
    }
}
