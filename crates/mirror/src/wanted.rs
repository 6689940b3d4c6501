//! What clients asked for in vain while upstream was not to be asked: noted in memory at once, written down in batches, and
//! listed for the mirror outside.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use index_sync::TreeFile;
use metadata_db::{DecisionsDb, MAX_WANTED, Wanted};
use registry::{CrateName, CrateVersion, IndexPath};
use selection::Selected;
use serde_json::json;
use site::{date, date_time};

use crate::appliance::{Appliance, StartError};
use crate::clock::unix_now;
use crate::selected::{Whereabouts, whereabouts};

/// A crate file, or with no version an index file.
type Asked = (CrateName, Option<CrateVersion>);

/// What is wanted, as far as it is not written down yet.
#[derive(Debug, Default)]
pub struct WantedBook {
    waiting: Mutex<HashMap<Asked, Wanted>>,
    noted: AtomicU64,
    /// One list at a time is compared with what is here.
    listing: tokio::sync::Mutex<()>,
}

impl WantedBook {
    /// A client asked for this, and it is not here. Of more different ones than are remembered the later ones are dropped.
    pub fn note(&self, name: &CrateName, version: Option<&CrateVersion>) {
        self.noted.fetch_add(1, Relaxed);
        let now = unix_now();
        let wanted = Wanted {
            name: name.clone(),
            version: version.cloned(),
            first_at: now,
            last_at: now,
            count: 1,
        };
        self.add(wanted);
    }

    /// How many requests were noted since the start.
    pub fn noted(&self) -> u64 {
        self.noted.load(Relaxed)
    }

    fn add(&self, wanted: Wanted) {
        let mut waiting = self.waiting();
        let is_full = waiting.len() >= MAX_WANTED as usize;
        match waiting.entry((wanted.name.clone(), wanted.version.clone())) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.first_at = known.first_at.min(wanted.first_at);
                known.last_at = known.last_at.max(wanted.last_at);
                known.count = known.count.saturating_add(wanted.count);
            }
            Entry::Vacant(place) if !is_full => drop(place.insert(wanted)),
            Entry::Vacant(_) => {}
        }
    }

    /// Writes down what was noted. On failure it is kept for the next time. Blocks.
    pub fn flush(&self, decisions: &DecisionsDb) -> Result<(), metadata_db::Error> {
        let batch: Vec<Wanted> = std::mem::take(&mut *self.waiting()).into_values().collect();
        if batch.is_empty() {
            return Ok(());
        }
        decisions
            .add_wanted(&batch)
            .inspect_err(|_| batch.into_iter().for_each(|wanted| self.add(wanted)))
    }

    fn forget(&self) {
        self.waiting().clear();
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Asked, Wanted>> {
        self.waiting.lock().expect("nothing panics while it holds this lock")
    }
}

/// All that is wanted and still not here; what came meanwhile leaves the list.
pub async fn listed(appliance: &Arc<Appliance>) -> Result<Vec<Wanted>, StartError> {
    let _alone = appliance.wanted.listing.lock().await;
    let own = Arc::clone(appliance);
    let all = tokio::task::spawn_blocking(move || {
        own.wanted.flush(&own.decisions)?;
        own.decisions.wanted()
    });
    let all = all.await??;
    let files = all.iter().filter_map(|wanted| {
        Some(Selected {
            name: wanted.name.clone(),
            version: wanted.version.clone()?,
            checksum: None,
        })
    });
    let mut found = whereabouts(appliance, files.collect()).await?.into_iter();
    let own = Arc::clone(appliance);
    let left = tokio::task::spawn_blocking(move || {
        let (here, left): (Vec<Wanted>, Vec<Wanted>) = all.into_iter().partition(|wanted| match &wanted.version {
            Some(_) => matches!(
                found.next().map(|found| found.whereabouts),
                Some(Whereabouts::Kept { .. })
            ),
            None => has_index_file(&own, &wanted.name),
        });
        if !here.is_empty() {
            own.decisions.forget_wanted(&here)?;
        }
        Ok::<_, metadata_db::Error>(left)
    });
    Ok(left.await??)
}

/// One that cannot be read stays on the list. cargo asks for a name with `-` by its spelling with `_` as well, and the other way round:
/// if one of them is here, none of them is wanted.
fn has_index_file(appliance: &Appliance, name: &CrateName) -> bool {
    let spellings = [
        name.as_str().to_owned(),
        name.as_str().replace('-', "_"),
        name.as_str().replace('_', "-"),
    ];
    spellings.iter().filter_map(|name| name.parse().ok()).any(|name| {
        let entry = appliance.index.tree().entry(&TreeFile::Index(IndexPath::of(&name)));
        matches!(entry, Ok(Some(_)))
    })
}

/// Empties the list; says how many were on it.
pub async fn clear(appliance: &Arc<Appliance>) -> Result<u64, StartError> {
    let _alone = appliance.wanted.listing.lock().await;
    let own = Arc::clone(appliance);
    let cleared = tokio::task::spawn_blocking(move || {
        own.wanted.flush(&own.decisions)?;
        let cleared = own.decisions.clear_wanted();
        own.wanted.forget();
        cleared
    });
    Ok(cleared.await??)
}

