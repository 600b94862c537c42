//! An index grows: new entries become a run in each shard they fall into, and runs are merged as they become many.
//!
//! Files are immutable, so a merge writes new ones and names those whose entries they hold; the commit that adds
//! the first ends the others. Until then, and on older snapshots for ever, the old files are the index.

use std::fs::File;
use std::path::PathBuf;

use arrow::array::RecordBatch;
use skyflight_catalog::{FileId, NewFile};

use super::ids::{Id, IdColumn};
use super::shards::{Due, Growth, IndexFile, Shard, arrange};
use super::{DirectorIndex, INDEX, SORT_KEYS, index_schema, merged};
use crate::chunk_file::{ChunkFileWriter, FileLayout};
use crate::error::{IngestError, IoContext, Result};
use crate::input::BATCH_ROWS;
use crate::load::index_record;
use crate::merge::merge_runs;
use crate::spill::SpillArea;
use crate::threads::Stop;

/// Where the index files of one table are written.
pub(crate) struct IndexHome<'a> {
    pub(crate) folder: PathBuf,
    pub(crate) next_file: &'a dyn Fn() -> FileId,
    /// Memory of a row group, in bytes.
    pub(crate) budget: usize,
    pub(crate) stop: &'a Stop,
}

/// What a commit must say of an index that has grown.
#[derive(Debug, Default)]
pub(crate) struct Grown {
    pub(crate) new: Vec<NewFile>,
    /// Files whose entries the new ones hold.
    pub(crate) ended: Vec<FileId>,
}

impl DirectorIndex {
    /// Takes up the entries of an area. The files are durable when this returns.
    pub(crate) fn grow(&mut self, entries: &SpillArea, home: &IndexHome<'_>, growth: Growth) -> Result<Grown> {
        let Some(runs) = entries.take_runs().remove(&INDEX) else { return Ok(Grown::default()) };
        std::fs::create_dir_all(&home.folder).at("create", &home.folder)?;
        let layout = FileLayout::index(index_schema(&self.id_type));
        let shards = std::mem::take(&mut self.shards);
        let starts: Vec<Id<'static>> = shards.iter().skip(1).map(|shard| shard.least.clone()).collect();
        let mut all: Vec<IndexFile> = shards.into_iter().flat_map(|shard| shard.files).collect();
        all.iter_mut().for_each(|file| file.new = None);
        let mut files = RunFiles::new(home, &layout, growth.shard_rows);
        let mut at = 0;
        merge_runs(entries, runs, &SORT_KEYS, BATCH_ROWS, home.stop, &mut |batch| {
            let mut rest = batch;
            // A run ends where the next shard begins, so that shards stay apart.
            while let Some(next) = starts.get(at) {
                let before = IdColumn::new(rest.column(0))?.first_from(next);
                files.write(&rest.slice(0, before))?;
                if before == rest.num_rows() {
                    return Ok(());
                }
                files.close()?;
                rest = rest.slice(before, rest.num_rows() - before);
                at += 1;
            }
            files.write(&rest)
        })?;
        all.append(&mut files.end()?);
        let mut ended = Vec::new();
        let mut settled = false;
        while !settled {
            settled = true;
            for shard in arrange(std::mem::take(&mut all), growth) {
                match self.step(shard, home, &layout, growth, &mut ended)? {
                    Step::Done(files) => all.extend(files),
                    Step::Changed(files) => {
                        settled = false;
                        all.extend(files);
                    }
                }
            }
        }
        File::open(&home.folder).and_then(|folder| folder.sync_all()).at("sync", &home.folder)?;
        let new = all.iter().filter_map(|file| file.new.clone()).collect();
        self.shards = arrange(all, growth);
        Ok(Grown { new, ended })
    }

