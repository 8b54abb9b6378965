//! HTTP as a client: the throttle's address and the hooks. Redirects are not followed; certificates are checked against the system's
//! authorities; addresses are shown without user, password and query, which may be secret.

use crate::engine::contract::text::shown;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// The client, made at its first use: it reads the system's certificate authorities.
#[derive(Default)]
pub struct Web {
    plain: Option<Client<HttpConnector, Full<Bytes>>>,
    tls: Option<Client<HttpsConnector<HttpConnector>, Full<Bytes>>>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The address without what may be secret.
    pub from: String,
    /// The beginning of the body as text, if the body was asked for.
    pub text: String,
}

impl Web {
    /// Sends one request. `text_limit` is how much of the body is read, in bytes; 0 leaves it. The caller sets the limit of time.
    ///
    /// # Errors
    /// In words: the address is not valid, or nobody answered.
    pub async fn send(
        &mut self,
        method: Method,
        url: &str,
        headers: &[(&str, String)],
        body: Vec<u8>,
        text_limit: usize,
    ) -> Result<Answer, String> {
        let uri: Uri = url.parse().map_err(|_| "it is not a URL".to_owned())?;
        let mut request = Request::builder().method(method).uri(&uri).header("user-agent", concat!("theseus/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|_| "it is not a URL".to_owned())?;
        let answer = match uri.scheme_str() {
            Some("http") => self.plain.get_or_insert_with(|| Client::builder(TokioExecutor::new()).build_http()).request(request).await,
            Some("https") => {
                let client = match self.tls.take() {
                    Some(client) => client,
                    None => {
                        let connector = HttpsConnectorBuilder::new()
                            .with_native_roots()
                            .map_err(|error| format!("could not read the system's certificate authorities: {error}"))?;
                        Client::builder(TokioExecutor::new()).build(connector.https_only().enable_http1().build())
                    }
                };
                self.tls.insert(client).request(request).await
            }
            _ => return Err("it must begin with http:// or https://".to_owned()),
        };
        match answer {
            Ok(answer) => {
                let status = answer.status().as_u16();
                let text = match text_limit {
                    0 => String::new(),
                    // A body that is too long or breaks off has nothing to say.
                    limit => Limited::new(answer.into_body(), limit)
                        .collect()
                        .await
                        .map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned())
                        .unwrap_or_default(),
                };
                Ok(Answer { status, from: shown(&uri), text })
            }
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
