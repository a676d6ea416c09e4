//! `guest-faulty`: a filter that misbehaves as it is told. It forwards every message but for its commands.
//!
//! # Configuration
//!
//! `{ "mode": "<mode>", "modes": ["<mode>", …], "direction": "to_upstream" | "to_client" | "both", "label": "<any>" }`.
//! All keys may be absent; `mode` and `modes` add up. `direction` (default `to_upstream`) is the interest: text messages
//! that go this way may be commands. `label` only changes the configuration, for tests of reloads.
//!
//! # Modes: outside of messages
//!
//! Arguments come after colons; those in brackets may be absent, then what follows `=` counts.
//!
//! | mode | effect |
//! |---|---|
//! | `init-error[:text=init failed]` | `init` returns this error |
//! | `init-trap` `init-spin` `init-grow` `init-sleep[:ms=10000]` | `init` panics, never ends, eats memory without end, waits |
//! | `refuse:status[:body]` | `open` refuses; with a header `x-refused-by: faulty` |
//! | `open-trap` `open-spin` `open-sleep[:ms=10000]` | `open` panics, never ends, waits |
//! | `upstream-header:name:value` `client-header:name:value` | `open` sets this header of the request, of the response |
//! | `append-upstream-header:name:value` `append-client-header:name:value` | `open` adds it |
//! | `remove-upstream-header:name` `remove-client-header:name` | `open` removes it |
//! | `subprotocol:name` `upstream:name` `tag:name:value` | `open` chooses these |
//! | `narrow` | `open` and `resume` narrow the interest of the connection to its close |
//! | `tick[:ms=100]` | asks for ticks; the nth sends the text `tick n` to the client |
//! | `tick-error` `tick-trap` `tick-spin` | beside `tick`: the tick returns the error `tick failed`, panics, never ends |
//! | `identity` | a refreshed identity sends the text `identity subject=… scopes=a,b expires=…` to the client |
//! | `delivery` | asks for deliveries; a topic's text message becomes `delivery topic: text` |
//! | `resume-close[:code=4000[:reason=not resumed]]` `resume-keep[:why=kept]` | `resume` rejects |
//! | `resume-trap` `resume-spin` `resume-sleep[:ms=10000]` | `resume` panics, never ends, waits |
//! | `save[:bytes=16]` | `save` returns this many bytes `s`; without it, no state |
//! | `save-trap` `save-spin` `close-trap` `close-spin` | `save` or `on-close` panics, never ends |
//! | `always:command` | every message of either kind is answered as this command would be |
//!
//! `on-close` always writes an info line `closed` with the fields `by`, `code` and `reason`.
//!
//! # Commands: text messages
//!
//! | command | effect |
//! |---|---|
//! | `forward` `drop` `replace:text` `reply:text` `close:code[:reason]` `route:upstream` | this verdict |
//! | `replace-size:bytes` `reply-size:bytes` `replace-binary:bytes` | a message of so many `x`, or of so many zero bytes |
//! | `act:item\|item…`, an item being `client:text`, `upstream:text` or `close:code[:reason]` | these actions, in this order |
//! | `million[:n=1000000]` | `act` with so many one-byte messages to the client |
//! | `error[:text=failed]` | this error is returned |
//! | `trap` `panic[:text=told to]` `exit` | aborts (`unreachable`), panics, calls `exit(1)` |
//! | `spin[:ms]` | computes for this long, or without end |
//! | `recurse` | calls itself without end |
//! | `grow` | takes memory until there is none, and then traps |
//! | `grow-politely` | the same, but replies `got n MiB` and gives it back |
//! | `hold:MiB` | takes memory for as long as the instance lives; replies `held` |
//! | `sleep[:ms=10000]` | waits in a WASI clock; replies `slept` |
//! | `log-flood[:lines=100000]` `log-big[:bytes=33554432]` `log-fields[:n=100000]` | many lines; one big line; one line of many fields |
//! | `stdout-flood[:lines=100000]` `stderr-flood[:lines=100000]` `stdout-big[:bytes=33554432]` | the same by way of WASI |
//! | `metric-flood[:n=100000]` | so many counters, each with a label of its own |
//! | `handles[:n=1000000]` | makes so many handles of the exported resource and drops none |
//! | `reason:label` `log:text` | gives this reason; writes this info line; forwards |
//! | `count` | replies `count n`: the messages of this connection that were seen, this one included |
//! | `instance` | replies `instance opens=n messages=n`: of all connections of this instance |
//! | `resumed` | replies `opened`, or `resumed cause=… state=…` with the length of the state or `none` |
//! | `handshake` | replies the opening request as JSON |
//!
//! The floods forward the message when they are through. A bad argument is an error that is returned.

mod command;
mod fault;
mod mode;
mod report;

use std::cell::Cell;
use std::time::Duration;

use serde::Deserialize;
use wsgate_sdk::prelude::*;

use mode::Mode;

wsgate_sdk::export!(Faulty);

/// The filter's table in `wsgate.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    mode: Option<Mode>,
    #[serde(default)]
    modes: Vec<Mode>,
    #[serde(default = "to_upstream")]
    direction: Directions,
    #[serde(default, rename = "label")]
    _label: String,
}

fn to_upstream() -> Directions {
    Directions::ToUpstream
}

