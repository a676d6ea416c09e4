//! What is done with each request before its upstream is dialled, whether it is an opening or not.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use data_encoding::BASE32_NOPAD;
use http::HeaderMap;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Handshake,
    identity::{authenticate, set_claims},
    refusal::Refusal,
    request::Requested,
};
use crate::{
    filter::{Admission, Chain, Closer, Instances, NotAdmitted, OpeningRequest},
    identity::Identity,
    limit::{Limit, Places},
    message::CloseFrame,
    route::{Matched, Route},
    session::Bearer,
};

/// What filters are shown of a request, beside what the gateway knows of its client.
pub(super) struct Asking<'a> {
    pub(super) id: &'a str,
    pub(super) requested: &'a Requested,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) subprotocols: &'a [String],
}

impl<H: 'static> Handshake<H> {
    /// Counts the request, whatever becomes of it, and takes places for its connection. First of all, so that who asks
    /// too often costs little.
    pub(super) fn admit_client(&self, route: &Route) -> Result<Places, Limit> {
        let (all, client) = (&self.current.all, self.source.client.ip());
        route.limiter.handshake(client)?;
        all.handshake(client)?;
        let mut places = Places::default();
        route.limiter.enter(client, &mut places)?;
        all.enter(client, &mut places)?;
        Ok(places)
    }

    /// Whose token the client has, where the route wants one, and whether `bearer` was offered with it.
    pub(super) async fn identify(
        &self,
        route: &Route,
        requested: &mut Requested,
        subprotocols: &mut Vec<String>,
        headers: &mut HeaderMap,
    ) -> Result<(Option<Bearer>, bool), Refusal> {
        let Some(name) = &route.auth else { return Ok((None, false)) };
        let authenticator = self.current.authenticators.get(name).ok_or_else(Refusal::internal)?;
        let (identity, with_token) = authenticate(authenticator, requested, subprotocols, headers).await?;
        set_claims(headers, route, &identity);
        let bearer = Bearer { authenticator: Arc::clone(authenticator), identity: Rc::new(identity) };
        Ok((Some(bearer), with_token))
    }

    /// Asks the filters of the route. The calls are made by a task of their own: a client that leaves must not end a
    /// call half way, which would cost the instance.
    pub(super) async fn admit(
        &self,
        asking: Asking<'_>,
        matched: &Matched,
        identity: Option<Rc<Identity>>,
        deadline: Instant,
    ) -> Result<(HeldChain, Admission), Refusal> {
        if !matched.route.filtered {
            return Ok((HeldChain::default(), Admission::default()));
        }
        let Asking { id, requested, headers, subprotocols } = asking;
        let instances = Rc::clone(self.context.sessions.instances());
        // A reload may be taking the route away.
        let spec = instances.live().chain_of(&matched.route.name).ok_or_else(Refusal::unavailable)?;
        let request = Rc::new(OpeningRequest {
            connection: id.to_owned(),
            route: matched.route.name.clone(),
            host: requested.host.clone(),
            path: requested.path.clone(),
            parameters: matched.parameters.clone(),
            query: requested.query.clone(),
            headers,
            subprotocols: subprotocols.to_vec(),
            client: self.source.client,
            secure: self.source.secure,
            client_certificate: self.visitor.certificate.clone(),
            identity: RefCell::new(identity),
            last_reason: Arc::default(),
        });
        let last_reason = Arc::clone(&request.last_reason);
        let (sender, receiver) = oneshot::channel();
        tokio::task::spawn_local(async move {
            let answer = Chain::open(Rc::clone(&instances), spec, request).await;
            let answer = answer.map(|(chain, admission)| (HeldChain::new(chain, instances), admission));
            // A chain that nobody waits for any more is closed by its drop.
            drop(sender.send(answer));
        });
        match tokio::time::timeout_at(deadline, receiver).await {
            Ok(Ok(answer)) => answer
                .map_err(|refused: NotAdmitted| Refusal { filter_reason: last_reason.get(), ..Refusal::from(refused) }),
            Ok(Err(_)) => Err(Refusal::internal()),
            Err(_) => Err(Refusal::timeout()),
        }
    }
}

/// A chain without a session. When it is dropped its filters hear of the end.
#[derive(Default)]
pub(super) struct HeldChain {
    chain: Option<(Chain, Rc<Instances>)>,
    /// Who ended it, and with which code, if that is known.
    pub(super) ended: Option<(Closer, u16)>,
}

impl HeldChain {
    fn new(chain: Chain, instances: Rc<Instances>) -> Self {
        Self { chain: Some((chain, instances)), ended: None }
    }

    /// For a session, which will tell its filters itself.
    pub(super) fn take(&mut self) -> Option<(Chain, Rc<Instances>)> {
        self.chain.take()
    }
}

impl Drop for HeldChain {
    fn drop(&mut self) {
        if let Some((chain, _)) = self.chain.take() {
            let (by, code) = self.ended.unwrap_or((Closer::Gateway, 1006));
            crate::filter::finish(chain.close(by, CloseFrame::new(code, "")));
        }
    }
}

/// 128 random bits.
pub(super) fn connection_id() -> String {
    BASE32_NOPAD.encode(&rand::random::<[u8; 16]>()).to_ascii_lowercase()
}
