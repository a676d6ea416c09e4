//! What happens to orders: who gets what, in which order, and what is left when everybody is gone.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use super::*;
use crate::{config::PushOverflow, telemetry::metrics::Metrics};

struct Bed {
    hub: Arc<Hub>,
    bell: Arc<Doorbell>,
    metrics: TopicMetrics,
    limits: SessionLimits,
}

impl Bed {
    fn new() -> Self {
        let metrics = Metrics::new().unwrap().topics();
        let limits = SessionLimits { upstream_max_payload_bytes: 100, ..SessionLimits::default() };
        Self { hub: Hub::new(200, metrics.clone()), bell: Doorbell::new(), metrics, limits }
    }

    fn enter(&self, name: &str) -> Postbox {
        self.hub.enter(name, &self.limits, &self.bell)
    }

    fn open(&self, name: &str, key: usize) -> Postbox {
        let postbox = self.enter(name);
        postbox.open(key);
        postbox
    }

    fn mailbox(&self, name: &str) -> Arc<Mailbox> {
        self.hub.find(name).unwrap()
    }

    fn subscribe(&self, name: &str, topic: &str) {
        self.hub.carry_out([Order::Subscribe { connection: self.mailbox(name), topic: topic.into() }]);
    }

    fn publish(&self, topic: &str, text: &str) {
        self.hub.carry_out([Order::Publish { topic: topic.into(), message: text.into(), exclude: None }]);
    }

    fn counts(&self) -> (i64, i64) {
        (self.metrics.topics.get(), self.metrics.subscriptions.get())
    }

    /// Whom the bell rang for; nobody where it did not ring.
    fn rung(&self) -> Vec<usize> {
        let mut keys = Vec::new();
        let answered = pin!(self.bell.answer(&mut keys)).poll(&mut Context::from_waker(Waker::noop()));
        if answered.is_pending() { Vec::new() } else { keys }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::text(text.to_owned())
    }
}

fn texts(postbox: &Postbox) -> Vec<String> {
    std::iter::from_fn(|| postbox.take())
        .map(|mail| match mail {
            Mail::Delivery { topic, message: Message::Text(text) } => format!("{topic}: {text}"),
            Mail::Push(Message::Text(text)) => text.to_string(),
            Mail::Close(dismissal) => format!("close {}", dismissal.frame.code_or_1005()),
            Mail::Overflow => "overflow".to_owned(),
            Mail::Delivery { .. } | Mail::Push(_) => "binary".to_owned(),
        })
        .collect()
}

#[test]
fn every_subscriber_but_the_excluded_one_gets_a_publication_with_shared_bytes() {
    let bed = Bed::new();
    let (a, b, c) = (bed.open("a", 1), bed.open("b", 2), bed.open("c", 3));
    bed.subscribe("a", "room");
    bed.subscribe("b", "room");
    let message = Message::binary(vec![7; 50]);
    let exclude = Some(bed.mailbox("a"));
    bed.hub.carry_out([Order::Publish { topic: "room".into(), message: message.clone(), exclude }]);
    assert_eq!((a.take(), c.take()), (None, None));
    let Some(Mail::Delivery { message: Message::Binary(bytes), .. }) = b.take() else { panic!("a delivery") };
    let Message::Binary(published) = message else { panic!("binary") };
    assert_eq!(bytes.as_ptr(), published.as_ptr());
}

#[test]
fn a_subscription_counts_once_and_ends_with_its_connection() {
    let bed = Bed::new();
    let a = bed.open("a", 1);
    let b = bed.open("b", 2);
    for topic in ["x", "y", "x"] {
        bed.subscribe("a", topic);
    }
    bed.subscribe("b", "x");
    assert_eq!(bed.counts(), (2, 3));
    bed.publish("x", "1");
    assert_eq!(texts(&a), ["x: 1"]);
    bed.hub.carry_out([
        Order::Unsubscribe { connection: bed.mailbox("a"), topic: "x".into() },
        Order::Unsubscribe { connection: bed.mailbox("a"), topic: "never".into() },
    ]);
    assert_eq!(bed.counts(), (2, 2));
    bed.publish("x", "2");
    assert_eq!((texts(&a), texts(&b)), (vec![], vec!["x: 1".to_owned(), "x: 2".to_owned()]));
    drop((a, b));
    assert_eq!(bed.counts(), (0, 0));
    assert!(bed.hub.find("a").is_none());
}

#[test]
fn what_comes_before_a_connection_is_open_waits_for_it() {
    let bed = Bed::new();
    let a = bed.enter("a");
    bed.subscribe("a", "x");
    bed.publish("x", "early");
    assert_eq!(bed.rung(), [] as [usize; 0]);
    a.open(1);
    assert!(a.has_mail());
    assert_eq!(texts(&a), ["x: early"]);
    assert!(!a.has_mail());
}

#[test]
fn the_bell_rings_once_for_many_and_only_for_the_first_message() {
    let bed = Bed::new();
    let boxes: Vec<_> = (0..100).map(|key| bed.open(&format!("c{key}"), key)).collect();
    for key in 0..100 {
        bed.subscribe(&format!("c{key}"), "x");
    }
    bed.publish("x", "1");
    bed.publish("x", "2");
    let mut rung = bed.rung();
    rung.sort_unstable();
    assert_eq!(rung, (0..100).collect::<Vec<_>>());
    bed.publish("x", "3");
    assert_eq!(bed.rung(), [] as [usize; 0]);
    assert_eq!(texts(&boxes[7]), ["x: 1", "x: 2", "x: 3"]);
    bed.publish("x", "4");
    assert_eq!(bed.rung(), [7]);
}

