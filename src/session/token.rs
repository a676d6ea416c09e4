//! The client's token while its connection is open: its end, and a new one in its place.

use std::{
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;
use tokio::time::Instant;

use super::{Session, SessionEnd};
use crate::{
    auth::{Authenticator, NotVerified},
    identity::Identity,
    message::Message,
};

/// A longer message is no refresh.
const MAX_REFRESH_BYTES: usize = 16 << 10;
/// The wall clock may be set, and a suspended machine's timers stand still: it is looked at this often.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(60);

/// Who the client is, and who says so.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// Verifies the client's tokens.
    pub authenticator: Arc<Authenticator>,
    /// From the token of the opening request.
    pub identity: Rc<Identity>,
}

/// What becomes of the client's token.
pub struct Token {
    bearer: Bearer,
    look_at: Option<Instant>,
    /// The revocations that were looked at.
    revision: u64,
    /// A new token that is being verified: its key may have to be fetched. Another one takes its place.
    verifying: Option<Verifying>,
}

type Verifying = Pin<Box<dyn Future<Output = Result<Identity, NotVerified>>>>;

/// `{"wsgate":"refresh","token":"…"}`
#[derive(Deserialize)]
struct Refresh {
    wsgate: String,
    token: Option<String>,
}

impl Token {
    /// Nothing has happened to it yet.
    #[must_use]
    pub fn new(bearer: Bearer, now: Instant) -> Self {
        let look_at = look_at(&bearer, now);
        Self { bearer, look_at, revision: 0, verifying: None }
    }

    /// When to call [`Token::is_over`].
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.look_at
    }

    /// Has the token run out, and its grace too? Where not, it is looked at again later.
    pub fn is_over(&mut self, now: Instant) -> bool {
        if self.look_at.is_none_or(|at| at > now) {
            return false;
        }
        self.look_at = look_at(&self.bearer, now);
        self.look_at.is_some_and(|at| at <= now)
    }

    pub(super) fn expiry_code(&self) -> u16 {
        self.bearer.authenticator.expiry().code
    }

    /// Was the token revoked since this was last asked?
    pub fn is_revoked(&mut self) -> bool {
        let revocations = self.bearer.authenticator.revocations();
        // Read before the look-up: what is added meanwhile is looked at the next time.
        let revision = revocations.revision();
        if std::mem::replace(&mut self.revision, revision) == revision {
            return false;
        }
        let revoked = revocations.holds(&self.bearer.identity);
        if revoked {
            revocations.metrics().connections.inc();
        }
        revoked
    }

    /// The token of a message by which the client refreshes its identity. `Some(None)`: there is none in it.
    fn refresh(&self, message: &Message) -> Option<Option<String>> {
        let Message::Text(text) = message else { return None };
        let may_be = self.bearer.authenticator.refreshes()
            && text.len() <= MAX_REFRESH_BYTES
            && text.starts_with('{')
            && text.contains("\"wsgate\"");
        let refresh = may_be.then(|| serde_json::from_str::<Refresh>(text).ok()).flatten()?;
        (refresh.wsgate == "refresh").then_some(refresh.token)
    }
}

/// When the token is over, or when the clock is looked at next.
fn look_at(bearer: &Bearer, now: Instant) -> Option<Instant> {
    let expires_at = UNIX_EPOCH.checked_add(Duration::from_secs(bearer.identity.expires_at?))?;
    let over_at = expires_at.checked_add(bearer.authenticator.expiry().grace)?;
    let left = over_at.duration_since(SystemTime::now()).unwrap_or_default();
    Some(now + left.min(LOOK_AT_CLOCK))
}

impl Session {
    /// Another configuration may have put another table in the place of the one that verified the token.
    pub(super) fn follow_authenticator(&mut self) {
        let Some(token) = &mut self.token else { return };
        if let Some(authenticator) = self.entry.control.new_authenticator() {
            token.bearer.authenticator = authenticator;
            token.look_at = look_at(&token.bearer, self.now);
        }
    }

    /// Takes a message by which the client refreshes its identity: it goes no further.
    pub(super) fn takes_refresh(&mut self, message: &Message) -> bool {
        let Some(token) = &mut self.token else { return false };
        match token.refresh(message) {
            None => return false,
            Some(None) => self.begin_end(SessionEnd::TokenRefused),
            Some(Some(new)) => {
                let authenticator = Arc::clone(&token.bearer.authenticator);
                token.verifying = Some(Box::pin(async move { authenticator.verify(&new).await }));
                // Most need not wait: then what the client sends next comes from its new identity.
                self.poll_refresh(&mut Context::from_waker(Waker::noop()));
            }
        }
        true
    }

    /// Goes on with a new token, if there is one.
    pub(super) fn poll_refresh(&mut self, context: &mut Context<'_>) {
        let Some(token) = &mut self.token else { return };
        let Some(verifying) = &mut token.verifying else { return };
        let Poll::Ready(verified) = verifying.as_mut().poll(context) else { return };
        token.verifying = None;
        match verified {
            Ok(identity) => self.refreshed(identity),
            Err(why) => {
                tracing::info!(route = self.route.name, reason = %why, "a new token is refused");
                if why == NotVerified::Revoked {
                    token.bearer.authenticator.revocations().metrics().refreshes.inc();
                }
                let unknown = why == NotVerified::NoKeys;
                self.begin_end(if unknown { SessionEnd::TokenUnverifiable } else { SessionEnd::TokenRefused });
            }
        }
    }

    fn refreshed(&mut self, identity: Identity) {
        let Some(token) = &mut self.token else { return };
        let old = &token.bearer.identity;
        if (&old.issuer, &old.subject) != (&identity.issuer, &identity.subject) {
            return self.begin_end(SessionEnd::IdentityChanged);
        }
        let identity = Rc::new(identity);
        token.bearer.identity = Rc::clone(&identity);
        token.look_at = look_at(&token.bearer, self.now);
        self.entry.control.identified(&token.bearer);
        let expires = identity.expires_at;
        self.filters.refreshed(identity);
        self.client.send(Message::text(serde_json::json!({"wsgate": "refreshed", "expires": expires}).to_string()));
    }
}
