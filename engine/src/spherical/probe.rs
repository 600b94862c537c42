//! The side of a spherical join whose rows look up what is near them.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, UInt32Array};
use datafusion::arrow::compute::BatchCoalescer;
use datafusion::common::{JoinType, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use futures::TryStreamExt;

use super::arranged::{Arranged, places};
use super::best::Choosing;
use super::exec::Work;
use super::pairs::{Pairs, Rows, numbers};
use super::zones::{Allowance, Places, Searched};
use crate::interrupt::Turn;

/// Arranged rows that are looked at before the runtime may have its turn.
const ROWS_AT_ONCE: usize = 1 << 20;

/// One partition of the probing side on its way through the join.
pub(super) struct Probing {
    work: Arc<Work>,
    batch_rows: usize,
    output: BatchCoalescer,
    input: SendableRecordBatchStream,
    current: Option<ProbingBatch>,
    choosing: Option<Choosing>,
    /// The next arranged row to give, once all probing rows are known.
    last: Option<u32>,
    ended: bool,
    turn: Turn,
    metrics: Metrics,
}

#[derive(Debug)]
struct Metrics {
    /// Pairs that were near enough to be told apart.
    pairs_tested: Count,
    output_rows: Count,
}

/// A batch that is being looked up.
struct ProbingBatch {
    rows: RecordBatch,
    places: Places,
    /// The next row to look up.
    next: usize,
    /// The row whose search has not ended, and how far it has gone.
    search: Option<(u32, Searched)>,
    /// The rows that have matched; empty where nobody will ask.
    matched: Vec<bool>,
}

impl Probing {
    pub(super) fn new(
        work: &Arc<Work>,
        input: SendableRecordBatchStream,
        batch_rows: usize,
        metrics: &ExecutionPlanMetricsSet,
        partition: usize,
    ) -> Result<Probing> {
        Ok(Probing {
            work: Arc::clone(work),
            batch_rows,
            output: BatchCoalescer::new(Arc::clone(&work.schema), batch_rows),
            input,
            current: None,
            choosing: work.best.as_ref().map(Choosing::new).transpose()?,
            last: None,
            ended: false,
            turn: Turn::new(),
            metrics: Metrics {
                pairs_tested: MetricBuilder::new(metrics).counter("pairs_tested", partition),
                output_rows: MetricBuilder::new(metrics).output_rows(partition),
            },
        })
    }

    pub(super) fn stream(self, arranged: Arc<Arranged>) -> impl futures::Stream<Item = Result<RecordBatch>> {
        futures::stream::try_unfold((self, arranged), |(mut probing, arranged)| async move {
            Ok(probing.next(&arranged).await?.map(|batch| (batch, (probing, arranged))))
        })
    }

    async fn next(&mut self, arranged: &Arranged) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.output.next_completed_batch() {
                self.metrics.output_rows.add(batch.num_rows());
                return Ok(Some(batch));
            }
            if self.ended {
                return Ok(None);
            }
            self.turn.give().await;
            if let Some(mut batch) = self.current.take() {
                if !self.probe(arranged, &mut batch)? {
                    self.current = Some(batch);
                }
            } else if let Some(from) = self.last {
                self.last = self.give_arranged(arranged, from)?;
                self.end_where_done()?;
            } else if let Some(rows) = self.input.try_next().await? {
                let places = places(&self.work.probing, &rows)?;
                let matched = vec![false; if self.work.gives_probing_last() { rows.num_rows() } else { 0 }];
                self.current = Some(ProbingBatch { rows, places, next: 0, search: None, matched });
            } else {
                let last = arranged.end_partition();
                self.last = (last && self.work.gives_arranged_last()).then_some(0);
                self.end_where_done()?;
            }
        }
    }

    fn end_where_done(&mut self) -> Result<()> {
        if self.last.is_none() {
            self.ended = true;
            self.output.finish_buffered_batch()?;
        }
        Ok(())
    }

    /// Looks up rows until there are pairs enough for a batch; true when the batch is done.
    fn probe(&mut self, arranged: &Arranged, batch: &mut ProbingBatch) -> Result<bool> {
        let begun = batch.search.as_ref().map(|(row, _)| *row);
        let mut pairs = Pairs::default();
        let done = self.look_up(arranged, batch, &mut pairs);
        self.metrics.pairs_tested.add(pairs.len());
        let rows = Rows { arranged: Some(&arranged.rows), probing: Some(&batch.rows) };
        pairs.retain(&self.work.condition, &self.work.residual, &rows)?;
        // Whoever has a partner has matched, also where a better one takes the place.
        arranged.mark(&pairs.arranged);
        if !batch.matched.is_empty() {
            pairs.probing.iter().for_each(|row| batch.matched[*row as usize] = true);
        }
        if let (Some(best), Some(choosing)) = (&self.work.best, &mut self.choosing) {
            let goes_on = batch.search.as_ref().map(|(row, _)| *row);
            choosing.choose(best, &mut pairs, begun, goes_on, &rows)?;
        }
        if self.work.gives_pairs() {
            let (left, right) = (numbers(pairs.arranged), numbers(pairs.probing));
            self.give(&rows, [Some(left), Some(right)])?;
        }
        if done {
            self.give_probing(batch)?;
        }
        Ok(done)
    }

    fn look_up(&self, arranged: &Arranged, batch: &mut ProbingBatch, pairs: &mut Pairs) -> bool {
        let mut allowance = Allowance { pairs: self.batch_rows, rows: ROWS_AT_ONCE };
        loop {
            let (row, from) = match batch.search.take() {
                Some(begun) => begun,
                None if batch.next == batch.rows.num_rows() => return true,
                None => {
                    batch.next += 1;
                    (batch.next as u32 - 1, Searched::default())
                }
            };
            let Some(place) = batch.places.get(row as usize) else { continue };
            if let Some(searched) = arranged.zones.search(place, row, from, pairs, &mut allowance) {
                batch.search = Some((row, searched));
                return false;
            }
        }
    }

    /// Probing rows that come out for having matched, or for not having.
    fn give_probing(&mut self, batch: &ProbingBatch) -> Result<()> {
        if batch.matched.is_empty() {
            return Ok(());
        }
        let wanted = self.work.join_type == JoinType::RightSemi;
        let rows = (0_u32..).zip(&batch.matched).filter(|(_, matched)| **matched == wanted).map(|(row, _)| row);
        let rows = numbers(rows.collect());
        self.give(&Rows { arranged: None, probing: Some(&batch.rows) }, [None, Some(rows)])
    }

    /// Arranged rows that come out for having matched, or for not having: those of the next batch, and
    /// where to go on after it.
    fn give_arranged(&mut self, arranged: &Arranged, from: u32) -> Result<Option<u32>> {
        let all = arranged.rows.num_rows() as u32;
        let end = from.saturating_add(self.batch_rows as u32).min(all);
        let wanted = self.work.join_type == JoinType::LeftSemi;
        let rows = numbers((from..end).filter(|row| arranged.has_matched(*row) == wanted).collect());
        self.give(&Rows { arranged: Some(&arranged.rows), probing: None }, [Some(rows), None])?;
        Ok((end < all).then_some(end))
    }

    fn give(&mut self, rows: &Rows<'_>, numbers: [Option<UInt32Array>; 2]) -> Result<()> {
        let count = numbers.iter().flatten().next().map_or(0, UInt32Array::len);
        if count > 0 {
            let batch = rows.take(&self.work.schema, &self.work.columns, &numbers, count)?;
            self.output.push_batch(batch)?;
        }
        Ok(())
    }
}
