use std::collections::HashMap;

use crate::MAX_FILE_BYTES;

/// What a piece of an edit takes to write down, about: a shorter line is not worth a piece of its own.
const PIECE_BYTES: usize = 40;

/// How an index file becomes another one, by whole lines: what a bundle carries of a file whose older state is known where
/// it goes.
///
/// ```
/// use registry::IndexEdit;
///
/// let edit = IndexEdit::between(Some(b"one\n"), b"one\ntwo\n");
/// assert_eq!(edit.apply(Some(b"one\n")).unwrap().unwrap(), b"one\ntwo\n");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexEdit {
    /// There is no such file any more.
    Removed,
    /// The file is put together from pieces, in their order.
    Pieces {
        /// What it consists of.
        pieces: Vec<Piece>,
        /// The bytes of all new pieces, one after the other.
        new: Vec<u8>,
    },
}

/// A stretch of an index file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the older state of the file.
    Copy {
        /// Where they begin there.
        offset: u64,
        /// How many they are.
        length: u64,
    },
    /// The next bytes that came with the edit.
    New {
        /// How many they are.
        length: u64,
    },
}

/// An edit that makes no file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It takes bytes that the older state does not have.
    #[error("it copies {length} bytes from {offset} on, and the file has {old_bytes}")]
    Copy {
        /// Where they were to begin.
        offset: u64,
        /// How many they were to be.
        length: u64,
        /// The size of the older state; 0 if there is none.
        old_bytes: u64,
    },
    /// Its pieces do not use up exactly the bytes that came with it.
    #[error("it has {new_bytes} new bytes, and its pieces ask for {asked}")]
    New {
        /// How many there are.
        new_bytes: u64,
        /// How many the pieces name, as far as they were counted.
        asked: u64,
    },
    /// The file would be larger than any index file may be.
    #[error("it makes a file of more than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// It consists of more pieces than an edit may have.
    #[error("it has {pieces} pieces, more than {limit}")]
    TooManyPieces {
        /// How many.
        pieces: usize,
        /// The limit.
        limit: usize,
    },
}

impl IndexEdit {
    /// The most pieces an edit may have. One that needs more is not better than the file itself.
    pub const MAX_PIECES: usize = 10_000;

    /// The edit that makes `new` whatever was there before.
    pub fn whole(new: &[u8]) -> Self {
        let length = new.len() as u64;
        let pieces = if new.is_empty() {
            Vec::new()
        } else {
            vec![Piece::New { length }]
        };
        Self::Pieces {
            pieces,
            new: new.to_vec(),
        }
    }

    /// The edit that makes `new` of `old`. Lines that are in both are copied; if that saves nothing, it is [`Self::whole`].
    pub fn between(old: Option<&[u8]>, new: &[u8]) -> Self {
        let old = old.unwrap_or_default();
        let known = first_places(old);
        let mut edit = Builder::new(old);
        for line in lines(new) {
            let place = edit.place_after(line).or_else(|| {
                let is_worth_it = line.len() > PIECE_BYTES;
                known.get(line).copied().filter(|_| is_worth_it)
            });
            edit.push(line, place);
        }
        let saved = new.len().saturating_sub(edit.new.len());
        if edit.pieces.len() > Self::MAX_PIECES || saved <= edit.pieces.len() * PIECE_BYTES {
            return Self::whole(new);
        }
        Self::Pieces {
            pieces: edit.pieces,
            new: edit.new,
        }
    }

    /// The file that it makes of `old`; `None` if that is that there is none. Takes nothing on trust: an edit may come from
    /// anywhere.
    ///
    /// # Errors
    /// It does not fit `old` or itself, or goes past a limit; before anything is allocated.
    pub fn apply(&self, old: Option<&[u8]>) -> Result<Option<Vec<u8>>, EditError> {
        let Self::Pieces { pieces, new } = self else {
            return Ok(None);
        };
        let old = old.unwrap_or_default();
        let mut file = Vec::with_capacity(checked_size(pieces, old, new)?);
        let mut rest = new.as_slice();
        for piece in pieces {
            match *piece {
                Piece::Copy { offset, length } => {
                    file.extend_from_slice(range(old, offset, length).unwrap_or_default());
                }
                Piece::New { length } => {
                    let (next, others) = rest.split_at(usize::try_from(length).unwrap_or(rest.len()).min(rest.len()));
                    file.extend_from_slice(next);
                    rest = others;
                }
            }
        }
        Ok(Some(file))
    }
}

