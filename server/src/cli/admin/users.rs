//! Users and their tokens.

use clap::Subcommand;
use serde_json::json;
use stonechat_client::admin::v1::{
    GetUserRequest, IssueTokenRequest, ListUsersRequest, RevokeTokensRequest, SetUserDeactivatedRequest,
    UpsertUserRequest,
};
use stonechat_client::v1::User;
use stonechat_client::{Unary, settle};

use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::{json, text};

/// Users asked for at a time: the contract's bound.
const PAGE: u32 = 500;

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Create a user or change their name
    UpsertUser {
        /// Id of the user
        user: String,
        /// Name to show
        #[arg(long, default_value = "")]
        name: String,
    },
    /// Show one user
    GetUser {
        /// Id of the user
        user: String,
    },
    /// List all users
    ListUsers,
    /// Deactivate a user: their streams end, their tokens stop working
    Deactivate {
        /// Id of the user
        user: String,
    },
    /// Bring a deactivated user back
    Reactivate {
        /// Id of the user
        user: String,
    },
    /// Void a user's tokens issued so far, and end their streams
    Revoke {
        /// Id of the user
        user: String,
        /// Only those of one device, which is removed
        #[arg(long, value_name = "ID", default_value = "")]
        device: String,
    },
    /// Let the server issue a token for a user
    Token {
        /// Id of the user
        user: String,
        /// Bind it to one device
        #[arg(long, value_name = "ID", default_value = "")]
        device: String,
        /// How long it is good, in seconds; 0 for a day
        #[arg(long = "ttl", value_name = "SECONDS", default_value_t = 0)]
        ttl_seconds: u32,
    },
}

pub(super) async fn run(unary: &Unary, action: Action, output: Output) -> Result<(), Failure> {
    let mut users = unary.admin_users();
    match action {
        Action::UpsertUser { user, name } => {
            let request = UpsertUserRequest {
                user_id: user,
                display_name: name,
            };
            show(&settle(users.upsert_user(request).await)?, output);
        }
        Action::GetUser { user } => {
            let request = GetUserRequest { user_id: user };
            show(&settle(users.get_user(request).await)?, output);
        }
        Action::ListUsers => list(unary, output).await?,
        Action::Deactivate { user } => set_deactivated(unary, user, true, output).await?,
        Action::Reactivate { user } => set_deactivated(unary, user, false, output).await?,
        Action::Revoke { user, device } => revoke(unary, user, device, output).await?,
        Action::Token {
            user,
            device,
            ttl_seconds,
        } => {
            let request = IssueTokenRequest {
                user_id: user,
                device_id: device,
                ttl_seconds,
            };
            let issued = settle(unary.admin_tokens().issue_token(request).await)?;
            let as_json = || json!({ "token": issued.token, "expires_ms": issued.expires_ms });
            output.line(|| issued.token.clone(), as_json);
        }
    }
    Ok(())
}

async fn set_deactivated(unary: &Unary, user: String, deactivated: bool, output: Output) -> Result<(), Failure> {
    let request = SetUserDeactivatedRequest {
        user_id: user,
        deactivated,
    };
    show(
        &settle(unary.admin_users().set_user_deactivated(request).await)?,
        output,
    );
    Ok(())
}

async fn revoke(unary: &Unary, user: String, device: String, output: Output) -> Result<(), Failure> {
    let request = RevokeTokensRequest {
        user_id: user,
        device_id: device,
    };
    let revoked = settle(unary.admin_users().revoke_tokens(request).await)?;
    let as_text = || "revoked".to_owned();
    output.line(as_text, || json!({ "revoked_ms": revoked.revoked_ms }));
    Ok(())
}

async fn list(unary: &Unary, output: Output) -> Result<(), Failure> {
    let mut after_user_id = String::new();
    loop {
        let request = ListUsersRequest {
            after_user_id: after_user_id.clone(),
            limit: PAGE,
        };
        let page = settle(unary.admin_users().list_users(request).await)?;
        page.users.iter().for_each(|user| show(user, output));
        match page.users.last() {
            Some(last) if page.has_more => last.user_id.clone_into(&mut after_user_id),
            _ => return Ok(()),
        }
    }
}

fn show(user: &User, output: Output) {
    let off = if user.deactivated { "  (deactivated)" } else { "" };
    output.line(
        || format!("{}  {}{off}", user.user_id, text::safe(&user.display_name)),
        || json::user(user),
    );
}
