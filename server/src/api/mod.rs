//! The unary services, thin. The same [`Operations`] answer the frames of a stream.
//!
//! A call's way: [`Guarded`] (who calls, may they call this rpc at all) → `public` or `admin` (tonic's shape) →
//! [`Operations`] (check the request, ask the rules, build the answer) → `conversation`, `presence`.

pub mod access;

mod admin;
mod context;
mod guard;
mod operations;
mod public;
mod rate;
mod status;

#[cfg(test)]
mod tests;

pub use context::{CORRELATION_METADATA, CallContext, DEVICE_METADATA, correlate, correlation_of};
pub use guard::{Guard, Guarded, Proof};
pub use operations::Operations;
pub use rate::{RATE_LIMIT_METADATA, RATE_REMAINING_METADATA, RATE_RESET_METADATA, Standing, UserRates, passing};
pub use status::{status_of, status_of_deadline};

use std::sync::Arc;

use stonechat_proto::admin::v1 as admin_v1;
use stonechat_proto::v1;
use tonic::service::Routes;

use self::admin::Administration;
use self::public::Public;
use crate::auth::Authenticator;
use crate::conversation::{Conversations, People};
use crate::domain::limits::FRAME_BYTES_MAX;

/// A request of any rpc fits a frame: the largest, a group of 500, takes 35 KiB.
macro_rules! add {
    ($routes:expr, $guard:expr, $handler:expr, $($server:path),*) => {
        $routes$(.add_service($guard.wrap(<$server>::new($handler.clone()).max_decoding_message_size(FRAME_BYTES_MAX))))*
    };
}

/// Adds every public unary service to `routes`, each behind the guard.
#[must_use]
pub fn add_services(routes: Routes, guard: &Guard, operations: Operations) -> Routes {
    let public = Public::new(operations);
    add!(
        routes,
        guard,
        public,
        v1::message_service_server::MessageServiceServer<Public>,
        v1::receipt_service_server::ReceiptServiceServer<Public>,
        v1::presence_service_server::PresenceServiceServer<Public>,
        v1::conversation_service_server::ConversationServiceServer<Public>,
        v1::user_service_server::UserServiceServer<Public>,
        v1::device_service_server::DeviceServiceServer<Public>
    )
}

/// Adds every admin service to `routes`, each behind the guard.
#[must_use]
pub fn add_admin_services(
    routes: Routes,
    guard: &Guard,
    conversations: Conversations,
    people: People,
    authenticator: Arc<Authenticator>,
) -> Routes {
    let admin = Administration::new(conversations, people, authenticator);
    add!(
        routes,
        guard,
        admin,
        admin_v1::user_admin_service_server::UserAdminServiceServer<Administration>,
        admin_v1::token_admin_service_server::TokenAdminServiceServer<Administration>,
        admin_v1::conversation_admin_service_server::ConversationAdminServiceServer<Administration>,
        admin_v1::message_admin_service_server::MessageAdminServiceServer<Administration>
    )
}
