//! Keys and signatures in minisign's format: Ed25519 over the BLAKE2b-512 of what is signed.
//!
//! The primitives are ring's and RustCrypto's; here is only how minisign's files are laid out, as its own page has it.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blake2::{Blake2b256, Blake2b512, Digest};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::id::random_bytes;

const COMMENT: &str = "untrusted comment: ";
const TRUSTED_COMMENT: &str = "trusted comment: ";
/// What says that a key is Ed25519's, and that a signature is of the bytes themselves.
const ED25519_KEY: [u8; 2] = *b"Ed";
/// What says that a signature is of the BLAKE2b-512 of the bytes.
const PREHASHED: [u8; 2] = *b"ED";
const NO_PASSWORD: [u8; 2] = [0, 0];
const BLAKE2B: [u8; 2] = *b"B2";
/// Longer comments than this are not taken.
const MAX_COMMENT_BYTES: usize = 1024;
/// Salt and two limits, for keys with a password.
const PASSWORD_FIELDS: usize = 48;

/// The number a key is called by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 8]);

impl fmt::Display for KeyId {
    /// As minisign shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", u64::from_le_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// What checks signatures; as one line it begins with `RW`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey {
    id: KeyId,
    key: [u8; 32],
}

impl PublicKey {
    /// The number it is called by.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// Reads a key file as minisign writes it, or the one line alone.
    ///
    /// # Errors
    /// It is neither.
    pub fn from_file_text(text: &str) -> Result<Self, Error> {
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        match lines.as_slice() {
            [key] => key.parse(),
            [comment, key] if comment.starts_with(COMMENT) => key.parse(),
            _ => Err(key_fault("it has more or fewer lines than a comment and a key")),
        }
    }

    /// The file that `minisign -V -p` reads.
    pub fn to_file_text(&self) -> String {
        format!("{COMMENT}minisign public key {}\n{self}\n", self.id)
    }

    /// Whether `signature` is this key's over what was hashed, with its trusted comment.
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn verify(&self, hashed: Prehash, signature: &Signature) -> Result<(), Error> {
        let wrong = |why: String| Error::Signature { why };
        if signature.key_id != self.id {
            let (id, own) = (signature.key_id, self.id);
            return Err(wrong(format!("it was made by the key {id}, and not by {own}")));
        }
        let key = UnparsedPublicKey::new(&ED25519, self.key);
        key.verify(&hashed.finish(), &signature.signature)
            .map_err(|_| wrong(format!("it does not fit SHA256SUMS and the key {}", self.id)))?;
        key.verify(
            &globally_signed(&signature.signature, &signature.trusted_comment),
            &signature.global,
        )
        .map_err(|_| wrong("its trusted comment was changed".to_owned()))
    }
}

fn globally_signed(signature: &[u8; 64], trusted_comment: &str) -> Vec<u8> {
    [signature.as_slice(), trusted_comment.as_bytes()].concat()
}

fn key_fault(why: &str) -> Error {
    Error::Key { why: why.to_owned() }
}

fn decoded<const N: usize>(base64: &str) -> Option<[u8; N]> {
    STANDARD.decode(base64).ok()?.try_into().ok()
}

/// The first `N` bytes and the rest; for arrays whose length is known to suffice.
fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> &'a [u8; N] {
    let (head, rest) = bytes.split_first_chunk().expect("the whole has a fixed length");
    *bytes = rest;
    head
}

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let all: [u8; 42] = decoded(text).ok_or_else(|| key_fault("it is not 56 characters that begin with RW"))?;
        let mut rest = all.as_slice();
        if *take::<2>(&mut rest) != ED25519_KEY {
            return Err(key_fault("it is of another kind than Ed25519"));
        }
        Ok(Self {
            id: KeyId(*take(&mut rest)),
            key: *take(&mut rest),
        })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [ED25519_KEY.as_slice(), &self.id.0, &self.key].concat();
        f.write_str(&STANDARD.encode(all))
    }
}

impl TryFrom<String> for PublicKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

/// What signs. It is kept without a password: who can read the file can sign.
pub struct SecretKey {
    id: KeyId,
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

impl SecretKey {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn generate() -> Result<Self, Error> {
        Self::from_seed(KeyId(random_bytes()?), random_bytes()?)
    }

