//! A signal over HTTP: anything but 200 holds copying.
//!
//! GET, since not every service answers HEAD; the body is not looked at ([`crate::engine::outside::web`] has the rest).

use super::decide::{Readings, Signal};
use super::signals::{READING_LIMIT, Signals, pause_after};
use crate::engine::outside::web::Web;
use hyper::Method;
use std::time::Instant;

fn http(readings: &mut Readings) -> &mut Option<Signal<(u16, String)>> {
    &mut readings.http
}

/// Asks the address. Never ends.
pub async fn watch(signals: &Signals) {
    let mut web = Web::default();
    let mut live = signals.live_limits();
    loop {
        let Some(url) = live.limits().throttle_http_url else {
            signals.forget(http);
            web = Web::default();
            live.wait(std::time::Duration::from_secs(3600)).await;
            continue;
        };
        signals.begin(http);
        let began = Instant::now();
        let reading = match tokio::time::timeout(READING_LIMIT, web.send(Method::GET, &url, &[], Vec::new(), 0)).await {
            Ok(reading) => reading.map(|answer| (answer.status, answer.from)),
            Err(_) => Err(format!("no answer within {} s", READING_LIMIT.as_secs())),
        };
        let pause = pause_after(began.elapsed(), reading.is_err());
        // An answer to a former address says nothing about the present one.
        if live.unchanged(|limits| &limits.throttle_http_url, &Some(url)) {
            signals.put(http, reading);
            live.wait(pause).await;
        }
    }
}
