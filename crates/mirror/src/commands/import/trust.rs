//! Whether who signed a bundle is trusted.

use bundle::{PublicKey, Signed};

use crate::appliance::StartError;

/// What the operator says, and what was said before.
pub struct Said<'a> {
    /// The keys that are trusted.
    pub trusted: &'a [PublicKey],
    /// The key that is to be trusted from now on.
    pub trust: Option<&'a PublicKey>,
    /// One that nobody signed may be taken.
    pub allow_unsigned: bool,
}

/// Lets a bundle pass, or says why not and what to type.
pub fn judge(signed: Option<&Signed>, said: &Said<'_>, file: &str) -> Result<(), StartError> {
    let Some(signed) = signed else {
        return unsigned(said);
    };
    let key = &signed.key;
    match said.trust {
        Some(trust) if trust != key => Err(format!(
            "it is signed with {key} (key id {}), and --trust names another key, {trust}",
            key.id()
        )
        .into()),
        Some(_) => Ok(()),
        None if said.trusted.contains(key) => Ok(()),
        None => {
            let others = match said.trusted.len() {
                0 => "no key is trusted here yet".to_owned(),
                1 => format!("the only key that is trusted here is {}", said.trusted[0]),
                keys => format!("it is none of the {keys} keys that are trusted here"),
            };
            Err(format!(
                "it is signed with a key that is not trusted: {key} (key id {}); {others}. Compare the key with the one that \
                 `mirror keys list` shows outside, and if it is that one, type: mirror import {file} --trust {key}",
                key.id()
            )
            .into())
        }
    }
}

fn unsigned(said: &Said<'_>) -> Result<(), StartError> {
    if said.trust.is_some() {
        return Err("it is not signed, and --trust names a key".into());
    }
    if !said.trusted.is_empty() {
        return Err("it is not signed, and a key is trusted here: only what that key signed is taken".into());
    }
    match said.allow_unsigned {
        true => Ok(()),
        false => Err(
            "it is not signed: nobody can tell who made it or whether it was changed; --allow-unsigned takes it all the same"
                .into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use bundle::SecretKey;

    use super::*;

    fn key() -> PublicKey {
        SecretKey::generate().unwrap().public_key()
    }

    fn by(key: PublicKey) -> Signed {
        Signed {
            key,
            trusted_comment: String::new(),
        }
    }

    fn refusal(
        signed: Option<&Signed>,
        trusted: &[PublicKey],
        trust: Option<&PublicKey>,
        allow_unsigned: bool,
    ) -> String {
        let said = Said {
            trusted,
            trust,
            allow_unsigned,
        };
        judge(signed, &said, "x.tar").map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn a_key_is_trusted_by_a_word_and_then_for_good() {
        let (outside, other) = (key(), key());
        let signed = by(outside);
        let first = refusal(Some(&signed), &[], None, false);
        assert!(
            first.contains("no key is trusted here yet")
                && first.contains(&format!("mirror import x.tar --trust {outside}")),
            "{first}"
        );
        assert!(
            refusal(Some(&signed), &[], None, true).contains("not trusted"),
            "it is signed"
        );
        assert_eq!(refusal(Some(&signed), &[], Some(&outside), false), "");
        assert_eq!(refusal(Some(&signed), &[other, outside], None, false), "");
        assert!(refusal(Some(&signed), &[other], None, false).contains("the only key that is trusted here is"));
        let slip = refusal(Some(&signed), &[outside], Some(&other), false);
        assert!(slip.contains("--trust names another key"), "{slip}");
    }

    #[test]
    fn one_that_nobody_signed_needs_a_word_and_that_nobody_is_trusted() {
        assert!(refusal(None, &[], None, false).contains("--allow-unsigned"));
        assert_eq!(refusal(None, &[], None, true), "");
        assert!(refusal(None, &[key()], None, true).contains("a key is trusted here"));
        assert!(refusal(None, &[], Some(&key()), true).contains("--trust names a key"));
    }
}
