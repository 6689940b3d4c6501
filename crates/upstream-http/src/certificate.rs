//! Who issued a certificate: what an operator behind an inspecting proxy must see. Reads, never judges.

/// DER of the object identifiers 2.5.4.3 and 2.5.4.10.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
const ORGANIZATION: [u8; 3] = [0x55, 0x04, 0x0a];

/// The issuer's common name and organization, as far as they are there and text.
pub(crate) fn issuer(certificate: &[u8]) -> Option<String> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut fields, _) = element(certificate)?;
    let (tag, _, rest) = element(fields)?;
    // The version is optional.
    if tag == 0xa0 {
        fields = rest;
    }
    let (_, _, fields) = element(fields)?; // the serial number
    let (_, _, fields) = element(fields)?; // the signature's algorithm
    let (_, mut names, _) = element(fields)?;
    let (mut common_name, mut organization) = (None, None);
    while let Some((_, set, rest)) = element(names) {
        names = rest;
        let (_, attribute, _) = element(set)?;
        let (_, identifier, value) = element(attribute)?;
        let (_, value, _) = element(value)?;
        let text = || Some(String::from_utf8_lossy(value).escape_debug().to_string());
        if identifier == COMMON_NAME {
            common_name = text();
        } else if identifier == ORGANIZATION {
            organization = text();
        }
    }
    match (common_name, organization) {
        (Some(name), Some(organization)) => Some(format!("{name} ({organization})")),
        (name, organization) => name.or(organization),
    }
}

/// The first element: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        let length = digits.iter().try_fold(0usize, |length, digit| {
            Some(length.checked_mul(256)? + usize::from(*digit))
        })?;
        (length, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag, u8::try_from(content.len()).unwrap()];
        bytes.extend_from_slice(content);
        bytes
    }

    fn attribute(identifier: &[u8], value: &str) -> Vec<u8> {
        let pair = [der(6, identifier), der(12, value.as_bytes())].concat();
        der(0x31, &der(0x30, &pair))
    }

    #[test]
    fn the_issuer_is_read_with_and_without_a_version() {
        let names = [
            attribute(&ORGANIZATION, "Acme"),
            attribute(&COMMON_NAME, "Acme Inspection\u{1b}"),
        ]
        .concat();
        let rest = [der(2, &[7]), der(0x30, &[]), der(0x30, &names)].concat();
        for version in [Vec::new(), der(0xa0, &der(2, &[2]))] {
            let body = der(0x30, &[version, rest.clone()].concat());
            let found = issuer(&der(0x30, &body));
            assert_eq!(found.as_deref(), Some("Acme Inspection\\u{1b} (Acme)"));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            issuer(&bytes);
            issuer(&der(0x30, &der(0x30, &bytes[..bytes.len().min(100)])));
        }
    }
}
