//! Lines between nodes: each side shows a certificate of the right authority and a name on the list, or there is no line.

use async_trait::async_trait;

use super::*;
use crate::tls::NodeConnector;

/// Connects to the echo, whatever address is asked for.
struct ToEcho(Arc<Echo>);

#[async_trait]
impl stonechat_host::Connector for ToEcho {
    async fn connect(&self, _authority: &str) -> io::Result<BoxedIo> {
        Ok(Box::new(self.0.pipe().await))
    }
}

fn rule(folder: &Path, name: &str, authority: &Authority) -> ClientRule {
    let authorities = folder.join(format!("{name}.pem"));
    std::fs::write(&authorities, &authority.pem).expect("written");
    let names = ["core.example.org", "gateway.example.org", "spiffe://example.org/core"].map(str::to_owned);
    ClientRule {
        authorities,
        names: names.into(),
    }
}

/// The same, with URIs alone.
fn by_uri(folder: &Path, name: &str, authority: &Authority) -> ClientRule {
    let mut rule = rule(folder, name, authority);
    rule.names.retain(|name| name.contains("://"));
    rule
}

/// Whether a node with `ours` gets through to one with `theirs`, both trusting `authority` alone.
async fn speaks(authority: &Authority, ours: &Identity, theirs: &Identity) -> bool {
    speaks_by(rule, authority, ours, theirs).await
}

async fn speaks_by(
    rule: fn(&Path, &str, &Authority) -> ClientRule,
    authority: &Authority,
    ours: &Identity,
    theirs: &Identity,
) -> bool {
    let (here, there) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let echo = Echo::start(TlsFiles {
        clients: Some(rule(there.path(), "nodes", authority)),
        ..public(there.path(), theirs)
    });
    let connector = NodeConnector::open(
        Arc::new(ToEcho(Arc::new(echo.await))),
        public(here.path(), ours),
        rule(here.path(), "nodes", authority),
        host(),
    );
    let connector = connector.await.expect("good files");
    let Ok(mut io) = stonechat_host::Connector::connect(&connector, "10.0.0.7:7402").await else {
        return false;
    };
    // Under TLS 1.3 a client hears of its refusal only with the first answer.
    let said = io.write_all(b"x").await.is_ok() && io.flush().await.is_ok();
    said && io.read_u8().await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn i11_nodes_speak_to_nodes_alone() {
    let (ours, others) = (Authority::new("nodes"), Authority::new("others"));
    let core = || ours.sign(vec![dns("core.example.org")], 2100);
    let gateway = || ours.sign(vec![dns("host-7"), dns("gateway.example.org")], 2100);
    assert!(speaks(&ours, &gateway(), &core()).await);
    assert!(speaks(&ours, &core(), &gateway()).await);
    let stranger = others.sign(vec![dns("core.example.org")], 2100);
    assert!(!speaks(&ours, &stranger, &core()).await, "of another authority");
    assert!(!speaks(&ours, &core(), &stranger).await, "to another authority's");
    let unnamed = ours.sign(vec![dns("web.example.org")], 2100);
    assert!(!speaks(&ours, &unnamed, &core()).await, "of another name");
    assert!(!speaks(&ours, &core(), &unnamed).await, "to another name");
    let expired = ours.sign(vec![dns("core.example.org")], 2000);
    assert!(!speaks(&ours, &core(), &expired).await, "to an expired one");
}

/// A list of URIs is a list: nodes that have one of them get through, in both directions, and nobody else does.
#[tokio::test(start_paused = true)]
async fn i11_nodes_are_named_by_uris_as_well() {
    let (ours, others) = (Authority::new("nodes"), Authority::new("others"));
    let named = || ours.sign(vec![uri("spiffe://example.org/core")], 2100);
    assert!(speaks_by(by_uri, &ours, &named(), &named()).await);
    assert!(speaks(&ours, &named(), &named()).await, "beside names of DNS");
    let stranger = others.sign(vec![uri("spiffe://example.org/core")], 2100);
    assert!(
        !speaks_by(by_uri, &ours, &named(), &stranger).await,
        "to another authority's"
    );
    let unnamed = ours.sign(vec![uri("spiffe://example.org/web"), dns("core.example.org")], 2100);
    assert!(!speaks_by(by_uri, &ours, &named(), &unnamed).await, "to another name");
    let expired = ours.sign(vec![uri("spiffe://example.org/core")], 2000);
    assert!(!speaks_by(by_uri, &ours, &named(), &expired).await, "to an expired one");
}
