//! Requests put together from lines that mean something to one small log: each is answered or refused, and each
//! pack has as many objects as it says, none of them twice.
#![no_main]

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
};

use git_smart_http::{Commit, Kind, Limits, Object, ObjectId, PackLogWriter, Protocol, View, respond};
use libfuzzer_sys::fuzz_target;

fn id(kind: u8, number: u8) -> ObjectId {
    let mut id = [number; 20];
    id[0] = kind;
    ObjectId(id)
}

/// Twelve commits of one blob each, of which every third repeats an older one; a squash; a snapshot of its root.
/// Each object's content is its name, so that packs can be read without hashing.
fn view() -> &'static Arc<View> {
    static VIEW: OnceLock<Arc<View>> = OnceLock::new();
    VIEW.get_or_init(|| {
        let dir = tempfile::TempDir::new().expect("a directory for the log");
        let (mut log, _) = PackLogWriter::open(dir.path()).expect("an empty log");
        for number in 0..12 {
            let parent = (number > 0 && number != 8).then(|| id(1, number - 1));
            let commit = Commit { id: id(1, number), tree: id(2, number), parent, time: i64::from(number) };
            let blob = if number % 3 == 2 { id(3, number - 2) } else { id(3, number) };
            let names = [(commit.id, Kind::Commit), (commit.tree, Kind::Tree), (blob, Kind::Blob)];
            let objects = names.iter().map(|(id, kind)| Object { id: *id, kind: *kind, data: &id.0 });
            log.append(commit, objects).expect("a commit that follows");
        }
        let names = [(id(1, 8), Kind::Commit), (id(2, 8), Kind::Tree), (id(3, 6), Kind::Blob)];
        let objects = names.iter().map(|(id, kind)| Object { id: *id, kind: *kind, data: &id.0 });
        log.append_snapshot(&id(1, 8), objects).expect("a snapshot of a known commit");
        log.log().view()
    })
}

fn line(text: &str) -> String {
    format!("{:04x}{text}\n", text.len() + 5)
}

/// The high bits choose the line, the low ones the commit or the depth; commits from 12 on are unknown.
fn lines(bytes: &[u8]) -> String {
    let one = |byte: &u8| {
        let number = byte & 15;
        match byte >> 4 {
            0..=2 => line(&format!("want {}", id(1, number))),
            3..=6 => line(&format!("have {}", id(1, number))),
            7..=8 => line(&format!("shallow {}", id(1, number))),
            9 => line(&format!("deepen {number}")),
            10 => line("deepen 2147483647"),
            11 => line(["deepen-relative", "wait-for-done", "no-progress"][usize::from(number % 3)]),
            12 | 13 => line("done"),
            14 => "0000".to_owned(),
            _ => line(&format!("want {} multi_ack_detailed no-done deepen-relative", id(1, number))),
        }
    };
    bytes.iter().map(one).collect()
}

/// The names in a pack of objects whose inflated content is their name.
fn names(pack: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &pack[12..pack.len() - 20];
    let mut names = Vec::new();
    while !rest.is_empty() {
        // Twenty bytes: their number takes two bytes of header.
        let mut inflate = flate2::bufread::ZlibDecoder::new(&rest[2..]);
        let mut name = Vec::new();
        std::io::Read::read_to_end(&mut inflate, &mut name).expect("a whole object");
        rest = &rest[2 + inflate.total_in() as usize..];
        names.push(name);
    }
    names
}

fuzz_target!(|bytes: &[u8]| {
    let (v0, v2) = (lines(bytes), line("command=fetch") + "0001" + &lines(bytes) + "0000");
    for (protocol, body) in [(Protocol::V0, v0), (Protocol::V2, v2)] {
        let Ok(mut answer) = respond(view(), protocol, body.as_bytes(), &Limits::default()) else { continue };
        let Some(objects) = answer.plan.as_ref().map(|plan| plan.objects()) else { continue };
        answer.head.clear();
        let mut pack = Vec::new();
        for piece in answer.pieces() {
            let piece = piece.expect("the log is sound");
            // A pack this small is one piece, behind the length and the band of the side-band, and a flush.
            match (protocol, &piece[..]) {
                (Protocol::V2, b"0000") => {}
                (Protocol::V2, piece) => pack.extend_from_slice(&piece[5..]),
                (_, piece) => pack.extend_from_slice(piece),
            }
        }
        let names = names(&pack);
        assert_eq!(pack[8..12], objects.to_be_bytes());
        assert_eq!(names.len(), objects as usize);
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len(), "an object is in the pack twice");
    }
});
