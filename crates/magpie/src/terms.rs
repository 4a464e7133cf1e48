//! `magpie terms`: Erlang's terms for other programs, without a chat server around.

use std::net::SocketAddr;
use std::sync::Arc;

use magpie_server::config::{Config, Listen, ListenKind, TlsMode};
use magpie_server::listen::tcp::{Admission, Listener};
use magpie_server::terms::serve;
use magpie_terms::Service;
use magpie_terms::config::{KeyKind, SourceKind, TermSource};
use magpie_terms::functions::Functions;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tracing::{error, info};

use crate::cli::{Global, Terms};
use crate::config;
use crate::failure::Failure;
use crate::output;
use crate::serve::{Signals, Wanted, log, raise_open_files, runtime};

/// How long a stop waits for requests that are being answered.
const STOP_SECONDS_MAX: u64 = 15;

pub(crate) fn run(global: &Global, terms: &Terms) -> Result<(), Failure> {
    let config = load(global, terms)?;
    let listeners = [(ListenKind::Terms, Some(terms.listen)), (ListenKind::Bert, terms.bert)];
    for (_, address) in listeners {
        if let Some(address) = address
            && !address.ip().is_loopback()
            && !terms.force
        {
            let failure = Failure::new(format!("everybody in the network could ask: {address} is not loopback"));
            return Err(failure.help("listen on 127.0.0.1 behind a proxy, or give --force if you know why"));
        }
    }
    log::start(&terms.log, terms.log_format)?;
    raise_open_files();
    runtime()?.block_on(async {
        let mut signals = Signals::new()?;
        let service = Service::new(config.terms.clone(), Functions::default(), Vec::new());
        let service =
            service.map_err(|error| Failure::new(error.to_string()).help("correct this part of magpie.toml"))?;
        let service = Arc::new(service);
        let serving = Serving::new(Arc::clone(&service));
        let mut addresses = Vec::new();
        for (kind, address) in listeners {
            if let Some(address) = address {
                addresses.push((kind, serving.listen(kind, address, config.limits.connections_per_address_max)?));
            }
        }
        say(global, &addresses)?;
        while signals.next().await == Wanted::Reload {
            // The limit of connections from one address is that of the start.
            let reloaded = load(global, terms).map_err(|failure| failure.text());
            match reloaded.and_then(|config| service.reload(config.terms).map_err(|error| error.to_string())) {
                Ok(()) => info!(what = "terms", "reloaded"),
                Err(error) => error!(%error, "not reloaded; the configuration is as it was"),
            }
        }
        info!("stopping");
        serving.stop().await;
        Ok(())
    })
}

/// The configuration, with the folder that the command line names.
fn load(global: &Global, terms: &Terms) -> Result<Config, Failure> {
    let mut config = config::load_for_terms(global)?;
    if let Some(folder) = &terms.directory {
        if !folder.is_dir() {
            let failure = Failure::new(format!("there is no folder {}", folder.display()));
            return Err(failure.help("name the folder that has a file for each term"));
        }
        config.terms.source.retain(|source| !source.name.is_empty());
        config.terms.source.push(TermSource {
            name: String::new(),
            kind: SourceKind::Directory,
            path: folder.clone(),
            url: String::new(),
            query: String::new(),
            suffix: String::new(),
            key: KeyKind::default(),
        });
    }
    Ok(config)
}

/// The listeners, and what a stop waits for.
struct Serving {
    service: Arc<Service>,
    stop: watch::Sender<bool>,
    running: mpsc::Sender<()>,
    ended: mpsc::Receiver<()>,
}

impl Serving {
    fn new(service: Arc<Service>) -> Self {
        let (running, ended) = mpsc::channel(1);
        Self { service, stop: watch::Sender::new(false), running, ended }
    }

    fn listen(&self, kind: ListenKind, address: SocketAddr, per_address_max: usize) -> Result<SocketAddr, Failure> {
        let listen = Listen { address, kind, tls: TlsMode::Required, force: true };
        let listener = Listener::bind(&listen, false).map_err(|error| {
            let failure = Failure::new(format!("cannot listen on {address}: {error}"));
            failure.help("name another address with --listen, or end the program that has it")
        })?;
        let address = listener.address();
        let admission = Admission::new(|| 0, || {});
        admission.set_limits(per_address_max, usize::MAX);
        let (service, stop, running) = (Arc::clone(&self.service), self.stop.subscribe(), self.running.clone());
        let stopping = stop.clone();
        let accept = move |socket, peer, admitted| {
            let (serving, running) =
                (serve(Arc::clone(&service), kind, None, socket, peer, stopping.clone()), running.clone());
            tokio::spawn(async move {
                serving.await;
                drop((admitted, running));
            });
        };
        tokio::spawn(listener.run(admission, stop, accept));
        Ok(address)
    }

    async fn stop(mut self) {
        self.stop.send_replace(true);
        drop(self.running);
        let ended = tokio::time::timeout(std::time::Duration::from_secs(STOP_SECONDS_MAX), self.ended.recv());
        if ended.await.is_err() {
            tracing::warn!("some requests were not answered in time");
        }
    }
}

fn say(global: &Global, addresses: &[(ListenKind, SocketAddr)]) -> Result<(), Failure> {
    let listen: Vec<_> = addresses.iter().map(|(kind, address)| json!({ "kind": kind, "address": address })).collect();
    let document = json!({ "ready": true, "version": env!("CARGO_PKG_VERSION"), "listen": listen });
    output::print(global, &document, || {
        let mut text = format!("Magpie {} serves Erlang's terms.\n\n", env!("CARGO_PKG_VERSION"));
        for (kind, address) in addresses {
            text += &match kind {
                ListenKind::Bert => format!("  BERT-RPC  {address}\n"),
                _ => format!("  HTTP      http://{address}/\n"),
            };
        }
        if let Some((_, address)) = addresses.first() {
            text += &format!("\nTry:  curl 'http://{address}/esi/echo_server:echo?abcd你好321'\nStop with Ctrl-C.\n");
        }
        text
    })
}
