//! Bundles: what leaves this mirror on a stick, and what comes to it by one. `docs/AIR-GAP.md` has the format, the crate `bundle`
//! reads and writes it; here is what goes in, what is done with it, and who is trusted.
//!
//! The command reads and writes the stick; what only the one process may do that has the data directory, it asks of that.

mod arrival;
mod decided;
mod folders;
mod had;
mod keyring;
mod outgoing;
mod planned;
mod planning;
mod publishing;
mod receipts;
mod recording;
mod sources;
mod staging;
mod vendored;

use std::sync::Mutex;

use tokio::sync::MutexGuard;
use tokio::task::JoinHandle;

pub use arrival::{Arrival, Noted, Outcome, Standing, looked_at, note, want};
pub use folders::{LOOSE, Owner, Staging, TRY, who};
pub use had::Since;
pub use keyring::{Keyring, key_by};
pub use outgoing::{Outgoing, Target, blob};
pub use planned::{Prepared, held, write_files};
pub use planning::{ExportWish, begin_export, finish_export};
pub use publishing::{Loose, begin_comparison, begin_import, import_files, staged};
pub use receipts::receipt_of;
pub use recording::done as all_recorded;
pub use sources::Sources;
pub use staging::{Stage, flush_all, hash_of};
pub use vendored::{Packed, pack_vendored};

/// Imports in this process.
#[derive(Debug, Default)]
pub struct Bundles {
    /// One at a time ends.
    importing: tokio::sync::Mutex<()>,
    /// What came is being recorded for search.
    recording: Mutex<Option<JoinHandle<()>>>,
}

impl Bundles {
    /// Waits until no import is coming to its end.
    pub async fn quiet(&self) -> MutexGuard<'_, ()> {
        self.importing.lock().await
    }
}
