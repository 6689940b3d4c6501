//! Who may have a private address, and who gets the token.

use std::{
    collections::HashMap,
    fmt,
    sync::{PoisonError, RwLock},
};

use crate::{Authority, Error};

/// A registry token, sent as it is in `Authorization`. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes a token as the operator wrote it; white space around it is dropped.
    ///
    /// # Errors
    /// [`Error::InvalidToken`] if it is empty or not printable ASCII.
    pub fn new(token: &str) -> Result<Self, Error> {
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(|b| matches!(b, b' '..=b'~')) {
            return Err(Error::InvalidToken);
        }
        Ok(Self(token.to_owned()))
    }

    pub(crate) fn header_value(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The configured hosts. Grows only, so that a pooled connection never outlives its permission.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    known: RwLock<HashMap<Authority, Option<Token>>>,
}

impl Trust {
    /// A token that was given before stays if none comes now.
    pub(crate) fn add(&self, authority: Authority, token: Option<Token>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let entry = known.entry(authority).or_default();
        if token.is_some() {
            *entry = token;
        }
    }

    pub(crate) fn contains(&self, authority: &Authority) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.contains_key(authority)
    }

    pub(crate) fn token(&self, authority: &Authority) -> Option<Token> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(authority).cloned().flatten()
    }
}
