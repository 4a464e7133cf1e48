//! Who holds how many sessions: the share of each pair of a server and a worker, and the addresses they connect from.

use std::net::Ipv4Addr;

/// Sessions that a process can hold where it may have 20 000 files open.
pub const SESSIONS_PER_PROCESS: u32 = 19_000;

/// Files of a server's or a worker's process that are not connections: storage, listeners, logins beside the held ones.
pub const OTHER_FILES: u64 = 500;

/// Of the ports of a source address no more than this are taken. The kernel looks for a free one from a random one on, first
/// among the odd ones, port by port: with half of all taken it would look at thousands for each connection.
const PORTS_TAKEN_PERCENT_MAX: u32 = 20;

/// The first source address. Loopback is all of 127.0.0.0/8; servers listen on 127.0.0.1.
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);

/// One server's process, with the worker that connects to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Sessions.
    pub sessions: u32,
    /// Where they come from. No share has one of another's: a port that is bound is taken for all destinations.
    pub sources: Vec<Ipv4Addr>,
}

/// Why sessions cannot be shared out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Not even one for each process.
    #[error("a process may have {0} open files, which is too few for any session: raise the limit (ulimit -n)")]
    Files(u64),
    /// No source ports.
    #[error("net.ipv4.ip_local_port_range leaves no ports to connect from: {0}-{1}")]
    Ports(u16, u16),
}

/// How many sessions one process holds: what was asked for, where its limit of open files allows that.
pub fn per_process(wanted: u32, files_max: u64) -> Result<u32, LayoutError> {
    let room = files_max.saturating_sub(OTHER_FILES).min(u64::from(u32::MAX)) as u32;
    if room == 0 { Err(LayoutError::Files(files_max)) } else { Ok(wanted.clamp(1, room)) }
}

/// Shares `sessions` out: all processes full but the last.
pub fn shares(sessions: u32, per_process: u32, ports: (u16, u16)) -> Result<Vec<Share>, LayoutError> {
    let all = u32::from(ports.1.saturating_sub(ports.0)) + 1;
    let usable = all * PORTS_TAKEN_PERCENT_MAX / 100;
    if usable == 0 || ports.1 <= ports.0 {
        return Err(LayoutError::Ports(ports.0, ports.1));
    }
    let mut next = FIRST_SOURCE.to_bits();
    let mut left = sessions;
    let mut shares = Vec::new();
    while left > 0 {
        let sessions = left.min(per_process.max(1));
        let sources = sessions.div_ceil(usable);
        shares.push(Share { sessions, sources: (next..next + sources).map(Ipv4Addr::from_bits).collect() });
        next += sources;
        left -= sessions;
    }
    Ok(shares)
}

/// How many of the first shares are whole when so many sessions are held.
pub fn full(shares: &[Share], held: u64) -> usize {
    let mut sum = 0;
    shares
        .iter()
        .take_while(|share| {
            sum += u64::from(share.sessions);
            sum <= held
        })
        .count()
}

/// How many of `messages` each of `processes` sends: as even as can be, all of them together.
pub fn messages(messages: u32, processes: u32, index: u32) -> u32 {
    messages / processes.max(1) + u32::from(index < messages % processes.max(1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use super::*;

    const PORTS: (u16, u16) = (32_768, 60_999);

    #[test]
    fn a_million_takes_53_processes_of_which_the_last_has_the_rest() {
        let shares = shares(1_000_000, SESSIONS_PER_PROCESS, PORTS).unwrap();
        assert_eq!(shares.len(), 53);
        assert!(shares[..52].iter().all(|share| share.sessions == 19_000));
        assert_eq!(shares.iter().map(|share| share.sessions).sum::<u32>(), 1_000_000);
        assert_eq!(shares[52].sessions, 12_000);
    }

    #[test]
    fn no_source_address_has_two_shares_or_more_sessions_than_a_fifth_of_its_ports() {
        for (per_process, ports) in [(19_000, PORTS), (19_000, (50_000, 55_000)), (200_000, PORTS)] {
            let shares = shares(300_000, per_process, ports).unwrap();
            let all: Vec<Ipv4Addr> = shares.iter().flat_map(|share| share.sources.clone()).collect();
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
            assert!(all.iter().all(|address| address.is_loopback() && *address != Ipv4Addr::LOCALHOST));
            let ports = u32::from(ports.1 - ports.0) + 1;
            assert!(shares.iter().all(|share| share.sessions.div_ceil(share.sources.len() as u32) <= ports / 5));
        }
    }

    #[test]
    fn the_limit_of_open_files_bounds_a_share() {
        assert_eq!(per_process(19_000, 20_000), Ok(19_000));
        assert_eq!(per_process(19_000, 1_024), Ok(524));
        assert_eq!(per_process(100, 1 << 20), Ok(100));
        assert_eq!(per_process(100, 400), Err(LayoutError::Files(400)));
        assert_eq!(shares(10, 10, (5, 5)), Err(LayoutError::Ports(5, 5)));
    }

    #[test]
    fn a_share_that_is_not_whole_is_not_full() {
        let shares = shares(50, 20, PORTS).unwrap();
        assert_eq!([0, 20, 40, 49, 50].map(|held| full(&shares, held)), [0, 1, 2, 2, 3]);
    }

    #[test]
    fn messages_are_shared_out_without_a_rest() {
        let all: Vec<u32> = (0..53).map(|index| messages(1_000, 53, index)).collect();
        assert_eq!(all.iter().sum::<u32>(), 1_000);
        assert!(all.iter().all(|one| (18..=19).contains(one)));
    }
}