#[test]
fn mail_of_one_sender_keeps_its_order_and_nothing_follows_a_close() {
    let bed = Bed::new();
    let a = bed.open("a", 1);
    bed.subscribe("a", "x");
    let to = bed.mailbox("a");
    let dismissal = Dismissal { filter: "f".into(), frame: CloseFrame::new(4000, "bye"), fault: false };
    bed.hub.carry_out([
        Order::Send { to: to.clone(), message: "1".into() },
        Order::Publish { topic: "x".into(), message: "2".into(), exclude: None },
        Order::Send { to: to.clone(), message: "3".into() },
        Order::Close { connection: to.clone(), dismissal: dismissal.clone() },
        Order::Close { connection: to.clone(), dismissal },
        Order::Send { to: to.clone(), message: "4".into() },
        Order::Publish { topic: "x".into(), message: "5".into(), exclude: None },
        Order::Subscribe { connection: to, topic: "y".into() },
    ]);
    assert_eq!(texts(&a), ["1", "x: 2", "3", "close 4000"]);
    assert_eq!((bed.metrics.gone.get(), bed.counts()), (2, (1, 1)));
}

#[test]
fn a_full_mailbox_drops_the_oldest_or_ends_the_connection() {
    for (overflow, expected) in
        [(PushOverflow::DropOldest, vec!["x: 2", "x: 3"]), (PushOverflow::Close, vec!["x: 1", "x: 2", "overflow"])]
    {
        let mut bed = Bed::new();
        bed.limits.push_overflow = overflow;
        bed.limits.queue_max_bytes = 2 * 65;
        let a = bed.open("a", 1);
        bed.subscribe("a", "x");
        for text in ["1", "2", "3"] {
            bed.publish("x", text);
        }
        assert!(bed.mailbox("a").is_full(1));
        // A message for one connection does not cost others.
        bed.hub.carry_out([Order::Send { to: bed.mailbox("a"), message: "4".into() }]);
        assert_eq!(texts(&a), expected);
        assert!(bed.metrics.dropped.get() > 0);
    }
}

#[test]
fn mailboxes_and_subscriptions_are_bounded() {
    let mut bed = Bed::new();
    bed.limits.push_overflow = PushOverflow::DropOldest;
    let a = bed.open("a", 1);
    for topic in 0..2 * SUBSCRIPTIONS_A_CONNECTION {
        bed.subscribe("a", &format!("t{topic}"));
    }
    assert_eq!(bed.counts(), (128, 128));
    let mailbox = bed.mailbox("a");
    assert!(mailbox.has_all_subscriptions("other", 0) && !mailbox.has_all_subscriptions("t5", 0));
    (0..5000).for_each(|_| bed.publish("t0", ""));
    assert_eq!(texts(&a).len(), 4096);
    assert_eq!(bed.metrics.dropped.get(), 5000 - 4096);
}

#[test]
fn a_message_beyond_a_subscribers_limit_is_counted_and_passes_the_others() {
    let mut bed = Bed::new();
    let small = bed.open("small", 1);
    bed.limits.upstream_max_payload_bytes = 200;
    let large = bed.open("large", 2);
    bed.subscribe("small", "x");
    bed.subscribe("large", "x");
    bed.publish("x", &"y".repeat(150));
    assert_eq!((texts(&small).len(), texts(&large).len()), (0, 1));
    assert_eq!(bed.metrics.too_large.get(), 1);
}

#[test]
fn mail_that_nobody_takes_any_more_is_counted() {
    let bed = Bed::new();
    let a = bed.open("a", 1);
    bed.subscribe("a", "x");
    let mailbox = bed.mailbox("a");
    bed.publish("x", "1");
    drop(a);
    assert_eq!(bed.metrics.gone.get(), 1);
    // Found before the end, used after it.
    bed.hub.carry_out([
        Order::Send { to: mailbox.clone(), message: "2".into() },
        Order::Subscribe { connection: mailbox.clone(), topic: "x".into() },
        Order::Unsubscribe { connection: mailbox, topic: "x".into() },
    ]);
    assert_eq!((bed.metrics.gone.get(), bed.counts()), (2, (0, 0)));
}

#[test]
fn threads_that_come_go_and_publish_leave_nothing_behind() {
    let bed = Bed::new();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let bed = &bed;
            scope.spawn(move || {
                for round in 0..500 {
                    let name = format!("{thread}.{round}");
                    let postbox = bed.open(&name, thread);
                    for topic in 0..5 {
                        bed.subscribe(&name, &format!("t{topic}"));
                    }
                    bed.publish("t1", "hello");
                    assert!(texts(&postbox).contains(&"t1: hello".to_owned()));
                }
            });
        }
    });
    assert_eq!(bed.counts(), (0, 0));
}

/// A future that is polled by hand needs no runtime.
#[test]
fn an_answered_bell_is_silent() {
    let bed = Bed::new();
    let a = bed.open("a", 9);
    bed.subscribe("a", "x");
    bed.publish("x", "1");
    assert_eq!(bed.rung(), [9]);
    assert_eq!(texts(&a), ["x: 1"]);
    let mut keys = Vec::new();
    let silent = pin!(bed.bell.answer(&mut keys)).poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(silent, Poll::Pending);
}

#[test]
fn a_quarter_of_a_mailbox_is_a_backlog() {
    let bed = Bed::new();
    let a = bed.open("a", 1);
    bed.subscribe("a", "x");
    (0..1023).for_each(|_| bed.publish("x", ""));
    assert!(!a.has_backlog());
    bed.publish("x", "");
    assert!(a.has_backlog());
    assert!(a.take().is_some());
    assert!(!a.has_backlog());
}
