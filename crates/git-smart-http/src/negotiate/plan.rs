//! Which ranges of the log make a pack, and which entries of them stay out.

use std::{ops::Range, sync::Arc};

use super::{Need, client::Client};
use bytes::Bytes;

use crate::{
    Caps, PackStream, SideBand,
    pack_log::{Base, History, Place, View},
    pkt_line::{self, Band},
};

/// A pack that will be sent: ranges of the log as it was when the request came.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) view: Arc<View>,
    pub(crate) side_band: SideBand,
    no_progress: bool,
    /// Sent first.
    snapshot: Option<u32>,
    /// Then the ordinary ranges of these commits.
    commits: Vec<Range<u32>>,
    /// Entries that stay out, sorted.
    skipped: Vec<u64>,
    objects: u32,
}

impl Plan {
    pub(super) fn new(view: &Arc<View>, client: &Client, need: &Need, caps: Caps) -> Plan {
        let mut plan = Plan {
            view: Arc::clone(view),
            side_band: caps.side_band,
            no_progress: caps.no_progress,
            snapshot: None,
            commits: Vec::new(),
            skipped: Vec::new(),
            objects: 0,
        };
        need.rows
            .iter()
            .for_each(|(first, last)| plan.add(client, *first, *last));
        plan.skip_commits(&need.rows);
        plan.skip_repeats();
        plan.skipped.sort_unstable();
        let all: u64 = plan.places().map(|place| plan.history().segment(place).len()).sum();
        let objects = all - plan.skipped.len() as u64;
        plan.objects = u32::try_from(objects).expect("a log has far fewer than 2^32 objects");
        plan
    }

    /// Adds the shortest row of ranges that holds what commits `first` to `last` have and the client lacks.
    fn add(&mut self, client: &Client, first: u32, last: u32) {
        // Each range holds what its tree has and the one before it lacks, so those behind a commit that the client
        // has, or that the pack holds already, are enough.
        let sent = self.commits.last().map(|commits| commits.end);
        let had = client.newest_before(first).map(|had| had + 1);
        if let Some(start) = sent.max(had) {
            self.commits.push(start..last + 1);
            return;
        }
        let base = self.history().base(first).expect("wants without a base are refused");
        self.commits.push(match base {
            Base { commit, snapshot: None } => commit..last + 1,
            Base { commit, .. } => commit + 1..last + 1,
        });
        self.snapshot = base.snapshot;
    }

    /// Commits on the way that the client did not ask for stay out: it may lack their parents.
    fn skip_commits(&mut self, rows: &[(u32, u32)]) {
        let history = self.view.history();
        let mut rows = rows.iter().peekable();
        let mut skipped = Vec::new();
        for place in self.places() {
            let commit = history.owner(place);
            while rows.next_if(|(_, last)| *last < commit).is_some() {}
            if rows.peek().is_none_or(|(first, _)| *first > commit) {
                skipped.push(history.segment(place).start);
            }
        }
        self.skipped = skipped;
    }

    /// Of an object that is in several of the ranges, the first copy is sent.
    fn skip_repeats(&mut self) {
        let sent = |place| match place {
            Place::Snapshot(number) => self.snapshot == Some(number),
            Place::Commit(number) => self.has(number),
        };
        let mut skipped = Vec::new();
        for copies in self.history().repeats.values() {
            let order = |place| matches!(place, Place::Commit(_));
            let mut here: Vec<_> = copies.iter().filter(|copy| sent(copy.place)).collect();
            here.sort_unstable_by_key(|copy| (order(copy.place), copy.entry));
            skipped.extend(here.iter().skip(1).map(|copy| copy.entry));
        }
        self.skipped.append(&mut skipped);
    }

    /// Whether this commit's ordinary range is sent.
    fn has(&self, commit: u32) -> bool {
        let later = self.commits.partition_point(|commits| commits.end <= commit);
        self.commits.get(later).is_some_and(|commits| commits.contains(&commit))
    }

    fn history(&self) -> &History {
        self.view.history()
    }

    /// The ranges in the order in which they are sent.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> + use<> {
        let commits = self.commits.clone().into_iter().flatten();
        self.snapshot
            .map(Place::Snapshot)
            .into_iter()
            .chain(commits.map(Place::Commit))
    }

    pub(crate) fn skips(&self, entry: u64) -> bool {
        self.skipped.binary_search(&entry).is_ok()
    }

    /// The pack, in pieces of at most 64 KiB. Each blocks on the disk.
    pub fn stream(self) -> PackStream {
        PackStream::new(self)
    }

    /// What may be sent, behind the answer's head and before the pack, to show that the server lives: `text` where the
    /// client shows it, otherwise an empty piece of the pack, as git does. None: the client has no side-band.
    pub fn keep_alive(&self, text: &str) -> Option<Bytes> {
        match (self.side_band, self.no_progress) {
            (SideBand::None, _) => None,
            (_, true) => Some(pkt_line::band_text(Band::Pack, "")),
            (_, false) => Some(pkt_line::band_text(Band::Progress, text)),
        }
    }

    /// How many objects the pack has.
    pub fn objects(&self) -> u32 {
        self.objects
    }

    /// How many deflated bytes are read for it: about the size of the pack.
    pub fn payload_bytes(&self) -> u64 {
        let segments = self.places().map(|place| *self.history().segment(place));
        segments
            .map(|segment| segment.payload_end - segment.payload_start)
            .sum()
    }

    /// Whether the client gets all of a tree, and not just what changed.
    pub fn is_clone(&self) -> bool {
        // Behind a commit that the client has, ranges start at 1 at least.
        self.snapshot.is_some() || self.commits.first().is_some_and(|commits| commits.start == 0)
    }
}
