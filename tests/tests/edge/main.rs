//! The edge: floods, idlers, rates, deadlines, strangers' pages and slow readers against a real server.

mod attacks;
mod floods;
mod idle;
mod moving;
mod rates;
mod strangers;
mod unproven;
mod victim;
mod wire;

/// Flags of a server whose limits on frames and entries nobody meets, and these.
fn unhurried<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let flags = [
        "--session-frames-per-second",
        "100000",
        "--conversation-entries-per-second",
        "100000",
    ];
    flags.iter().chain(more).copied().collect()
}
