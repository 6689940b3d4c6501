use std::time::Instant;

use crate::http::{Head, header};

/// A request that came in.
#[derive(Debug, Clone)]
pub struct LoggedRequest {
    /// The method.
    pub method: String,
    /// The path as it came, with its query.
    pub path: String,
    /// The headers in their order, names as they were written.
    pub headers: Vec<(String, String)>,
    /// Which connection it came by; counted from 0, each number used once.
    pub connection: u64,
    /// When its head had come.
    pub at: Instant,
}

impl LoggedRequest {
    pub(super) fn new(head: &Head, connection: u64) -> Self {
        let mut words = head.first_line.split(' ').map(str::to_owned);
        Self {
            method: words.next().unwrap_or_default(),
            path: words.next().unwrap_or_default(),
            headers: head.headers.clone(),
            connection,
            at: Instant::now(),
        }
    }

    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}
