//! What a session counts, added to the shared counters once a turn.

use crate::{
    message::{Direction, Kind, Message},
    telemetry::metrics::RouteMetrics,
};

#[derive(Default)]
struct Count {
    text: u64,
    binary: u64,
    bytes: u64,
    /// Messages since the session opened.
    messages: u64,
}

/// See the module.
pub(super) struct Tally {
    to_upstream: Count,
    to_client: Count,
    sizes: prometheus::local::LocalHistogram,
    queued_bytes: usize,
    changed: bool,
}

impl Tally {
    pub(super) fn new(metrics: &RouteMetrics) -> Self {
        Self {
            to_upstream: Count::default(),
            to_client: Count::default(),
            sizes: metrics.message_size_bytes.local(),
            queued_bytes: 0,
            changed: false,
        }
    }

    pub(super) fn received(&mut self, direction: Direction, message: &Message) {
        let count = match direction {
            Direction::ToUpstream => &mut self.to_upstream,
            Direction::ToClient => &mut self.to_client,
        };
        match message.kind() {
            Kind::Text => count.text += 1,
            Kind::Binary => count.binary += 1,
        }
        count.bytes += message.len() as u64;
        count.messages += 1;
        self.sizes.observe(message.len() as f64);
        self.changed = true;
    }

    /// Messages since the session opened.
    pub(super) fn messages(&self, direction: Direction) -> u64 {
        match direction {
            Direction::ToUpstream => self.to_upstream.messages,
            Direction::ToClient => self.to_client.messages,
        }
    }

    /// Adds what was counted since the last turn to the route's counters.
    pub(super) fn publish(&mut self, metrics: &RouteMetrics, queued_bytes: usize) {
        if queued_bytes != self.queued_bytes {
            metrics.queue_bytes.add(queued_bytes as i64 - self.queued_bytes as i64);
            self.queued_bytes = queued_bytes;
        }
        if !std::mem::take(&mut self.changed) {
            return;
        }
        for (count, direction) in
            [(&mut self.to_upstream, Direction::ToUpstream), (&mut self.to_client, Direction::ToClient)]
        {
            let shared = metrics.direction(direction);
            for (counter, value) in [
                (&shared.text, &mut count.text),
                (&shared.binary, &mut count.binary),
                (&shared.bytes, &mut count.bytes),
            ] {
                if *value > 0 {
                    counter.inc_by(std::mem::take(value));
                }
            }
        }
        self.sizes.flush();
    }
}
