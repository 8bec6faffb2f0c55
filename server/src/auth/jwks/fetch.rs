//! One GET of a key set over HTTP/1.1: bounded in time and size, over TLS for `https`, and never anywhere else than told.

use std::fmt::Display;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use stonechat_host::{BoxedIo, Connector};
use tokio_rustls::TlsConnector;

use super::KEY_SET_BYTES_MAX;
use crate::auth::KeyError;

/// Bytes of the head of the answer; hyper takes no less than 8 KiB.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header fields of the answer.
const HEADERS_MAX: usize = 64;

/// Whose certificates are believed.
pub(in crate::auth) enum Roots {
    /// The machine's, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    Machine,
    /// These alone.
    #[cfg(test)]
    Only(RootCertStore),
}

/// An answer.
pub(super) struct Fetched {
    pub(super) text: String,
    /// How long it is fresh, when the provider says so.
    pub(super) fresh_for: Option<Duration>,
}

/// Fetches from one address.
pub(super) struct Fetcher {
    uri: Uri,
    connector: Arc<dyn Connector>,
    tls: Option<TlsConnector>,
}

type Result<T> = std::result::Result<T, String>;

fn failed<E: Display>(what: &'static str) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}

impl Fetcher {
    /// Fetches from here; the certificates of the machine are read only for `https`.
    pub(super) async fn new(
        uri: Uri,
        connector: Arc<dyn Connector>,
        roots: Roots,
    ) -> std::result::Result<Self, KeyError> {
        let mut fetcher = Self {
            uri,
            connector,
            tls: None,
        };
        if fetcher.uri.scheme() == Some(&Scheme::HTTPS) {
            let url = fetcher.shown();
            fetcher.tls = Some(tls(roots).await.map_err(|why| KeyError::Unfetched { url, why })?);
        }
        Ok(fetcher)
    }

    /// The address without its query, which may hold what is not for logs.
    pub(super) fn shown(&self) -> String {
        let (scheme, authority) = (self.uri.scheme_str(), self.uri.authority());
        let authority = authority.map(http::uri::Authority::as_str).unwrap_or_default();
        format!("{}://{authority}{}", scheme.unwrap_or_default(), self.uri.path())
    }

    /// Whether it goes without TLS to another machine.
    pub(super) fn is_plain(&self) -> bool {
        let host = self.uri.host().unwrap_or_default();
        let here = ["localhost", "127.0.0.1", "[::1]"].contains(&host);
        self.tls.is_none() && !here
    }

    /// Fetches once.
    pub(super) async fn get(&self) -> Result<Fetched> {
        let io = TokioIo::new(self.connect().await?);
        let mut http = http1::Builder::new();
        http.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
        let (mut sender, connection) = http.handshake(io).await.map_err(failed("no HTTP connection"))?;
        let request = self.request()?;
        let exchange = async move {
            let answer = sender.send_request(request).await;
            read(answer.map_err(failed("no answer"))?).await
        };
        let (mut exchange, connection) = (pin!(exchange), pin!(connection));
        tokio::select! { biased;
            fetched = &mut exchange => fetched,
            // The connection may end before all that came over it was taken.
            _ended = connection => exchange.await,
        }
    }

    async fn connect(&self) -> Result<BoxedIo> {
        let host = self.uri.host().ok_or("the address has no host")?;
        let port = self
            .uri
            .port_u16()
            .unwrap_or_else(|| if self.tls.is_some() { 443 } else { 80 });
        let io = self.connector.connect(&format!("{host}:{port}")).await;
        let io = io.map_err(failed("no connection"))?;
        let Some(tls) = &self.tls else { return Ok(io) };
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let name = name.map_err(failed("the host is no name for a certificate"))?;
        let io = tls.connect(name, io).await.map_err(failed("no TLS connection"))?;
        Ok(Box::new(io))
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>> {
        let path = self.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let host = self
            .uri
            .authority()
            .map(http::uri::Authority::as_str)
            .unwrap_or_default();
        let request = Request::get(path)
            .header(header::HOST, host)
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .header(header::USER_AGENT, "stonechat")
            .header(header::CONNECTION, "close");
        request.body(Empty::new()).map_err(failed("no request"))
    }
}

/// Only a plain 200 counts. Redirects are not followed: whoever can answer for the provider could send us anywhere.
async fn read(answer: Response<Incoming>) -> Result<Fetched> {
    match answer.status() {
        StatusCode::OK => {}
        status if status.is_redirection() => return Err(format!("status {status}: redirects are not followed")),
        status => return Err(format!("status {status}")),
    }
    let fresh_for = fresh_for(answer.headers());
    let limit = usize::try_from(KEY_SET_BYTES_MAX).unwrap_or(usize::MAX);
    let body = Limited::new(answer.into_body(), limit).collect().await;
    let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => "the answer is longer than 256 KiB".to_owned(),
        None => format!("the answer broke off: {error}"),
    })?;
    let text = String::from_utf8(body.to_bytes().into()).map_err(|_| "the answer is not UTF-8")?;
    Ok(Fetched { text, fresh_for })
}

