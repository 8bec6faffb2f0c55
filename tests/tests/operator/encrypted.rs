//! A server with certificates: who reaches it, and who does not.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use stonechat_client::{Client, ClientConfig, Event, StaticToken, Tls, Unary, UnaryConfig};
use stonechat_proto::admin::v1::UpsertUserRequest;
use stonechat_proto::v1;
use stonechat_tests::harness::{Claims, PATIENCE, ServerProcess, binary, mint};

use super::support::{Authority, Port, put};

/// A server with both ports encrypted, and what its clients need.
struct Server {
    process: ServerProcess,
    operator: Port,
    folder: tempfile::TempDir,
    servers: Authority,
    clients: Authority,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
        let (certificate, key) = servers.sign("localhost");
        let path = |name: &str, text: &str| put(folder.path(), name, text).display().to_string();
        let (certificate, key) = (path("server.pem", &certificate), path("server.key", &key));
        let (authority, operator) = (path("clients.pem", &clients.pem), Port::free());
        path("ca.pem", &servers.pem);
        let mut process = ServerProcess::prepare(&[
            "--tls-certificate",
            &certificate,
            "--tls-key",
            &key,
            "--operator-listen",
            &operator.authority,
            "--operator-client-ca",
            &authority,
            "--operator-client-names",
            "ops.example.org",
            "--admin-on-operator",
            "true",
        ]);
        process.spawn(None);
        let server = Self {
            process,
            operator,
            folder,
            servers,
            clients,
        };
        server.ready().await
    }

    async fn ready(mut self) -> Self {
        let looks = async {
            while self.public(self.trusted()).await.is_err() {
                assert!(self.process.exited().is_none(), "{}", self.process.log_tail());
                tokio::task::yield_now().await;
            }
        };
        let came = tokio::time::timeout(PATIENCE, looks).await;
        assert!(came.is_ok(), "{}", self.process.log_tail());
        self
    }

    fn trusted(&self) -> Tls {
        Tls::trusting(self.servers.pem.as_bytes()).expect("an authority")
    }

    fn appearing(&self, authority: &Authority, name: &str) -> Tls {
        let (certificate, key) = authority.sign(name);
        let tls = self.trusted().appearing_as(certificate.as_bytes(), key.as_bytes());
        tls.expect("an identity")
    }

    fn endpoint(authority: &str) -> String {
        authority.replace("127.0.0.1", "https://localhost")
    }

    async fn unary(&self, endpoint: String, token: &str, tls: Tls) -> Result<Unary, String> {
        let config = UnaryConfig {
            tls,
            ..UnaryConfig::new(endpoint, token)
        };
        Unary::connect(config).await.map_err(|error| error.to_string())
    }

    async fn public(&self, tls: Tls) -> Result<Unary, String> {
        self.unary(Self::endpoint(&self.process.authority()), "none", tls).await
    }

    /// Creates a user by the operator's port.
    async fn create(&self, user: &str, tls: Tls) -> Result<(), String> {
        let token = mint(&self.process.data_folder(), &Claims::scoped("admin.users"));
        let unary = self
            .unary(Self::endpoint(&self.operator.authority), &token, tls)
            .await?;
        let request = UpsertUserRequest {
            user_id: user.to_owned(),
            display_name: String::new(),
        };
        let answer = unary.admin_users().upsert_user(request).await;
        answer.map(drop).map_err(|status| status.to_string())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn command(&self, arguments: &[&str], folder: &Path) -> Output {
        let mut command = tokio::process::Command::new(binary());
        command.args(arguments).arg("--data-folder").arg(folder);
        command.arg("--ca-file").arg(self.file("ca.pem"));
        command.output().await.expect("a command")
    }
}

#[tokio::test]
async fn sessions_are_encrypted_and_strangers_are_not_trusted() {
    let server = Server::start().await;
    server
        .create("alice", server.appearing(&server.clients, "ops.example.org"))
        .await
        .expect("a user");
    let token = mint(&server.process.data_folder(), &Claims::user("alice"));
    let config = ClientConfig {
        tls: server.trusted(),
        ..ClientConfig::new(
            Server::endpoint(&server.process.authority()),
            Arc::new(StaticToken(token)),
            "phone",
        )
    };
    let (_client, mut events) = Client::connect(config).await.expect("a client");
    let first = tokio::time::timeout(PATIENCE, events.next()).await.expect("in time");
    assert!(matches!(first, Some(Event::Connected(_))), "{first:?}");
    let stranger = Tls::trusting(Authority::new("strangers").pem.as_bytes()).expect("an authority");
    let refused = server.public(stranger).await.err().expect("not trusted");
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    let plain = format!("http://{}", server.process.authority());
    let token = mint(&server.process.data_folder(), &Claims::user("alice"));
    let plain = server.unary(plain, &token, Tls::default()).await;
    let answered = match plain {
        Ok(unary) => unary.users().get_users(v1::GetUsersRequest::default()).await.is_ok(),
        Err(_) => false,
    };
    assert!(!answered, "nothing is served in the open");
}

/// The operator's port lets in who has a certificate of the right authority and name.
#[tokio::test]
async fn operators_show_who_they_are() {
    let server = Server::start().await;
    let good = server.appearing(&server.clients, "ops.example.org");
    server.create("ann", good).await.expect("let in");
    let others = Authority::new("others");
    for (case, tls) in [
        ("no certificate", server.trusted()),
        ("another authority", server.appearing(&others, "ops.example.org")),
        ("another name", server.appearing(&server.clients, "dev.example.org")),
    ] {
        assert!(server.create("ann", tls).await.is_err(), "{case}");
    }
}

/// The command line reaches an encrypted server, admin commands included.
#[tokio::test]
async fn commands_speak_tls() {
    let server = Server::start().await;
    let (certificate, key) = server.clients.sign("ops.example.org");
    let certificate = put(server.folder.path(), "ops.pem", &certificate).display().to_string();
    let key = put(server.folder.path(), "ops.key", &key).display().to_string();
    let folder = server.process.data_folder();
    let operator = Server::endpoint(&server.operator.authority);
    for user in ["alice", "bob"] {
        let arguments = [
            "admin",
            "upsert-user",
            user,
            "--server",
            &operator,
            "--client-certificate",
            &certificate,
            "--client-key",
            &key,
        ];
        let output = server.command(&arguments, &folder).await;
        assert!(output.status.success(), "{output:?}");
    }
    let public = Server::endpoint(&server.process.authority());
    let send = ["send", "--as", "alice", "--with", "bob", "hello", "--server", &public];
    let output = server.command(&send, &folder).await;
    assert!(output.status.success(), "{output:?}");
    let output = server
        .command(&["admin", "upsert-user", "carol", "--server", &operator], &folder)
        .await;
    assert!(!output.status.success(), "without a certificate: {output:?}");
}
