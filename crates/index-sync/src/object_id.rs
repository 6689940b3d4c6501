use std::fmt;
use std::str::FromStr;

use gix::ObjectId;
use gix::objs::Kind;

use crate::Error;

/// One kind of git object id each, so that a tree is never taken for a commit.
macro_rules! object_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 20]);

        impl $name {
            /// The id with these 20 bytes.
            pub fn from_bytes(bytes: [u8; 20]) -> Self {
                Self(bytes)
            }

            /// The 20 bytes of SHA-1.
            pub fn as_bytes(&self) -> &[u8; 20] {
                &self.0
            }
        }

        impl From<$name> for ObjectId {
            fn from(id: $name) -> Self {
                Self::Sha1(id.0)
            }
        }

        impl From<ObjectId> for $name {
            fn from(id: ObjectId) -> Self {
                let mut bytes = [0; 20];
                bytes.copy_from_slice(id.as_slice());
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            /// 40 lower-case hexadecimal digits.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                ObjectId::from_hex(text.as_bytes())
                    .map(Self::from)
                    .map_err(|_| Error::ObjectId { text: text.chars().take(80).collect() })
            }
        }
    };
}

object_id! {
    /// The git object id of a file's content: what the sparse protocol uses as the strong `ETag`.
    BlobId
}
object_id! {
    /// The git object id of one state of the whole index.
    TreeId
}
object_id! {
    /// The git object id of a published commit.
    CommitId
}

impl BlobId {
    /// The id that git gives to a file with this content.
    pub fn of(content: &[u8]) -> Self {
        gix::objs::compute_hash(gix::hash::Kind::Sha1, Kind::Blob, content)
            .expect("fails only for content made to collide in SHA-1")
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_git_says() {
        let id = BlobId::of(b"hello\n");
        assert_eq!(id.to_string(), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(
            "ce013625030ba8dba906f756967f9e9ca394464a".parse::<BlobId>().unwrap(),
            id
        );
        assert_eq!(BlobId::from_bytes(*id.as_bytes()), id);
        assert_eq!(BlobId::from(ObjectId::from(id)), id);
    }

    #[test]
    fn refuses_what_is_no_id() {
        for text in ["", "ce01", "ce013625030ba8dba906f756967f9e9ca394464g", &"a".repeat(41)] {
            assert!(text.parse::<CommitId>().is_err(), "{text:?} was taken");
        }
    }
}
