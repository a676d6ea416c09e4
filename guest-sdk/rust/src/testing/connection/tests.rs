//! A connection in a test calls its filter as the gateway does.

use std::time::Duration;

use super::{Connection, connect};
use crate::prelude::*;
use crate::testing::{Host, handshake, identity};

/// Repeats the verdict that its test sets, and calls for what its configuration names.
struct Puppet {
    verdict: Verdict,
    calls: u32,
}

impl Filter for Puppet {
    type Config = bool;

    fn interest(wants_all: &bool) -> Result<Interest, Error> {
        Ok(if *wants_all { Interest::all().with_tick(Duration::from_secs(1)) } else { Interest::none() })
    }

    fn open(_config: &Rc<bool>, handshake: &Handshake) -> Result<Admission<Self>, Refusal> {
        messaging::subscribe(&handshake.connection, "t")?;
        match handshake.subject() {
            Some("eve") => Err(Refusal::text(403, "no")),
            _ => Ok(Admission::new(Self { verdict: Verdict::Drop, calls: 0 })),
        }
    }

    fn on_message(&mut self, _direction: Direction, _message: Message) -> Result<Verdict, Error> {
        self.calls += 1;
        Ok(self.verdict.clone())
    }

    fn on_delivery(&mut self, _topic: &str, _message: Message) -> Result<Verdict, Error> {
        Ok(self.verdict.clone())
    }

    fn on_tick(&mut self) -> Result<Vec<Action>, Error> {
        Ok(vec![Action::to_client("tick")])
    }

    fn on_identity(&mut self, identity: Identity) -> Result<Vec<Action>, Error> {
        Ok(vec![Action::close(1008, identity.subject.unwrap_or_default())])
    }

    fn on_close(&mut self, by: Closer, _info: CloseInfo) {
        log::info!("closed by {by:?}");
    }

    fn save(&mut self) -> Option<Vec<u8>> {
        state::save(1, &self.calls)
    }

    fn resume(
        _config: &Rc<bool>,
        handshake: &Handshake,
        state: Option<Vec<u8>>,
        _cause: ResumeCause,
    ) -> Result<Resumed<Self>, Rejection> {
        let calls = state::resume(1, state)?.unwrap_or_default();
        let verdict = Verdict::reply(handshake.subject().unwrap_or("nobody"));
        Ok(Resumed::new(Self { verdict, calls }))
    }
}

fn puppet(wants_all: &str) -> (Host, Connection<Puppet>) {
    let host = Host::new().with_topic("*");
    (host, connect(wants_all, &handshake("/")).unwrap())
}

#[test]
fn a_filter_is_called_for_what_it_asked_for() {
    let (host, mut silent) = puppet("false");
    assert_eq!(silent.to_upstream("x"), Ok(Verdict::Forward));
    assert_eq!(silent.deliver("t", "x"), Ok(Verdict::Forward));
    assert_eq!((silent.tick(), silent.refresh(identity("ann"))), (Ok(vec![]), Ok(vec![])));
    assert_eq!(silent.filter().calls, 0);
    silent.close(Closer::Client, CloseInfo::new(1000, ""));
    assert!(host.log().is_empty());

    let (host, mut eager) = puppet("true");
    assert_eq!(eager.to_client(vec![1]), Ok(Verdict::Drop));
    assert_eq!(eager.deliver("t", "x"), Ok(Verdict::Drop));
    assert_eq!(eager.tick(), Ok(vec![Action::to_client("tick")]));
    assert_eq!(eager.refresh(identity("ann")), Ok(vec![Action::close(1008, "ann")]));
    assert_eq!(eager.filter().calls, 1);
    eager.close(Closer::Upstream, CloseInfo::new(1000, ""));
    assert_eq!(host.log()[0].message, "closed by Closer::Upstream");
}

#[test]
fn verdicts_that_break_a_rule_are_errors() {
    let (_host, mut puppet) = puppet("true");
    let mut after = |verdict: Verdict| {
        puppet.filter().verdict = verdict;
        let fault = |answer: Result<Verdict, Error>| answer.err().map(|error| error.to_string()).unwrap_or_default();
        [fault(puppet.to_upstream("x")), fault(puppet.to_client("x")), fault(puppet.deliver("t", "x"))]
    };
    let code = "close code 1005 may not be sent";
    assert_eq!(after(Verdict::close(1005, "")), [code; 3]);
    assert_eq!(after(Verdict::act([Action::close(1005, "")])), [code; 3]);
    assert_eq!(after(Verdict::act(vec![Action::to_client("x"); 1_001])), ["1001 actions, 1000 allowed"; 3]);
    assert_eq!(after(Verdict::act(vec![Action::to_client("x"); 1_000])), [""; 3]);
    assert_eq!(after(Verdict::reply("x")), ["", "", "reply: nobody waits for the answer to a delivery"]);
    let [to_upstream, to_client, delivery] = after(Verdict::route("other"));
    assert!(to_upstream.is_empty() && to_client.starts_with("route: ") && delivery.starts_with("route: "));
}

#[test]
fn a_handshake_that_is_refused_has_no_effects() {
    let host = Host::new().with_topic("t");
    let eve = handshake("/").with_identity(identity("eve"));
    assert_eq!(connect::<Puppet>("true", &eve).map(|_| ()).unwrap_err().status, 403);
    assert_eq!((host.effects(), host.subscriptions("test")), (vec![], vec![]));
    let denied = connect::<Puppet>("true", &Handshake { connection: "c".into(), ..handshake("/") });
    drop(host);
    assert!(denied.is_ok());
    assert_eq!(connect::<Puppet>("true", &handshake("/")).map(|_| ()).unwrap_err().status, 500);
}

#[test]
fn state_moves_with_the_latest_identity() {
    let (_host, mut puppet) = puppet("true");
    puppet.to_upstream("x").unwrap();
    puppet.refresh(identity("ann")).unwrap();
    puppet.reload("true").unwrap();
    assert_eq!(puppet.to_upstream("y"), Ok(Verdict::reply("ann")));
    assert_eq!(puppet.filter().calls, 2);
    puppet.lose("false").unwrap();
    assert_eq!((puppet.to_upstream("z"), puppet.filter().calls), (Ok(Verdict::Forward), 0));
}