/// The size of the file that the pieces make, if they fit.
fn checked_size(pieces: &[Piece], old: &[u8], new: &[u8]) -> Result<usize, EditError> {
    if pieces.len() > IndexEdit::MAX_PIECES {
        return Err(EditError::TooManyPieces {
            pieces: pieces.len(),
            limit: IndexEdit::MAX_PIECES,
        });
    }
    let (mut size, mut asked) = (0u64, 0u64);
    for piece in pieces {
        let length = match *piece {
            Piece::Copy { offset, length } => {
                range(old, offset, length).ok_or(EditError::Copy {
                    offset,
                    length,
                    old_bytes: old.len() as u64,
                })?;
                length
            }
            Piece::New { length } => {
                asked = asked.saturating_add(length);
                length
            }
        };
        size = size.saturating_add(length);
        if size > MAX_FILE_BYTES as u64 {
            return Err(EditError::TooLarge {
                limit_bytes: MAX_FILE_BYTES,
            });
        }
    }
    let new_bytes = new.len() as u64;
    if asked != new_bytes {
        return Err(EditError::New { new_bytes, asked });
    }
    Ok(usize::try_from(size).unwrap_or(MAX_FILE_BYTES))
}

fn range(old: &[u8], offset: u64, length: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    old.get(start..end)
}

/// Each line with its newline; the last one may lack it.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n')
}

/// Where each line stands first.
fn first_places(old: &[u8]) -> HashMap<&[u8], usize> {
    let mut places = HashMap::new();
    let mut at = 0;
    for line in lines(old) {
        places.entry(line).or_insert(at);
        at += line.len();
    }
    places
}

struct Builder<'a> {
    old: &'a [u8],
    pieces: Vec<Piece>,
    new: Vec<u8>,
}

impl<'a> Builder<'a> {
    fn new(old: &'a [u8]) -> Self {
        Self {
            old,
            pieces: Vec::new(),
            new: Vec::new(),
        }
    }

    /// Where the bytes that were copied last end in the old file.
    fn end_of_copy(&self) -> Option<usize> {
        match self.pieces.last() {
            Some(Piece::Copy { offset, length }) => usize::try_from(offset + length).ok(),
            _ => None,
        }
    }

    /// The place of `line`, if the old file goes on with it after what was copied last.
    fn place_after(&self, line: &[u8]) -> Option<usize> {
        let end = self.end_of_copy()?;
        self.old.get(end..)?.starts_with(line).then_some(end)
    }

