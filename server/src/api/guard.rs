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
        path: &str,
        headers: &HeaderMap,
        correlation: CorrelationId,
        standing: &mut Option<Standing>,
    ) -> Result<Admitted, Status> {
        let Some(requires) = requirement(path) else {
            return Err(Status::new(Code::Unimplemented, "no such rpc"));
        };
        let token = match bearer(headers) {
            None if requires == Requires::UserInHello => return Ok(Admitted::ByHello),
            token => token.ok_or_else(no_token).map_err(|refusal| status_of(&refusal))?,
        };
        let context = self.context(requires, token, headers, correlation).await;
        let admitted = context.and_then(|context| {
            *standing = self.standing(requires, &context.principal.user);
            standing.map_or(Ok(()), |standing| standing.check("user"))?;
            Ok(context)
        });
        admitted.map(Admitted::As).map_err(|refusal| status_of(&refusal))
    }

    /// How a user stands with this call. Services are trusted by their scopes, and a hello is counted when it comes.
    fn standing(&self, requires: Requires, user: &UserId) -> Option<Standing> {
        match requires {
            Requires::User => self.rates.take(user),
            Requires::UserInHello | Requires::Scope(_) => None,
        }
    }

    async fn context(
        &self,
        requires: Requires,
        token: &str,
        headers: &HeaderMap,
        correlation: CorrelationId,
    ) -> Result<CallContext, Refusal> {
        let principal: Principal = self.authenticator.verify(token).await?;
        check(requires, &principal)?;
        let device = device_of(headers, &principal)?;
        if let Some(device) = &device {
            self.authenticator.check_device(&principal, device).await?;
        }
        Ok(CallContext {
            device,
            principal,
            correlation,
        })
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
            let admitted = guard
                .admit(request.uri().path(), request.headers(), correlation, &mut standing)
                .await;
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
