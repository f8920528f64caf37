//! Figures that the process records with the `metrics` macros, as text for Prometheus.
//!
//! The recorder is one for the process. The node installs it early, so that nothing is recorded into the void;
//! whoever serves the API without having done so gets it installed then.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Bounds of the histograms, in seconds.
const SECONDS: &[f64] = &[0.001, 0.005, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Installs the recorder, if none is yet.
pub fn install() {
    handle();
}

fn handle() -> Option<&'static PrometheusHandle> {
    HANDLE
        .get_or_init(|| {
            let builder = PrometheusBuilder::new().set_buckets(SECONDS);
            let installed = builder
                .map_err(|error| error.to_string())
                .and_then(|builder| builder.install_recorder().map_err(|error| error.to_string()));
            installed
                .map_err(|error| tracing::warn!("figures go elsewhere: {error}"))
                .ok()
        })
        .as_ref()
}

/// All figures.
pub(crate) fn render() -> String {
    handle()
        .map(|handle| {
            handle.run_upkeep();
            handle.render()
        })
        .unwrap_or_default()
}

/// What was recorded is put in order, so that it does not pile up between two readers.
pub(crate) fn tidy() {
    if let Some(handle) = handle() {
        handle.run_upkeep();
    }
}
