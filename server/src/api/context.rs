//! Who calls, from which device, under which correlation id.

use std::str::FromStr;

use http::{HeaderMap, HeaderValue};
use stonechat_host::Host;

use super::access::user_of;
use super::rate::passing;
use crate::auth::Principal;
use crate::conversation::Caller;
use crate::domain::authorization::Actor;
use crate::domain::{CorrelationId, DeviceId, Refusal};

/// Request and response metadata that carries the correlation id, 32 hex digits.
pub const CORRELATION_METADATA: &str = "stonechat-correlation-id";
/// Request metadata that names the device of a unary call: the namespace of its `client_msg_id`s.
pub const DEVICE_METADATA: &str = "stonechat-device-id";

/// What an operation knows of its caller.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// What the token proved.
    pub principal: Principal,
    /// The device; `None` when neither token nor metadata name one.
    pub device: Option<DeviceId>,
    /// Joins the request, its logs and what it causes.
    pub correlation: CorrelationId,
}

impl CallContext {
    /// The caller's user, for the conversation rules.
    ///
    /// # Errors
    /// `Forbidden` for a service's token.
    pub fn caller(&self) -> Result<Caller, Refusal> {
        Ok(Caller {
            actor: Actor::User(user_of(&self.principal)?.clone()),
            device: self.device.clone(),
            correlation: self.correlation,
        })
    }
}

/// The id the client chose, or a new one when it chose none or a malformed one.
#[must_use]
pub fn correlation_of(headers: &HeaderMap, host: &Host) -> CorrelationId {
    let chosen = headers.get(CORRELATION_METADATA).and_then(|value| value.to_str().ok());
    let chosen = chosen.and_then(|text| CorrelationId::from_str(text).ok());
    chosen.unwrap_or_else(|| CorrelationId(host.random.bytes16()))
}

/// Puts the correlation id into the metadata of an answer.
pub fn correlate(answer: &mut HeaderMap, correlation: CorrelationId) {
    if let Ok(value) = HeaderValue::from_str(&correlation.to_string()) {
        answer.insert(CORRELATION_METADATA, passing(value));
    }
}

/// The device a unary call speaks for: the one its token is bound to, which metadata may repeat but not change.
pub(super) fn device_of(headers: &HeaderMap, principal: &Principal) -> Result<Option<DeviceId>, Refusal> {
    let Some(value) = headers.get(DEVICE_METADATA) else {
        return Ok(principal.device.clone());
    };
    let named = value.to_str().ok().and_then(|text| DeviceId::parse(text).ok());
    let named = named.ok_or_else(|| Refusal::invalid(DEVICE_METADATA, "is not a device id"))?;
    match &principal.device {
        Some(bound) if *bound != named => Err(Refusal::forbidden("the token is bound to another device")),
        _ => Ok(Some(named)),
    }
}
