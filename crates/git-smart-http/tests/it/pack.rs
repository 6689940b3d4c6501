//! Reads packs and answers strictly, as a client would.

use std::io::Read;

use git_smart_http::{Kind, ObjectId};
use sha1::{Digest, Sha1};

use crate::support::name_of;

/// The objects of a pack without deltas, in its order. Its count and trailer must be right.
pub fn objects(pack: &[u8]) -> Vec<(ObjectId, Kind, Vec<u8>)> {
    let (body, trailer) = pack.split_at(pack.len() - 20);
    assert_eq!(trailer, &Sha1::digest(body)[..], "the trailer");
    assert_eq!(&body[..8], b"PACK\0\0\0\x02");
    let count = u32::from_be_bytes(body[8..12].try_into().unwrap());
    let mut rest = &body[12..];
    let objects = (0..count).map(|_| object(&mut rest)).collect();
    assert!(rest.is_empty(), "{} bytes behind the last object", rest.len());
    objects
}

fn object(rest: &mut &[u8]) -> (ObjectId, Kind, Vec<u8>) {
    let mut byte = take(rest);
    let kind = match byte >> 4 & 7 {
        1 => Kind::Commit,
        2 => Kind::Tree,
        3 => Kind::Blob,
        other => panic!("kind {other}"),
    };
    let (mut size, mut shift) = (u64::from(byte & 15), 4);
    while byte & 0x80 != 0 {
        byte = take(rest);
        size |= u64::from(byte & 0x7f) << shift;
        shift += 7;
    }
    let mut inflate = flate2::bufread::ZlibDecoder::new(*rest);
    let mut data = Vec::new();
    inflate.read_to_end(&mut data).unwrap();
    *rest = &rest[inflate.total_in() as usize..];
    assert_eq!(data.len() as u64, size);
    (name_of(kind, &data), kind, data)
}

fn take(rest: &mut &[u8]) -> u8 {
    let (first, left) = rest.split_first().unwrap();
    *rest = left;
    *first
}

/// The lines of an answer before its pack (flushes as `0000`, delimiters as `0001`), and the pack.
pub fn answer(bytes: &[u8]) -> (Vec<String>, Option<Vec<u8>>) {
    let (mut lines, mut pack) = (Vec::new(), None::<Vec<u8>>);
    let mut rest = bytes;
    while !rest.is_empty() {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..4]).unwrap(), 16).unwrap();
        let data = rest.get(4..length).unwrap_or_default();
        match (length, data.first()) {
            (0..4, _) => lines.push(format!("{length:04x}")),
            (_, Some(1)) => pack.get_or_insert_default().extend(&data[1..]),
            _ => lines.push(String::from_utf8_lossy(data).trim_end().to_owned()),
        }
        rest = &rest[length.max(4)..];
    }
    (lines, pack)
}
