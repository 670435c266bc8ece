//! Counters of the API, in Prometheus's text form.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use http::{Method, StatusCode, header};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    route: String,
    method: MethodName,
    status: u16,
}

/// Methods by name; `http::Method` has no order.
type MethodName = &'static str;

/// What the API counts. Shared between the server and whoever shows it.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<Key, u64>>,
    in_flight: AtomicI64,
}

impl Metrics {
    fn count(&self, route: &str, method: &Method, status: StatusCode) {
        let key =
            Key { route: route.to_owned(), method: method_name(method), status: status.as_u16() };
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry(key).or_default() += 1;
    }

    /// The counters as text (Prometheus exposition format 0.0.4).
    pub fn render(&self) -> String {
        let mut text = String::from(
            "# HELP skep_api_requests_total Requests answered, by route, method and status.\n\
             # TYPE skep_api_requests_total counter\n",
        );
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for (Key { route, method, status }, count) in requests.iter() {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "skep_api_requests_total{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}} {count}"
            );
        }
        let _ = write!(
            text,
            "# HELP skep_api_requests_in_flight Requests whose answer has not begun.\n\
             # TYPE skep_api_requests_in_flight gauge\n\
             skep_api_requests_in_flight {}\n",
            self.in_flight.load(Ordering::Relaxed)
        );
        text
    }
}

fn method_name(method: &Method) -> MethodName {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Decrements on drop, so that a request whose client leaves is not counted for ever.
struct InFlight<'a>(&'a AtomicI64);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a request. Routes are counted by their pattern, so names of objects never become labels.
pub(crate) async fn measure(
    State(metrics): State<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    metrics.in_flight.fetch_add(1, Ordering::Relaxed);
    let _in_flight = InFlight(&metrics.in_flight);
    let response = next.run(request).await;
    metrics.count(
        route.as_ref().map_or("unknown", MatchedPath::as_str),
        &method,
        response.status(),
    );
    response
}

/// More text for the metrics page, made when it is asked for.
pub type MetricsSource = Box<dyn Fn() -> String + Send + Sync>;

/// Serves `/metrics` for `--metrics-addr` until `shutdown`: these counters, then the sources' text.
pub async fn serve_metrics(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    sources: Vec<MetricsSource>,
    shutdown: CancellationToken,
) {
    let sources = Arc::new(sources);
    let page = move || {
        let (metrics, sources) = (metrics.clone(), sources.clone());
        async move {
            let mut text = metrics.render();
            for source in sources.iter() {
                text.push_str(&source());
            }
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
        }
    };
    let router = Router::new().route("/metrics", get(page));
    let headers = crate::server::ServerHeaders::new("skep");
    crate::server::run_tcp(listener, crate::server::ApiService::new(router, headers), shutdown)
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_rendered_by_route() {
        let metrics = Metrics::default();
        metrics.count("/containers/{id}/json", &Method::GET, StatusCode::OK);
        metrics.count("/containers/{id}/json", &Method::GET, StatusCode::OK);
        let text = metrics.render();
        assert!(text.contains(
            "skep_api_requests_total{route=\"/containers/{id}/json\",method=\"GET\",status=\"200\"} 2\n"
        ));
        assert!(text.ends_with("skep_api_requests_in_flight 0\n"));
    }
}
