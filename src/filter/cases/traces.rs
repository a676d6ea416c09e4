//! What a filter did beside its answer: beside what was expected of that.

use std::collections::BTreeMap;

use super::{
    compare::{Judge, closing_words, frame_words},
    effects::{Effects, Request, Subscription},
    payload::{Stored, shown, shown_bytes},
};
use crate::{
    filter::recorder::{Record, Sent},
    message::{CloseFrame, Message},
    store::Stores,
    topic::Order,
};

impl Judge<'_> {
    /// `connection` is the one of the case.
    pub(super) async fn effects(
        &mut self,
        expected: &Effects,
        record: &Record,
        stores: &Stores,
        connection: &str,
        line: usize,
    ) {
        self.messages(expected, record);
        self.subscriptions(expected, record, connection);
        self.requests(expected, record, line);
        if let Some(wanted) = &expected.stores {
            self.stores(wanted.get_ref(), stores, self.lines.line(&wanted.span())).await;
        }
        if let Some(wanted) = &expected.log {
            for part in wanted.get_ref() {
                if !record.lines.iter().any(|found| found.contains(part)) {
                    let got = joined(record.lines.iter().cloned());
                    self.differs(self.lines.line(&wanted.span()), "log", format!("a line with {part:?}"), got);
                }
            }
        }
        if let Some(wanted) = &expected.reason
            && record.reason.as_ref() != Some(wanted.get_ref())
        {
            let got = record.reason.as_deref().unwrap_or("none");
            self.differs(self.lines.line(&wanted.span()), "reason", wanted.get_ref(), got);
        }
        if let Some(wanted) = &expected.metrics {
            for (name, by) in wanted.get_ref() {
                let added = record.added.get(name).copied().unwrap_or(0);
                if added != *by {
                    let at = self.lines.line(&wanted.span());
                    self.differs(at, &format!("metrics.{name}"), by.to_string(), added.to_string());
                }
            }
        }
    }

    fn messages(&mut self, expected: &Effects, record: &Record) {
        if let Some(wanted) = &expected.published {
            let found: Vec<_> = record.orders.iter().filter_map(published).collect();
            let fits = wanted.get_ref().len() == found.len()
                && wanted.get_ref().iter().zip(&found).all(|(wanted, (topic, message, exclude))| {
                    *topic == wanted.topic
                        && wanted.message.matches(message)
                        && wanted.exclude.as_deref().is_none_or(|wanted| *exclude == Some(wanted))
                });
            if !fits {
                let wanted_words = wanted.get_ref().iter().map(|wanted| {
                    let without = exclude_words(wanted.exclude.as_deref());
                    format!("{}{without}: {}", wanted.topic, wanted.message)
                });
                let found_words = found
                    .iter()
                    .map(|(topic, message, out)| format!("{topic}{}: {}", exclude_words(*out), shown(message)));
                self.differs(self.lines.line(&wanted.span()), "published", joined(wanted_words), joined(found_words));
            }
        }
        if let Some(wanted) = &expected.sent {
            let found: Vec<_> = record.orders.iter().filter_map(sent).collect();
            let fits = wanted.get_ref().len() == found.len()
                && wanted
                    .get_ref()
                    .iter()
                    .zip(&found)
                    .all(|(wanted, (to, message))| *to == wanted.to && wanted.message.matches(message));
            if !fits {
                let wanted_words =
                    wanted.get_ref().iter().map(|wanted| format!("to {}: {}", wanted.to, wanted.message));
                let found_words = found.iter().map(|(to, message)| format!("to {to}: {}", shown(message)));
                self.differs(self.lines.line(&wanted.span()), "sent", joined(wanted_words), joined(found_words));
            }
        }
        if let Some(wanted) = &expected.closed {
            let found: Vec<_> = record.orders.iter().filter_map(closed).collect();
            let fits = wanted.get_ref().len() == found.len()
                && wanted.get_ref().iter().zip(&found).all(|(wanted, (connection, frame))| {
                    *connection == wanted.connection
                        && wanted.code == frame.code_or_1005()
                        && wanted.reason.as_ref().is_none_or(|reason| *reason == frame.reason)
                });
            if !fits {
                let wanted_words = wanted.get_ref().iter().map(|wanted| {
                    format!("{}: {}", wanted.connection, closing_words(wanted.code, wanted.reason.as_deref()))
                });
                let found_words =
                    found.iter().map(|(connection, frame)| format!("{connection}: {}", frame_words(frame)));
                self.differs(self.lines.line(&wanted.span()), "closed", joined(wanted_words), joined(found_words));
            }
        }
    }

    fn subscriptions(&mut self, expected: &Effects, record: &Record, own: &str) {
        let kinds = [("subscribed", &expected.subscribed, true), ("unsubscribed", &expected.unsubscribed, false)];
        for (key, wanted, begins) in kinds {
            let Some(wanted) = wanted else { continue };
            let found = record.orders.iter().filter_map(|order| subscription(order, begins));
            let found: Vec<_> = found
                .map(|(connection, topic)| Subscription {
                    connection: (connection != own).then(|| connection.to_owned()),
                    topic: topic.to_owned(),
                })
                .collect();
            let own_form = |one: &Subscription| Subscription {
                connection: one.connection.clone().filter(|connection| connection != own),
                topic: one.topic.clone(),
            };
            let wanted_list: Vec<_> = wanted.get_ref().iter().map(own_form).collect();
            if wanted_list != found {
                let words = |list: &[Subscription]| {
                    joined(list.iter().map(|one| match &one.connection {
                        Some(connection) => format!("{connection} to {}", one.topic),
                        None => one.topic.clone(),
                    }))
                };
                self.differs(self.lines.line(&wanted.span()), key, words(&wanted_list), words(&found));
            }
        }
    }

    /// Every request has to be expected: there would be nobody to answer it.
    fn requests(&mut self, expected: &Effects, record: &Record, line: usize) {
        let (wanted, line) = match &expected.http {
            Some(http) => (http.get_ref().as_slice(), self.lines.line(&http.span())),
            None => (&[][..], line),
        };
        for (index, request) in wanted.iter().enumerate() {
            let key = format!("http[{index}]");
            match record.requests.get(index) {
                Some(found) => self.request(request, found, &key, line),
                None => self.differs(line, &key, format!("a request to {}", request.url), "no such request"),
            }
        }
        for sent in record.requests.iter().filter(|sent| !sent.was_answered) {
            let got = format!("{} {}", sent.request.method(), sent.request.url());
            self.differs(line, "http", "no request that the case does not answer", got);
        }
    }

    fn request(&mut self, wanted: &Request, Sent { request, .. }: &Sent, key: &str, line: usize) {
        if wanted.url != request.url() {
            self.differs(line, &format!("{key}.url"), &wanted.url, request.url());
        }
        if let Some(method) = &wanted.method
            && method != request.method()
        {
            self.differs(line, &format!("{key}.method"), method, request.method());
        }
        for (name, value) in &wanted.headers {
            let found = request.headers().get(name).map(|found| String::from_utf8_lossy(found.as_bytes()).into_owned());
            if found.as_ref() != Some(value) {
                self.differs(line, &format!("{key}.headers.{name}"), value, found.unwrap_or_else(|| "none".to_owned()));
            }
        }
        if let Some(body) = &wanted.body
            && !body.matches_bytes(request.body())
        {
            self.differs(line, &format!("{key}.body"), body.to_string(), shown_bytes(request.body()));
        }
    }

    async fn stores(&mut self, wanted: &BTreeMap<String, BTreeMap<String, Stored>>, stores: &Stores, line: usize) {
        for (name, entries) in wanted {
            let Some(store) = stores.get(name) else {
                self.no_such_store("stores", name, line);
                continue;
            };
            for (key, wanted) in entries {
                let found = store.get(key).await.ok().flatten().map(|entry| entry.value);
                let fits = match (wanted, &found) {
                    (Stored::Absent, None) => true,
                    (Stored::Value(wanted), Some(found)) => wanted.matches_bytes(found),
                    (Stored::Absent, Some(_)) | (Stored::Value(_), None) => false,
                };
                if !fits {
                    let wanted = match wanted {
                        Stored::Absent => "nothing".to_owned(),
                        Stored::Value(wanted) => wanted.to_string(),
                    };
                    let found = found.map_or_else(|| "nothing".to_owned(), |found| shown_bytes(&found));
                    self.differs(line, &format!("stores.{name}.{key}"), wanted, found);
                }
            }
        }
    }
}