/// The list as a file that `mirror export --list` takes. It can be read by people who were not there when it was made.
pub fn list_text(wanted: &[Wanted]) -> String {
    let now = date_time(unix_now().unsigned_abs());
    let mut text = format!(
        "# What clients of an offline mirror asked for in vain, by {now}.\n\
         # On the mirror with internet:  mirror export -o BUNDLE --list THIS-FILE --with-deps --since RECEIPT\n"
    );
    let (files, names): (Vec<&Wanted>, Vec<&Wanted>) = wanted.iter().partition(|wanted| wanted.version.is_some());
    if wanted.is_empty() {
        text.push_str("# Nothing is wanted.\n");
    }
    for wanted in files {
        text.push_str(&list_line(wanted));
    }
    if !names.is_empty() {
        text.push_str(
            "# Of these no version was asked for, since not even their index file is here; their newest one is meant. What does\n\
             # not exist is passed over: a slip of the pen, or another spelling with - or _ that cargo has tried.\n",
        );
    }
    for wanted in names {
        text.push_str(&list_line(wanted));
    }
    text
}

/// A whole version means itself, also if it was yanked.
fn list_line(wanted: &Wanted) -> String {
    let version = wanted.version.as_ref().map_or("?", CrateVersion::as_str);
    format!("{} {version}   # {}\n", wanted.name, how_often(wanted))
}

/// `asked for 3 times, last on 2026-11-20`.
fn how_often(wanted: &Wanted) -> String {
    let last = date(wanted.last_at.unsigned_abs());
    match wanted.count {
        1 => format!("asked for once, on {last}"),
        count => format!("asked for {count} times, last on {last}"),
    }
}

/// The list for programs.
pub fn list_json(wanted: &[Wanted]) -> String {
    let entries: Vec<serde_json::Value> = wanted
        .iter()
        .map(|wanted| {
            json!({
                "name": wanted.name,
                "version": wanted.version,
                "first_asked": date_time(wanted.first_at.unsigned_abs()),
                "last_asked": date_time(wanted.last_at.unsigned_abs()),
                "count": wanted.count,
            })
        })
        .collect();
    format!("{:#}\n", serde_json::Value::Array(entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str, version: &str, count: u64) -> Wanted {
        Wanted {
            name: name.parse().unwrap(),
            version: (!version.is_empty()).then(|| version.parse().unwrap()),
            first_at: 0,
            last_at: 86_400,
            count,
        }
    }

    #[test]
    fn the_list_is_one_that_an_export_reads_and_names_come_last() {
        let list = [
            wanted("serde", "1.0.200", 3),
            wanted("Inflector", "0.11.4-rc.1+build.5", 1),
            wanted("serde_jsom", "", 2),
        ];
        let text = list_text(&list);
        let specs: Vec<String> = selection::parse_list(&text)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            specs,
            ["serde@1.0.200", "Inflector@0.11.4-rc.1+build.5", "serde_jsom@?"]
        );
        assert!(
            text.contains("serde 1.0.200   # asked for 3 times, last on 1970-01-02\n"),
            "{text}"
        );
        assert!(text.contains("# asked for once, on 1970-01-02\n"), "{text}");
        let slips = text.find("a slip of the pen").unwrap();
        assert!(text.find("Inflector").unwrap() < slips && slips < text.find("serde_jsom").unwrap());
        assert!(selection::parse_list(&list_text(&[])).unwrap().is_empty());
        assert!(!list_text(&list[..2]).contains("slip of"));
    }

    #[test]
    fn what_cannot_be_written_is_kept_for_the_next_time_and_adds_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.db");
        let db = DecisionsDb::open(&path).unwrap();
        let book = WantedBook::default();
        let (name, version) = ("serde".parse().unwrap(), "1.0.0".parse().unwrap());
        book.note(&name, Some(&version));
        book.flush(&db).unwrap();
        book.flush(&db).unwrap();
        book.note(&name, Some(&version));
        book.note(&name, None);
        let batch = std::mem::take(&mut *book.waiting());
        book.note(&name, Some(&version));
        batch.into_values().for_each(|wanted| book.add(wanted));
        book.flush(&db).unwrap();
        let all = db.wanted().unwrap();
        let counts: Vec<(bool, u64)> = all.iter().map(|row| (row.version.is_some(), row.count)).collect();
        assert_eq!(counts, [(true, 3), (false, 1)]);
        assert_eq!(book.noted(), 4);
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let book = WantedBook::default();
        for at in 0..MAX_WANTED + 5 {
            book.note(&format!("made-up-{at}").parse().unwrap(), None);
        }
        let first: Asked = ("made-up-0".parse().unwrap(), None);
        book.note(&first.0, None);
        assert_eq!(book.waiting().len(), MAX_WANTED as usize);
        assert_eq!(book.waiting()[&first].count, 2);
    }
}
