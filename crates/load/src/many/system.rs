//! Whether the system allows what is planned: limits of files, processes, ports and memory, read and never changed.

use std::fs;
use std::io;

use rustix::process::{Resource, getrlimit};

use crate::measure::kernel::kilobytes;

/// Threads of one server: two runtimes' worth and the storage's own.
const THREADS_PER_SERVER_BESIDE_CORES: u64 = 12;

/// Bytes that a session is known to take with both ends, its server and its client, for the first guess.
const BYTES_PER_SESSION: u64 = 16 << 10;

/// Pages of TCP buffers below which logins that come at once would wait for each other: 64 MiB.
const TCP_PAGES_MIN: u64 = 16_384;

/// What is planned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Sessions of all processes.
    pub(super) sessions: u64,
    /// Servers; there are as many workers.
    pub(super) servers: u64,
    /// Logins that may be under way at a time.
    pub(super) connecting_max: u64,
    /// Memory that is to stay free, bytes.
    pub(super) free_min: u64,
}

/// What the system has. None where it does not say, or has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct System {
    /// `net.ipv4.ip_local_port_range`.
    pub(super) ports: Option<(u16, u16)>,
    /// `fs.file-max`, less what is open.
    pub(super) files_free: Option<u64>,
    /// `kernel.threads-max`.
    pub(super) threads_max: Option<u64>,
    /// `kernel.pid_max`.
    pub(super) pid_max: Option<u64>,
    /// `net.core.somaxconn`.
    pub(super) somaxconn: Option<u64>,
    /// `net.ipv4.tcp_mem`, the last of three: pages.
    pub(super) tcp_pages_max: Option<u64>,
    /// `net.netfilter.nf_conntrack_max`, where connections are tracked: without rules that ask for it none is.
    pub(super) conntrack_max: Option<u64>,
    /// `RLIMIT_NPROC`: processes and threads of this user.
    pub(super) user_threads_max: Option<u64>,
    /// `MemAvailable`, bytes.
    pub(super) available: Option<u64>,
    /// Processors.
    pub(super) cores: u64,
}

/// What does not suffice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Whether it cannot work; otherwise it may go wrong.
    pub(super) fatal: bool,
    /// What, and what to do.
    pub(super) text: String,
}

impl System {
    /// Reads it.
    pub(super) fn read() -> Self {
        let words = |path: &str| -> Vec<u64> {
            let text = fs::read_to_string(format!("/proc/sys/{path}")).unwrap_or_default();
            text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
        };
        let port = |index: usize| words("net/ipv4/ip_local_port_range").get(index)?.to_owned().try_into().ok();
        let open = words("fs/file-nr").first().copied().unwrap_or(0);
        Self {
            ports: port(0).zip(port(1)),
            files_free: words("fs/file-max").first().map(|max| max.saturating_sub(open)),
            threads_max: words("kernel/threads-max").first().copied(),
            pid_max: words("kernel/pid_max").first().copied(),
            somaxconn: words("net/core/somaxconn").first().copied(),
            tcp_pages_max: words("net/ipv4/tcp_mem").get(2).copied(),
            conntrack_max: words("net/netfilter/nf_conntrack_count")
                .first()
                .filter(|tracked| **tracked > 0)
                .and(words("net/netfilter/nf_conntrack_max").first())
                .copied(),
            user_threads_max: getrlimit(Resource::Nproc).current,
            available: available().ok(),
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64),
        }
    }

    /// What of it does not suffice, the fatal first.
    pub(super) fn findings(&self, wanted: Wanted) -> Vec<Finding> {
        let mut all = Vec::new();
        let mut short = |fatal: bool, has: Option<u64>, needs: u64, what: &str, help: &str| {
            if let Some(has) = has.filter(|has| *has < needs) {
                let text = format!("{what} is {has}, {needs} are needed: {}", help.replace("{}", &needs.to_string()));
                all.push(Finding { fatal, text });
            }
        };
        // A connection is an open file at each of its ends.
        let files = wanted.sessions * 2 + 10_000;
        short(true, self.files_free, files, "fs.file-max less what is open", "sysctl -w fs.file-max={} or more");
        let threads = wanted.servers * (THREADS_PER_SERVER_BESIDE_CORES + self.cores) + wanted.servers + 200;
        short(true, self.threads_max, threads, "kernel.threads-max", "sysctl -w kernel.threads-max={}");
        short(true, self.pid_max, threads, "kernel.pid_max", "sysctl -w kernel.pid_max={}");
        short(true, self.user_threads_max, threads, "the limit of processes (ulimit -u)", "ulimit -u {}");
        short(
            true,
            self.conntrack_max,
            wanted.sessions + 1_000,
            "net.netfilter.nf_conntrack_max",
            "sysctl -w net.netfilter.nf_conntrack_max={}, or leave loopback out: iptables -t raw -A OUTPUT -o lo -j NOTRACK",
        );
        short(
            false,
            self.somaxconn,
            wanted.connecting_max,
            "net.core.somaxconn",
            "sysctl -w net.core.somaxconn={}, or a smaller --connecting-max",
        );
        short(
            false,
            self.tcp_pages_max,
            TCP_PAGES_MIN,
            "the last number of net.ipv4.tcp_mem",
            "logins under way may stall; sysctl -w net.ipv4.tcp_mem='… … {}'",
        );
        if self.conntrack_max.is_some() {
            let text = "connections are tracked (nf_conntrack), which takes about 300 bytes of kernel memory for each";
            all.push(Finding { fatal: false, text: text.into() });
        }
        let needs = wanted.sessions * BYTES_PER_SESSION + wanted.free_min;
        if let Some(available) = self.available.filter(|available| *available < needs) {
            let held = available.saturating_sub(wanted.free_min) / BYTES_PER_SESSION;
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            let (available, needs) = (gib(available), gib(needs));
            let text = format!(
                "{available:.1} GiB of memory are available, {} sessions may take {needs:.1} GiB: it may end with about {held}",
                wanted.sessions
            );
            all.push(Finding { fatal: false, text });
        }
        all.sort_by_key(|finding| !finding.fatal);
        all
    }
}

