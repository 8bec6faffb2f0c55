//! Doors for fuzz targets: what decodes the session rpcs, on bytes.

use stonechat_proto::v1;

use super::codec::{FromClient, decode};

/// Decodes as the server does what clients send on a session rpc; whether it could.
fn decodes<T: FromClient>(mut message: &[u8]) -> bool {
    decode::<T>(&mut message).is_ok()
}

/// A message of Exchange.
#[must_use]
pub fn exchange(message: &[u8]) -> bool {
    decodes::<v1::ExchangeRequest>(message)
}

/// A message of Listen.
#[must_use]
pub fn listen(message: &[u8]) -> bool {
    decodes::<v1::ListenRequest>(message)
}

/// A message of Submit.
#[must_use]
pub fn submit(message: &[u8]) -> bool {
    decodes::<v1::SubmitRequest>(message)
}
