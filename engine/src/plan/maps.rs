//! Brings the maps of an encoded message into one order, so that the same plan is the same bytes whenever
//! and wherever it is planned: workers know a fragment again by its digest, and so do jobs after a restart.
//!
//! DataFusion encodes the metadata of columns as protobuf maps, whose order is another each time. What
//! looks like the entries of a map is sorted; then the message is decoded, and counts as the same only if
//! it is equal to the one before. Lists are compared in order and maps are not, so no list is ever sorted.

use std::ops::Range;

use prost::Message;

/// Fragments are not nested deeper: decoders refuse what is.
const DEEPEST: usize = 200;

/// Where something that looks like a map is none, each is tried by itself, up to this many.
const MOST_TRIED: usize = 1_000;

const LENGTH_DELIMITED: u64 = 2;

/// The encoding of the same message with its maps of text to text in order. A message that is not equal to
/// itself, as with a NaN, stays as it is.
pub(super) fn in_order<M: Message + Default + PartialEq>(bytes: Vec<u8>) -> Vec<u8> {
    let mut runs = Vec::new();
    find(&bytes, 0..bytes.len(), 0, &mut runs);
    let mut sorted = bytes.clone();
    runs.iter().for_each(|run| sort(&mut sorted, run));
    if sorted == bytes {
        return bytes;
    }
    let Ok(message) = M::decode(bytes.as_slice()) else { return bytes };
    let means_the_same = |other: &[u8]| M::decode(other).is_ok_and(|other| other == message);
    if means_the_same(&sorted) {
        return sorted;
    }
    let mut ordered = bytes;
    for run in runs.iter().take(MOST_TRIED) {
        let mut tried = ordered.clone();
        sort(&mut tried, run);
        if tried != ordered && means_the_same(&tried) {
            ordered = tried;
        }
    }
    ordered
}

/// Fields that follow each other and may be the entries of one map.
type Run = Vec<Range<usize>>;

fn sort(bytes: &mut [u8], run: &[Range<usize>]) {
    let [first, .., last] = run else { return };
    let whole = first.start..last.end;
    let mut entries: Vec<Vec<u8>> = run.iter().map(|field| bytes[field.clone()].to_vec()).collect();
    entries.sort_unstable();
    bytes[whole].copy_from_slice(&entries.concat());
}

/// Finds the runs in the message that lies in `within`, however deep.
fn find(bytes: &[u8], within: Range<usize>, depth: usize, runs: &mut Vec<Run>) {
    if depth > DEEPEST {
        return;
    }
    let Some(fields) = fields_of(bytes, within) else { return };
    for run in fields.chunk_by(|a, b| a.tag == b.tag) {
        let values = || run.iter().filter_map(|field| field.value.clone());
        if run.len() > 1 && values().count() == run.len() && values().all(|value| is_entry(bytes, value)) {
            runs.push(run.iter().map(|field| field.whole.clone()).collect());
        } else {
            values().for_each(|value| find(bytes, value, depth + 1, runs));
        }
    }
}

/// Whether a message may be an entry of a map of text to text, whose empty parts are left out.
fn is_entry(bytes: &[u8], within: Range<usize>) -> bool {
    let printable = |range: &Range<usize>| {
        std::str::from_utf8(&bytes[range.clone()]).is_ok_and(|text| !text.chars().any(char::is_control))
    };
    let Some(fields) = fields_of(bytes, within) else { return false };
    let numbers: Vec<u64> = fields.iter().map(|field| field.tag >> 3).collect();
    matches!(numbers.as_slice(), [1] | [2] | [1, 2]) && fields.iter().all(|f| f.value.as_ref().is_some_and(printable))
}

/// One field of a protobuf message.
struct Field {
    tag: u64,
    /// Tag, length and value.
    whole: Range<usize>,
    /// The value of a length-delimited field.
    value: Option<Range<usize>>,
}

