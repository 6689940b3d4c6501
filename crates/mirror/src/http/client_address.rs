//! By what address a client comes.

use std::net::IpAddr;

use actix_web::dev::RequestHead;

use crate::settings::TrustedProxies;

/// The address of the client at hand: of who connects, unless that is a trusted proxy that names another in `X-Forwarded-For`.
pub fn client_address(request: &RequestHead, trusted: &TrustedProxies) -> Option<IpAddr> {
    let peer = request.peer_addr?.ip();
    let forwarded: Vec<&str> = request
        .headers
        .get_all("x-forwarded-for")
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    Some(trusted.client(peer, &forwarded))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn of(peer: &str, forwarded: &[&str], trusted: &TrustedProxies) -> String {
        let mut request = TestRequest::default().peer_addr(peer.parse().unwrap());
        for value in forwarded {
            request = request.append_header(("x-forwarded-for", *value));
        }
        client_address(request.to_http_request().head(), trusted)
            .unwrap()
            .to_string()
    }

    #[test]
    fn only_a_trusted_proxy_names_another() {
        let some: TrustedProxies = "10.0.0.0/8, fd00::/8".parse().unwrap();
        for (peer, forwarded, client) in [
            ("192.0.2.1:5", &["1.1.1.1"][..], "192.0.2.1"),
            ("10.0.0.1:5", &[][..], "10.0.0.1"),
            ("10.0.0.1:5", &["1.1.1.1"][..], "1.1.1.1"),
            // what stands before the nearest stranger is what that stranger says
            ("10.0.0.1:5", &["9.9.9.9, 1.1.1.1"][..], "1.1.1.1"),
            ("10.0.0.1:5", &["9.9.9.9", "1.1.1.1, 10.2.2.2"][..], "1.1.1.1"),
            ("10.0.0.1:5", &["10.3.3.3, 10.2.2.2"][..], "10.3.3.3"),
            ("[::ffff:10.0.0.1]:5", &["[2001:db8::1]:77"][..], "2001:db8::1"),
            ("[fd00::1]:5", &["1.1.1.1:80"][..], "1.1.1.1"),
            ("10.0.0.1:5", &["1.1.1.1, unknown"][..], "10.0.0.1"),
            ("10.0.0.1:5", &["\"><script>"][..], "10.0.0.1"),
        ] {
            assert_eq!(of(peer, forwarded, &some), client, "{peer} {forwarded:?}");
        }
        let router = TrustedProxies::whoever_connects();
        assert_eq!(of("192.0.2.1:5", &["9.9.9.9, 1.1.1.1"], &router), "1.1.1.1");
        assert_eq!(of("192.0.2.1:5", &["1.1.1.1"], &TrustedProxies::default()), "192.0.2.1");
    }
}
