//! proc(5), `/proc/meminfo` and `/proc/net/sockstat`: the kernel's memory for sockets, which no process is charged for.
//!
//! Counted are `SUnreclaim` (sockets, open files, epoll entries, buffers' heads), for each socket its inode and its directory
//! entry (which the kernel files under reclaimable slabs, beside all of the file cache), `KernelStack`, `PageTables`, and
//! the pages of TCP buffers. It is the whole machine's, so only a difference says something, and both ends of loopback
//! connections are in it. Data of buffers that lies in slabs is counted twice: for idle sessions there is none, and for
//! busy ones the figure is an upper bound.

use std::fs;
use std::io;

/// An inode of `sock_inode_cache` and a `dentry`, as `/proc/slabinfo` gives them on 64-bit kernels since 5.x.
const SOCKET_INODE_BYTES: u64 = 832 + 192;

/// The sentence for reports that says what the kernel's memory is.
pub const COUNTED: &str = "unreclaimable slabs, inodes of sockets, kernel stacks, page tables and TCP buffers of the whole \
                           machine; both ends of a loopback connection";

/// Bytes of the kernel, the whole machine's, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelMemory {
    /// Slabs that hold what is in use: sockets, open files, epoll entries.
    pub slab_unreclaimable: u64,
    /// Inodes and directory entries of the sockets that exist, by their number.
    pub socket_inodes: u64,
    /// Stacks of threads inside the kernel.
    pub kernel_stack: u64,
    /// Page tables of all processes.
    pub page_tables: u64,
    /// Pages of TCP's send and receive buffers.
    pub tcp_buffers: u64,
    /// TCP sockets in use, IPv4 and IPv6; both ends of a loopback connection count.
    pub tcp_sockets: u64,
}

impl KernelMemory {
    /// Reads it. Fails where `/proc` does not have it.
    pub fn read() -> io::Result<Self> {
        let meminfo = fs::read_to_string("/proc/meminfo")?;
        let sockstat = fs::read_to_string("/proc/net/sockstat")?;
        // A kernel without IPv6 has no such file, and no such sockets.
        let sockstat6 = fs::read_to_string("/proc/net/sockstat6").unwrap_or_default();
        Self::parse(&meminfo, &sockstat, &sockstat6, rustix::param::page_size() as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "/proc/meminfo or /proc/net/sockstat lacks a line")
        })
    }

    /// The same from texts.
    pub fn parse(meminfo: &str, sockstat: &str, sockstat6: &str, page_bytes: u64) -> Option<Self> {
        let of = |name: &str| meminfo.lines().find_map(|line| kilobytes(line.strip_prefix(name)?.strip_prefix(':')?));
        let ipv6 = number(sockstat6, "TCP6:", "inuse").unwrap_or(0);
        Some(Self {
            slab_unreclaimable: of("SUnreclaim")?,
            socket_inodes: number(sockstat, "sockets:", "used")? * SOCKET_INODE_BYTES,
            kernel_stack: of("KernelStack")?,
            page_tables: of("PageTables")?,
            tcp_buffers: number(sockstat, "TCP:", "mem")? * page_bytes,
            tcp_sockets: number(sockstat, "TCP:", "inuse")? + ipv6,
        })
    }

    /// All bytes together.
    pub fn bytes(&self) -> u64 {
        self.slab_unreclaimable + self.socket_inodes + self.kernel_stack + self.page_tables + self.tcp_buffers
    }

    /// Bytes that came for each session since `before`; less than nothing where the rest of the machine gave up more. None
    /// without a session.
    pub fn per_session_since(&self, before: &Self, sessions: u64) -> Option<f64> {
        (sessions > 0).then(|| (self.bytes() as f64 - before.bytes() as f64) / sessions as f64)
    }
}

/// `   552976 kB` as bytes.
pub(super) fn kilobytes(value: &str) -> Option<u64> {
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The number after `name` in the line that begins with `line`.
fn number(text: &str, line: &str, name: &str) -> Option<u64> {
    let mut words = text.lines().find_map(|text| text.strip_prefix(line))?.split_ascii_whitespace();
    words.find(|word| *word == name)?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::{TcpListener, TcpStream};

    use super::*;

    const MEMINFO: &str = "MemTotal:       24684096 kB\nSlab:             552976 kB\nSReclaimable:     484084 kB\n\
                           SUnreclaim:        68892 kB\nKernelStack:        2360 kB\nPageTables:        10908 kB\n\
                           SecPageTables:         7 kB\n";
    const SOCKSTAT: &str = "sockets: used 31\nTCP: inuse 5 orphan 0 tw 2 alloc 6 mem 305\nUDP: inuse 9 mem 8\n";

    #[test]
    fn what_is_counted_is_the_sum_of_its_lines() {
        let memory = KernelMemory::parse(MEMINFO, SOCKSTAT, "TCP6: inuse 4\nUDP6: inuse 3\n", 4096).unwrap();
        let expected = (68_892 + 2_360 + 10_908) * 1024 + 31 * SOCKET_INODE_BYTES + 305 * 4096;
        assert_eq!(memory.bytes(), expected);
        assert_eq!(memory.tcp_sockets, 9);
        assert_eq!(memory.tcp_buffers, 305 * 4096);
    }

    #[test]
    fn a_machine_without_ipv6_has_no_such_sockets_and_one_without_the_rest_is_refused() {
        assert_eq!(KernelMemory::parse(MEMINFO, SOCKSTAT, "", 4096).unwrap().tcp_sockets, 5);
        assert_eq!(KernelMemory::parse("SUnreclaim: 1 kB\n", SOCKSTAT, "", 4096), None);
        assert_eq!(KernelMemory::parse(MEMINFO, "", "", 4096), None);
    }

    #[test]
    fn the_difference_is_shared_by_the_sessions_and_may_be_below_zero() {
        let before = KernelMemory { slab_unreclaimable: 10_000, ..KernelMemory::default() };
        let with = KernelMemory { slab_unreclaimable: 20_000, page_tables: 2_000, ..KernelMemory::default() };
        assert_eq!(with.per_session_since(&before, 3), Some(4_000.0));
        assert_eq!(before.per_session_since(&with, 3), Some(-4_000.0));
        assert_eq!(with.per_session_since(&before, 0), None);
    }

    #[test]
    fn connections_that_we_hold_are_counted_on_both_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours: Vec<_> = (0..50).map(|_| TcpStream::connect(listener.local_addr().unwrap()).unwrap()).collect();
        let theirs: Vec<_> = ours.iter().map(|_| listener.accept().unwrap()).collect();
        let memory = KernelMemory::read().unwrap();
        assert!(memory.tcp_sockets >= 101, "{memory:?}");
        assert!(memory.socket_inodes >= 101 * SOCKET_INODE_BYTES, "{memory:?}");
        assert!(memory.bytes() > 1 << 20 && memory.bytes() < 1 << 40, "{memory:?}");
        drop((ours, theirs));
    }
}
