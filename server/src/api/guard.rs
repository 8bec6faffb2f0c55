//! The door before every unary service: who calls, may they call this rpc, under which correlation id.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, Request, Response, header};
use stonechat_host::Host;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::Service;

use super::access::{Requires, check, requirement};
use super::context::{CallContext, correlate, correlation_of, device_of};
use super::rate::{Standing, UserRates};
use super::status::{of_tonic, status_of};
use crate::auth::{Authenticator, Principal};
use crate::domain::{CorrelationId, Reason, Refusal, UserId};
use crate::telemetry::meters::{AuthFailure, meters};
use crate::telemetry::traces::{Stage, within};

/// Wraps services.
#[derive(Clone)]
pub struct Guard {
    authenticator: Arc<Authenticator>,
    rates: Arc<dyn UserRates>,
    host: Host,
}

impl Guard {
    /// Verifies tokens by this authenticator, and counts the calls of each user.
    #[must_use]
    pub fn new(authenticator: Arc<Authenticator>, rates: Arc<dyn UserRates>, host: Host) -> Self {
        Self {
            authenticator,
            rates,
            host,
        }
    }

    /// Puts the guard before a service. Its handlers find a [`CallContext`] in the extensions of the request, except
    /// where the rpc takes its token from the hello and the metadata has none.
    #[must_use]
    pub fn wrap<S>(&self, inner: S) -> Guarded<S> {
        Guarded {
            guard: self.clone(),
            inner,
        }
    }

    async fn admit(
        &self,
        request: &mut Request<Body>,
        correlation: CorrelationId,
        standing: &mut Option<Standing>,
    ) -> Result<Admitted, Status> {
        let Some(requires) = requirement(request.uri().path()) else {
            return Err(Status::new(Code::Unimplemented, "no such rpc"));
        };
        let proof = match request.extensions_mut().remove::<Proof>() {
            Some(proof) => Some(proof),
            None => Proof::of(request.headers(), &self.authenticator).await,
        };
        let principal = match proof {
            None if requires == Requires::UserInHello => return Ok(Admitted::ByHello),
            proof => proof.map_or_else(|| Err(no_token()), |proof| proof.0),
        };
        let principal = principal.map_err(|refusal| status_of(&refusal))?;
        let context = self.context(requires, principal, request.headers(), correlation, standing);
        context.await.map(Admitted::As).map_err(|refusal| status_of(&refusal))
    }

    /// The rate comes before anything that asks a store: a user above it costs none.
    async fn context(
        &self,
        requires: Requires,
        principal: Principal,
        headers: &HeaderMap,
        correlation: CorrelationId,
        standing: &mut Option<Standing>,
    ) -> Result<CallContext, Refusal> {
        check(requires, &principal)?;
        let device = device_of(headers, &principal)?;
        match requires {
            Requires::User => {
                *standing = self.rates.take(&principal.user);
                standing.map_or(Ok(()), |standing| standing.check("user"))?;
                let counts = self.authenticator.check_again(&principal, device.as_ref()).await;
                counts.inspect_err(|refusal| self.forget(refusal, &principal.user, standing))?;
            }
            // Services are trusted by their scopes.
            Requires::Scope(_) => self.authenticator.check_again(&principal, device.as_ref()).await?,
            // Its hello is counted when it comes, and only then it is asked whether the token still counts.
            Requires::UserInHello => {}
        }
        Ok(CallContext {
            device,
            principal,
            correlation,
        })
    }

    /// A token that was withdrawn does not use up the rate of whose it was, and hears nothing of it.
    fn forget(&self, refusal: &Refusal, user: &UserId, standing: &mut Option<Standing>) {
        if refusal.reason == Reason::Unauthenticated && standing.take().is_some() {
            self.rates.give_back(user);
        }
    }
}

/// What the token of a call proves by itself. Who looked before the guard does puts it into the request.
#[derive(Debug, Clone)]
pub struct Proof(Result<Principal, Refusal>);

impl Proof {
    /// Looks at the token in the metadata, and asks no store; `None` when there is none.
    pub async fn of(headers: &HeaderMap, authenticator: &Authenticator) -> Option<Self> {
        Some(Self(authenticator.prove(bearer(headers)?).await))
    }

    /// Whether it proves who calls.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.0.is_ok()
    }
}

enum Admitted {
    As(CallContext),
    ByHello,
}

/// The token of `authorization: Bearer …`. The scheme's name may be in any case (RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn no_token() -> Refusal {
    meters().auth_failures.inc(AuthFailure::NoToken);
    Refusal::not_done(
        Reason::Unauthenticated,
        "the metadata has no \"authorization: Bearer …\"; not done",
    )
}

/// A service behind the guard.
#[derive(Clone)]
pub struct Guarded<S> {
    guard: Guard,
    inner: S,
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let guard = self.guard.clone();
        // The clone has not been polled ready; the one that has goes into the future.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            // Whoever let the request in may have given it one.
            let given = request.extensions().get::<CorrelationId>().copied();
            let correlation = given.unwrap_or_else(|| correlation_of(request.headers(), &guard.host));
            let mut standing = None;
            let admitted = guard.admit(&mut request, correlation, &mut standing).await;
            let mut response = match admitted {
                Ok(admitted) => {
                    if let Admitted::As(context) = admitted {
                        request.extensions_mut().insert(context);
                    }
                    typed(within(Stage::Request, correlation, inner.call(request)).await?)
                }
                Err(status) => status.into_http(),
            };
            if let Some(standing) = standing {
                standing.tell(response.headers_mut());
            }
            correlate(response.headers_mut(), correlation);
            Ok(response)
        })
    }
}

/// Gives the statuses that tonic makes itself a code of ours and details.
pub(super) fn typed(response: Response<Body>) -> Response<Body> {
    let status = response.extensions().get::<Status>().and_then(of_tonic);
    status.map_or(response, Status::into_http)
}