    fn from_seed(id: KeyId, seed: [u8; 32]) -> Result<Self, Error> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| key_fault("it holds no Ed25519 seed"))?;
        Ok(Self { id, seed, pair })
    }

    /// What checks its signatures.
    pub fn public_key(&self) -> PublicKey {
        let key = self.pair.public_key().as_ref();
        PublicKey {
            id: self.id,
            key: key.try_into().expect("an Ed25519 key has 32 bytes"),
        }
    }

    /// Reads a key file as minisign writes it with `-W`, that is without a password.
    ///
    /// # Errors
    /// It is no such file, or it was damaged.
    pub fn from_file_text(text: &str) -> Result<Self, Error> {
        let mut lines = text.lines();
        let (Some(comment), Some(key)) = (lines.next(), lines.next()) else {
            return Err(key_fault("it has no two lines"));
        };
        if !comment.starts_with(COMMENT) {
            return Err(key_fault("it does not begin with a comment"));
        }
        let all: [u8; 158] = decoded(key.trim()).ok_or_else(|| key_fault("its second line is no secret key"))?;
        let mut rest = all.as_slice();
        if *take::<2>(&mut rest) != ED25519_KEY {
            return Err(key_fault("it is of another kind than Ed25519"));
        }
        if *take::<2>(&mut rest) != NO_PASSWORD {
            return Err(key_fault(
                "it has a password; a mirror needs one without (minisign -G -W)",
            ));
        }
        if *take::<2>(&mut rest) != BLAKE2B {
            return Err(key_fault("its check is of another kind than BLAKE2b"));
        }
        take::<PASSWORD_FIELDS>(&mut rest);
        let (id, seed, public) = (KeyId(*take(&mut rest)), *take::<32>(&mut rest), *take::<32>(&mut rest));
        let key = Self::from_seed(id, seed)?;
        // minisign leaves the check away in keys without a password.
        let sums = [key.check_sum(), [0; 32]];
        if key.public_key().key != public || !sums.contains(take::<32>(&mut rest)) {
            return Err(key_fault("it is damaged"));
        }
        Ok(key)
    }

    /// The file that `minisign -S -s` reads. Nobody else may read it.
    pub fn to_file_text(&self) -> String {
        let public = self.public_key().key;
        let all = [
            [ED25519_KEY, NO_PASSWORD, BLAKE2B].concat().as_slice(),
            &[0; PASSWORD_FIELDS],
            &self.id.0,
            &self.seed,
            &public,
            &self.check_sum(),
        ]
        .concat();
        format!(
            "{COMMENT}minisign secret key {} without a password\n{}\n",
            self.id,
            STANDARD.encode(all)
        )
    }

    fn check_sum(&self) -> [u8; 32] {
        let mut hasher = Blake2b256::new();
        for part in [ED25519_KEY.as_slice(), &self.id.0, &self.seed, &self.public_key().key] {
            hasher.update(part);
        }
        hasher.finalize().into()
    }

    /// Signs what was hashed. `trusted_comment` is signed with it, and is one line.
    pub fn sign(&self, hashed: Prehash, trusted_comment: &str) -> Signature {
        let sign = |message: &[u8]| -> [u8; 64] {
            let signature = self.pair.sign(message);
            signature
                .as_ref()
                .try_into()
                .expect("an Ed25519 signature has 64 bytes")
        };
        let signature = sign(&hashed.finish());
        Signature {
            key_id: self.id,
            signature,
            trusted_comment: trusted_comment.to_owned(),
            global: sign(&globally_signed(&signature, trusted_comment)),
        }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.id)
    }
}

/// Hashes what is to be signed or was; written to piece by piece.
#[derive(Default)]
pub struct Prehash(Blake2b512);

impl Prehash {
    fn finish(self) -> [u8; 64] {
        self.0.finalize().into()
    }
}

impl fmt::Debug for Prehash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prehash")
    }
}

impl Write for Prehash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A signature as `SHA256SUMS.minisig` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    key_id: KeyId,
    signature: [u8; 64],
    trusted_comment: String,
    global: [u8; 64],
}

impl Signature {
    /// Who made it, if it is good.
    pub const fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// What the signer said besides; to be believed once the signature was verified.
    pub fn trusted_comment(&self) -> &str {
        &self.trusted_comment
    }

    /// One that is good for nothing but to see how long it is.
    pub(crate) fn of_nothing(key_id: KeyId, trusted_comment: String) -> Self {
        Self {
            key_id,
            signature: [0; 64],
            trusted_comment,
            global: [0; 64],
        }
    }

