//! Where a node listens: the public port and maybe the operator's, each encrypted as the settings say.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use stonechat_host::{Host, Listener, TcpListener};

use super::StartError;
use crate::config::Config;
use crate::telemetry::meters::Port;
use crate::tls::{ClientRule, TlsFiles, TlsListener};

/// What a node listens on. A single listener is the public one.
pub struct Listeners {
    /// For devices, browsers and integrators.
    pub public: Arc<dyn Listener>,
    /// For operators.
    pub operator: Option<Arc<dyn Listener>>,
    /// For other nodes.
    pub nodes: Option<Arc<dyn Listener>>,
}

impl<L: Listener + 'static> From<Arc<L>> for Listeners {
    fn from(public: Arc<L>) -> Self {
        (public as Arc<dyn Listener>).into()
    }
}

impl From<Arc<dyn Listener>> for Listeners {
    fn from(public: Arc<dyn Listener>) -> Self {
        Self {
            public,
            operator: None,
            nodes: None,
        }
    }
}

impl Listeners {
    /// Binds what the settings name.
    ///
    /// # Errors
    /// An address cannot be bound, a certificate cannot be used, or settings contradict each other.
    pub async fn open(config: &Config, host: &Host) -> Result<Self, StartError> {
        let pair = pair(config)?;
        let clients = clients(config)?;
        let public = bind(config.listen).await?;
        let public = match &pair {
            Some(pair) => encrypted(public, Port::Public, pair.clone(), host).await?,
            None => public,
        };
        let operator = match config.operator_listen {
            Some(address) => Some(for_operators(address, pair, clients, host).await?),
            None => None,
        };
        let nodes = match config.node_listen {
            Some(address) => Some(for_nodes(address, config, host).await?),
            None => None,
        };
        Ok(Self {
            public,
            operator,
            nodes,
        })
    }
}

async fn for_nodes(address: SocketAddr, config: &Config, host: &Host) -> Result<Arc<dyn Listener>, StartError> {
    let listener = bind(address).await?;
    match node_files(config)? {
        Some((files, peers)) => {
            let clients = Some(peers);
            encrypted(listener, Port::Nodes, TlsFiles { clients, ..files }, host).await
        }
        None => {
            if !address.ip().is_loopback() {
                tracing::warn!(%address, "the port for nodes is plain: whoever reaches it can write as anybody");
            }
            Ok(listener)
        }
    }
}

/// What a node shows to others and whom it speaks to; `None`: to whoever reaches it, in the open (I11: only where nobody else
/// does, or somebody said so).
pub(super) fn node_files(config: &Config) -> Result<Option<(TlsFiles, ClientRule)>, StartError> {
    let beyond = config.node_listen.filter(|address| !address.ip().is_loopback());
    match (&config.node_certificate, &config.node_key, &config.node_ca) {
        (None, None, None) if config.node_names.is_empty() => match beyond {
            Some(address) if !config.node_plain => contradiction(&format!(
                "node_listen is {address}, and whoever reaches it could write as anybody: set node_certificate, node_key, node_ca \
                 and node_names, or node_plain inside a network that nobody else is in"
            )),
            _ => Ok(None),
        },
        (Some(_), ..) if config.node_plain => {
            contradiction("node_plain and node_certificate are both set: is the port for nodes plain or not?")
        }
        (Some(certificate), Some(key), Some(authorities)) if !config.node_names.is_empty() => {
            let files = TlsFiles {
                certificate: certificate.clone(),
                key: key.clone(),
                clients: None,
            };
            let peers = ClientRule {
                authorities: authorities.clone(),
                names: config.node_names.iter().cloned().collect(),
            };
            Ok(Some((files, peers)))
        }
        _ => contradiction("node_certificate, node_key, node_ca and node_names belong together: set all or none"),
    }
}

async fn for_operators(
    address: SocketAddr,
    pair: Option<TlsFiles>,
    clients: Option<ClientRule>,
    host: &Host,
) -> Result<Arc<dyn Listener>, StartError> {
    let operator = bind(address).await?;
    match (pair, clients) {
        (Some(pair), Some(clients)) => {
            let clients = Some(clients);
            encrypted(operator, Port::Operator, TlsFiles { clients, ..pair }, host).await
        }
        _ => {
            if !address.ip().is_loopback() {
                tracing::warn!(%address, "the operator's port is neither encrypted nor asks who comes");
            }
            Ok(operator)
        }
    }
}

async fn bind(address: SocketAddr) -> Result<Arc<dyn Listener>, StartError> {
    let address = address.to_string();
    match TcpListener::bind(&address).await {
        Ok(listener) => Ok(Arc::new(listener)),
        Err(source) => Err(StartError::Listen { address, source }),
    }
}

async fn encrypted(
    inner: Arc<dyn Listener>,
    port: Port,
    files: TlsFiles,
    host: &Host,
) -> Result<Arc<dyn Listener>, StartError> {
    Ok(Arc::new(TlsListener::open(inner, port, files, host.clone()).await?))
}

/// The certificate and its key: both or none.
fn pair(config: &Config) -> Result<Option<TlsFiles>, StartError> {
    let files = |certificate: &PathBuf, key: &PathBuf| TlsFiles {
        certificate: certificate.clone(),
        key: key.clone(),
        clients: None,
    };
    match (&config.tls_certificate, &config.tls_key) {
        (Some(certificate), Some(key)) => Ok(Some(files(certificate, key))),
        (None, None) => Ok(None),
        _ => contradiction("tls_certificate and tls_key belong together: set both or none"),
    }
}

