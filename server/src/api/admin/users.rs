//! The life of users and their tokens.

use std::collections::BTreeSet;
use std::time::Duration;

use stonechat_proto::admin::v1;

use super::Administration;
use crate::api::CallContext;
use crate::api::operations::finish;
use crate::domain::Refusal;
use crate::wire::people;

impl Administration {
    pub(in crate::api) async fn upsert_user(
        &self,
        context: &CallContext,
        request: v1::UpsertUserRequest,
    ) -> v1::UpsertUserResponse {
        let result = async {
            let (id, name) = people::upsert_user(request)?;
            Ok(people::user(&self.people.upsert(&id, &name).await?))
        };
        finish("admin.upsert_user", context, result.await)
    }

    pub(in crate::api) async fn get_user(
        &self,
        context: &CallContext,
        request: v1::GetUserRequest,
    ) -> v1::GetUserResponse {
        let result = async {
            let id = people::get_user(&request)?;
            Ok(people::user(&self.people.user(&id).await?))
        };
        finish("admin.get_user", context, result.await)
    }

    pub(in crate::api) async fn list_users(
        &self,
        context: &CallContext,
        request: v1::ListUsersRequest,
    ) -> v1::ListUsersResponse {
        let result = async {
            let (after, limit) = people::list_users(&request)?;
            let (users, has_more) = self.people.list(after.as_ref(), limit).await?;
            Ok(people::page(&users, has_more))
        };
        finish("admin.list_users", context, result.await)
    }

    pub(in crate::api) async fn set_user_deactivated(
        &self,
        context: &CallContext,
        request: v1::SetUserDeactivatedRequest,
    ) -> v1::SetUserDeactivatedResponse {
        let result = async {
            let (id, deactivated) = people::set_deactivated(&request)?;
            Ok(people::user(&self.people.set_deactivated(&id, deactivated).await?))
        };
        finish("admin.set_user_deactivated", context, result.await)
    }

    pub(in crate::api) async fn revoke_tokens(
        &self,
        context: &CallContext,
        request: v1::RevokeTokensRequest,
    ) -> v1::RevokeTokensResponse {
        let result = async {
            let (user, device) = people::revoke_tokens(&request)?;
            let revoked_ms = self.people.revoke_tokens(&user, device).await?.0;
            Ok(v1::RevokedTokens { revoked_ms })
        };
        finish("admin.revoke_tokens", context, result.await)
    }

    pub(in crate::api) async fn issue_token(
        &self,
        context: &CallContext,
        request: v1::IssueTokenRequest,
    ) -> v1::IssueTokenResponse {
        finish("admin.issue_token", context, self.issue(&request).await)
    }

    async fn issue(&self, request: &v1::IssueTokenRequest) -> Result<v1::IssuedToken, Refusal> {
        let asked = people::issue_token(request)?;
        if self.people.user(&asked.user).await?.deactivated {
            return Err(Refusal::forbidden("the user is deactivated; no token was issued"));
        }
        let ttl = Duration::from_secs(asked.ttl_seconds.into());
        // A user's token: nobody gains admin scopes by an rpc.
        let scopes = BTreeSet::new();
        let issued = self
            .authenticator
            .issue(&asked.user, asked.device.as_ref(), &scopes, ttl)?;
        Ok(v1::IssuedToken {
            token: issued.token.expose().clone(),
            expires_ms: issued.expires.0,
        })
    }
}