/// Memory that could be had without taking it from anybody, bytes.
pub(super) fn available() -> io::Result<u64> {
    parse_available(&fs::read_to_string("/proc/meminfo")?)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/meminfo has no MemAvailable"))
}

fn parse_available(meminfo: &str) -> Option<u64> {
    meminfo.lines().find_map(|line| kilobytes(line.strip_prefix("MemAvailable:")?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const MILLION: Wanted = Wanted { sessions: 1_000_000, servers: 53, connecting_max: 100, free_min: 3 << 29 };

    fn enough() -> System {
        System {
            ports: Some((32_768, 60_999)),
            files_free: Some(2_400_000),
            threads_max: Some(190_000),
            pid_max: Some(4_194_304),
            somaxconn: Some(4096),
            tcp_pages_max: Some(575_802),
            conntrack_max: None,
            user_threads_max: Some(96_000),
            available: Some(22 << 30),
            cores: 2,
        }
    }

    #[test]
    fn a_system_that_suffices_has_no_findings() {
        assert_eq!(enough().findings(MILLION), []);
        assert_eq!(System { cores: 2, ..System::default() }.findings(MILLION), [], "what is not known is no finding");
    }

    #[test]
    fn what_cannot_work_is_told_from_what_may_go_wrong_and_comes_first() {
        let system = System { files_free: Some(1_000_000), somaxconn: Some(16), ..enough() };
        let findings = system.findings(MILLION);
        assert_eq!(findings.iter().map(|finding| finding.fatal).collect::<Vec<_>>(), [true, false]);
        assert!(findings[0].text.contains("sysctl -w fs.file-max=2010000"), "{findings:?}");
        assert!(findings[1].text.contains("net.core.somaxconn"), "{findings:?}");
    }

    #[test]
    fn connection_tracking_needs_a_place_for_each_session() {
        let few = System { conntrack_max: Some(262_144), ..enough() }.findings(MILLION);
        assert!(few[0].fatal && few[0].text.contains("nf_conntrack_max=1001000"), "{few:?}");
        let many = System { conntrack_max: Some(2_000_000), ..enough() }.findings(MILLION);
        assert!(many.len() == 1 && !many[0].fatal, "{many:?}");
    }

    #[test]
    fn too_little_memory_says_how_many_it_may_hold() {
        let findings = System { available: Some((3 << 29) + (16 << 30) / 2), ..enough() }.findings(MILLION);
        assert!(findings[0].text.ends_with("about 524288"), "{findings:?}");
    }

    #[test]
    fn available_memory_is_read_from_its_own_line() {
        assert_eq!(parse_available("MemFree: 1 kB\nMemAvailable:  3 kB\n"), Some(3072));
        assert_eq!(parse_available("MemFree: 1 kB\n"), None);
        assert!(available().unwrap() > 1 << 20);
        assert!(System::read().ports.is_some());
    }
}
