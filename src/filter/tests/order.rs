//! The chain rules as a model, compared with the engine on random chains.

use std::{rc::Rc, sync::Arc};

use proptest::prelude::*;
use serde_json::json;

use crate::{
    config::SessionLimits,
    filter::{
        Chain, Closer, finish,
        live::ChainSpec,
        test_support::{Bed, Started, Worker, opening_request, words},
    },
    message::{CloseFrame, Direction, Message},
};

/// What a filter of the model does with each message.
#[derive(Clone, Copy, Debug)]
enum Does {
    /// Appends ` #1` and its name, once a connection.
    Stamp(&'static str),
    Forward,
    Drop,
    Reply,
    Both,
    Close,
}

const ALL: [(&str, Does); 8] = [
    ("a", Does::Stamp("a")),
    ("b", Does::Stamp("b")),
    ("c", Does::Stamp("c")),
    ("forward", Does::Forward),
    ("drop", Does::Drop),
    ("reply", Does::Reply),
    ("both", Does::Both),
    ("close", Does::Close),
];

fn bed() -> Bed {
    let stamp = |bed: Bed, name: &'static str| {
        bed.filter(name, "stamp", json!({"direction": "both", "version": name, "show_version": true}))
    };
    let bed = ["a", "b", "c"].into_iter().fold(Bed::new(), stamp);
    bed.always("forward", "forward")
        .always("drop", "drop")
        .always("reply", "reply:R")
        .always("both", "act:client:C|upstream:U")
        .always("close", "close:4000:bye")
        .route(&ALL.map(|(name, _)| name))
}

/// The rules, as short as they can be said.
struct Model<'a> {
    chain: &'a [Does],
    stamped: Vec<[u32; 2]>,
    effects: Vec<String>,
    closed: bool,
    steps: usize,
}

impl Model<'_> {
    /// What filter `from` sends, or the peer where there is none.
    fn send(&mut self, direction: Direction, mut text: String, from: Option<usize>) {
        let n = self.chain.len();
        let route: Vec<usize> = match (direction, from) {
            (Direction::ToUpstream, None) => (0..n).collect(),
            (Direction::ToUpstream, Some(i)) => (i + 1..n).collect(),
            (Direction::ToClient, None) => (0..n).rev().collect(),
            (Direction::ToClient, Some(i)) => (0..i).rev().collect(),
        };
        for i in route {
            self.steps += 1;
            if self.closed || self.steps > 200 {
                return;
            }
            match self.chain[i] {
                Does::Stamp(name) => {
                    let count = &mut self.stamped[i][usize::from(direction == Direction::ToClient)];
                    *count += 1;
                    text = format!("{text} #{count} {name}");
                }
                Does::Forward => {}
                Does::Drop => return,
                Does::Reply => return self.send(direction.opposite(), "R".to_owned(), Some(i)),
                Does::Both => {
                    self.send(Direction::ToClient, "C".to_owned(), Some(i));
                    return self.send(Direction::ToUpstream, "U".to_owned(), Some(i));
                }
                Does::Close => {
                    self.closed = true;
                    self.effects.push("close 4000 bye (close)".to_owned());
                    return;
                }
            }
        }
        if !self.closed {
            let end = if direction == Direction::ToUpstream { "upstream" } else { "client" };
            self.effects.push(format!("{end} {text}"));
        }
    }
}

fn chain() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..ALL.len(), 0..6)
}

async fn open(started: &Worker, filters: &[usize]) -> Chain {
    let live = started.instances.live().chain("main");
    let generations = filters.iter().map(|i| live.filters()[*i].clone().into()).collect();
    let limits = SessionLimits { ..started_limits() };
    let spec = Arc::new(ChainSpec::new(generations, Vec::new(), &limits));
    Chain::open(started.instances.clone(), spec, Rc::new(opening_request())).await.unwrap().0
}

fn started_limits() -> SessionLimits {
    Bed::new().route(&[]).config.routes[0].limits
}

#[test]
fn the_engine_follows_the_chain_rules() {
    let started: Started = bed().start();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 500, ..Default::default() });
    let messages = prop::collection::vec(any::<bool>(), 1..4);
    runner
        .run(&(chain(), messages), |(filters, messages)| {
            let does: Vec<Does> = filters.iter().map(|i| ALL[*i].1).collect();
            let mut model =
                Model { chain: &does, stamped: vec![[0; 2]; does.len()], effects: Vec::new(), closed: false, steps: 0 };
            let mut expected = Vec::new();
            for up in &messages {
                let direction = if *up { Direction::ToUpstream } else { Direction::ToClient };
                (model.effects, model.closed, model.steps) = (Vec::new(), false, 0);
                model.send(direction, "m".to_owned(), None);
                // Filters that answer each other for ever have a test of their own.
                prop_assume!(model.steps <= 200);
                expected.push(model.effects.join(", "));
            }
            let got = started.run(async |_, worker| {
                let chain = open(&worker, &filters).await;
                let mut got = Vec::new();
                for up in &messages {
                    let direction = if *up { Direction::ToUpstream } else { Direction::ToClient };
                    let outcome = chain.on_message(direction, Message::text("m")).await;
                    let end = if *up { "upstream" } else { "client" };
                    got.push(words(outcome).replacen("pass", end, 1));
                }
                finish(chain.close(Closer::Client, CloseFrame::new(1000, "")));
                got
            });
            prop_assert_eq!(got, expected);
            Ok(())
        })
        .unwrap();
}
