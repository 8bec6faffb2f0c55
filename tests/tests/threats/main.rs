//! Threats: what attackers try, on the real binary. Each row of the threat table has its test here or beside the code.
//!
//! | threat | held by |
//! |---|---|
//! | Amplification in prost | `amplification`: peak allocation of every rpc's largest message; frames of a Submit |
//! | Deep nesting | `wire`: 99, 100, 101, 30,000 and 100,000 levels; in process up to a million; `deny.toml` |
//! | Unknown fields | `wire`: passed over; a ciphertext keeps every byte |
//! | Invalid UTF-8 | `wire`: `INVALID_ARGUMENT` with details; typed end of a stream |
//! | Bidi, zero-width, NUL in names and bodies | `text`; `server/src/wire/tests`. User ids are ASCII, so look-alikes of other scripts make no other identity, and display names may mix scripts |
//! | XSS via stored content | `text`: bodies come back byte for byte, no page shows one, or what was asked for |
//! | Compression bomb | `compression`: no encoding is taken by any service, named or not |
//! | Reflection | `compression` |
//! | JWT: algorithm confusion, `none`, aud, iss, sub, times | `server/src/auth/tests/table.rs`: secret, key set from a file, key set from an address |
//! | JWT expiry | `tokens`: a stream ends at expiry unless renewed; `server/src/gateway/tests/ends.rs` |
//! | kid injection, jku, x5u | `tokens`: names of files, SQL, 1 MB; `server/src/auth/tests/url.rs`: 10,000 ids are one fetch, nothing leads to another host |
//! | JWKS rotation and outage | `server/src/auth/tests/url.rs`: no false rejection under load, last good set, its end; `tokens`: the real binary |
//! | Revocation | `tokens`: within 5 s, after a kill; `server/src/gateway/tests/revoked.rs`: every node, without the bus |
//! | Tokens in logs and queries | `compression`; `tests/tests/canary.rs` |
//! | Enumeration | `enumeration`: status, message, details and metadata are equal; times are printed |
//! | Authorization matrix | `tests/tests/authorization` |
//! | Replay of a send | `replay`; `tests/tests/e2e/retries.rs` |
//!
//! Elsewhere: HTTP/2 floods and resets, stream and header limits, silent and slow peers, rates, overload, CORS and CSRF are
//! of the suite `edge`; certificates, those between nodes among them, are of `server/src/tls/tests`, and the port for nodes
//! of `server/src/cluster/door`. Concern parts that do not exist yet: SSRF, forged and replayed webhooks, push payloads, link
//! previews.

mod amplification;
mod compression;
mod enumeration;
mod issuer;
mod raw;
mod replay;
mod text;
mod tokens;
mod wire;

/// The matrix of the authorization suite: every rpc with what a stranger gets.
#[path = "../authorization/rows.rs"]
#[allow(dead_code, reason = "its admin half is for that suite alone")]
mod rows;
