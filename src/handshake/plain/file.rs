//! `target = "static"`: files below a folder. Conditions and ranges are `http_serve`'s; which file it is, is ours: the
//! kernel sees to it that no path and no symbolic link leads out of the folder (`openat2`).

use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_serve::{BoxError, Entity};
use hyper::body::{Body, Frame, SizeHint};
use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
};
use tokio::task::spawn_blocking;

use super::{
    BrokenOff, Held,
    record::{HttpEnd, Record},
};
use crate::{
    config::pattern::REST,
    handshake::{answer::AnswerBody, refusal::Refusal, request::Requested},
    route::Matched,
};

/// Read of a file at once.
const PART_BYTES: u64 = 64 << 10;
/// The kernel asks to try again where the folder changes meanwhile.
const MAX_TRIES: usize = 4;
/// What a folder is answered with.
const INDEX: &str = "index.html";

/// Answers with the file that a request asks for.
pub(super) async fn answer(
    folder: &Path,
    requested: &Requested,
    matched: &Matched,
    parts: Parts,
    (record, held): (&Rc<Record>, Held),
) -> Result<Response<AnswerBody>, Refusal> {
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return Err(Refusal::method_not_allowed("GET, HEAD"));
    }
    let rest = matched.parameters.iter().rfind(|(name, _)| name == REST).map_or("", |(_, rest)| rest);
    let path = file_path(rest).ok_or_else(Refusal::not_found)?;
    let folder = folder.to_owned();
    let found = spawn_blocking(move || find(&folder, &path)).await.map_err(|_| Refusal::internal())?;
    let response = match found {
        Ok(Found::File(file)) => http_serve::serve(file, &Request::from_parts(parts, ())),
        Ok(Found::Folder) => return redirect(requested),
        Err(error) => {
            tracing::debug!(request = record.id(), %error, "no file");
            return Err(Refusal::not_found());
        }
    };
    Ok(response.map(|body| {
        let left = body.size_hint().exact().unwrap_or_default();
        AnswerBody::File(Box::new(FileBody { body: Box::pin(body), left, record: Rc::clone(record), held }))
    }))
}

/// What the path of a request names below the folder; `None` for what is never there. Parts that begin with a dot are
/// hidden files, `.` or `..`.
fn file_path(rest: &str) -> Option<String> {
    let path = percent_decoded(rest)?;
    let is_hidden = |part: &str| part.starts_with('.');
    if path.contains(['\0', '\\']) || path.starts_with('/') || path.split('/').any(is_hidden) {
        return None;
    }
    Some(if path.is_empty() || path.ends_with('/') { format!("{path}{INDEX}") } else { path })
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        (bytes, rest) = match first {
            b'%' => {
                let digits = std::str::from_utf8(others.get(..2)?).ok()?;
                // `from_str_radix` would take a sign.
                let digits = Some(digits).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                (bytes, &others[2..])
            }
            byte => {
                bytes.push(*byte);
                (bytes, others)
            }
        };
    }
    String::from_utf8(bytes).ok()
}

enum Found {
    File(Opened),
    Folder,
}

fn find(folder: &Path, path: &str) -> io::Result<Found> {
    let folder = openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // What waits for a writer must not wait.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let open = || openat2(&folder, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS);
    let mut opened = open();
    for _ in 1..MAX_TRIES {
        if !matches!(opened, Err(Errno::AGAIN)) {
            break;
        }
        opened = open();
    }
    let file = File::from(opened?);
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Ok(Found::Folder);
    }
    if !metadata.is_file() {
        return Err(io::Error::other("not a file"));
    }
    // HTTP has no parts of a second: with them, a file would seem younger than its own `Last-Modified`.
    let modified = UNIX_EPOCH + Duration::from_secs(u64::try_from(metadata.mtime()).unwrap_or_default());
    let etag =
        format!("\"{:x}-{:x}-{:x}.{:x}\"", metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec());
    let content_type = mime_guess::from_path(path).first_raw().unwrap_or("application/octet-stream");
    let is_text = content_type.starts_with("text/") || content_type.ends_with("javascript");
    let charset = if is_text { "; charset=utf-8" } else { "" };
    Ok(Found::File(Opened {
        file: Arc::new(file),
        bytes: metadata.len(),
        modified,
        etag: HeaderValue::try_from(etag).ok(),
        content_type: HeaderValue::try_from(format!("{content_type}{charset}")).ok(),
    }))
}

