//! The real curl, where there is one.

use std::path::Path;
use std::process::Command;

use crate::command;

/// curl with nobody's configuration, errors on standard error, and an end after a minute. `None`, with a note on standard error, where
/// there is no curl that speaks HTTP/2.
pub fn curl() -> Option<Command> {
    let home = Path::new("/");
    let version = command::clean("curl", home).arg("--version").output();
    if !version.is_ok_and(|output| command::text_of(&output).0.contains("HTTP2")) {
        eprintln!("skipped: there is no curl with HTTP/2");
        return None;
    }
    let mut curl = command::clean("curl", home);
    curl.args(["-q", "-s", "-S", "--noproxy", "*", "--max-time", "60"]);
    Some(curl)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FakeUpstream;

    #[test]
    fn gets_what_is_there() {
        let upstream = FakeUpstream::start();
        upstream.serve_at("/hello", b"hello");
        if let Some(mut curl) = curl() {
            let output = curl.arg(upstream.base_url() + "/hello").output().unwrap();
            assert_eq!(command::text_of(&output), ("hello".to_owned(), String::new()));
        }
    }
}
