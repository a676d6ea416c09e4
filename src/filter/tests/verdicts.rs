use serde_json::json;

use crate::filter::test_support::{Bed, say};

#[test]
fn redact_replaces_what_matches() {
    let bed = Bed::new().filter("redact", "redact", json!({"patterns": ["\\d{4}"]})).route(&["redact"]);
    bed.run(async |_, worker| {
        let chain = worker.open().await;
        assert_eq!(say(&chain, "pin 1234").await, "pass pin [redacted]");
        assert_eq!(say(&chain, "no pin").await, "pass no pin");
    });
}
