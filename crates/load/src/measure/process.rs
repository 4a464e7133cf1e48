//! proc(5), `/proc/PID`: CPU time, memory, threads and open files of a server, which may be several processes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::result::Cpu;

/// The processes of one server, looked at again and again.
///
/// A process is known by its pid and its start time, so that a pid that the system gives to somebody else is not taken for
/// it. CPU time of a process that ended stays in the sum as it was seen last: what it used after the last look is lost, so
/// look once a second.
#[derive(Clone, Debug)]
pub struct Processes {
    descendants: bool,
    living: BTreeMap<(u32, u64), Cpu>,
    ended: Cpu,
    ticks_per_second: f64,
    page_bytes: u64,
}

/// Bytes of memory of all the processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// Pages of one process alone, and of shared pages its share (`Pss`). The resident set where the kernel does not let us
    /// see it: then pages that processes share are counted once for each of them.
    pub bytes: u64,
    /// Pages of one process alone (`Private_*`); nothing of a process whose `smaps_rollup` may not be read.
    pub private: u64,
    /// The resident set, shared pages counted whole.
    pub rss: u64,
    /// Processes of which only the resident set could be read.
    pub by_rss_alone: u64,
}

/// How often threads gave up a processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// Because they waited for something.
    pub voluntary: u64,
    /// Because others were to have it.
    pub involuntary: u64,
}

/// All there is to know about the processes at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Processes that live.
    pub processes: u64,
    /// CPU time since each of them started, ended ones included.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Resident,
    /// Threads.
    pub threads: u64,
    /// Open files, sockets among them.
    pub open_files: u64,
    /// Context switches of the threads that live.
    pub switches: Switches,
}

impl Processes {
    /// These processes alone. Fails where one of them does not live or may not be seen.
    pub fn of(pids: impl IntoIterator<Item = u32>) -> io::Result<Self> {
        Self::with(pids, false)
    }

    /// These processes and all that they start, now and later.
    pub fn with_descendants(pids: impl IntoIterator<Item = u32>) -> io::Result<Self> {
        Self::with(pids, true)
    }

    fn with(pids: impl IntoIterator<Item = u32>, descendants: bool) -> io::Result<Self> {
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        let mut living = BTreeMap::new();
        for pid in pids {
            let text = fs::read_to_string(path(pid, "stat"))
                .map_err(|error| io::Error::new(error.kind(), format!("process {pid}: {error}")))?;
            let stat = parse_stat(&text)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat: {text}")))?;
            living.insert(stat.key(), stat.cpu(ticks_per_second));
        }
        let page_bytes = rustix::param::page_size() as u64;
        let mut processes = Self { descendants, living, ended: Cpu::default(), ticks_per_second, page_bytes };
        processes.look();
        Ok(processes)
    }

    /// CPU time that the processes used since they started; ended ones included.
    pub fn cpu(&mut self) -> Cpu {
        self.look();
        self.living.values().fold(self.ended, |sum, &cpu| sum.plus(cpu))
    }

    /// Memory that the processes hold now.
    pub fn memory(&mut self) -> Resident {
        self.look();
        let mut sum = Resident::default();
        for (pid, _) in self.living.keys() {
            // A process that ends between the look and this line holds nothing.
            let Ok(statm) = fs::read_to_string(path(*pid, "statm")) else { continue };
            let rss = parse_statm(&statm).unwrap_or(0) * self.page_bytes;
            sum.rss += rss;
            match fs::read_to_string(path(*pid, "smaps_rollup")).ok().and_then(|text| parse_rollup(&text)) {
                Some((pss, private)) => {
                    sum.bytes += pss;
                    sum.private += private;
                }
                None => {
                    sum.bytes += rss;
                    sum.by_rss_alone += 1;
                }
            }
        }
        sum
    }

    /// Everything; reads a file for each thread, so not for every second of a run.
    pub fn usage(&mut self) -> Usage {
        let mut usage = Usage { cpu: self.cpu(), memory: self.memory(), ..Usage::default() };
        for (pid, _) in self.living.keys() {
            usage.processes += 1;
            usage.open_files += entries(path(*pid, "fd")).count() as u64;
            for thread in entries(path(*pid, "task")) {
                usage.threads += 1;
                let status = fs::read_to_string(thread.join("status")).unwrap_or_default();
                let switches = parse_switches(&status).unwrap_or_default();
                usage.switches.voluntary += switches.voluntary;
                usage.switches.involuntary += switches.involuntary;
            }
        }
        usage
    }

    /// The pids that live now.
    pub fn pids(&mut self) -> Vec<u32> {
        self.look();
        self.living.keys().map(|(pid, _)| *pid).collect()
    }

