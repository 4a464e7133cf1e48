//! Connections to the servers that answer functions: in the clear, or with TLS, of which the certificate and the name are always verified.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use crate::tls::{self, Verify};

/// A server may be connected to though who asked has gone, so that the connection is there for the next; not for ever.
const CONNECT_SECONDS_MAX: u64 = 30;

/// Connects to a server of `http` or `https`.
#[derive(Clone)]
pub(super) struct Connect {
    http: HttpConnector,
    tls: Option<TlsConnector>,
}

impl Connect {
    /// In the clear.
    pub(super) fn plain() -> Self {
        Self { http: HttpConnector::new(), tls: None }
    }

    /// With TLS, to servers that an authority of this file vouches for, or without a file one that the system trusts.
    ///
    /// # Errors
    /// If the file cannot be read or has no certificate, or the system trusts nobody.
    pub(super) fn tls(ca_file: Option<&Path>) -> Result<Self, String> {
        let mut config = tls::client(&Verify::Name(ca_file.map(Path::to_owned)))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        Ok(Self { http, tls: Some(TlsConnector::from(Arc::new(config))) })
    }
}

impl Service<Uri> for Connect {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.http.poll_ready(context).map_err(io::Error::other)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let name = uri.host().map(|host| ServerName::try_from(host.trim_matches(['[', ']']).to_owned()));
        let (connecting, tls) = (self.http.call(uri), self.tls.clone());
        let connect = async move {
            let socket = connecting.await.map_err(io::Error::other)?;
            socket.inner().set_nodelay(true)?;
            let Some(tls) = tls else { return Ok(Stream::Plain(socket)) };
            let name = name.and_then(Result::ok).ok_or_else(|| io::Error::other("a host that has no name"))?;
            Ok(Stream::Tls(Box::new(TokioIo::new(tls.connect(name, socket.into_inner()).await?))))
        };
        Box::pin(async move {
            let outcome = timeout(Duration::from_secs(CONNECT_SECONDS_MAX), connect).await;
            outcome.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        })
    }
}

/// A connection.
pub(super) enum Stream {
    Plain(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
