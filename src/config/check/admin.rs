//! `[admin]`

use std::{collections::BTreeSet, net::SocketAddr};

use super::{
    super::{
        raw::RawAdmin,
        types::{Admin, AdminToken},
    },
    Checker,
    listener::is_loopback,
};

/// Each is compared for each request.
const MAX_TOKENS: usize = 16;

impl Checker<'_> {
    pub(super) fn admin(&mut self, raw: &RawAdmin) -> Admin {
        let mut admin = Admin { tokens: self.admin_tokens(raw), ..Admin::default() };
        let Some(at) = &raw.address else { return admin };
        let Some(address) = self.address(at) else { return admin };
        match check_loopback(address) {
            Ok(()) => admin.address = address,
            Err(_) if !raw.tokens.is_empty() => {
                admin.address = address;
                self.warn(at, "the admin API has no TLS: tokens travel in the clear beyond this machine; let nobody read that network");
            }
            Err(why) => self.refuse_as(at, why),
        }
        admin
    }

    fn admin_tokens(&mut self, raw: &RawAdmin) -> Vec<AdminToken> {
        let (mut tokens, mut files) = (Vec::new(), BTreeSet::new());
        for at in &raw.tokens {
            let file = at.value.file.as_ref().map(|file| (file, self.path(file)));
            match (file, at.value.role) {
                (Some((at, file)), Some(role)) => {
                    if !files.insert(file.clone()) {
                        self.refuse_as(at, "accepted; this file is in the list already");
                    }
                    tokens.push(AdminToken { file, role: role.0 });
                }
                (None, _) => {
                    self.refuse_key(Some(at), "file", "missing; write a file with a token of at least 32 bytes")
                }
                (Some(_), None) => {
                    self.refuse_key(Some(at), "role", "missing; write \"read\", \"operate\" or \"payload\"");
                }
            }
        }
        if let Some(at) = raw.tokens.get(MAX_TOKENS) {
            self.refuse(at, format!("at most {MAX_TOKENS} tokens are accepted"));
        }
        tokens
    }
}

/// Who reaches an admin API without tokens may do everything.
pub(in super::super) fn check_loopback(address: SocketAddr) -> Result<(), &'static str> {
    if is_loopback(address) {
        return Ok(());
    }
    Err("accepted; without admin.tokens the admin API has no access control, so write a loopback address, such as \
         \"127.0.0.1:9901\", or set tokens; probes and metrics for others are what [health] is for")
}
