use std::sync::{Condvar, Mutex};

use tracing::dispatcher::with_default;

use super::*;

/// Keeps what is written, and holds it up while it is shut.
#[derive(Clone, Default)]
struct Pipe(Arc<(Mutex<Held>, Condvar)>);

/// The bytes, and whether it is shut.
type Held = (Vec<u8>, bool);

impl Pipe {
    fn shut() -> Self {
        let pipe = Self::default();
        pipe.0.0.lock().unwrap().1 = true;
        pipe
    }

    fn open(&self) {
        self.0.0.lock().unwrap().1 = false;
        self.0.1.notify_all();
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.0.lock().unwrap().0.clone()).unwrap()
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.0.1.wait_while(self.0.0.lock().unwrap(), |(_, shut)| *shut).unwrap();
        kept.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As a stderr whose reader is gone.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

fn counter() -> IntCounter {
    IntCounter::new("log_lines_dropped_total", "x").unwrap()
}

fn configured(level: &str, format: LogFormat) -> Log {
    Log { level: level.to_owned(), format }
}

/// What `log` leaves on stderr.
fn logged(config: &Log, variable: Option<&str>, log: impl FnOnce()) -> String {
    let pipe = Pipe::default();
    let queue = Queue::start(pipe.clone(), counter()).unwrap();
    with_default(&dispatch(config, variable, false, queue.clone()).unwrap().0, log);
    queue.flush(Duration::from_secs(20));
    pipe.text()
}

#[test]
fn an_event_is_one_line_of_text() {
    let text = logged(&configured("info", LogFormat::Text), None, || tracing::info!(route = "chat", "opened"));
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(" INFO ") && text.ends_with("opened route=\"chat\"\n"), "{text}");
}

#[test]
fn an_event_is_one_json_object() {
    let text = logged(&configured("info", LogFormat::Json), None, || tracing::warn!(route = "a\nb", "refused"));
    let event: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&event["message"], &event["route"], &event["level"]),
        (&"refused".into(), &"a\nb".into(), &"WARN".into())
    );
}

#[test]
fn the_level_counts_and_the_variable_comes_before_it() {
    let log = || {
        tracing::info!("one");
        tracing::debug!("two");
    };
    let config = configured("warn", LogFormat::Text);
    assert_eq!(logged(&config, None, log), "");
    assert_eq!(logged(&config, Some(""), log), "");
    assert!(logged(&config, Some("info"), log).ends_with("one\n"));
    assert!(logged(&config, Some("wsgate=debug"), log).ends_with("two\n"));
    assert_eq!(logged(&config, Some("wsgate::session=debug"), log), "");
}

#[test]
fn a_level_that_is_not_valid_is_named() {
    let queue = Queue::start(Pipe::default(), counter()).unwrap();
    let bad = dispatch(&configured("info", LogFormat::Text), Some("loud=quiet"), false, queue.clone());
    assert!(matches!(bad, Err(LogError::Variable(_))));
    let bad = dispatch(&configured("loud=quiet", LogFormat::Text), None, false, queue);
    assert!(matches!(bad, Err(LogError::Level(_))));
}

#[test]
fn a_blocked_pipe_costs_lines_and_no_time() {
    let (pipe, dropped) = (Pipe::shut(), counter());
    let queue = Queue::start(pipe.clone(), dropped.clone()).unwrap();
    let start = Instant::now();
    for _ in 0..2 * MAX_LINES {
        queue.push(b"line\n");
    }
    queue.flush(Duration::from_millis(50));
    assert!(start.elapsed() < Duration::from_secs(5));

    pipe.open();
    queue.flush(Duration::from_secs(20));
    let written = pipe.text().lines().count() as u64;
    assert_eq!(written + dropped.get(), 2 * MAX_LINES as u64);
    assert!((1..=MAX_LINES as u64 + 1).contains(&written), "{written}");
}

#[test]
fn long_lines_wait_only_up_to_the_limit_of_bytes() {
    let (pipe, dropped) = (Pipe::shut(), counter());
    let queue = Queue::start(pipe.clone(), dropped.clone()).unwrap();
    let line = vec![b'x'; MAX_BYTES / 4];
    for _ in 0..16 {
        queue.push(&line);
    }
    assert_eq!(dropped.get(), 12);
    pipe.open();
    queue.flush(Duration::from_secs(20));
    queue.push(&line);
    queue.flush(Duration::from_secs(20));
    assert_eq!((dropped.get(), pipe.text().len()), (12, 5 * line.len()));
}

#[test]
fn a_closed_stderr_is_no_trouble() {
    let dropped = counter();
    let queue = Queue::start(Closed, dropped.clone()).unwrap();
    for _ in 0..100 {
        queue.push(b"line\n");
        queue.flush(Duration::from_secs(20));
    }
    assert_eq!(dropped.get(), 100, "each line that is not written is counted");
}
