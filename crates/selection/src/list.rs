//! Files with a crate on each line.

use crate::error::shown;
use crate::{CrateSpec, Error, Requirement};

/// Reads a list: `NAME`, `NAME@REQ`, `NAME VERSION` or, as in a Cargo.toml, `NAME = "REQ"`; one on each line, with comments after `#`.
/// `NAME ?` is left out if there is no such crate.
///
/// # Errors
/// [`Error::Line`] for the first line that is nothing of that: half a list would be a wrong one.
pub fn parse_list(text: &str) -> Result<Vec<CrateSpec>, Error> {
    let mut specs = Vec::new();
    // some editors begin a file with it
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (at, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            let spec = parse_line(line).map_err(|cause| Error::Line {
                number: at + 1,
                cause: Box::new(cause),
            })?;
            specs.push(spec);
        }
    }
    Ok(specs)
}

fn parse_line(line: &str) -> Result<CrateSpec, Error> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let end = line.find(|c| !of_name(c)).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let wrong_form = || Error::Form { text: shown(line) };
    let spaced = rest.starts_with(char::is_whitespace);
    let rest = rest.trim();
    let requirement = if rest.is_empty() {
        Requirement::Newest
    } else if let Some(req) = rest.strip_prefix('@') {
        Requirement::parse(req)?
    } else if let Some(req) = quoted(rest) {
        Requirement::fitting(req)?
    } else if spaced && !rest.starts_with("= ") && !rest.contains(['"', '{']) {
        Requirement::parse(rest)?
    } else {
        return Err(wrong_form());
    };
    if name.is_empty() {
        return Err(wrong_form());
    }
    Ok(CrateSpec {
        name: name.parse().map_err(Error::Name)?,
        requirement,
    })
}

/// What is between the quotes of `= "…"`.
fn quoted(rest: &str) -> Option<&str> {
    let value = rest.strip_prefix('=')?.trim();
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    (!inner.contains('"')).then_some(inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_all_forms() {
        let list = "\u{feff}# what we build\n\
                    serde\n\
                    tokio 1.40.0   # exactly\n\
                    rand ~0.8\n\
                    libc =0.2.150\n\
                    anyhow@1.0\n\
                    once-cell ?  # perhaps\n\
                    log=\"0.4.20\"\n\
                    regex = \"1.10\"\n\n\t\n";
        let texts: Vec<String> = parse_list(list).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "serde",
                "tokio@1.40.0",
                "rand@~0.8",
                "libc@=0.2.150",
                "anyhow@^1.0",
                "once-cell@?",
                "log@^0.4.20",
                "regex@^1.10"
            ]
        );
    }

    #[test]
    fn one_bad_line_refuses_the_list_and_is_named() {
        for bad in [
            "1",
            "\"x\"",
            "a/b",
            "serde = 1",
            "serde = { version = \"1\" }",
            "serde = \"1\" \"2\"",
            "serde = \"one\"",
            "serde one",
            "serde@",
            "=1",
        ] {
            let error = parse_list(&format!("tokio\n{bad}\n")).unwrap_err();
            assert!(matches!(error, Error::Line { number: 2, .. }), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = parse_list(&text);
        }
    }
}