    fn look(&mut self) {
        let all = if self.descendants {
            all_processes()
        } else {
            self.living.keys().filter_map(|(pid, _)| read_stat(*pid)).collect()
        };
        // A child whose parent ended first belongs to init now, and is still the server's: so all that lived are asked for.
        let lived = all.iter().filter(|stat| self.living.contains_key(&stat.key())).map(|stat| stat.pid).collect();
        let mut living = BTreeMap::new();
        for stat in family(&lived, &all) {
            living.insert(stat.key(), stat.cpu(self.ticks_per_second));
        }
        for (key, &cpu) in &self.living {
            if !living.contains_key(key) {
                self.ended = self.ended.plus(cpu);
            }
        }
        self.living = living;
    }
}

impl Cpu {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self { user: self.user + other.user, system: self.system + other.system }
    }

    /// What was used since `before`, never less than nothing.
    pub fn since(self, before: Self) -> Self {
        Self { user: (self.user - before.user).max(0.0), system: (self.system - before.system).max(0.0) }
    }
}

/// What we want of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    pid: u32,
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
    started_ticks: u64,
}

impl Stat {
    /// What tells a process from a later one with the same pid.
    fn key(&self) -> (u32, u64) {
        (self.pid, self.started_ticks)
    }

    fn cpu(&self, ticks_per_second: f64) -> Cpu {
        Cpu { user: self.user_ticks as f64 / ticks_per_second, system: self.system_ticks as f64 / ticks_per_second }
    }
}

fn path(pid: u32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}

fn entries(folder: PathBuf) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn read_stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(path(pid, "stat")).ok()?)
}

fn all_processes() -> Vec<Stat> {
    let pids = entries(PathBuf::from("/proc")).filter_map(|path| path.file_name()?.to_str()?.parse().ok());
    pids.filter_map(read_stat).collect()
}

/// The roots and everything below them.
fn family(roots: &BTreeSet<u32>, all: &[Stat]) -> Vec<Stat> {
    let mut members = roots.clone();
    loop {
        let before = members.len();
        members
            .extend(all.iter().filter(|stat| members.contains(&stat.parent)).map(|stat| stat.pid).collect::<Vec<_>>());
        if members.len() == before {
            break;
        }
    }
    all.iter().filter(|stat| members.contains(&stat.pid)).copied().collect()
}

/// The name stands in brackets and may hold brackets and blanks, so the fields are counted from the last bracket.
fn parse_stat(text: &str) -> Option<Stat> {
    let (pid, _) = text.split_once(' ')?;
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // proc_pid_stat(5) numbers from 1; the state, which is field 3, is the first after the name.
    let field = |number: usize| fields.get(number - 3)?.parse().ok();
    Some(Stat {
        pid: pid.parse().ok()?,
        parent: u32::try_from(field(4)?).ok()?,
        user_ticks: field(14)?,
        system_ticks: field(15)?,
        started_ticks: field(22)?,
    })
}

/// Resident pages.
fn parse_statm(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// `Pss` and the sum of `Private_*`, bytes.
fn parse_rollup(text: &str) -> Option<(u64, u64)> {
    let mut pss = None;
    let mut private = 0;
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        match name {
            "Pss" => pss = super::kernel::kilobytes(value),
            "Private_Clean" | "Private_Dirty" | "Private_Hugetlb" => private += super::kernel::kilobytes(value)?,
            _ => {}
        }
    }
    Some((pss?, private))
}