    /// Reads the four lines.
    ///
    /// # Errors
    /// They are not what minisign writes, or the signature is not of a hash.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::Signature { why: why.to_owned() };
        let lines: Vec<&str> = text.lines().collect();
        let [comment, signature, trusted, global] = lines.as_slice() else {
            return Err(wrong("it does not have four lines"));
        };
        if !comment.starts_with(COMMENT) {
            return Err(wrong("its first line is no comment"));
        }
        let all: [u8; 74] = decoded(signature).ok_or_else(|| wrong("its second line is no signature"))?;
        let mut rest = all.as_slice();
        if *take::<2>(&mut rest) != PREHASHED {
            return Err(wrong("it is not made over a hash (minisign -S -H makes one that is)"));
        }
        let trusted_comment = trusted
            .strip_prefix(TRUSTED_COMMENT)
            .ok_or_else(|| wrong("its third line is no trusted comment"))?;
        if trusted_comment.len() > MAX_COMMENT_BYTES || !is_plain(trusted_comment) {
            return Err(wrong("its trusted comment is too long, or not plain text"));
        }
        Ok(Self {
            key_id: KeyId(*take(&mut rest)),
            signature: *take(&mut rest),
            trusted_comment: trusted_comment.to_owned(),
            global: decoded(global).ok_or_else(|| wrong("its fourth line is no signature"))?,
        })
    }

    /// The file that `minisign -V -x` reads.
    pub fn to_text(&self) -> String {
        let signature = [PREHASHED.as_slice(), &self.key_id.0, &self.signature].concat();
        format!(
            "{COMMENT}signature of a mirror bundle\n{}\n{TRUSTED_COMMENT}{}\n{}\n",
            STANDARD.encode(signature),
            self.trusted_comment,
            STANDARD.encode(self.global)
        )
    }
}

/// Nothing in it that a terminal would obey; minisign puts tabs into the comments that it makes.
fn is_plain(text: &str) -> bool {
    text.chars().all(|letter| letter == '\t' || !letter.is_control())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::hashed;

    #[test]
    fn keys_and_signatures_survive_their_files() {
        let key = SecretKey::generate().unwrap();
        let again = SecretKey::from_file_text(&key.to_file_text()).unwrap();
        let public = key.public_key();
        assert_eq!(again.public_key(), public);
        assert!(public.to_string().starts_with("RW") && public.to_string().len() == 56);
        assert_eq!(PublicKey::from_file_text(&public.to_file_text()).unwrap(), public);
        assert_eq!(PublicKey::from_file_text(&format!(" {public} \n")).unwrap(), public);
        let signature = again.sign(hashed(b"some text"), "who and what");
        let signature = Signature::parse(&signature.to_text()).unwrap();
        public.verify(hashed(b"some text"), &signature).unwrap();
        assert_eq!(signature.trusted_comment(), "who and what");
        assert_eq!(signature.key_id(), public.id());
    }

    #[test]
    fn what_was_signed_is_what_is_good() {
        let (key, other) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let signature = key.sign(hashed(b"text"), "comment");
        assert!(key.public_key().verify(hashed(b"texT"), &signature).is_err());
        assert!(other.public_key().verify(hashed(b"text"), &signature).is_err());
        let same_id = PublicKey {
            id: key.id,
            key: other.public_key().key,
        };
        assert!(same_id.verify(hashed(b"text"), &signature).is_err());
        let mut changed = signature;
        changed.trusted_comment.push('x');
        let error = key.public_key().verify(hashed(b"text"), &changed).unwrap_err();
        assert!(error.to_string().contains("comment was changed"), "{error}");
    }

    #[test]
    fn a_damaged_or_locked_key_file_is_refused() {
        let text = SecretKey::generate().unwrap().to_file_text();
        let (comment, line) = text.split_once('\n').unwrap();
        let bytes = STANDARD.decode(line.trim()).unwrap();
        for at in [0, 2, 4, 54, 62, 94, 126] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            let text = format!("{comment}\n{}\n", STANDARD.encode(&bytes));
            assert!(SecretKey::from_file_text(&text).is_err(), "byte {at}");
        }
        assert!(SecretKey::from_file_text(line).is_err());
        assert!(SecretKey::from_file_text("").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(untrusted comment: )?[ -~\n]{0,80}") {
            prop_assert!(Signature::parse(&text).is_err());
            prop_assert!(SecretKey::from_file_text(&text).is_err());
            let _ = PublicKey::from_file_text(&text);
        }
    }
}
