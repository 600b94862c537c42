//! Only the best partners of each row: the nearest, or whatever comes first in an order.
//!
//! The probing side is the one whose rows have few partners left: the pairs of one of its rows come
//! one after the other, so that no more than the best of one row are held at a time. What comes out is at least
//! the best; whatever numbers the pairs stays above and finds them among a few more.

use std::fmt;
use std::ops::Range;

use datafusion::arrow::array::{ArrayRef, UInt32Array};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::row::{RowConverter, Rows as Keys, SortField};
use datafusion::common::Result;
use datafusion::physical_plan::joins::utils::JoinFilter;

use super::pairs::{Pairs, Rows};

/// More partners of one row than this, by ties or by so many being wanted, are not held: they go on unchosen.
const HELD_PAIRS: usize = 1 << 16;

/// Which of several rows that are equal in order are among the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Ties {
    /// Any: there are not more than wanted (`row_number`).
    Cut,
    /// All, each of them counted (`rank`).
    Kept,
    /// All, counted as one (`dense_rank`).
    CountedOnce,
}

/// The first pairs of each probing row in an order; others may go.
#[derive(Debug, Clone)]
pub(crate) struct Best {
    /// What pairs are ordered by, the most important first.
    pub(crate) order: Vec<(JoinFilter, SortOptions)>,
    pub(crate) most: usize,
    pub(crate) ties: Ties,
}

impl fmt::Display for Best {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let ties = match self.ties {
            Ties::Cut => "",
            Ties::Kept => " with ties",
            Ties::CountedOnce => " different",
        };
        let order: Vec<String> = self.order.iter().map(|(key, way)| format!("{} {way}", key.expression())).collect();
        write!(f, "{}{ties} by [{}]", self.most, order.join(", "))
    }
}

/// Chooses the best pairs as they come.
#[derive(Debug)]
pub(super) struct Choosing {
    converter: RowConverter,
    /// Partners of a row whose search has not ended; they have been chosen among those seen.
    held: Vec<u32>,
}

impl Choosing {
    pub(super) fn new(best: &Best) -> Result<Self> {
        let field = |(key, way): &(JoinFilter, SortOptions)| -> Result<SortField> {
            Ok(SortField::new_with_options(key.expression().data_type(key.schema())?, *way))
        };
        let fields = best.order.iter().map(field).collect::<Result<Vec<_>>>()?;
        Ok(Choosing { converter: RowConverter::new(fields)?, held: Vec::new() })
    }

    /// Keeps the best of the pairs of each row, which come one after the other. `goes_on` names the row
    /// whose search has not ended: its pairs are held until the next time.
    pub(super) fn choose(
        &mut self,
        best: &Best,
        pairs: &mut Pairs,
        begun: Option<u32>,
        goes_on: Option<u32>,
        rows: &Rows<'_>,
    ) -> Result<()> {
        if let Some(begun) = begun {
            pairs.put_before(&mut self.held, begun);
        }
        if pairs.len() == 0 {
            return Ok(());
        }
        let keys = self.keys(best, pairs, rows)?;
        let (mut kept, mut order) = (Vec::with_capacity(pairs.len()), Vec::new());
        for range in pairs.of_each_probing_row() {
            first(&keys, range, best, &mut order, &mut kept);
        }
        pairs.keep(&kept);
        if let Some(goes_on) = goes_on
            && pairs.last_with(goes_on) <= HELD_PAIRS
        {
            self.held = pairs.split_off(goes_on);
        }
        Ok(())
    }

    fn keys(&self, best: &Best, pairs: &Pairs, rows: &Rows<'_>) -> Result<Keys> {
        let numbers = [&pairs.arranged, &pairs.probing].map(|rows| Some(UInt32Array::from(rows.clone())));
        let columns = best.order.iter().map(|(key, _)| rows.evaluate(key, &numbers, pairs.len()));
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        Ok(self.converter.convert_columns(&columns)?)
    }
}

/// Adds to `kept` which of the pairs of one row are its first ones.
fn first(keys: &Keys, range: Range<usize>, best: &Best, order: &mut Vec<u32>, kept: &mut Vec<u32>) {
    let all = range.start as u32..range.end as u32;
    if range.len() <= best.most {
        kept.extend(all);
        return;
    }
    if best.most == 0 {
        return;
    }
    order.clear();
    order.extend(all);
    let key = |at: &u32| keys.row(*at as usize);
    let last = match best.ties {
        Ties::Cut | Ties::Kept => {
            let (_, last, _) = order.select_nth_unstable_by(best.most - 1, |a, b| key(a).cmp(&key(b)));
            *last
        }
        Ties::CountedOnce => {
            order.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
            let different = order.iter().enumerate().filter(|(at, pair)| *at == 0 || key(&order[at - 1]) != key(pair));
            // With fewer different ones than wanted, all are among the first.
            different.map(|(_, pair)| *pair).nth(best.most - 1).or(order.last().copied()).unwrap_or_default()
        }
    };
    let chosen = match best.ties {
        Ties::Cut => {
            order.truncate(best.most);
            order.sort_unstable();
            order.to_vec()
        }
        Ties::Kept | Ties::CountedOnce => {
            order.sort_unstable();
            order.iter().copied().filter(|pair| key(pair) <= key(&last)).collect::<Vec<u32>>()
        }
    };
    kept.extend(chosen);
}
