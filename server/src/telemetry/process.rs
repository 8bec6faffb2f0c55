//! What the process takes of its machine, read when somebody asks. Linux tells it in `/proc`; elsewhere it is left out.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reads this process's figures at each scrape, under the names that all Prometheus clients use.
#[derive(Debug)]
pub(super) struct Process;

/// The figures.
#[derive(Debug, Default, PartialEq)]
struct Figures {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    open_descriptors: u64,
    descriptors_max: u64,
    threads: u64,
}

/// Ticks a second in `/proc/self/stat` and bytes of a page.
struct Units {
    ticks: u64,
    page: u64,
}

impl Figures {
    fn read() -> Option<Self> {
        let units = Units {
            ticks: rustix::param::clock_ticks_per_second(),
            page: rustix::param::page_size() as u64,
        };
        let mut figures = Self::of_stat(&fs::read_to_string("/proc/self/stat").ok()?, &units)?;
        // Without the descriptor that reads the folder.
        figures.open_descriptors = (fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        figures.descriptors_max = limit.current.unwrap_or(u64::MAX);
        Some(figures)
    }

    /// Fields as in proc(5), counted behind the name: it stands in parentheses and may hold spaces.
    #[allow(clippy::cast_precision_loss, reason = "shown to people; exact below 2^53")]
    fn of_stat(stat: &str, units: &Units) -> Option<Self> {
        let (_, behind) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = behind.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = field(14)? + field(15)?;
        Some(Self {
            cpu_seconds: ticks as f64 / units.ticks as f64,
            threads: field(20)?,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * units.page,
            ..Self::default()
        })
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(figures) = Figures::read() else {
            return Ok(());
        };
        let cpu = ConstCounter::new(figures.cpu_seconds);
        let help = "Processor time used, user and system";
        cpu.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, cpu.metric_type())?)?;
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory in RAM", figures.resident_bytes),
            ("process_virtual_memory_bytes", "Address space", figures.virtual_bytes),
            ("process_open_fds", "Open file descriptors", figures.open_descriptors),
            (
                "process_max_fds",
                "File descriptors that may be open",
                figures.descriptors_max,
            ),
            ("process_threads", "Threads", figures.threads),
        ] {
            gauge(&mut encoder, name, help, value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "42 (chat ) x) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 7 0 1000 4096 3 0";
        let units = Units { ticks: 100, page: 4096 };
        let figures = Figures::of_stat(stat, &units).expect("figures");
        assert_eq!(
            figures,
            Figures {
                cpu_seconds: 3.0,
                threads: 7,
                virtual_bytes: 4096,
                resident_bytes: 3 * 4096,
                ..Figures::default()
            }
        );
        assert_eq!(Figures::of_stat("42 (chat) S 1", &units), None);
    }

    /// An open file is seen.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_real_figures_are_those_of_this_process() {
        let before = Figures::read().expect("figures");
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").expect("a file")).collect();
        let after = Figures::read().expect("figures");
        // Other tests of this process open and close files meanwhile, but not so many.
        assert!(
            after.open_descriptors >= before.open_descriptors + 25,
            "{before:?} {after:?}"
        );
        assert!(
            after.resident_bytes > 1024 * 1024 && after.threads >= 1 && after.descriptors_max >= files.len() as u64
        );
    }
}
