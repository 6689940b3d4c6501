//! How many files and connections this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For databases, packs, upstream and what else is open beside clients.
const OTHERS: u64 = 64;
/// As many connections as are ever wanted by default.
const ENOUGH: u64 = 4096;

/// Takes all that the system allows, and says how many connections fit into that: each may have a crate file open as well.
pub fn connections_that_fit() -> u64 {
    let allowed = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: allowed.maximum,
        maximum: allowed.maximum,
    };
    let current = match setrlimit(Resource::Nofile, all) {
        Ok(()) => allowed.maximum,
        Err(error) => {
            log::debug!("the limit of open files stays as it is: {error}");
            allowed.current
        }
    };
    fit(current)
}

fn fit(open_files: Option<u64>) -> u64 {
    let left = open_files.unwrap_or(u64::MAX).saturating_sub(OTHERS);
    (left / 2).clamp(8, ENOUGH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_takes_two_files_and_some_stay_for_others() {
        assert_eq!(fit(None), ENOUGH);
        assert_eq!(fit(Some(1024)), 480);
        assert_eq!(fit(Some(1 << 20)), ENOUGH);
        assert_eq!(fit(Some(10)), 8);
        assert!(connections_that_fit() >= 8);
    }
}