    /// One merge of a shard, where one is due. Each makes files fewer, or such that they no longer overlap.
    fn step(
        &self,
        mut shard: Shard,
        home: &IndexHome<'_>,
        layout: &FileLayout,
        growth: Growth,
        ended: &mut Vec<FileId>,
    ) -> Result<Step> {
        let (merging, file_rows) = match shard.due(growth) {
            Due::Nothing => return Ok(Step::Done(shard.files)),
            Due::Merge(smallest) => (smallest, u64::MAX),
            Due::Cut => (shard.files.len(), growth.shard_rows),
        };
        shard.files.sort_by_key(|file| (file.rows, file.id));
        let rest = shard.files.split_off(merging);
        let mut files = RunFiles::new(home, layout, file_rows);
        let mut were = 0;
        for inputs in arrange(shard.files, growth) {
            merged(&inputs, &self.id_type, home.stop, &mut |batch| files.write(&batch))?;
            were += inputs.rows;
            for input in inputs.files {
                match input.new {
                    // Nobody has heard of it yet.
                    Some(_) => std::fs::remove_file(&input.path).at("remove", &input.path)?,
                    None => ended.push(input.id),
                }
            }
        }
        let mut changed = files.end()?;
        let became: u64 = changed.iter().map(|file| file.rows).sum();
        if became != were {
            return Err(IngestError::Unverified {
                file: home.folder.clone(),
                reason: format!("a merge of its files made {became} entries of {were}"),
            });
        }
        changed.extend(rest);
        Ok(Step::Changed(changed))
    }
}

enum Step {
    Done(Vec<IndexFile>),
    Changed(Vec<IndexFile>),
}

/// Writes entries in order as files of about so many rows each; no id lies in two of them.
struct RunFiles<'a> {
    home: &'a IndexHome<'a>,
    layout: &'a FileLayout,
    file_rows: u64,
    open: Option<OpenFile<'a>>,
    done: Vec<IndexFile>,
}

struct OpenFile<'a> {
    id: FileId,
    writer: ChunkFileWriter<'a>,
    rows: u64,
    least: Id<'static>,
    greatest: Id<'static>,
}

impl<'a> RunFiles<'a> {
    fn new(home: &'a IndexHome<'a>, layout: &'a FileLayout, file_rows: u64) -> RunFiles<'a> {
        RunFiles { home, layout, file_rows: file_rows.max(1), open: None, done: Vec::new() }
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut rest = batch.clone();
        while rest.num_rows() > 0 {
            let fitting = self.fitting(&rest)?;
            if fitting > 0 {
                self.append(&rest.slice(0, fitting))?;
            }
            if fitting < rest.num_rows() {
                self.close()?;
            }
            rest = rest.slice(fitting, rest.num_rows() - fitting);
        }
        Ok(())
    }

    /// Rows that the open file still takes: until it is full, and on to the end of an id.
    fn fitting(&self, rest: &RecordBatch) -> Result<usize> {
        let had = self.open.as_ref().map_or(0, |open| open.rows);
        let room = usize::try_from(self.file_rows.saturating_sub(had)).unwrap_or(usize::MAX);
        let ids = IdColumn::new(rest.column(0))?;
        let before = |row: usize| match row.checked_sub(1) {
            Some(last) => ids.get(last),
            None => self.open.as_ref().map(|open| open.greatest.clone()),
        };
        let rows = rest.num_rows();
        Ok((room.min(rows)..rows).find(|row| before(*row) != ids.get(*row)).unwrap_or(rows))
    }

    fn append(&mut self, rows: &RecordBatch) -> Result<()> {
        let ids = IdColumn::new(rows.column(0))?;
        let nulls = || IngestError::Thread("index a row without an id");
        let first = ids.get(0).ok_or_else(nulls)?.into_owned();
        let last = ids.get(rows.num_rows() - 1).ok_or_else(nulls)?.into_owned();
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let id = (self.home.next_file)();
                let temporary = self.home.folder.join(format!("{id}.parquet.tmp"));
                let writer = ChunkFileWriter::create(self.layout, temporary, 0, self.home.budget)?;
                OpenFile { id, writer, rows: 0, least: first.clone(), greatest: first }
            }
        };
        open.writer.write(rows)?;
        open.rows += rows.num_rows() as u64;
        open.greatest = last;
        self.open = Some(open);
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let Some(OpenFile { id, writer, least, greatest, .. }) = self.open.take() else { return Ok(()) };
        let written = writer.finish(true)?;
        let path = self.home.folder.join(format!("{id}.parquet"));
        std::fs::rename(&written.path, &path).at("rename", &written.path)?;
        let rows = written.rows;
        let new = Some(index_record(id, written));
        self.done.push(IndexFile { id, path, rows, least, greatest, new });
        Ok(())
    }

    /// Ends the run: its files.
    fn end(&mut self) -> Result<Vec<IndexFile>> {
        self.close()?;
        Ok(std::mem::take(&mut self.done))
    }
}
