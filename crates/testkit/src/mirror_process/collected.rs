use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// What a process writes to a pipe, collected by a thread.
#[derive(Debug)]
pub(super) struct Collected(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    text: Mutex<Text>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Text {
    bytes: Vec<u8>,
    ended: bool,
}

impl Text {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Text> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collected {
    pub(super) fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let inner = Arc::new(Inner::default());
        let shared = Arc::clone(&inner);
        thread::spawn(move || {
            let mut piece = [0; 8 << 10];
            loop {
                let read = pipe.read(&mut piece).unwrap_or(0);
                let mut text = shared.lock();
                text.bytes.extend_from_slice(&piece[..read]);
                text.ended = read == 0;
                drop(text);
                shared.changed.notify_all();
                if read == 0 {
                    break;
                }
            }
        });
        Self(inner)
    }

    pub(super) fn text(&self) -> String {
        self.0.lock().text()
    }

    /// Waits until the pipe is closed, at most for `timeout`: what a process wrote last comes after its end.
    pub(super) fn wait_closed(&self, timeout: Duration) {
        let waited = self
            .0
            .changed
            .wait_timeout_while(self.0.lock(), timeout, |text| !text.ended);
        drop(waited);
    }

    /// Waits until `look` finds something in the text; `None` at the end of the text or of the time.
    pub(super) fn wait<T>(&self, timeout: Duration, look: impl Fn(&str) -> Option<T>) -> Option<T> {
        let waiting = |text: &mut Text| !text.ended && look(&text.text()).is_none();
        let waited = self.0.changed.wait_timeout_while(self.0.lock(), timeout, waiting);
        let (text, _) = waited.unwrap_or_else(PoisonError::into_inner);
        look(&text.text())
    }
}
