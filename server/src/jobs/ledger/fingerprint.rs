//! Tells whether a dispatch planned after a restart is the one that was planned before it.
//!
//! A fragment's own hash does not: DataFusion encodes the metadata of columns as protobuf maps, whose
//! order is another in each process. So maps are put in order first; nothing else is touched.

use std::ops::Range;

use sha2::{Digest, Sha256};
use skyflight_engine::dispatch::DispatchRequest;
use skyflight_engine::frames::encode_schema;

/// What a dispatch is: its fragment, the schema of its rows, and its chunks with their files. Two of
/// the same fingerprint give the same rows for each chunk.
pub(super) type Fingerprint = [u8; 32];

pub(super) fn fingerprint(request: &DispatchRequest) -> Fingerprint {
    let mut digest = Sha256::new();
    let mut part = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    // Another version may mean something else by the same plan.
    part(env!("CARGO_PKG_VERSION").as_bytes());
    let mut fragment = request.fragment.bytes.to_vec();
    sort_maps(&mut fragment, 0);
    part(&fragment);
    part(&encode_schema(&request.schema));
    for chunk in &request.chunks.chunks {
        part(&chunk.chunk.0.to_le_bytes());
        part(&chunk.files.iter().flat_map(|file| file.0.to_le_bytes()).collect::<Vec<u8>>());
        part(&chunk.files_per_scan.iter().flat_map(|files| files.to_le_bytes()).collect::<Vec<u8>>());
    }
    digest.finalize().into()
}

/// Fragments are not nested deeper: decoders refuse what is.
const DEEPEST: usize = 200;

const LENGTH_DELIMITED: u64 = 2;

/// One field of a protobuf message.
struct Field {
    tag: u64,
    /// Tag, length and value.
    whole: Range<usize>,
    /// The value of a length-delimited field.
    value: Option<Range<usize>>,
}

/// Sorts the entries of each map of text to text in an encoded message. Bytes that are no message stay.
fn sort_maps(bytes: &mut [u8], depth: usize) {
    if depth > DEEPEST {
        return;
    }
    let Some(fields) = fields_of(bytes) else { return };
    for value in fields.iter().filter_map(|field| field.value.clone()) {
        sort_maps(&mut bytes[value], depth + 1);
    }
    for run in fields.chunk_by(|a, b| a.tag == b.tag) {
        let [first, .., last] = run else { continue };
        let whole = first.whole.start..last.whole.end;
        if !run.iter().all(|field| field.value.clone().is_some_and(|value| is_entry(&bytes[value]))) {
            continue;
        }
        let mut entries: Vec<Vec<u8>> = run.iter().map(|field| bytes[field.whole.clone()].to_vec()).collect();
        entries.sort_unstable();
        bytes[whole].copy_from_slice(&entries.concat());
    }
}

/// Whether a message is an entry of a map of text to text. Repeated messages whose order means
/// something hold other messages, which begin with a control character.
fn is_entry(bytes: &[u8]) -> bool {
    let printable = |range: &Range<usize>| {
        std::str::from_utf8(&bytes[range.clone()]).is_ok_and(|text| !text.chars().any(char::is_control))
    };
    let Some(fields) = fields_of(bytes) else { return false };
    let [key, value] = fields.as_slice() else { return false };
    key.tag >> 3 == 1 && value.tag >> 3 == 2 && [key, value].iter().all(|f| f.value.as_ref().is_some_and(printable))
}

/// The fields of a message; `None` for bytes that are none.
fn fields_of(bytes: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let tag = varint(bytes, &mut at)?;
        let mut value = None;
        let length = match tag & 7 {
            0 => {
                varint(bytes, &mut at)?;
                0
            }
            1 => 8,
            5 => 4,
            LENGTH_DELIMITED => {
                let length = usize::try_from(varint(bytes, &mut at)?).ok()?;
                value = Some(at..at.checked_add(length)?);
                length
            }
            _ => return None,
        };
        at = at.checked_add(length).filter(|end| *end <= bytes.len())?;
        if tag >> 3 == 0 {
            return None;
        }
        fields.push(Field { tag, whole: start..at, value });
    }
    Some(fields)
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prost::Message;

    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Column {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(map = "string, string", tag = "2")]
        metadata: HashMap<String, String>,
        #[prost(message, repeated, tag = "3")]
        cases: Vec<Case>,
        #[prost(string, repeated, tag = "4")]
        words: Vec<String>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Case {
        #[prost(message, optional, boxed, tag = "1")]
        when: Option<Box<Column>>,
        #[prost(message, optional, boxed, tag = "2")]
        then: Option<Box<Column>>,
    }

    fn column(name: &str, words: &[&str]) -> Column {
        // A new map has another order.
        let metadata = (0..8).map(|n| (format!("key {n}"), format!("{name}, value {n}"))).collect();
        Column {
            name: name.to_owned(),
            metadata,
            cases: Vec::new(),
            words: words.iter().map(|w| (*w).to_owned()).collect(),
        }
    }

    fn case(when: &str, then: &str) -> Case {
        let boxed = |name| Some(Box::new(column(name, &[])));
        Case { when: boxed(when), then: boxed(then) }
    }

    fn sorted(message: &impl Message) -> Vec<u8> {
        let mut bytes = message.encode_to_vec();
        sort_maps(&mut bytes, 0);
        bytes
    }

    #[test]
    fn the_order_of_maps_does_not_matter_at_any_depth() {
        let nested = || Column { cases: vec![case("a", "b"), case("c", "d")], ..column("ra", &["x", "y"]) };
        let encodings: std::collections::HashSet<Vec<u8>> = (0..20).map(|_| nested().encode_to_vec()).collect();
        assert!(encodings.len() > 1, "maps were encoded in one order, which proves nothing");
        let first = sorted(&nested());
        assert!((0..20).all(|_| sorted(&nested()) == first));
        assert_eq!(Column::decode(first.as_slice()), Ok(nested()));
    }

    #[test]
    fn every_other_order_matters() {
        let base = Column { cases: vec![case("a", "b"), case("c", "d")], ..column("ra", &["x", "y"]) };
        let swapped_cases = Column { cases: vec![case("c", "d"), case("a", "b")], ..base.clone() };
        let swapped_words = Column { words: vec!["y".into(), "x".into()], ..base.clone() };
        let swapped_sides = Column { cases: vec![case("b", "a"), case("c", "d")], ..base.clone() };
        for other in [swapped_cases, swapped_words, swapped_sides] {
            assert_ne!(sorted(&other), sorted(&base));
        }
    }

    #[test]
    fn what_is_no_message_is_left_as_it_is() {
        for bytes in [&b"SELECT 1"[..], &[0xff; 20], &[0x0a, 0x7f, 1], b""] {
            let mut copy = bytes.to_vec();
            sort_maps(&mut copy, 0);
            assert_eq!(copy, bytes);
        }
    }
}
