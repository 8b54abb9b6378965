//! A signal over HTTP: anything but 200 holds copying.
//!
//! GET, since not every service answers HEAD; redirects are not followed (302 is not 200); the body is not looked at. Certificates are
//! checked against the system's authorities.

use super::decide::{Readings, Signal};
use super::signals::{READING_LIMIT, Signals, pause_after};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::time::{Duration, Instant};

fn http(readings: &mut Readings) -> &mut Option<Signal<(u16, String)>> {
    &mut readings.http
}

/// Asks the address. Never ends.
pub async fn watch(signals: &Signals) {
    let mut asker = Asker::default();
    loop {
        let Some(url) = signals.limits().throttle_http_url else {
            signals.forget(http);
            asker = Asker::default();
            signals.rest(Duration::from_secs(3600)).await;
            continue;
        };
        signals.begin(http);
        let began = Instant::now();
        let reading = match tokio::time::timeout(READING_LIMIT, asker.ask(&url)).await {
            Ok(reading) => reading,
            Err(_) => Err(format!("no answer within {} s", READING_LIMIT.as_secs())),
        };
        let pause = pause_after(began.elapsed(), reading.is_err());
        // An answer to a former address says nothing about the present one.
        if signals.limits().throttle_http_url.as_ref() == Some(&url) {
            signals.put(http, reading);
            signals.rest(pause).await;
        }
    }
}

/// The client, made at its first use: it reads the system's certificate authorities.
#[derive(Default)]
struct Asker {
    plain: Option<Client<HttpConnector, Empty<Bytes>>>,
    tls: Option<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>>,
}

impl Asker {
    async fn ask(&mut self, url: &str) -> Result<(u16, String), String> {
        let uri: Uri = url.parse().map_err(|_| "it is not an address".to_owned())?;
        let request = Request::get(&uri)
            .header("user-agent", concat!("theseus/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|_| "it is not an address".to_owned())?;
        let answer = match uri.scheme_str() {
            Some("http") => self.plain.get_or_insert_with(|| Client::builder(TokioExecutor::new()).build_http()).request(request).await,
            Some("https") => {
                let client = match self.tls.take() {
                    Some(client) => client,
                    None => {
                        let connector = HttpsConnectorBuilder::new()
                            .with_native_roots()
                            .map_err(|error| format!("the system's certificate authorities cannot be read: {error}"))?;
                        Client::builder(TokioExecutor::new()).build(connector.https_only().enable_http1().build())
                    }
                };
                self.tls.insert(client).request(request).await
            }
            _ => return Err("it must begin with http:// or https://".to_owned()),
        };
        match answer {
            Ok(answer) => Ok((answer.status().as_u16(), shown(&uri))),
            Err(error) => {
                // The first error says only that the request failed; the last one why.
                let mut last: &dyn std::error::Error = &error;
                while let Some(source) = last.source() {
                    last = source;
                }
                Err(format!("{}: {last}", shown(&uri)))
            }
        }
    }
}

/// The address without user, password and query, which may be secret.
fn shown(uri: &Uri) -> String {
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", uri.scheme_str().unwrap_or("http"), uri.host().unwrap_or_default(), uri.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_an_address_are_not_shown() {
        let uri: Uri = "https://user:secret@host:8443/may/i?token=secret".parse().expect("an address");
        assert_eq!(shown(&uri), "https://host:8443/may/i");
    }
}
