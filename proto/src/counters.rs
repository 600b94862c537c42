//! Adding up what scans cost, from chunks to tasks to queries.

use std::ops::AddAssign;

use crate::generated::ScanCounters;

/// Sums stop at the greatest value instead of wrapping: a worker's nonsense is no reason to fail.
impl AddAssign<&ScanCounters> for ScanCounters {
    fn add_assign(&mut self, other: &ScanCounters) {
        // Taken apart by name so that a new counter cannot be forgotten here.
        let ScanCounters { bytes_read, rows_read, rows_sent, row_groups_pruned, pages_pruned, elapsed_us } = other;
        self.bytes_read = self.bytes_read.saturating_add(*bytes_read);
        self.rows_read = self.rows_read.saturating_add(*rows_read);
        self.rows_sent = self.rows_sent.saturating_add(*rows_sent);
        self.row_groups_pruned = self.row_groups_pruned.saturating_add(*row_groups_pruned);
        self.pages_pruned = self.pages_pruned.saturating_add(*pages_pruned);
        self.elapsed_us = self.elapsed_us.saturating_add(*elapsed_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_field_by_field_and_stops_at_the_top() {
        let one = ScanCounters {
            bytes_read: 1,
            rows_read: 20,
            rows_sent: 300,
            row_groups_pruned: 4_000,
            pages_pruned: 50_000,
            elapsed_us: u64::MAX,
        };
        let mut sum = one;
        sum += &one;
        assert_eq!(
            sum,
            ScanCounters {
                bytes_read: 2,
                rows_read: 40,
                rows_sent: 600,
                row_groups_pruned: 8_000,
                pages_pruned: 100_000,
                elapsed_us: u64::MAX,
            }
        );
    }
}
