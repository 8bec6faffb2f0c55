//! The public unary services in tonic's shape.

use stonechat_proto::v1;
use tonic::{Request, Response, Status};

use super::status::{fault_of, status_of};
use super::{CallContext, Operations};
use crate::domain::{Reason, Refusal};
use crate::wire::Answer;

/// Every public unary service.
#[derive(Clone)]
pub(super) struct Public {
    operations: Operations,
}

impl Public {
    pub(super) fn new(operations: Operations) -> Self {
        Self { operations }
    }
}

/// Takes the caller that the guard found. Without a guard before the service, nobody passes.
pub(super) fn admitted<T>(mut request: Request<T>) -> Result<(CallContext, T), Status> {
    let Some(context) = request.extensions_mut().remove::<CallContext>() else {
        let refusal = Refusal::not_done(Reason::Unauthenticated, "the call passed no guard; not done");
        return Err(status_of(&refusal));
    };
    Ok((context, request.into_inner()))
}

/// Faults become statuses; everything else is an OK answer.
pub(super) fn reply<A: Answer>(answer: A) -> Result<Response<A>, Status> {
    match answer.refusal().and_then(fault_of) {
        Some(status) => Err(status),
        None => Ok(Response::new(answer)),
    }
}

macro_rules! service {
    ($module:ident::$service:ident { $($rpc:ident: $request:ident => $response:ident;)* }) => {
        #[tonic::async_trait]
        impl v1::$module::$service for Public {
            $(async fn $rpc(&self, request: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                let (context, request) = admitted(request)?;
                reply(self.operations.$rpc(&context, request).await)
            })*
        }
    };
}

service!(message_service_server::MessageService {
    send: SendRequest => SendResponse;
    edit: EditRequest => EditResponse;
    redact: RedactRequest => RedactResponse;
    react: ReactRequest => ReactResponse;
    pin: PinRequest => PinResponse;
    get_history: GetHistoryRequest => GetHistoryResponse;
});
service!(receipt_service_server::ReceiptService {
    mark_delivered: MarkDeliveredRequest => MarkDeliveredResponse;
    mark_read: MarkReadRequest => MarkReadResponse;
    mark_unread: MarkUnreadRequest => MarkUnreadResponse;
    get_receipts: GetReceiptsRequest => GetReceiptsResponse;
});
service!(presence_service_server::PresenceService {
    set_status: SetStatusRequest => SetStatusResponse;
    get_presence: GetPresenceRequest => GetPresenceResponse;
    set_typing: SetTypingRequest => SetTypingResponse;
});
service!(conversation_service_server::ConversationService {
    create_conversation: CreateConversationRequest => CreateConversationResponse;
    get_conversation: GetConversationRequest => GetConversationResponse;
    list_conversations: ListConversationsRequest => ListConversationsResponse;
    set_members: SetMembersRequest => SetMembersResponse;
    remove_member: RemoveMemberRequest => RemoveMemberResponse;
    rename_conversation: RenameConversationRequest => RenameConversationResponse;
    update_conversation_settings: UpdateConversationSettingsRequest => UpdateConversationSettingsResponse;
});
service!(user_service_server::UserService {
    get_users: GetUsersRequest => GetUsersResponse;
    update_profile: UpdateProfileRequest => UpdateProfileResponse;
    set_block: SetBlockRequest => SetBlockResponse;
    list_blocks: ListBlocksRequest => ListBlocksResponse;
});
service!(device_service_server::DeviceService {
    list_devices: ListDevicesRequest => ListDevicesResponse;
    remove_device: RemoveDeviceRequest => RemoveDeviceResponse;
});
