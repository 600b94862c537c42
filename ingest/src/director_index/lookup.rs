//! A part of a director index in memory: ids in order, found by searching near the last one found.

use std::collections::HashSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::DataType;
use skyflight_sky::ChunkId;

use super::ids::Id;

/// Where a director row lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) chunk: ChunkId,
    pub(crate) sub_chunk: u32,
    pub(crate) healpix29: u64,
}

/// Memory of one id in a lookup, in bytes; a guess for text. Growing a vector may take the same again.
pub(crate) fn bytes_per_id(id_type: &DataType) -> usize {
    let id = if *id_type == DataType::Utf8 { 48 } else { 8 };
    2 * (id + size_of::<Place>())
}

/// Ids in order, each once with the place of its first entry.
#[derive(Debug)]
pub(crate) struct Lookup {
    ids: Ids,
    places: Vec<Place>,
    /// Indices of ids that have further entries.
    repeated: HashSet<usize>,
    /// A bit for each id, set once a row of it was seen.
    seen: OnceLock<Vec<AtomicU64>>,
}

#[derive(Debug)]
enum Ids {
    Signed(Vec<i64>),
    Unsigned(Vec<u64>),
    Text { ends: Vec<usize>, text: String },
}

impl Lookup {
    pub(crate) fn new(id_type: &DataType) -> Lookup {
        let ids = match id_type {
            DataType::Utf8 => Ids::Text { ends: Vec::new(), text: String::new() },
            DataType::UInt64 => Ids::Unsigned(Vec::new()),
            _ => Ids::Signed(Vec::new()),
        };
        Lookup { ids, places: Vec::new(), repeated: HashSet::new(), seen: OnceLock::new() }
    }

    /// Adds an entry; entries come in order, and of an id the first counts.
    pub(crate) fn push(&mut self, id: &Id<'_>, place: Place) {
        let last = self.places.len().checked_sub(1);
        if let Some(last) = last.filter(|last| self.order(*last, id) == Some(std::cmp::Ordering::Equal)) {
            self.repeated.insert(last);
            return;
        }
        match (&mut self.ids, id) {
            (Ids::Signed(ids), Id::Signed(id)) => ids.push(*id),
            (Ids::Unsigned(ids), Id::Unsigned(id)) => ids.push(*id),
            (Ids::Text { ends, text }, Id::Text(id)) => {
                text.push_str(id);
                ends.push(text.len());
            }
            _ => return,
        }
        self.places.push(place);
    }

    /// How the id at an index compares to another; none beyond the end or for another kind of id.
    fn order(&self, at: usize, id: &Id<'_>) -> Option<std::cmp::Ordering> {
        match (&self.ids, id) {
            (Ids::Signed(ids), Id::Signed(id)) => Some(ids.get(at)?.cmp(id)),
            (Ids::Unsigned(ids), Id::Unsigned(id)) => Some(ids.get(at)?.cmp(id)),
            (Ids::Text { ends, text }, Id::Text(id)) => {
                let start = if at == 0 { 0 } else { *ends.get(at - 1)? };
                Some(text.get(start..*ends.get(at)?)?.cmp(id.as_ref()))
            }
            _ => None,
        }
    }

    /// Whether the id found at `hint` has one entry only.
    pub(crate) fn is_alone(&self, hint: usize) -> bool {
        !self.repeated.contains(&hint)
    }

    /// Whether this is asked for the first time of the id found at `hint`.
    pub(crate) fn is_new(&self, hint: usize) -> bool {
        let words = self.places.len().div_ceil(64);
        let seen = self.seen.get_or_init(|| (0..words).map(|_| AtomicU64::new(0)).collect());
        let bit = 1 << (hint % 64);
        seen.get(hint / 64).is_none_or(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }

    /// The place of an id. `hint` is where the last search ended, and where this one found the id: rows of children often come in the order of
    /// their directors, and then the answer is there or just behind.
    pub(crate) fn find(&self, id: &Id<'_>, hint: &mut usize) -> Option<Place> {
        let less = |at: usize| self.order(at, id).is_some_and(std::cmp::Ordering::is_lt);
        let (mut low, mut high) = if less(*hint) {
            let mut step = 1;
            let mut low = *hint + 1;
            while less(low + step) {
                low += step + 1;
                step *= 2;
            }
            (low, (low + step).min(self.places.len()))
        } else {
            (0, (*hint + 1).min(self.places.len()))
        };
        while low < high {
            let middle = low + (high - low) / 2;
            if less(middle) { low = middle + 1 } else { high = middle }
        }
        *hint = low.min(self.places.len().saturating_sub(1));
        let found = self.order(low, id) == Some(std::cmp::Ordering::Equal);
        found.then(|| self.places.get(low).copied()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn finds_what_a_map_finds_from_any_hint() {
        let mut lookup = Lookup::new(&DataType::Int64);
        let mut map = BTreeMap::new();
        for n in 0..500_u64 {
            let id = (n * n % 700) as i64 - 20;
            map.entry(id).or_insert(n);
        }
        for (id, n) in &map {
            let place = Place { chunk: ChunkId(*n), sub_chunk: 0, healpix29: 0 };
            lookup.push(&Id::Signed(*id), place);
            lookup.push(&Id::Signed(*id), Place { chunk: ChunkId(9_999), ..place });
        }
        let mut found = 0;
        for start in [0, 1, 17, map.len() - 1, map.len() + 5] {
            for id in -30..700 {
                let mut hint = start;
                let got = lookup.find(&Id::Signed(id), &mut hint).map(|place| place.chunk.0);
                assert_eq!(got, map.get(&id).copied(), "id {id} from {start}");
                found += usize::from(got.is_some());
            }
            // And with the hint carried along, forwards and backwards.
            let mut hint = start;
            for id in (-30..700).chain((-30..700).rev()) {
                let got = lookup.find(&Id::Signed(id), &mut hint).map(|place| place.chunk.0);
                assert_eq!(got, map.get(&id).copied(), "id {id}");
            }
        }
        assert_eq!(found, 5 * map.len());
    }
}