fn parse_switches(status: &str) -> Option<Switches> {
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    Some(Switches { voluntary: value("voluntary_ctxt_switches:")?, involuntary: value("nonvoluntary_ctxt_switches:")? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    const STAT: &str = "4711 (c2s (old) x) S 4700 4711 29200 0 -1 4194304 9 8 7 6 1234 567 33 44 20 0 4 0 1362438 3133440 360 \
                        18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
    const ROLLUP: &str = "55b3965f0000-7ffc39274000 ---p 00000000 00:00 0                          [rollup]\n\
                          Rss:                1752 kB\nPss:                 232 kB\nPss_Dirty:           112 kB\n\
                          Shared_Clean:       1596 kB\nPrivate_Clean:        44 kB\nPrivate_Dirty:       112 kB\n\
                          Private_Hugetlb:    2048 kB\nSwapPss:               0 kB\n";

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let stat = Stat { pid: 4711, parent: 4700, user_ticks: 1234, system_ticks: 567, started_ticks: 1_362_438 };
        assert_eq!(parse_stat(STAT), Some(stat));
        assert_eq!(parse_stat("4711 (cut) S 4700 4711"), None);
    }

    #[test]
    fn pss_is_not_its_parts_and_private_counts_huge_pages() {
        assert_eq!(parse_rollup(ROLLUP), Some((232 << 10, (44 + 112 + 2048) << 10)));
        assert_eq!(parse_rollup("Rss: 12 kB\n"), None);
    }

    #[test]
    fn switches_and_resident_pages_are_read() {
        let status = "Name:\tcat\nThreads:\t1\nvoluntary_ctxt_switches:\t15\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(parse_switches(status), Some(Switches { voluntary: 15, involuntary: 3 }));
        assert_eq!(parse_statm("765 438 399 5 0 29 0\n"), Some(438));
    }

    #[test]
    fn a_family_is_children_of_children_in_any_order_and_nobody_else() {
        let stat = |pid, parent| Stat { pid, parent, user_ticks: 0, system_ticks: 0, started_ticks: 0 };
        let all = [stat(30, 20), stat(20, 10), stat(10, 1), stat(40, 1), stat(50, 40)];
        let pids: Vec<u32> = family(&BTreeSet::from([10]), &all).iter().map(|stat| stat.pid).collect();
        assert_eq!(pids, [30, 20, 10]);
    }

    #[test]
    fn a_process_that_does_not_live_is_refused_by_its_number() {
        let error = Processes::of([u32::MAX - 1]).unwrap_err();
        assert!(error.to_string().contains("4294967294"), "{error}");
    }

    /// Ends what it started.
    struct Started(Child);

    impl Drop for Started {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn shell(script: &str) -> Started {
        Started(Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap())
    }

    /// Looks until it is so; a busy machine may take its time, and one that never gets there fails.
    fn until(mut so: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !so() {
            assert!(Instant::now() < end, "it never came");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn cpu_time_of_a_busy_process_grows_and_stays_when_it_ends() {
        let mut busy = shell("while :; do :; done");
        let mut idle = Started(Command::new("sleep").arg("60").spawn().unwrap());
        let mut processes = Processes::of([busy.0.id(), idle.0.id()]).unwrap();
        let mut idler = Processes::of([idle.0.id()]).unwrap();
        until(|| processes.cpu().total() >= 0.3);
        let before = processes.cpu();
        busy.0.kill().unwrap();
        busy.0.wait().unwrap();
        let after = processes.cpu();
        assert!(after.total() >= before.total() && after.user > 0.0, "{before:?} {after:?}");
        assert_eq!(processes.pids(), [idle.0.id()]);
        assert!(idler.cpu().total() < 0.1, "sleeping was counted");
        idle.0.kill().unwrap();
        idle.0.wait().unwrap();
        assert!(processes.cpu().total() >= before.total());
        assert!(processes.pids().is_empty());
    }

    #[test]
    fn what_a_child_uses_counts_with_descendants_alone() {
        let parent = shell("sh -c 'while :; do :; done' & child=$!; read line; kill $child; wait");
        let mut alone = Processes::of([parent.0.id()]).unwrap();
        let mut all = Processes::with_descendants([parent.0.id()]).unwrap();
        until(|| all.cpu().total() >= 0.3);
        assert!(alone.cpu().total() < 0.2);
        let children: Vec<u32> = all.pids().into_iter().filter(|pid| *pid != parent.0.id()).collect();
        assert_eq!(children.len(), 1);
        drop(parent);
        // The parent is gone and its child goes on: it is still the server's, and still costs.
        let before = all.cpu().total();
        until(|| all.cpu().total() >= before + 0.1);
        assert_eq!(all.pids(), children);
        assert!(Command::new("kill").arg(children[0].to_string()).status().unwrap().success());
        until(|| all.pids().is_empty());
        assert!(all.cpu().total() >= before + 0.1);
    }

    #[test]
    fn memory_threads_files_and_switches_of_our_own_process_are_seen() {
        const BYTES: usize = 96 << 20;
        let mut own = Processes::of([std::process::id()]).unwrap();
        let before = own.usage();
        let block = std::hint::black_box(vec![1_u8; BYTES]);
        let files: Vec<_> = (0..40).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        let with = own.usage();
        let near = |grown: u64| (80 << 20..160 << 20).contains(&grown);
        assert!(near(with.memory.bytes.saturating_sub(before.memory.bytes)), "{before:?} {with:?}");
        assert!(near(with.memory.rss.saturating_sub(before.memory.rss)), "{before:?} {with:?}");
        assert!(with.memory.private <= with.memory.bytes && with.memory.bytes <= with.memory.rss + (1 << 20));
        assert_eq!(with.memory.by_rss_alone, 0);
        assert!(with.open_files >= before.open_files + 30, "{before:?} {with:?}");
        assert!(with.threads >= 2);
        assert!(with.switches.voluntary > 0);
        drop((block, files));
        let after = own.memory();
        assert!(near(with.memory.bytes.saturating_sub(after.bytes)), "{with:?} {after:?}");
        drop(end);
        assert!(thread.join().unwrap().is_err());
    }
}
