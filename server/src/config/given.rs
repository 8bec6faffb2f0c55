//! A value as it was given, and what it can be read as.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::Roles;
use crate::telemetry::LogFormat;

/// Texts in a list: each is compared with what every request or connection brings.
const LIST_MAX: usize = 64;

/// Longest name of a keyspace: CQL takes no longer one.
const IDENTIFIER_MAX: usize = 48;

/// What an option was given: a text by the environment or a flag, or a value of a file.
pub(super) enum Given {
    Text(String),
    Number(i64),
    Bool(bool),
    List(Vec<String>),
    /// A value of a file that no option takes.
    Other,
}

/// What is wrong with a value.
type Wrong = String;
type Result<T> = std::result::Result<T, Wrong>;

impl Given {
    pub(super) fn from_toml(value: toml::Value) -> Self {
        match value {
            toml::Value::String(text) => Self::Text(text),
            toml::Value::Integer(number) => Self::Number(number),
            toml::Value::Boolean(value) => Self::Bool(value),
            toml::Value::Array(values) => list_from_toml(values),
            _ => Self::Other,
        }
    }

    fn maybe_empty_text(self) -> Result<String> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err("must be a text".to_owned()),
        }
    }

    pub(super) fn text(self) -> Result<String> {
        let text = self.maybe_empty_text()?;
        if text.is_empty() {
            return Err("must not be empty".to_owned());
        }
        Ok(text)
    }

    pub(super) fn path(self) -> Result<PathBuf> {
        self.text().map(PathBuf::from)
    }

    /// The empty text takes back what an earlier source said.
    pub(super) fn optional_path(self) -> Result<Option<PathBuf>> {
        let text = self.maybe_empty_text()?;
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }

    /// An address to fetch from; the empty text takes back what an earlier source said.
    pub(super) fn optional_url(self) -> Result<Option<http::Uri>> {
        let text = self.maybe_empty_text()?;
        if text.is_empty() {
            return Ok(None);
        }
        match text.parse::<http::Uri>() {
            Ok(uri) if is_fetchable(&uri) && !text.contains('#') => Ok(Some(uri)),
            // Not repeated: it may hold a password.
            _ => Err("must be an http or https address with a host, without user and fragment".to_owned()),
        }
    }

    pub(super) fn address(self) -> Result<SocketAddr> {
        let text = self.text()?;
        text.parse()
            .map_err(|_| format!("must be an IP address and a port, such as 127.0.0.1:7400, not {text:?}"))
    }

    /// The empty text takes back what an earlier source said.
    pub(super) fn optional_address(self) -> Result<Option<SocketAddr>> {
        match &self {
            Self::Text(text) if text.is_empty() => Ok(None),
            _ => self.address().map(Some),
        }
    }

    pub(super) fn boolean(self) -> Result<bool> {
        match self {
            Self::Bool(value) => Ok(value),
            Self::Text(text) if text == "true" => Ok(true),
            Self::Text(text) if text == "false" => Ok(false),
            _ => Err("must be true or false".to_owned()),
        }
    }

    /// A whole number of `from..=to`.
    pub(super) fn number<T>(self, from: T, to: T) -> Result<T>
    where
        T: FromStr + TryFrom<i64> + PartialOrd + std::fmt::Display,
    {
        let number = match self {
            Self::Number(number) => T::try_from(number).ok(),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        };
        number
            .filter(|number| *number >= from && *number <= to)
            .ok_or_else(|| format!("must be a whole number, {from} to {to}"))
    }

    fn list(self) -> Result<Vec<String>> {
        let texts: Vec<String> = match self {
            Self::List(texts) => texts,
            Self::Text(text) => text.split(',').map(|part| part.trim().to_owned()).collect(),
            _ => return Err("must be a list of texts".to_owned()),
        };
        // The empty text is the empty list.
        let texts: Vec<String> = texts.into_iter().filter(|text| !text.is_empty()).collect();
        if texts.len() > LIST_MAX {
            return Err(format!("must be at most {LIST_MAX} texts"));
        }
        Ok(texts)
    }

    /// Names of certificates.
    pub(super) fn names(self) -> Result<Vec<String>> {
        let names = self.list()?;
        let is_wrong = |name: &&String| name.contains('*') || !name.bytes().all(|byte| byte.is_ascii_graphic());
        match names.iter().find(is_wrong) {
            Some(wrong) => Err(format!(
                "must be DNS names or URIs as a certificate spells them, without *, not {wrong:?}"
            )),
            None => Ok(names),
        }
    }

    /// Addresses of services, of these schemes. Never repeated: they may hold a password.
    pub(super) fn urls(self, schemes: &[&str]) -> Result<Vec<String>> {
        let urls = self.list()?;
        let is_right = |url: &String| {
            let scheme_and_rest = url.split_once("://");
            scheme_and_rest.is_some_and(|(scheme, rest)| schemes.contains(&scheme) && !rest.is_empty())
        };
        if urls.iter().all(is_right) {
            return Ok(urls);
        }
        Err(format!("must begin with {}://", schemes.join(":// or ")))
    }

    /// `host:port`, or `[v6]:port`.
    pub(super) fn hosts(self) -> Result<Vec<String>> {
        let hosts = self.list()?;
        let is_right = |host: &&String| {
            let parts = host.rsplit_once(':');
            parts.is_some_and(|(name, port)| !name.is_empty() && !name.contains('/') && port.parse::<u16>().is_ok())
        };
        match hosts.iter().find(|host| !is_right(host)) {
            Some(wrong) => Err(format!(
                "must be a host and a port, such as 127.0.0.1:9042, not {wrong:?}"
            )),
            None => Ok(hosts),
        }
    }

    /// A name that stands unquoted in CQL.
    pub(super) fn identifier(self) -> Result<String> {
        let name = self.text()?;
        let is_inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let begins = name.starts_with(|letter: char| letter.is_ascii_lowercase());
        if begins && name.len() <= IDENTIFIER_MAX && name.bytes().all(is_inside) {
            return Ok(name);
        }
        Err(format!(
            "must begin with a letter and hold small letters, digits and _ alone, at most {IDENTIFIER_MAX}"
        ))
    }

    /// The empty text takes back what an earlier source said.
    pub(super) fn optional_text(self) -> Result<Option<String>> {
        let text = self.maybe_empty_text()?;
        Ok((!text.is_empty()).then_some(text))
    }

    pub(super) fn roles(self) -> Result<Roles> {
        let names = self.list()?;
        let has = |role: &str| names.iter().any(|name| name == role);
        if let Some(wrong) = names.iter().find(|name| !matches!(name.as_str(), "gateway" | "core")) {
            return Err(format!("must be of gateway, core, not {wrong:?}"));
        }
        if names.is_empty() {
            // The empty text takes back what an earlier source said.
            return Ok(Roles::default());
        }
        Ok(Roles {
            gateway: has("gateway"),
            core: has("core"),
        })
    }

    pub(super) fn origins(self) -> Result<Vec<String>> {
        let origins = self.list()?;
        match origins.iter().find(|origin| !is_origin(origin)) {
            Some(wrong) => Err(format!(
                "must be origins such as https://chat.example.org, without path and *, not {wrong:?}"
            )),
            None => Ok(origins),
        }
    }

    /// The empty text takes back what an earlier source said.
    pub(super) fn collector(self) -> Result<Option<String>> {
        let text = self.maybe_empty_text()?;
        let is_right = |text: &str| {
            let uri = text.parse::<http::Uri>().ok();
            uri.is_some_and(|uri| uri.scheme_str() == Some("http") && uri.port().is_some() && uri.path() == "/")
        };
        match text.as_str() {
            "" => Ok(None),
            text if is_right(text) => Ok(Some(text.to_owned())),
            _ => Err(format!("must be like http://127.0.0.1:4317, not {text:?}")),
        }
    }

    pub(super) fn log_filter(self) -> Result<String> {
        let filter = self.text()?;
        crate::telemetry::check_filter(&filter).map_err(|error| error.to_string())?;
        Ok(filter)
    }

    pub(super) fn log_format(self) -> Result<LogFormat> {
        match self.text()?.as_str() {
            "human" => Ok(LogFormat::Human),
            "json" => Ok(LogFormat::Json),
            _ => Err("must be human or json".to_owned()),
        }
    }
}

fn list_from_toml(values: Vec<toml::Value>) -> Given {
    let text = |value| match value {
        toml::Value::String(text) => Some(text),
        _ => None,
    };
    let texts: Option<Vec<String>> = values.into_iter().map(text).collect();
    texts.map_or(Given::Other, Given::List)
}

fn is_fetchable(uri: &http::Uri) -> bool {
    let of_the_web = matches!(uri.scheme_str(), Some("http" | "https"));
    let host = uri.authority().filter(|authority| !authority.as_str().contains('@'));
    of_the_web && host.is_some_and(|authority| !authority.host().is_empty())
}

/// Scheme, host and maybe a port, spelled as browsers send it (RFC 6454, 6.2): a prefix or a wildcard would let others in.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else {
        return false;
    };
    let scheme_is_of_the_web = matches!(uri.scheme_str(), Some("http" | "https"));
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return false;
    };
    let spelled = format!("{scheme}://{authority}").to_ascii_lowercase();
    scheme_is_of_the_web && spelled == text && !text.contains(['@', '*'])
}
