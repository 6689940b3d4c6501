//! Which redirects are followed.

use awc::{ClientResponse, http::header::LOCATION};

use crate::{Error, UpstreamUrl, url::shorten};

/// Where a response sends us on to; `None` if it is no redirect.
pub(crate) fn redirect(url: &UpstreamUrl, response: &ClientResponse) -> Result<Option<UpstreamUrl>, Error> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION);
    let location = location.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let refused = |reason: String| Error::Redirect {
        url: url.shown(),
        target: shorten(location),
        reason,
    };
    if location.is_empty() {
        return Err(refused("it names no address".to_owned()));
    }
    let next = match url.join(location) {
        Ok(next) => next,
        Err(Error::InvalidUrl { reason, .. }) => return Err(refused(reason.to_owned())),
        Err(other) => return Err(other),
    };
    if url.is_https() && !next.is_https() {
        return Err(refused("it leaves https".to_owned()));
    }
    Ok(Some(next))
}