/// The pairs of files that listeners are encrypted with, when the settings about them make sense together.
///
/// # Errors
/// Settings contradict each other.
pub fn tls_files(config: &Config) -> Result<Vec<TlsFiles>, StartError> {
    check_admin(config, config.operator_listen.is_some())?;
    let clients = clients(config)?;
    let public = pair(config)?.map(|pair| TlsFiles { clients, ..pair });
    let nodes = node_files(config)?.map(|(files, peers)| TlsFiles {
        clients: Some(peers),
        ..files
    });
    Ok(public.into_iter().chain(nodes).collect())
}

/// Whom the operator's port lets in; `None`: whoever reaches it.
fn clients(config: &Config) -> Result<Option<ClientRule>, StartError> {
    let names: BTreeSet<String> = config.operator_client_names.iter().cloned().collect();
    let Some(authorities) = &config.operator_client_ca else {
        return if names.is_empty() {
            Ok(None)
        } else {
            contradiction("operator_client_names needs operator_client_ca: nobody vouches for a name without it")
        };
    };
    if config.operator_listen.is_none() {
        return contradiction("operator_client_ca needs operator_listen: there is no port to guard");
    }
    if config.tls_certificate.is_none() {
        return contradiction("operator_client_ca needs tls_certificate: client certificates come over TLS");
    }
    if names.is_empty() {
        return contradiction("operator_client_ca needs operator_client_names: an empty list would let nobody in");
    }
    Ok(Some(ClientRule {
        authorities: authorities.clone(),
        names,
    }))
}

pub(super) fn contradiction<T>(why: &str) -> Result<T, StartError> {
    Err(StartError::Contradiction(why.to_owned()))
}

/// The admin rpcs can only move to a port that there is.
pub(super) fn check_admin(config: &Config, has_operator: bool) -> Result<(), StartError> {
    if config.admin_on_operator && !has_operator {
        return contradiction("admin_on_operator needs operator_listen: the admin rpcs would be nowhere");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..Config::default()
        };
        change(&mut config);
        match Listeners::open(&config, &Host::system()).await {
            Err(error @ (StartError::Contradiction(_) | StartError::Tls(_))) => error.to_string(),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("it was accepted"),
        }
    }

    /// I11: a port where anybody could write as anybody is not opened unless somebody said so.
    #[tokio::test]
    async fn i11_a_plain_port_for_nodes_beyond_loopback_is_refused() {
        let beyond = SocketAddr::from(([0, 0, 0, 0], 0));
        let why = refused(|config| config.node_listen = Some(beyond)).await;
        assert!(why.contains("node_certificate") && why.contains("node_plain"), "{why}");
        let both = refused(|config| {
            (config.node_listen, config.node_plain) = (Some(beyond), true);
            let file = || Some(PathBuf::from("/nowhere.pem"));
            (config.node_certificate, config.node_key, config.node_ca) = (file(), file(), file());
            config.node_names = vec!["core".to_owned()];
        });
        assert!(both.await.contains("node_plain and node_certificate"));
        for (address, plain) in [(beyond, true), (SocketAddr::from(([127, 0, 0, 1], 0)), false)] {
            let config = Config {
                listen: SocketAddr::from(([127, 0, 0, 1], 0)),
                node_listen: Some(address),
                node_plain: plain,
                ..Config::default()
            };
            let listeners = Listeners::open(&config, &Host::system()).await;
            assert!(listeners.is_ok_and(|listeners| listeners.nodes.is_some()), "{address}");
        }
    }

    /// I11: settings that guard less than they seem to are refused at the start.
    #[tokio::test]
    async fn settings_that_contradict_each_other_are_refused() {
        let (pem, port) = (
            || Some(PathBuf::from("/nowhere.pem")),
            SocketAddr::from(([127, 0, 0, 1], 0)),
        );
        let half = refused(|config| config.tls_certificate = pem()).await;
        assert!(half.contains("tls_key"), "{half}");
        let half = refused(|config| config.tls_key = pem()).await;
        assert!(half.contains("tls_certificate"), "{half}");
        let plain = refused(|config| {
            config.operator_listen = Some(port);
            config.operator_client_ca = pem();
            config.operator_client_names = vec!["ops".to_owned()];
        });
        assert!(plain.await.contains("needs tls_certificate"));
        let nobody = refused(|config| {
            config.operator_listen = Some(port);
            (config.tls_certificate, config.tls_key, config.operator_client_ca) = (pem(), pem(), pem());
        });
        assert!(nobody.await.contains("needs operator_client_names"));
        let nowhere = refused(|config| {
            (config.tls_certificate, config.tls_key, config.operator_client_ca) = (pem(), pem(), pem());
            config.operator_client_names = vec!["ops".to_owned()];
        });
        assert!(nowhere.await.contains("needs operator_listen"));
        let names = refused(|config| config.operator_client_names = vec!["ops".to_owned()]).await;
        assert!(names.contains("needs operator_client_ca"), "{names}");
        let absent = refused(|config| (config.tls_certificate, config.tls_key) = (pem(), pem())).await;
        assert!(absent.contains("/nowhere.pem cannot be read"), "{absent}");
        let config = Config {
            admin_on_operator: true,
            ..Config::default()
        };
        assert!(check_admin(&config, false).is_err() && check_admin(&config, true).is_ok());
    }
}
