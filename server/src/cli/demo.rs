//! `stonechat demo`: a server with people and conversations in it, and what to type next.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use stonechat_client::admin::v1::{CreateConversationRequest, SendRequest, UpsertUserRequest};
use stonechat_client::v1::{AppendHeader, Conversation, ConversationKind, Member, MemberRole};
use stonechat_client::{Unary, UnaryConfig, settle, text_content};
use stonechat_host::Host;

use super::access::{ADMIN_SCOPES, authenticator};
use super::failure::Failure;
use crate::config::{Config, ConfigFlags};
use crate::domain::UserId;
use crate::node::Node;
use crate::telemetry;

/// Who is there.
const PEOPLE: [(&str, &str); 4] = [("alice", "Alice"), ("bob", "Bob"), ("carol", "Carol"), ("dave", "Dave")];
/// What was said in the 1:1 of alice and bob.
const DIRECT: [(&str, &str); 3] = [
    ("alice", "Hi Bob, does it work?"),
    ("bob", "It does. Kill the server and see what is left."),
    ("alice", "Everything, I hope."),
];
/// What was said in the group.
const GROUP: [(&str, &str); 3] = [("carol", "Lunch at noon?"), ("dave", "Yes 🍜"), ("alice", "I am in.")];
/// Life of the tokens that are printed.
const TOKEN_LIFE: Duration = Duration::from_secs(7 * 86_400);

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    #[command(flatten)]
    settings: ConfigFlags,
}

pub(super) async fn run(args: DemoArgs) -> Result<(), Failure> {
    let config = Config::load(&args.settings)?;
    if config.jwks_file.is_some() || config.jwks_url.is_some() {
        let message = "the demo issues its users' tokens itself, and with jwks_file or jwks_url an identity provider does: \
                       leave them out, or use `serve`; nothing was started";
        return Err(Failure::usage(message));
    }
    if config.tls_certificate.is_some() || config.admin_on_operator {
        return Err(Failure::usage(
            "a demo is for this machine alone, without TLS and with its admin rpcs on one port: use `stonechat serve`",
        ));
    }
    let filter = quiet_unless_asked(&args.settings, &config);
    let traces = config.traces();
    let _telling = telemetry::init(config.log_format, &filter, traces.as_ref())
        .map_err(|error| Failure::usage(error.to_string()))?;
    let node = Box::pin(Node::open(&config, Host::system())).await?;
    let endpoint = format!("http://{}", node.local_addr());
    let group = Box::pin(furnish(&config, &endpoint)).await?;
    print!("{}", guide(&args.settings, &config, &endpoint, &group)?);
    node.run_until_signal().await?;
    Ok(())
}

/// What is printed matters here, so logs stay out of the way.
fn quiet_unless_asked(flags: &ConfigFlags, config: &Config) -> String {
    if flags.log_filter.is_some() || config.log_filter != Config::default().log_filter {
        return config.log_filter.clone();
    }
    "warn".to_owned()
}

fn mint(config: &Config, user: &str, scopes: &[&str]) -> Result<String, Failure> {
    let user = UserId::parse(user)?;
    let scopes: BTreeSet<String> = scopes.iter().map(ToString::to_string).collect();
    let issued = authenticator(config)?.issue(&user, None, &scopes, TOKEN_LIFE)?;
    Ok(issued.token.expose().clone())
}

/// Makes people and conversations. The ids are always the same, so on a folder that has them nothing changes.
async fn furnish(config: &Config, endpoint: &str) -> Result<Conversation, Failure> {
    let token = mint(config, "demo", &ADMIN_SCOPES)?;
    let unary = Unary::connect(UnaryConfig::new(endpoint, token)).await?;
    for (user_id, display_name) in PEOPLE {
        let request = UpsertUserRequest {
            user_id: user_id.to_owned(),
            display_name: display_name.to_owned(),
        };
        settle(unary.admin_users().upsert_user(request).await)?;
    }
    let direct = create(&unary, "demo-direct", ConversationKind::Direct, "", &["alice", "bob"]).await?;
    say(&unary, &direct, "demo-direct", &DIRECT).await?;
    let everybody: Vec<&str> = PEOPLE.iter().map(|(user_id, _)| *user_id).collect();
    let group = create(&unary, "demo-group", ConversationKind::Group, "Lunch", &everybody).await?;
    say(&unary, &group, "demo-group", &GROUP).await?;
    Ok(group)
}

async fn create(
    unary: &Unary,
    id: &str,
    kind: ConversationKind,
    name: &str,
    users: &[&str],
) -> Result<Conversation, Failure> {
    let member = |user: &&str| Member {
        user_id: (*user).to_owned(),
        role: MemberRole::Member.into(),
    };
    let request = CreateConversationRequest {
        client_msg_id: id.to_owned(),
        owner_user_id: users[0].to_owned(),
        kind: kind.into(),
        name: name.to_owned(),
        members: users[1..].iter().map(member).collect(),
    };
    Ok(settle(unary.admin_conversations().create_conversation(request).await)?)
}

async fn say(unary: &Unary, place: &Conversation, id: &str, lines: &[(&str, &str)]) -> Result<(), Failure> {
    for (at, (user, text)) in lines.iter().enumerate() {
        let header = AppendHeader {
            conversation_id: place.conversation_id.clone(),
            client_msg_id: format!("{id}-{at}"),
            ..AppendHeader::default()
        };
        let request = SendRequest {
            header: Some(header),
            on_behalf_of: (*user).to_owned(),
            content: Some(text_content(text)),
            origin_time_ms: 0,
        };
        settle(unary.admin_messages().send(request).await)?;
    }
    Ok(())
}

fn guide(flags: &ConfigFlags, config: &Config, endpoint: &str, group: &Conversation) -> Result<String, Failure> {
    let program = program();
    let mut reach = String::new();
    if *endpoint != super::access::endpoint_of(&Config::default()) {
        reach.push_str(&format!(" --server {endpoint}"));
    }
    if let Some(folder) = &flags.data_folder {
        reach.push_str(&format!(" --data-folder {folder}"));
    }
    let names: Vec<&str> = PEOPLE.iter().map(|(user_id, _)| *user_id).collect();
    let group = &group.conversation_id;
    Ok(format!(
        "Stonechat serves on {endpoint}, data in {folder}. Users: {people}. Ctrl-c stops it.\n\
         \n\
         In a second terminal:\n    {program} chat --as alice --with bob{reach}\n\
         In a third one:\n    {program} chat --as bob --with alice{reach}\n\
         \n\
         The group \"Lunch\":\n    {program} chat --as carol --conversation {group}{reach}\n\
         For scripts:\n    {program} send --as dave --conversation {group} --json 'Me too'{reach}\n    \
         {program} tail --as bob --json{reach}\n\
         \n\
         Tokens for your own client, good for a week:\n    alice {alice}\n    bob   {bob}\n",
        folder = config.data_folder.display(),
        people = names.join(", "),
        alice = mint(config, "alice", &[])?,
        bob = mint(config, "bob", &[])?,
    ))
}

/// How this program was started.
pub(super) fn program() -> String {
    if std::env::var_os("CARGO").is_some() {
        return "cargo run -q --".to_owned();
    }
    std::env::args().next().unwrap_or_else(|| "stonechat".to_owned())
}