/// The fields of a message; `None` for bytes that are none.
fn fields_of(bytes: &[u8], within: Range<usize>) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    let bytes = bytes.get(..within.end)?;
    let mut at = within.start;
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
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::{HashMap, HashSet};

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
        #[prost(message, repeated, tag = "5")]
        pairs: Vec<Pair>,
        #[prost(double, tag = "6")]
        number: f64,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Case {
        #[prost(message, optional, boxed, tag = "1")]
        when: Option<Box<Column>>,
        #[prost(message, optional, boxed, tag = "2")]
        then: Option<Box<Column>>,
    }

    /// A list of these is written as a map is.
    #[derive(Clone, PartialEq, Message)]
    struct Pair {
        #[prost(string, tag = "1")]
        first: String,
        #[prost(string, tag = "2")]
        second: String,
    }

    fn column(name: &str, words: &[&str]) -> Column {
        // A new map has another order.
        let metadata = (0..8).map(|n| (format!("key {n}"), if n == 3 { String::new() } else { format!("{name} {n}") }));
        let words = words.iter().map(|w| (*w).to_owned()).collect();
        Column { name: name.to_owned(), metadata: metadata.collect(), words, ..Column::default() }
    }

    fn case(when: &str, then: &str) -> Case {
        let boxed = |name| Some(Box::new(column(name, &[])));
        Case { when: boxed(when), then: boxed(then) }
    }

    fn pairs(names: &[&str]) -> Vec<Pair> {
        names.iter().map(|name| Pair { first: (*name).to_owned(), second: "x".to_owned() }).collect()
    }

    fn ordered(column: &Column) -> Vec<u8> {
        in_order::<Column>(column.encode_to_vec())
    }

    #[test]
    fn the_order_of_maps_does_not_matter_at_any_depth() {
        let nested = || Column { cases: vec![case("a", "b"), case("c", "d")], ..column("ra", &["x", "y"]) };
        let encodings: HashSet<Vec<u8>> = (0..20).map(|_| nested().encode_to_vec()).collect();
        assert!(encodings.len() > 1, "maps were encoded in one order, which proves nothing");
        let first = ordered(&nested());
        assert!((0..50).all(|_| ordered(&nested()) == first));
        assert_eq!(Column::decode(first.as_slice()).unwrap(), nested());
    }

    #[test]
    fn a_list_that_is_written_as_a_map_is_stays_and_the_maps_beside_it_are_ordered() {
        let with = |names: &[&str]| Column { cases: vec![case("a", "b")], pairs: pairs(names), ..column("ra", &[]) };
        let backwards = ordered(&with(&["b", "c", "a"]));
        assert_eq!(Column::decode(backwards.as_slice()).unwrap().pairs, pairs(&["b", "c", "a"]));
        assert!((0..50).all(|_| ordered(&with(&["b", "c", "a"])) == backwards));
        assert_ne!(ordered(&with(&["a", "b", "c"])), backwards);
    }

    #[test]
    fn every_other_order_matters() {
        let base = Column { cases: vec![case("a", "b"), case("c", "d")], ..column("ra", &["x", "y"]) };
        let swapped_cases = Column { cases: vec![case("c", "d"), case("a", "b")], ..base.clone() };
        let swapped_words = Column { words: vec!["y".into(), "x".into()], ..base.clone() };
        let swapped_sides = Column { cases: vec![case("b", "a"), case("c", "d")], ..base.clone() };
        for other in [swapped_cases, swapped_words, swapped_sides] {
            assert_ne!(ordered(&other), ordered(&base));
        }
    }

    #[test]
    fn what_cannot_be_compared_stays_as_it_is() {
        let bytes = Column { number: f64::NAN, ..column("ra", &[]) }.encode_to_vec();
        assert_eq!(in_order::<Column>(bytes.clone()), bytes);
        for bytes in [&b"SELECT 1"[..], &[0xff; 20], &[0x0a, 0x7f, 1], b""] {
            assert_eq!(in_order::<Column>(bytes.to_vec()), bytes);
        }
    }
}