impl Config {
    fn modes(&self) -> impl Iterator<Item = &Mode> {
        self.mode.iter().chain(&self.modes)
    }

    fn has(&self, mode: &Mode) -> bool {
        self.modes().any(|given| given == mode)
    }

    /// The interest of a connection, where it is narrower than that of the filter.
    fn own_interest(&self) -> Option<Interest> {
        self.has(&Mode::Narrow).then(|| Interest::none().and(Hooks::CLOSE))
    }
}

thread_local! {
    static OPENS: Cell<u64> = const { Cell::new(0) };
    static MESSAGES: Cell<u64> = const { Cell::new(0) };
}

/// How a connection came to this instance.
#[derive(Clone, Copy, Debug)]
enum Start {
    Opened,
    Resumed { cause: ResumeCause, state_bytes: Option<usize> },
}

/// One connection.
#[derive(Debug)]
pub struct Faulty {
    config: Rc<Config>,
    handshake: Handshake,
    start: Start,
    messages: u64,
    ticks: u64,
}

impl Faulty {
    fn new(config: &Rc<Config>, handshake: &Handshake, start: Start) -> Self {
        OPENS.set(OPENS.get() + 1);
        Self { config: Rc::clone(config), handshake: handshake.clone(), start, messages: 0, ticks: 0 }
    }
}

impl Filter for Faulty {
    type Config = Config;

    fn interest(config: &Config) -> Result<Interest, Error> {
        let mut interest = Interest::messages(config.direction).and(Hooks::CLOSE);
        for mode in config.modes() {
            match mode {
                Mode::Init(fault) => fault.commit("init"),
                Mode::InitError(text) => return Err(Error::new(text)),
                Mode::Tick(millis) => interest = interest.with_tick(Duration::from_millis((*millis).into())),
                Mode::Identity => interest = interest.and(Hooks::IDENTITY),
                Mode::Delivery => interest = interest.and(Hooks::DELIVERY),
                _ => {}
            }
        }
        match config.modes().any(|mode| matches!(mode, Mode::Always(_))) {
            true => Ok(interest),
            false => Ok(interest.text_only()),
        }
    }

    fn open(config: &Rc<Config>, handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        let mut admission = Admission::new(Self::new(config, handshake, Start::Opened));
        admission.interest = config.own_interest();
        for mode in config.modes() {
            mode.apply_to(&mut admission)?;
        }
        Ok(admission)
    }

    fn resume(
        config: &Rc<Config>,
        handshake: &Handshake,
        state: Option<Vec<u8>>,
        cause: ResumeCause,
    ) -> Result<Resumed<Self>, Rejection> {
        for mode in config.modes() {
            match mode {
                Mode::Resume(fault) => fault.commit("resume"),
                Mode::ResumeClose(info) => return Err(Rejection::Close(info.clone())),
                Mode::ResumeKeep(why) => return Err(Rejection::keep_old(why)),
                _ => {}
            }
        }
        let start = Start::Resumed { cause, state_bytes: state.map(|state| state.len()) };
        let session = Self::new(config, handshake, start);
        Ok(Resumed { session, interest: config.own_interest() })
    }

    fn on_message(&mut self, _direction: Direction, message: Message) -> Result<Verdict, Error> {
        self.messages += 1;
        MESSAGES.set(MESSAGES.get() + 1);
        let config = Rc::clone(&self.config);
        for mode in config.modes() {
            if let Mode::Always(command) = mode {
                return self.obey(command).unwrap_or_else(|| Err(Error::new(format_args!("no command: {command}"))));
            }
        }
        match message.as_text() {
            Some(text) => self.obey(text).unwrap_or(Ok(Verdict::Forward)),
            None => Ok(Verdict::Forward),
        }
    }

    fn on_delivery(&mut self, topic: &str, message: Message) -> Result<Verdict, Error> {
        match message.as_text() {
            Some(text) if self.config.has(&Mode::Delivery) => Ok(Verdict::replace(format!("delivery {topic}: {text}"))),
            _ => Ok(Verdict::Forward),
        }
    }

    fn on_tick(&mut self) -> Result<Vec<Action>, Error> {
        for mode in self.config.modes() {
            match mode {
                Mode::TickFault(fault) => fault.commit("on_tick"),
                Mode::TickError => return Err(Error::new("tick failed")),
                _ => {}
            }
        }
        self.ticks += 1;
        Ok(vec![Action::to_client(format!("tick {}", self.ticks))])
    }

    fn on_identity(&mut self, identity: Identity) -> Result<Vec<Action>, Error> {
        let text = report::identity(&identity);
        self.handshake.identity = Some(identity);
        Ok(vec![Action::to_client(text)])
    }

    fn on_close(&mut self, by: Closer, info: CloseInfo) {
        for mode in self.config.modes() {
            if let Mode::Close(fault) = mode {
                fault.commit("on_close");
            }
        }
        let by = report::closer(by);
        log::info!(by = by, code = info.code, reason = info.reason; "closed");
    }

    fn save(&mut self) -> Option<Vec<u8>> {
        let mut state = None;
        for mode in self.config.modes() {
            match mode {
                Mode::SaveFault(fault) => fault.commit("save"),
                Mode::Save(bytes) => state = Some(vec![b's'; *bytes]),
                _ => {}
            }
        }
        state
    }
}