fn published(order: &Order) -> Option<(&str, &Message, Option<&str>)> {
    match order {
        Order::Publish { topic, message, exclude } => {
            Some((topic, message, exclude.as_ref().map(|mailbox| &**mailbox.connection())))
        }
        Order::Send { .. } | Order::Close { .. } | Order::Subscribe { .. } | Order::Unsubscribe { .. } => None,
    }
}

fn sent(order: &Order) -> Option<(&str, &Message)> {
    match order {
        Order::Send { to, message } => Some((to.connection(), message)),
        Order::Publish { .. } | Order::Close { .. } | Order::Subscribe { .. } | Order::Unsubscribe { .. } => None,
    }
}

fn closed(order: &Order) -> Option<(&str, &CloseFrame)> {
    match order {
        Order::Close { connection, dismissal } => Some((connection.connection(), &dismissal.frame)),
        Order::Publish { .. } | Order::Send { .. } | Order::Subscribe { .. } | Order::Unsubscribe { .. } => None,
    }
}

fn subscription(order: &Order, begins: bool) -> Option<(&str, &str)> {
    match order {
        Order::Subscribe { connection, topic } if begins => Some((connection.connection(), topic)),
        Order::Unsubscribe { connection, topic } if !begins => Some((connection.connection(), topic)),
        Order::Publish { .. }
        | Order::Send { .. }
        | Order::Close { .. }
        | Order::Subscribe { .. }
        | Order::Unsubscribe { .. } => None,
    }
}

fn exclude_words(exclude: Option<&str>) -> String {
    exclude.map(|connection| format!(" (not to {connection})")).unwrap_or_default()
}

fn joined(words: impl Iterator<Item = String>) -> String {
    let words: Vec<_> = words.collect();
    if words.is_empty() { "none".to_owned() } else { words.join("; ") }
}
