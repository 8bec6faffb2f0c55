//! Counters of a server, as Prometheus reads them on the port for operators.

use stonechat_host::{Connector, TcpConnector};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The value of a counter, with its labels.
///
/// # Panics
/// The port does not answer, or there is no such counter.
pub async fn count(operators: &str, counter: &str) -> u64 {
    let mut io = TcpConnector.connect(operators).await.expect("a port for operators");
    let request = b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
    io.write_all(request).await.expect("written");
    let mut page = String::new();
    io.read_to_string(&mut page).await.expect("an answer");
    let value = page
        .lines()
        .find_map(|line| line.strip_prefix(counter)?.strip_prefix(' '));
    let value = value.and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("{counter} is not in\n{page}"))
}
