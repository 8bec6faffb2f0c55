//! Users, the caller's blocks and devices.

use stonechat_proto::v1;

use super::{Operations, finish};
use crate::api::CallContext;
use crate::api::access::user_of;
use crate::wire::people;

impl Operations {
    /// Reads users.
    pub async fn get_users(&self, context: &CallContext, request: v1::GetUsersRequest) -> v1::GetUsersResponse {
        let result = async {
            user_of(&context.principal)?;
            let found = self.people.users(&people::get_users(&request)?).await?;
            Ok(people::users(&found))
        };
        finish("get_users", context, result.await)
    }

    /// Changes the caller's profile.
    pub async fn update_profile(
        &self,
        context: &CallContext,
        request: v1::UpdateProfileRequest,
    ) -> v1::UpdateProfileResponse {
        let result = async {
            let name = people::update_profile(request)?;
            let user = self.people.upsert(user_of(&context.principal)?, &name).await?;
            Ok(people::user(&user))
        };
        finish("update_profile", context, result.await)
    }

    /// Blocks or unblocks a user.
    pub async fn set_block(&self, context: &CallContext, request: v1::SetBlockRequest) -> v1::SetBlockResponse {
        let result = async {
            let (target, blocked) = people::set_block(&request)?;
            let user = user_of(&context.principal)?;
            let blocks = self.people.set_block(user, &target, blocked).await?;
            Ok(people::blocks(&blocks))
        };
        finish("set_block", context, result.await)
    }

    /// Lists the caller's blocks.
    pub async fn list_blocks(&self, context: &CallContext, _: v1::ListBlocksRequest) -> v1::ListBlocksResponse {
        let result = async {
            let blocks = self.people.blocks(user_of(&context.principal)?).await?;
            Ok(people::blocks(&blocks))
        };
        finish("list_blocks", context, result.await)
    }

    /// Lists the caller's devices.
    pub async fn list_devices(&self, context: &CallContext, _: v1::ListDevicesRequest) -> v1::ListDevicesResponse {
        let result = async {
            let devices = self.people.devices(user_of(&context.principal)?).await?;
            Ok(people::devices(&devices))
        };
        finish("list_devices", context, result.await)
    }

    /// Removes a device of the caller.
    pub async fn remove_device(
        &self,
        context: &CallContext,
        request: v1::RemoveDeviceRequest,
    ) -> v1::RemoveDeviceResponse {
        let result = async {
            let device = people::remove_device(&request)?;
            let left = self.people.remove_device(user_of(&context.principal)?, &device).await?;
            Ok(people::devices(&left))
        };
        finish("remove_device", context, result.await)
    }
}
