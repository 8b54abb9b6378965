//! How figures and addresses are written for people.
use hyper::Uri;

/// Bytes for people.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// The address of a URL without user, password and query.
pub fn shown_url(url: &str) -> String {
    url.parse().map_or_else(|_| "an address that cannot be parsed".to_owned(), |uri| shown(&uri))
}

/// The same of an address that was read already.
pub(crate) fn shown(uri: &Uri) -> String {
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", uri.scheme_str().unwrap_or("http"), uri.host().unwrap_or_default(), uri.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_an_address_are_not_shown() {
        assert_eq!(shown_url("https://user:secret@host:8443/may/i?token=secret"), "https://host:8443/may/i");
    }
}
