use std::collections::BTreeMap;

use crate::{IndexFile, IndexPath};

/// What is published for one version, where that is not simply upstream's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// This line stays in force, whatever upstream says or no longer says: a checksum that changed and is held, a
    /// version that is missing but not yet counted as removed, or one that the operator keeps.
    Keep(Vec<u8>),
    /// The version is left out: upstream removed it.
    Omit,
}

/// The decisions about one index file, by version text.
pub type Decisions = BTreeMap<String, Decision>;

/// What the mirror publishes for the index file at `path`: a pure function of upstream's lines and the decisions.
///
/// Lines without a decision pass byte for byte and in upstream's order; without decisions so does the file. A kept
/// line takes the place of upstream's line for that version, or stands at the end if upstream has none. Empty output
/// means that the file is not published at all.
pub fn published_lines(upstream: &[u8], path: &IndexPath, decisions: &Decisions) -> Vec<u8> {
    if decisions.is_empty() {
        return upstream.to_vec();
    }
    let mut out = Vec::with_capacity(upstream.len());
    let mut push = |line: &[u8]| {
        out.extend_from_slice(line);
        out.push(b'\n');
    };
    let file = IndexFile::parse_readable(upstream, path);
    for line in file.lines() {
        match decisions.get(line.vers.as_ref()) {
            None => push(line.raw),
            Some(Decision::Keep(kept)) => push(kept),
            Some(Decision::Omit) => {}
        }
    }
    for (vers, decision) in decisions {
        if let Decision::Keep(kept) = decision
            && file.find(vers).is_none()
        {
            push(kept);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Checksum;

    fn line(vers: &str, bytes: &str) -> String {
        format!(
            r#"{{"name":"a","vers":"{vers}","deps":[],"cksum":"{}","features":{{}}}}"#,
            Checksum::of(bytes.as_bytes())
        )
    }

    fn publish(upstream: &str, decisions: &[(&str, Decision)]) -> String {
        let decisions = decisions
            .iter()
            .map(|(vers, decision)| ((*vers).to_owned(), decision.clone()))
            .collect();
        String::from_utf8(published_lines(
            upstream.as_bytes(),
            &"1/a".parse().unwrap(),
            &decisions,
        ))
        .unwrap()
    }

    #[test]
    fn nothing_decided_nothing_changed() {
        let odd = format!("{}\r\n\n{}", line("1.0.0", "x"), line("1.0.1", "y"));
        assert_eq!(publish(&odd, &[]), odd);
    }

    #[test]
    fn keeps_in_place_adds_at_the_end_and_omits() {
        let (one, two, three) = (line("1.0.0", "x"), line("2.0.0", "y"), line("3.0.0", "z"));
        let held = line("1.0.0", "old");
        let gone = line("0.9.0", "gone");
        let upstream = format!("{one}\n{two}\n{three}\n");
        let decisions = [
            ("1.0.0", Decision::Keep(held.clone().into_bytes())),
            ("2.0.0", Decision::Omit),
            ("0.9.0", Decision::Keep(gone.clone().into_bytes())),
            ("0.8.0", Decision::Omit),
        ];
        assert_eq!(publish(&upstream, &decisions), format!("{held}\n{three}\n{gone}\n"));
    }

    #[test]
    fn all_omitted_is_empty() {
        assert_eq!(publish(&line("1.0.0", "x"), &[("1.0.0", Decision::Omit)]), "");
    }
}
