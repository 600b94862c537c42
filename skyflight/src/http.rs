//! What operators look at: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever restarts
//! and routes. Over HTTP, on a port of its own, which says nothing of anybody's data.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use skyflight_server::CoordinatorFigures;
use skyflight_worker::WorkerFigures;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

/// Upper bounds of the histograms of times, in seconds.
const BUCKETS_S: [f64; 12] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0, 600.0, 3_600.0];

/// How often samples are put into their buckets where nobody asks.
const UPKEEP: Duration = Duration::from_secs(5);

/// Collects the figures of this process, from here on.
pub(crate) struct Figures(PrometheusHandle);

/// What is observed, and whether it takes work.
pub(crate) struct Observed {
    pub(crate) coordinator: Option<CoordinatorFigures>,
    pub(crate) workers: Vec<WorkerFigures>,
    /// Set when the process is asked to end.
    pub(crate) ending: Arc<AtomicBool>,
}

/// The port; it is closed when this is dropped.
pub(crate) struct HttpPort {
    _server: AbortOnDropHandle<()>,
    _upkeep: AbortOnDropHandle<()>,
}

impl Figures {
    /// To be called before anything is counted.
    pub(crate) fn collect() -> Result<Figures> {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS_S)
            .context("the histograms cannot be set up")?;
        Ok(Figures(builder.install_recorder().context("the figures of this process are collected already")?))
    }

    /// Opens the port.
    pub(crate) async fn serve(self, listen: SocketAddr, observed: Observed) -> Result<HttpPort> {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("operations.http_listen {listen}"))?;
        let address = listener.local_addr().context("operations.http_listen")?;
        tracing::info!(%address, "metrics and health by HTTP");
        let handle = self.0.clone();
        let upkeep = Handle::current().spawn(async move {
            let mut ticks = tokio::time::interval(UPKEEP);
            loop {
                ticks.tick().await;
                handle.run_upkeep();
            }
        });
        let router = router(self.0, Arc::new(observed));
        let server = Handle::current().spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "the HTTP port failed");
            }
        });
        Ok(HttpPort { _server: AbortOnDropHandle::new(server), _upkeep: AbortOnDropHandle::new(upkeep) })
    }
}

fn router(figures: PrometheusHandle, observed: Arc<Observed>) -> Router {
    let ready = Arc::clone(&observed);
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route(
            "/readyz",
            get(move || async move {
                match ready.is_ready() {
                    true => (StatusCode::OK, "ready\n"),
                    false => (StatusCode::SERVICE_UNAVAILABLE, "ending\n"),
                }
            }),
        )
        .route(
            "/metrics",
            get(move || async move {
                observed.report();
                ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], figures.render())
            }),
        )
}

impl Observed {
    fn report(&self) {
        if let Some(coordinator) = &self.coordinator {
            coordinator.report();
        }
        for worker in &self.workers {
            worker.report();
        }
    }

    fn is_ready(&self) -> bool {
        !self.ending.load(Ordering::Relaxed) && self.coordinator.as_ref().is_none_or(CoordinatorFigures::is_ready)
    }
}