    fn push(&mut self, line: &[u8], place: Option<usize>) {
        let more = line.len() as u64;
        let goes_on = place.is_some() && place == self.end_of_copy();
        match (place, self.pieces.last_mut()) {
            (Some(_), Some(Piece::Copy { length, .. })) if goes_on => *length += more,
            (Some(at), _) => self.pieces.push(Piece::Copy {
                offset: at as u64,
                length: more,
            }),
            (None, Some(Piece::New { length })) => *length += more,
            (None, _) => self.pieces.push(Piece::New { length: more }),
        }
        if place.is_none() {
            self.new.extend_from_slice(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn line(n: usize) -> String {
        format!("{{\"vers\":\"{n}.0.0\",\"deps\":[],\"features\":{{}},\"yanked\":false}}\n")
    }

    fn file(lines: impl IntoIterator<Item = usize>) -> Vec<u8> {
        lines.into_iter().map(line).collect::<String>().into_bytes()
    }

    fn parts(edit: &IndexEdit) -> (Vec<Piece>, usize) {
        match edit {
            IndexEdit::Removed => panic!("it was not removed"),
            IndexEdit::Pieces { pieces, new } => (pieces.clone(), new.len()),
        }
    }

    fn check(old: Option<&[u8]>, new: &[u8]) -> IndexEdit {
        let edit = IndexEdit::between(old, new);
        assert_eq!(edit.apply(old).unwrap().unwrap(), new);
        edit
    }

    #[test]
    fn a_new_line_at_the_end_is_all_that_is_carried() {
        let (old, new) = (file(0..100), file(0..101));
        let copy = Piece::Copy {
            offset: 0,
            length: old.len() as u64,
        };
        let length = (new.len() - old.len()) as u64;
        let edit = check(Some(&old), &new);
        assert_eq!(parts(&edit), (vec![copy, Piece::New { length }], new.len() - old.len()));
    }

    #[test]
    fn a_changed_line_is_carried_alone() {
        let old = file(0..100);
        let new = String::from_utf8(old.clone()).unwrap().replacen("false", "true", 1);
        let (pieces, carried) = parts(&check(Some(&old), new.as_bytes()));
        assert_eq!(pieces.len(), 2);
        assert!(carried < 100, "{carried}");
        let other_order = file((0..100).rev());
        assert_eq!(parts(&check(Some(&old), &other_order)).1, 0);
    }

    #[test]
    fn what_saves_nothing_is_carried_whole() {
        let (one, other) = (file(0..5), file(5..10));
        for (old, new) in [(None, &one), (Some(&other), &one)] {
            assert_eq!(check(old.map(Vec::as_slice), new), IndexEdit::whole(new));
        }
        let short: Vec<u8> = (0..30_000).flat_map(|n| format!("{}\n", n % 7).into_bytes()).collect();
        check(Some(b"0\n6\n"), &short);
        assert_eq!(check(Some(&one), b""), IndexEdit::whole(b""));
        assert_eq!(check(None, b"").apply(Some(&one)).unwrap().unwrap(), b"");
        // Every second line of many: more pieces than are allowed.
        let odd = file((0..40_000).filter(|n| n % 2 == 1));
        assert_eq!(check(Some(&file(0..40_000)), &odd), IndexEdit::whole(&odd));
    }

    #[test]
    fn removal_needs_nothing() {
        assert_eq!(IndexEdit::Removed.apply(None).unwrap(), None);
        assert_eq!(IndexEdit::Removed.apply(Some(b"x")).unwrap(), None);
    }

    #[test]
    fn an_edit_that_lies_is_refused() {
        let refused = |pieces: Vec<Piece>, new: &[u8]| {
            let new = new.to_vec();
            IndexEdit::Pieces { pieces, new }.apply(Some(b"old")).unwrap_err()
        };
        let copy = |offset, length| Piece::Copy { offset, length };
        let new = |length| Piece::New { length };
        for (offset, length) in [
            (0, 4),
            (3, 1),
            (4, 0),
            (u64::MAX, 1),
            (1, u64::MAX),
            (u64::MAX, u64::MAX),
        ] {
            let expected = EditError::Copy {
                offset,
                length,
                old_bytes: 3,
            };
            assert_eq!(refused(vec![copy(offset, length)], b""), expected);
        }
        assert_eq!(refused(vec![new(2)], b"x"), EditError::New { new_bytes: 1, asked: 2 });
        assert_eq!(refused(vec![], b"x"), EditError::New { new_bytes: 1, asked: 0 });
        for length in [33 << 20, u64::MAX] {
            assert!(matches!(refused(vec![new(length)], b"x"), EditError::TooLarge { .. }));
        }
        assert!(matches!(
            refused(vec![copy(0, 3); IndexEdit::MAX_PIECES + 1], b""),
            EditError::TooManyPieces { .. }
        ));
        let large = vec![b'x'; 1 << 20];
        let edit = IndexEdit::Pieces {
            pieces: vec![copy(0, 1 << 20); 33],
            new: Vec::new(),
        };
        assert!(matches!(edit.apply(Some(&large)), Err(EditError::TooLarge { .. })));
    }

    fn any_piece() -> impl Strategy<Value = Piece> {
        let number = prop_oneof![0u64..12, Just(u64::MAX), any::<u64>()];
        prop_oneof![
            (number.clone(), number.clone()).prop_map(|(offset, length)| Piece::Copy { offset, length }),
            number.prop_map(|length| Piece::New { length }),
        ]
    }

    proptest! {
        #[test]
        fn any_bytes_become_any_others(old in proptest::option::of(vec(any::<u8>(), 0..200)), new in vec(any::<u8>(), 0..200)) {
            let edit = IndexEdit::between(old.as_deref(), &new);
            prop_assert_eq!(edit.apply(old.as_deref()).unwrap().unwrap(), new);
        }

        #[test]
        fn any_lines_become_any_others(old in vec(0usize..30, 0..60), new in vec(0usize..30, 0..60), cut in 0usize..50) {
            let (old, mut new) = (file(old), file(new));
            new.truncate(new.len().saturating_sub(cut));
            let edit = IndexEdit::between(Some(&old), &new);
            let IndexEdit::Pieces { new: carried, .. } = &edit else { unreachable!("it is never a removal") };
            prop_assert!(carried.len() <= new.len());
            prop_assert_eq!(edit.apply(Some(&old)).unwrap().unwrap(), new);
        }

        #[test]
        fn any_pieces_are_applied_or_refused(pieces in vec(any_piece(), 0..8), new in vec(any::<u8>(), 0..12), old in vec(any::<u8>(), 0..12)) {
            let edit = IndexEdit::Pieces { pieces, new };
            if let Ok(file) = edit.apply(Some(&old)) {
                prop_assert!(file.unwrap().len() <= MAX_FILE_BYTES);
            }
        }
    }
}
