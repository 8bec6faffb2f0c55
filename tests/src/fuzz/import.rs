//! Lines of an import file.

use stonechat_host::Host;
use stonechat_server::conversation::{Conversations, Limits};
use stonechat_server::domain::Refusal;
use stonechat_server::transfer::{Progress, Report, import};

use super::bed::backends;

/// Counts what it is told.
#[derive(Default)]
struct Told {
    bytes: u64,
    refused: u64,
}

impl Progress for Told {
    fn read(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    fn refused(&mut self, _: u64, refusal: &Refusal) {
        assert!(!refusal.message.is_empty());
        self.refused += 1;
    }
}

/// Any file: each line is stored, known or refused with a reason, and a second run knows all that was stored (I2).
///
/// Gives what the first run did.
pub fn import_lines(data: &[u8]) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let host = Host::system();
        let backends = backends(&host);
        let run = async || -> Report {
            // An import ends with a drain, as the command does: the next one is of another start.
            let rules = Conversations::new(backends.clone(), host.clone(), Limits::default());
            let mut told = Told::default();
            let report = import(&rules, &backends, &host, data, &mut told)
                .await
                .expect("the store goes on");
            assert_eq!((told.bytes, told.refused), (data.len() as u64, report.refused));
            assert!(
                report.stored + report.known + report.refused <= report.lines,
                "{report:?}"
            );
            report
        };
        let first = run().await;
        let second = run().await;
        // What was refused may be stored then: a later line may have made what it needed.
        let nothing_twice = second.known >= first.stored && second.stored <= first.refused;
        assert!(nothing_twice, "{first:?} {second:?}");
        assert_eq!(second.lines, first.lines);
        first
    })
}
