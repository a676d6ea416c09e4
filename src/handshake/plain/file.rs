//! `target = "static"`: files below a folder. Conditions and ranges are `tower_http`'s; which file it is, is ours: the
//! kernel sees to it that no path and no symbolic link leads out of the folder (`openat2`).

use std::{
    fs::{File, Metadata},
    future::{Ready, ready},
    io::{self, Seek},
    path::{Path, PathBuf},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header, request::Parts};
use hyper::body::{Body, Frame, SizeHint};
use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
};
use tokio::{
    io::{AsyncRead, AsyncSeek, ReadBuf},
    task::spawn_blocking,
};
use tower_http::services::fs::{self, Backend, ServeDir, ServeFileSystemResponseBody};

use super::{
    BrokenOff, Held,
    record::{HttpEnd, Record},
};
use crate::{
    config::pattern::REST,
    handshake::{answer::AnswerBody, refusal::Refusal, request::Requested},
    route::Matched,
};

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
    let is_head = parts.method == Method::HEAD;
    let rest = matched.parameters.iter().rfind(|(name, _)| name == REST).map_or("", |(_, rest)| rest);
    let path = file_path(rest).ok_or_else(Refusal::not_found)?;
    let folder = folder.to_owned();
    let found = spawn_blocking(move || find(&folder, &path)).await.map_err(|_| Refusal::internal())?;
    let response = match found {
        Ok(Some(file)) => serve(&file, &parts).await.map_err(|error| {
            tracing::warn!(request = record.id(), %error, "a file cannot be served");
            Refusal::internal()
        })?,
        Ok(None) => return redirect(requested),
        Err(error) => {
            tracing::debug!(request = record.id(), %error, "no file");
            return Err(Refusal::not_found());
        }
    };
    // The body does not know its size, and that of HEAD is empty.
    let length = response.headers().get(header::CONTENT_LENGTH).filter(|_| !is_head);
    let left = length.and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or_default();
    Ok(response.map(|body| AnswerBody::File(Box::new(FileBody { body, left, record: Rc::clone(record), held }))))
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

/// The file of that path; `None` where it is a folder.
fn find(folder: &Path, path: &str) -> io::Result<Option<Opened>> {
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
        return Ok(None);
    }
    if !metadata.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let content_type = mime_guess::from_path(path).first_raw().unwrap_or("application/octet-stream");
    let is_text = content_type.starts_with("text/") || content_type.ends_with("javascript");
    let charset = if is_text { "; charset=utf-8" } else { "" };
    let content_type = HeaderValue::try_from(format!("{content_type}{charset}")).ok();
    Ok(Some(Opened { file: Arc::new(file), metadata, content_type }))
}

/// Answers with what the request asks for of a file: all, one range, or that it is unchanged (RFC 9110, sections 13 and
/// 14).
async fn serve(file: &Opened, parts: &Parts) -> io::Result<Response<ServeFileSystemResponseBody>> {
    let mut service = ServeDir::with_backend("", file.clone())
        .append_index_html_on_directories(false)
        .ignore_multi_range_requests(true);
    // Where the file lies is settled.
    let mut request = Request::new(());
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = Uri::from_static("/file");
    request.headers_mut().clone_from(&parts.headers);
    let mut response = service.try_call(request.clone()).await?;
    if response.status().is_success() || response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
        // The library does not look at it: a range of another version would be put together with what the client has.
        if parts.headers.get(header::IF_RANGE).is_some_and(|version| !is_of_version(response.headers(), version)) {
            request.headers_mut().remove(header::RANGE);
            response = service.try_call(request).await?;
        }
    }
    let has_content = response.status().is_success();
    let headers = response.headers_mut();
    if let Some(content_type) = file.content_type.as_ref().filter(|_| has_content) {
        headers.insert(header::CONTENT_TYPE, content_type.clone());
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Kept, and asked about by its tag each time.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// Whether `If-Range` names this version. Only its tag does: two changes within a second have one date.
fn is_of_version(headers: &HeaderMap, if_range: &HeaderValue) -> bool {
    headers.get(header::ETAG) == Some(if_range)
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

/// A file that was found, as `tower_http` asks about it: whatever the path, it is this one.
#[derive(Clone)]
struct Opened {
    file: Arc<File>,
    metadata: Metadata,
    content_type: Option<HeaderValue>,
}

impl Backend for Opened {
    type File = Reading;
    type Metadata = Metadata;
    type OpenFuture = Ready<io::Result<Reading>>;
    type MetadataFuture = Ready<io::Result<Metadata>>;

    fn open(&self, _path: PathBuf) -> Self::OpenFuture {
        // Copies of a descriptor share their place.
        let copy = (&*self.file).rewind().and_then(|()| self.file.try_clone());
        ready(copy.map(|file| Reading { file: file.into(), metadata: self.metadata.clone() }))
    }

    fn metadata(&self, _path: PathBuf) -> Self::MetadataFuture {
        ready(Ok(self.metadata.clone()))
    }
}

/// Reads on other threads: a disk may be slow, and a worker has others to serve.
struct Reading {
    file: tokio::fs::File,
    metadata: Metadata,
}

impl fs::File for Reading {
    type Metadata = Metadata;
    type MetadataFuture<'a> = Ready<io::Result<Metadata>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        ready(Ok(self.metadata.clone()))
    }
}

impl AsyncRead for Reading {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_read(cx, into)
    }
}

impl AsyncSeek for Reading {
    fn start_seek(mut self: Pin<&mut Self>, position: io::SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.file).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.file).poll_complete(cx)
    }
}

/// A file, or a range of it, on the way to the client.
pub(in crate::handshake) struct FileBody {
    body: ServeFileSystemResponseBody,
    left: u64,
    record: Rc<Record>,
    held: Held,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else { return Poll::Pending };
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|error| {
                tracing::warn!(request = this.record.id(), %error, "a file cannot be read to its end");
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
