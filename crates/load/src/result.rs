//! What a run measured: the shape of the JSON that every command writes and every report reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One scenario, run once against one server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The scenario's name: `pairs`, `idle` …
    pub scenario: String,
    /// How the server is called in tables: `Magpie`, `ejabberd`, `relay` …
    pub server: String,
    /// What the scenario was asked for: connections, security, seconds …, as on the command line.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// When it began, seconds since 1970.
    pub started: u64,
    /// How long was measured, warm-up not counted.
    pub seconds: f64,
    /// What is counted, in the singular: `message`, `ping`, `login`, `delivery`, `session`.
    pub unit: String,
    /// How many of them were done while it was measured.
    pub operations: u64,
    /// Latency of an operation; none where the scenario has none.
    pub latency: Option<Latency>,
    /// How long the server took to answer `<r/>` (XEP-0198); none without stream management.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack_latency: Option<Latency>,
    /// CPU time of the server while it was measured; none where its process is not known.
    pub server_cpu: Option<Cpu>,
    /// CPU time of the generator itself, all its processes.
    pub client_cpu: Cpu,
    /// Memory; none where the server's process is not known or the scenario does not look at it.
    pub memory: Option<Memory>,
    /// Once a second, for the plots.
    pub series: Vec<Sample>,
    /// What went wrong, and how often. A run with errors counts only what went well.
    pub errors: BTreeMap<String, u64>,
    /// Figures of one scenario alone, by name with the unit in it: `login_seconds`, `returned_seconds` …
    pub figures: BTreeMap<String, f64>,
}

/// Seconds of CPU time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// In user space.
    pub user: f64,
    /// In the kernel, for this process.
    pub system: f64,
}

/// A distribution, corrected for coordinated omission by measuring from the intended time where there is one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Mean, microseconds.
    pub mean_us: f64,
    /// Percentile -> microseconds, for 0, 50, 90, 95, 99, 99.9, 100 in this order.
    pub percentiles_us: Vec<(f64, f64)>,
    /// The whole histogram: HdrHistogram V2, compressed, base64; microseconds.
    pub histogram: String,
}

/// Bytes, before the sessions came and while they were there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Sessions that were there.
    pub sessions: u64,
    /// Resident memory of the server's processes that is theirs alone (`Private_*` and a share of the rest: PSS), before.
    pub before: u64,
    /// The same with the sessions.
    pub with: u64,
    /// The same after the sessions left again, where the scenario ended them.
    pub after: Option<u64>,
    /// The kernel's memory (sockets, slabs, page tables; both ends of loopback connections), before.
    pub kernel_before: u64,
    /// The same with the sessions.
    pub kernel_with: u64,
}

/// One second of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Seconds since the run began, its warm-up included.
    pub second: f64,
    /// Operations in it.
    pub operations: u64,
    /// CPU seconds of the server in it.
    pub server_cpu: f64,
    /// Resident memory of the server, bytes.
    pub server_memory: u64,
    /// Sessions that are there.
    pub sessions: u64,
    /// The 99th percentile of latency in it, microseconds.
    pub p99_us: Option<f64>,
}

impl Cpu {
    /// User and system together.
    pub fn total(&self) -> f64 {
        self.user + self.system
    }
}

impl Latency {
    /// A percentile that is in the list, microseconds; 0 for others.
    pub fn at(&self, wanted: f64) -> f64 {
        self.percentiles_us.iter().find(|(percentile, _)| *percentile == wanted).map_or(0.0, |(_, us)| *us)
    }
}

impl Run {
    /// The row of the comparison that it is a run of.
    pub fn row(&self) -> Option<&str> {
        self.parameters.get("row")?.as_str()
    }

    /// Operations a second.
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.operations as f64 / self.seconds } else { 0.0 }
    }

    /// CPU time of the server for one operation, microseconds.
    pub fn server_us(&self) -> Option<f64> {
        let cpu = self.server_cpu?;
        (self.operations > 0).then(|| cpu.total() * 1e6 / self.operations as f64)
    }

    /// Bytes of the server's own memory for one session.
    pub fn bytes_per_session(&self) -> Option<f64> {
        let memory = self.memory?;
        (memory.sessions > 0).then(|| memory.with.saturating_sub(memory.before) as f64 / memory.sessions as f64)
    }
}