/// Links of a page start at its folder, so the folder needs its slash.
fn redirect(requested: &Requested) -> Result<Response<AnswerBody>, Refusal> {
    // Two slashes would name a host.
    if requested.path.starts_with("//") {
        return Err(Refusal::not_found());
    }
    let query = requested.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let location = HeaderValue::try_from(format!("{}/{query}", requested.path)).map_err(|_| Refusal::not_found())?;
    let mut response = Response::new(AnswerBody::default());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// A file, as `http_serve` asks about it.
struct Opened {
    file: Arc<File>,
    bytes: u64,
    modified: SystemTime,
    etag: Option<HeaderValue>,
    content_type: Option<HeaderValue>,
}

impl Entity for Opened {
    type Error = BoxError;
    type Data = Bytes;

    fn len(&self) -> u64 {
        self.bytes
    }

    /// Reads on other threads: a disk may be slow, and a worker has others to serve.
    fn get_range(&self, range: Range<u64>) -> Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send + Sync>> {
        let state = (Arc::clone(&self.file), range);
        Box::pin(stream::try_unfold(state, |(file, left)| async move {
            if left.is_empty() {
                return Ok(None);
            }
            let end = left.end.min(left.start + PART_BYTES);
            let read = spawn_blocking(move || {
                let mut part = vec![0; usize::try_from(end - left.start).unwrap_or_default()];
                // A file that is shorter now breaks the answer off.
                file.read_exact_at(&mut part, left.start)?;
                io::Result::Ok((part, file))
            });
            let (part, file) = read.await.map_err(io::Error::other)??;
            Ok(Some((part.into(), (file, end..left.end))))
        }))
    }

    fn add_headers(&self, headers: &mut HeaderMap) {
        if let Some(content_type) = &self.content_type {
            headers.insert(header::CONTENT_TYPE, content_type.clone());
        }
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // Kept, and asked about by its tag each time.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }

    fn etag(&self) -> Option<HeaderValue> {
        self.etag.clone()
    }

    fn last_modified(&self) -> Option<SystemTime> {
        Some(self.modified)
    }
}

/// A file, or ranges of it, on the way to the client.
pub(in crate::handshake) struct FileBody {
    body: Pin<Box<http_serve::Body>>,
    left: u64,
    record: Rc<Record>,
    held: Held,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = this.body.as_mut().poll_frame(cx) else { return Poll::Pending };
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|error| {
                tracing::warn!(request = this.record.id(), error, "a file cannot be read to its end");
                BrokenOff
            })?;
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            this.left = this.left.saturating_sub(bytes);
            this.record.bytes_to_client.set(this.record.bytes_to_client.get() + bytes);
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for FileBody {
    fn drop(&mut self) {
        let end = if self.left == 0 { HttpEnd::Done } else { HttpEnd::ClientGone };
        self.record.end.set(end);
        self.held.chain.ended = Some(end.for_filters());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_files_below_the_folder_or_nothing() {
        for (rest, path) in [
            ("", Some("index.html")),
            ("a/", Some("a/index.html")),
            ("a%20b/c.html", Some("a b/c.html")),
            ("%C3%BC", Some("ü")),
            ("..", None),
            ("a/%2e%2e/b", None),
            ("a%2f..%2f..%2fb", None),
            (".git/config", None),
            ("a/.env", None),
            ("%2Fetc/passwd", None),
            ("a%5c..%5cb", None),
            ("a%00", None),
            ("%FF", None),
            ("%+1", None),
            ("%2", None),
        ] {
            assert_eq!(file_path(rest).as_deref(), path, "{rest}");
        }
    }
}