/// What `Cache-Control` and `Age` leave (RFC 9111, 4.2.1 and 5.2.2); `None` when they say nothing that can be understood.
fn fresh_for(headers: &HeaderMap) -> Option<Duration> {
    let seconds = |text: &str| text.trim_matches('"').parse::<u32>().ok();
    let text = |name| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value: &http::HeaderValue| value.to_str().ok())
    };
    let mut max_age = None;
    for directive in text(header::CACHE_CONTROL).flat_map(|value| value.split(',')) {
        let directive = directive.trim().to_ascii_lowercase();
        if directive == "no-store" || directive == "no-cache" {
            return Some(Duration::ZERO);
        }
        max_age = max_age.or_else(|| seconds(directive.strip_prefix("max-age=")?));
    }
    let age = text(header::AGE).next().and_then(seconds).unwrap_or_default();
    max_age.map(|max_age| Duration::from_secs(max_age.saturating_sub(age).into()))
}

async fn tls(roots: Roots) -> Result<TlsConnector> {
    let roots = match roots {
        Roots::Machine => tokio::task::spawn_blocking(of_machine)
            .await
            .map_err(failed("no certificates"))??,
        #[cfg(test)]
        Roots::Only(roots) => roots,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(failed("no TLS"))?.with_root_certificates(roots);
    Ok(TlsConnector::from(Arc::new(config.with_no_client_auth())))
}

fn of_machine() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (taken, _unusable) = roots.add_parsable_certificates(found.certs);
    if taken == 0 {
        return Err("this machine has no certificates of authorities, and SSL_CERT_FILE names none".to_owned());
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_is_what_the_headers_leave() {
        type Fields = &'static [(&'static str, &'static str)];
        let cases: [(Fields, Option<u64>); 13] = [
            (&[], None),
            (&[("cache-control", "public, max-age=600")], Some(600)),
            (&[("cache-control", "Max-Age=600, must-revalidate")], Some(600)),
            (&[("cache-control", "max-age=\"60\"")], Some(60)),
            (&[("cache-control", "max-age=600"), ("age", "590")], Some(10)),
            (&[("cache-control", "max-age=600"), ("age", "900")], Some(0)),
            (&[("cache-control", "max-age=600"), ("age", "old")], Some(600)),
            (&[("cache-control", "max-age=600, no-store")], Some(0)),
            (&[("cache-control", "no-cache")], Some(0)),
            (&[("cache-control", "max-age=soon")], None),
            (&[("cache-control", "max-age=-1")], None),
            (&[("cache-control", "max-age=99999999999999999999")], None),
            (&[("cache-control", "public"), ("cache-control", "max-age=5")], Some(5)),
        ];
        for (fields, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, value.parse().unwrap());
            }
            assert_eq!(fresh_for(&headers), expected.map(Duration::from_secs), "{fields:?}");
        }
    }
}
