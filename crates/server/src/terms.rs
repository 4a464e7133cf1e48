//! Erlang's terms beside the chat: the listeners of [`magpie_terms`], under this server's limits and certificates.

use std::net::SocketAddr;
use std::sync::Arc;

use magpie_terms::Service;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use crate::config::ListenKind;

/// One connection of a listener of terms, until it ends.
pub async fn serve(
    service: Arc<Service>,
    kind: ListenKind,
    tls: Option<Arc<ServerConfig>>,
    socket: TcpStream,
    peer: SocketAddr,
    stop: watch::Receiver<bool>,
) {
    // An answer is to go out now. Where this fails the connection is gone, which the first read will tell.
    let _ = socket.set_nodelay(true);
    let seconds = service.head_time();
    match (kind, tls) {
        (ListenKind::Bert, _) => {
            if let Err(error) = magpie_terms::bert::serve(&service, socket, peer, stop).await {
                debug!(%peer, %error, "connection of BERT-RPC ended");
            }
        }
        (_, None) => magpie_terms::http::serve(service, socket, peer, stop).await,
        (_, Some(config)) => match tokio::time::timeout(seconds, TlsAcceptor::from(config).accept(socket)).await {
            Ok(Ok(stream)) => magpie_terms::http::serve(service, stream, peer, stop).await,
            Ok(Err(error)) => debug!(%peer, %error, "no TLS for the term service"),
            Err(_) => debug!(%peer, "no TLS for the term service in time"),
        },
    }
}
