//! `[[routes]] http` and `target = "static"`

use std::path::PathBuf;

use super::{
    super::{
        leaf::{At, Table, Word},
        raw::{RawRoute, RawTarget},
        types::{HttpForward, HttpMode, Target},
    },
    Checker,
    route::MILLISECOND,
};

/// Larger ones are uploads that `"off"` is for.
const MAX_BODY_BYTES: usize = 1 << 40;

impl Checker<'_> {
    pub(super) fn http(&mut self, raw: &RawRoute, target: Option<&Target>) -> Option<HttpForward> {
        let default = HttpForward::default();
        let forward = HttpForward {
            filters: raw.http_filters.as_ref().map_or(default.filters, |word| word.value.0),
            max_body_bytes: self.size_or_off(raw.http_max_body.as_ref(), default.max_body_bytes, 1..=MAX_BODY_BYTES),
            body_timeout: self.time(raw.http_body_timeout.as_ref(), default.body_timeout, MILLISECOND),
            response_timeout: self.time(raw.http_response_timeout.as_ref(), default.response_timeout, MILLISECOND),
        };
        let at = raw.http.as_ref().filter(|word| word.value.0 == HttpMode::Forward)?;
        match target {
            Some(Target::Upstream(_)) | None => Some(forward),
            Some(Target::Echo | Target::Filters | Target::Static(_)) => {
                self.refuse(at, "there is nobody to forward to; write upstream instead of target, or remove this");
                None
            }
        }
    }

    /// `target = "static"` with its `folder`.
    pub(super) fn static_files(&mut self, at: &At<Table<RawRoute>>) -> Option<PathBuf> {
        let raw = &at.value;
        if let Some(filters) = raw.filters.as_ref().filter(|filters| !filters.value.is_empty()) {
            self.refuse(
                filters,
                "there are no messages for filters where files are served; remove this, or the target",
            );
        }
        if let Some(filters) = &raw.filters_folder {
            self.refuse(
                filters,
                "there are no messages for filters where files are served; remove this, or the target",
            );
        }
        if let Some(rewrite) = &raw.path_rewrite {
            self.refuse(rewrite, "files are found by what the `*` of path takes; remove this");
        }
        match &raw.folder {
            Some(folder) => Some(self.folder(folder)),
            None => {
                self.refuse_key(Some(at), "folder", "missing; write the folder whose files are served");
                None
            }
        }
    }

    pub(super) fn folder_has_its_target(&mut self, raw: &RawRoute) {
        let is_static = matches!(raw.target, Some(At { value: Word(RawTarget::Static), .. }));
        if let Some(folder) = raw.folder.as_ref().filter(|_| !is_static) {
            self.refuse(folder, "is only for target = \"static\"; remove it");
        }
    }
}
