//! What a server says when it is ready: what it serves, how to connect, what to do next.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use magpie_server::admin::socket::socket_path;
use magpie_server::config::{Config, ListenKind};
use magpie_server::listen::certificates::own_chain_path;
use serde_json::json;

use crate::cli::Global;
use crate::failure::Failure;
use crate::output;

/// Descriptors that are no connections: listeners, databases, logs.
const OTHER_FILES: u64 = 64;

pub(super) struct Welcome<'a> {
    pub(super) config: &'a Config,
    pub(super) global: &'a Global,
    pub(super) addresses: &'a [(ListenKind, SocketAddr)],
    pub(super) metrics: Option<SocketAddr>,
    pub(super) files_max: Option<u64>,
    /// Whether there is no account on any domain.
    pub(super) none_yet: bool,
}

impl Welcome<'_> {
    /// Prints it on standard output.
    pub(super) fn print(&self) -> Result<(), Failure> {
        let listen = self.addresses.iter().map(|(kind, address)| json!({ "kind": kind, "address": address }));
        let certificates = self.config.domains.iter().map(|domain| {
            let (path, own) = self.certificate(domain);
            json!({ "domain": domain, "chain": path, "own": own })
        });
        let document = json!({
            "ready": true,
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "data": self.config.data,
            "socket": socket_path(&self.config.data),
            "domains": self.config.domains,
            "listen": listen.collect::<Vec<_>>(),
            "metrics": self.metrics,
            "certificates": certificates.collect::<Vec<_>>(),
            "open_files_max": self.files_max,
        });
        output::print(self.global, &document, || self.text())
    }

    fn text(&self) -> String {
        let mut text = String::new();
        let mut add = |line: String| writeln!(text, "{line}").expect("a String takes everything");
        add(format!("Magpie {} serves {}.\n", env!("CARGO_PKG_VERSION"), self.config.domains.join(", ")));
        for (kind, address) in self.addresses {
            let speaks = match kind {
                ListenKind::C2s => "clients, STARTTLS",
                ListenKind::C2sTls => "clients, TLS from the start",
                ListenKind::Terms => "Erlang's terms, HTTP",
                ListenKind::TermsTls => "Erlang's terms, HTTPS",
                ListenKind::Bert => "Erlang's terms, BERT-RPC",
            };
            add(format!("  listens on   {address} ({speaks})"));
        }
        for domain in &self.config.domains {
            let (path, own) = self.certificate(domain);
            let note = if own { " (its own: clients will ask whether to trust it)" } else { "" };
            add(format!("  certificate  {}{note}", path.display()));
        }
        if let Some(address) = self.metrics {
            add(format!("  metrics      http://{address}/metrics (also /healthz, /readyz)"));
        }
        add(format!("  data         {}", self.config.data.display()));
        if let Some(files) = self.files_max {
            add(format!("  open files   {files}, enough for {} connections", files.saturating_sub(OTHER_FILES)));
        }
        let domain = self.config.domains.first().map_or("localhost", String::as_str);
        let (program, options) = (program(), self.options());
        add(String::new());
        if self.none_yet {
            add(format!("There is no account yet. Make one:  {program} user add{options} NAME@{domain}"));
        } else {
            add(format!("Make an account:  {program} user add{options} NAME@{domain}"));
        }
        add(format!("Then log in with any XMPP client as NAME@{domain}{}.", self.host_and_port(domain)));
        add(format!("After changes of the configuration or a certificate:  {program} reload{options}"));
        add("Stop with Ctrl-C.".to_owned());
        text
    }

    /// What a client must be told where it cannot find the server by the domain alone.
    fn host_and_port(&self, domain: &str) -> String {
        let Some((_, address)) = self.addresses.iter().find(|(kind, _)| *kind == ListenKind::C2s) else {
            let direct = self.addresses.iter().find(|(kind, _)| *kind == ListenKind::C2sTls);
            return direct
                .map_or_else(String::new, |(_, address)| format!(", port {} with direct TLS", address.port()));
        };
        let host = if address.ip().is_loopback() { address.ip().to_string() } else { domain.to_owned() };
        format!(" (host {host}, port {})", address.port())
    }

    /// The options with which other commands find this server.
    fn options(&self) -> String {
        let config = self.global.config.as_ref().map(|file| format!(" --config {}", quoted(file)));
        let data = self.global.data.as_ref().map(|folder| format!(" --data {}", quoted(folder)));
        config.unwrap_or_default() + &data.unwrap_or_default()
    }

    /// The certificate's file, or the folder that has it, and whether the server made it.
    fn certificate(&self, domain: &str) -> (PathBuf, bool) {
        match self.config.certificate.iter().find(|certificate| certificate.domain == domain) {
            Some(certificate) => (certificate.chain.clone(), false),
            // Every served domain has a file: the server has started.
            None => (own_chain_path(&self.config.data, domain).unwrap_or_default(), true),
        }
    }
}

/// As this program was started, so that what is printed can be run: `target/release/magpie` where cargo started it.
fn program() -> String {
    std::env::args_os().next().map_or_else(|| "magpie".to_owned(), |program| quoted(Path::new(&program)))
}

/// As a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.chars().all(|c| c.is_alphanumeric() || "/._-+,:@%~=".contains(c));
    if plain { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_printed_so_that_a_shell_reads_them() {
        assert_eq!(quoted(Path::new("target/release/magpie")), "target/release/magpie");
        assert_eq!(quoted(Path::new("my data")), "'my data'");
        assert_eq!(quoted(Path::new("it's")), r"'it'\''s'");
        assert_eq!(quoted(Path::new("a;b")), "'a;b'");
    }
}
