//! What a certificate says: its subject, in one unambiguous line.

use data_encoding::HEXLOWER;
use rustls::pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate,
    der_parser::asn1_rs::{Any, Oid, ToDer},
    extensions::GeneralName,
    objects::{oid_registry, oid2abbrev},
    prelude::FromDer,
};

/// Nobody has a longer subject; one that is does not count.
const MAX_SUBJECT_BYTES: usize = 4096;

/// The distinguished name of the subject as RFC 4514 writes it: the last part first, what has a meaning in the notation
/// escaped. `None` where there is none.
pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut line = String::new();
    for (index, relative) in parsed.subject().iter().collect::<Vec<_>>().into_iter().rev().enumerate() {
        line.push_str(if index == 0 { "" } else { "," });
        for (index, attribute) in relative.iter().enumerate() {
            line.push_str(if index == 0 { "" } else { "+" });
            push_attribute(&mut line, attribute.attr_type(), attribute.attr_value());
        }
    }
    (!line.is_empty() && line.len() <= MAX_SUBJECT_BYTES).then_some(line)
}

/// Does it name hosts?
pub(super) fn names_hosts(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let names = parsed.subject_alternative_name().ok().flatten();
    names.is_some_and(|names| names.value.general_names.iter().any(|name| matches!(name, GeneralName::DNSName(_))))
}

fn push_attribute(line: &mut String, kind: &Oid<'_>, value: &Any<'_>) {
    let name = oid2abbrev(kind, oid_registry()).ok();
    match (name, text(value)) {
        (Some(name), Some(text)) => {
            line.push_str(name);
            line.push('=');
            push_escaped(line, text);
        }
        // RFC 4514 section 2.4: what has no name, or is no text, as its encoding.
        (name, text) => {
            line.push_str(&name.map_or_else(|| kind.to_id_string(), str::to_owned));
            line.push('=');
            match text {
                Some(text) => push_escaped(line, text),
                None => {
                    line.push('#');
                    line.push_str(&HEXLOWER.encode(&value.to_der_vec().unwrap_or_default()));
                }
            }
        }
    }
}

fn text<'a>(value: &'a Any<'_>) -> Option<&'a str> {
    std::str::from_utf8(value.data).ok()
}

/// RFC 4514 section 2.4. Control characters have no place in headers and logs either.
fn push_escaped(line: &mut String, text: &str) {
    let last = text.chars().count().saturating_sub(1);
    for (index, c) in text.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => line.extend(['\\', c]),
            '#' if index == 0 => line.push_str("\\#"),
            ' ' if index == 0 || index == last => line.push_str("\\ "),
            c if c.is_control() => {
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| line.push_str(&format!("\\{byte:02x}")));
            }
            c => line.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn subject(parts: &[(DnType, &str)]) -> Option<String> {
        let mut params = CertificateParams::new(vec!["example.com".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        parts.iter().for_each(|(kind, text)| params.distinguished_name.push(kind.clone(), *text));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert!(names_hosts(certificate.der()));
        of(certificate.der())
    }

    #[test]
    fn the_last_part_of_a_subject_comes_first() {
        let parts = [
            (DnType::CountryName, "DE"),
            (DnType::OrganizationName, "Example"),
            (DnType::CommonName, "device 7"),
            (DnType::CustomDnType(vec![1, 2, 3, 4]), "x"),
        ];
        assert_eq!(subject(&parts).as_deref(), Some("1.2.3.4=x,CN=device 7,O=Example,C=DE"));
        assert_eq!(subject(&[]), None);
    }

    #[test]
    fn a_name_cannot_pretend_to_be_several() {
        let cases = [
            ("a,O=admin", "CN=a\\,O\\=admin"),
            ("a+b\\", "CN=a\\+b\\\\"),
            (" #a ", "CN=\\ #a\\ "),
            ("#a", "CN=\\#a"),
            ("a\r\nb", "CN=a\\0d\\0ab"),
            ("ü", "CN=ü"),
        ];
        for (name, line) in cases {
            assert_eq!(subject(&[(DnType::CommonName, name)]).as_deref(), Some(line));
        }
    }
}
