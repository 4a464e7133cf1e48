//! OpenMetrics over HTTP: `/metrics`, and `/healthz` and `/readyz` for whoever starts and watches the server.
//!
//! There is no access control: the address is a loopback one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::Metrics;

/// The media type of OpenMetrics 1.0.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The page, for as long as this value lives.
#[derive(Debug)]
pub struct MetricsServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl MetricsServer {
    /// Where it listens; the port is a real one even if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens on `address`. `ready` says whether clients are served: the listeners are up, the store does not fail; or why not.
///
/// # Errors
/// If the address cannot be bound.
pub async fn serve_metrics(
    address: SocketAddr,
    metrics: Arc<Metrics>,
    ready: impl Fn() -> Result<(), String> + Send + Sync + 'static,
) -> io::Result<MetricsServer> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let mut registry = Registry::default();
    registry.register_collector(Box::new(metrics));
    let (registry, ready) = (Arc::new(registry), Arc::new(ready));
    let router = Router::new()
        .route("/metrics", get(move || page(Arc::clone(&registry))))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || readiness(Arc::clone(&ready))));
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "metrics are not served any more");
        }
    });
    Ok(MetricsServer { address, task })
}

async fn page(registry: Arc<Registry>) -> Response {
    // Counting open files takes long where there are a hundred thousand.
    let text = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).map(|()| text)
    });
    match text.await {
        Ok(Ok(text)) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn readiness(ready: Arc<impl Fn() -> Result<(), String> + Send + Sync + 'static>) -> Response {
    match ready() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}
