//! Ports: free for a server to take, or served by a Stonechat already.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use stonechat_host::{Connector, TcpConnector, TcpListener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Check;
use crate::config::Config;

/// Time for a page from this machine.
const PAGE_WITHIN: Duration = Duration::from_secs(3);
/// Bytes of a page that are looked at: its head and the beginning of what it says.
const PAGE_BYTES_MAX: u64 = 16 * 1024;

/// A port of the settings.
struct Port {
    name: &'static str,
    address: SocketAddr,
    /// What is asked there, and what a Stonechat answers; `None` where only a certificate gets an answer.
    asked: Option<(&'static str, &'static str)>,
}

/// The checks, and whether a Stonechat serves the public port, or may.
pub(super) async fn look(config: &Config) -> (Vec<Check>, bool) {
    let is_plain = config.tls_certificate.is_none();
    let operators_are_plain = config.operator_client_ca.is_none();
    let mut ports = vec![Port {
        name: "port listen",
        address: config.listen,
        asked: is_plain.then_some(("/", "Stonechat")),
    }];
    ports.extend(config.operator_listen.map(|address| Port {
        name: "port operator_listen",
        address,
        asked: operators_are_plain.then_some(("/metrics", "stonechat_")),
    }));
    ports.extend(config.node_listen.map(|address| Port {
        name: "port node_listen",
        address,
        asked: None,
    }));
    let (mut checks, mut is_served) = (Vec::new(), false);
    for (number, port) in ports.iter().enumerate() {
        let (check, by_us) = look_at(port).await;
        is_served |= by_us && number == 0;
        checks.push(check);
    }
    (checks, is_served)
}

async fn look_at(port: &Port) -> (Check, bool) {
    let Port { name, address, .. } = port;
    let error = match TcpListener::bind(&address.to_string()).await {
        Ok(_) => return (Check::ok(name, format!("{address} is free")), false),
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => taken(port).await,
        io::ErrorKind::AddrNotAvailable => {
            let advice = "name an address of this machine, or 0.0.0.0 for all of them";
            (
                Check::fail(name, format!("{address} is not an address of this machine"), advice),
                false,
            )
        }
        io::ErrorKind::PermissionDenied => {
            let advice = "take a port above 1023, or give the server the right (CAP_NET_BIND_SERVICE)";
            (
                Check::fail(name, format!("{address} may not be bound: {error}"), advice),
                false,
            )
        }
        _ => (
            Check::fail(name, format!("{address} cannot be bound: {error}"), "take another port"),
            false,
        ),
    }
}

async fn taken(port: &Port) -> (Check, bool) {
    let Port { name, address, asked } = port;
    let Some((path, answer)) = asked else {
        let found = format!("{address} is in use; who is there is told to certificates alone");
        return (
            Check::warn(name, found, "right if it is this server; else take another port"),
            true,
        );
    };
    let page = tokio::time::timeout(PAGE_WITHIN, page(*address, path)).await;
    match page {
        Ok(Ok(page)) if page.contains(answer) => (Check::ok(name, format!("{address} is served by a Stonechat")), true),
        _ => {
            let advice = "stop what is there, or take another port";
            (
                Check::fail(name, format!("{address} is in use by something else"), advice),
                false,
            )
        }
    }
}

async fn page(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpConnector.connect(&address.to_string()).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(PAGE_BYTES_MAX).read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
