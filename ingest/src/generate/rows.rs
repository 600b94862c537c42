//! Synthetic rows becoming Parquet files.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float32Builder, Float64Builder, Int16Builder, Int32Builder, Int64Builder, RecordBatch, StringBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use skyflight_sky::Position;

use super::GenerateRequest;
use super::object::{BANDS, Object, magnitude_error};
use crate::error::{IoContext, Result};

const BATCH_ROWS: usize = 8_192;
const ROW_GROUP_ROWS: usize = 128 << 10;

/// A detection.
#[derive(Clone, Debug)]
pub(super) struct SourceRow {
    pub(super) id: i64,
    pub(super) object: Option<i64>,
    pub(super) position: Position,
    pub(super) mjd: f64,
    pub(super) band: &'static str,
    /// Value and error.
    pub(super) mag: Option<(f64, f64)>,
    /// Value and error.
    pub(super) flux: Option<(f64, f64)>,
    pub(super) flags: i32,
}

/// A measurement at a known place.
#[derive(Clone, Debug)]
pub(super) struct ForcedRow {
    pub(super) object: Option<i64>,
    pub(super) visit: i64,
    pub(super) band: &'static str,
    pub(super) mjd: f64,
    /// Value and error.
    pub(super) flux: Option<(f64, f64)>,
}

/// The files of one part, one of each table.
pub(super) struct PartFiles {
    object: PartFile<ObjectColumns>,
    source: Option<PartFile<SourceColumns>>,
    forced: Option<PartFile<ForcedColumns>>,
}

impl PartFiles {
    pub(super) fn create(request: &GenerateRequest, part: usize) -> Result<PartFiles> {
        let path = |table: &str| request.output.join(table).join(format!("part-{part:05}.parquet"));
        let (sources, forced) = (request.sources_per_object > 0, request.forced_per_object > 0);
        Ok(PartFiles {
            object: PartFile::create(&path("Object"))?,
            source: sources.then(|| PartFile::create(&path("Source"))).transpose()?,
            forced: forced.then(|| PartFile::create(&path("ForcedSource"))).transpose()?,
        })
    }

    pub(super) fn object(&mut self, object: &Object, observations: i32) -> Result<()> {
        self.object.columns.push(object, observations);
        self.object.row()
    }

    pub(super) fn source(&mut self, row: &SourceRow) -> Result<()> {
        let Some(file) = &mut self.source else { return Ok(()) };
        file.columns.push(row);
        file.row()
    }

    pub(super) fn forced(&mut self, row: &ForcedRow) -> Result<()> {
        let Some(file) = &mut self.forced else { return Ok(()) };
        file.columns.push(row);
        file.row()
    }

    /// Closes the files; their bytes together.
    pub(super) fn finish(self) -> Result<u64> {
        let source = self.source.map(PartFile::finish).transpose()?.unwrap_or(0);
        let forced = self.forced.map(PartFile::finish).transpose()?.unwrap_or(0);
        Ok(self.object.finish()? + source + forced)
    }
}

/// The columns of a table being filled.
trait Columns: Default {
    fn fields() -> Vec<Field>;
    /// The rows so far, in the order of `fields`.
    fn take(&mut self) -> Vec<ArrayRef>;
}

struct PartFile<C> {
    path: PathBuf,
    writer: ArrowWriter<BufWriter<File>>,
    schema: SchemaRef,
    columns: C,
    rows: usize,
}

impl<C: Columns> PartFile<C> {
    fn create(path: &Path) -> Result<PartFile<C>> {
        let schema = Arc::new(Schema::new(C::fields()));
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::LZ4_RAW)
            .set_dictionary_enabled(false)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
        for field in schema.fields().iter().filter(|field| *field.data_type() == DataType::Utf8) {
            properties = properties.set_column_dictionary_enabled(ColumnPath::from(field.name().as_str()), true);
        }
        let file = File::create(path).at("create", path)?;
        let writer = ArrowWriter::try_new(
            BufWriter::with_capacity(1 << 20, file),
            Arc::clone(&schema),
            Some(properties.build()),
        )?;
        Ok(PartFile { path: path.to_owned(), writer, schema, columns: C::default(), rows: 0 })
    }

    /// A row has been pushed.
    fn row(&mut self) -> Result<()> {
        self.rows += 1;
        if self.rows >= BATCH_ROWS { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        self.rows = 0;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), self.columns.take())?;
        Ok(self.writer.write(&batch)?)
    }

    fn finish(mut self) -> Result<u64> {
        self.write()?;
        let file = self.writer.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error);
        let metadata = file.and_then(|file| file.metadata());
        Ok(metadata.at("write", &self.path)?.len())
    }
}

fn field(name: &str, data_type: DataType, nullable: bool) -> Field {
    Field::new(name, data_type, nullable)
}

fn array(column: impl arrow::array::Array + 'static) -> ArrayRef {
    Arc::new(column)
}

#[derive(Default)]
struct ObjectColumns {
    id: Int64Builder,
    ra: Float64Builder,
    dec: Float64Builder,
    pmra: Float64Builder,
    pmdec: Float64Builder,
    parallax: Float64Builder,
    mag: [Float32Builder; 6],
    error: [Float32Builder; 6],
    extendedness: Int16Builder,
    observations: Int32Builder,
}

impl ObjectColumns {
    fn push(&mut self, object: &Object, observations: i32) {
        self.id.append_value(object.id);
        self.ra.append_value(object.position.ra().0);
        self.dec.append_value(object.position.dec().0);
        self.pmra.append_option(object.motion.map(|motion| motion.pmra));
        self.pmdec.append_option(object.motion.map(|motion| motion.pmdec));
        self.parallax.append_option(object.motion.map(|motion| motion.parallax));
        // The mean of many visits is better than one of them.
        let gain = f64::from(observations.max(1)).sqrt();
        let builders = self.mag.iter_mut().zip(&mut self.error);
        for (band, ((mag, error), (value, missing))) in builders.zip(object.mag.iter().zip(object.missing)).enumerate()
        {
            mag.append_option((!missing).then_some(*value as f32));
            error.append_option((!missing).then_some((magnitude_error(band, *value) / gain) as f32));
        }
        self.extendedness.append_value(i16::from(object.extended));
        self.observations.append_value(observations);
    }
}

impl Columns for ObjectColumns {
    fn fields() -> Vec<Field> {
        let mut fields = vec![
            field("objectId", DataType::Int64, false),
            field("ra", DataType::Float64, false),
            field("dec", DataType::Float64, false),
            field("pmra", DataType::Float64, true),
            field("pmdec", DataType::Float64, true),
            field("parallax", DataType::Float64, true),
        ];
        for band in BANDS {
            fields.push(field(&format!("{band}Mag"), DataType::Float32, true));
            fields.push(field(&format!("{band}MagErr"), DataType::Float32, true));
        }
        fields.push(field("extendedness", DataType::Int16, false));
        fields.push(field("nObs", DataType::Int32, false));
        fields
    }

    fn take(&mut self) -> Vec<ArrayRef> {
        let mut columns = vec![
            array(self.id.finish()),
            array(self.ra.finish()),
            array(self.dec.finish()),
            array(self.pmra.finish()),
            array(self.pmdec.finish()),
            array(self.parallax.finish()),
        ];
        for (mag, error) in self.mag.iter_mut().zip(&mut self.error) {
            columns.push(array(mag.finish()));
            columns.push(array(error.finish()));
        }
        columns.push(array(self.extendedness.finish()));
        columns.push(array(self.observations.finish()));
        columns
    }
}

#[derive(Default)]
struct SourceColumns {
    id: Int64Builder,
    object: Int64Builder,
    ra: Float64Builder,
    dec: Float64Builder,
    mjd: Float64Builder,
    band: StringBuilder,
    mag: Float32Builder,
    mag_error: Float32Builder,
    flux: Float64Builder,
    flux_error: Float64Builder,
    flags: Int32Builder,
}

impl SourceColumns {
    fn push(&mut self, row: &SourceRow) {
        self.id.append_value(row.id);
        self.object.append_option(row.object);
        self.ra.append_value(row.position.ra().0);
        self.dec.append_value(row.position.dec().0);
        self.mjd.append_value(row.mjd);
        self.band.append_value(row.band);
        self.mag.append_option(row.mag.map(|(mag, _)| mag as f32));
        self.mag_error.append_option(row.mag.map(|(_, error)| error as f32));
        self.flux.append_option(row.flux.map(|(flux, _)| flux));
        self.flux_error.append_option(row.flux.map(|(_, error)| error));
        self.flags.append_value(row.flags);
    }
}

impl Columns for SourceColumns {
    fn fields() -> Vec<Field> {
        vec![
            field("sourceId", DataType::Int64, false),
            field("objectId", DataType::Int64, true),
            field("ra", DataType::Float64, false),
            field("dec", DataType::Float64, false),
            field("midPointTai", DataType::Float64, false),
            field("band", DataType::Utf8, false),
            field("mag", DataType::Float32, true),
            field("magErr", DataType::Float32, true),
            field("psfFlux", DataType::Float64, true),
            field("psfFluxErr", DataType::Float64, true),
            field("flags", DataType::Int32, false),
        ]
    }

    fn take(&mut self) -> Vec<ArrayRef> {
        vec![
            array(self.id.finish()),
            array(self.object.finish()),
            array(self.ra.finish()),
            array(self.dec.finish()),
            array(self.mjd.finish()),
            array(self.band.finish()),
            array(self.mag.finish()),
            array(self.mag_error.finish()),
            array(self.flux.finish()),
            array(self.flux_error.finish()),
            array(self.flags.finish()),
        ]
    }
}

#[derive(Default)]
struct ForcedColumns {
    object: Int64Builder,
    visit: Int64Builder,
    band: StringBuilder,
    mjd: Float64Builder,
    flux: Float64Builder,
    flux_error: Float64Builder,
}

impl ForcedColumns {
    fn push(&mut self, row: &ForcedRow) {
        self.object.append_option(row.object);
        self.visit.append_value(row.visit);
        self.band.append_value(row.band);
        self.mjd.append_value(row.mjd);
        self.flux.append_option(row.flux.map(|(flux, _)| flux));
        self.flux_error.append_option(row.flux.map(|(_, error)| error));
    }
}

impl Columns for ForcedColumns {
    fn fields() -> Vec<Field> {
        vec![
            field("objectId", DataType::Int64, true),
            field("ccdVisitId", DataType::Int64, false),
            field("band", DataType::Utf8, false),
            field("midPointTai", DataType::Float64, false),
            field("psfFlux", DataType::Float64, true),
            field("psfFluxErr", DataType::Float64, true),
        ]
    }

    fn take(&mut self) -> Vec<ArrayRef> {
        vec![
            array(self.object.finish()),
            array(self.visit.finish()),
            array(self.band.finish()),
            array(self.mjd.finish()),
            array(self.flux.finish()),
            array(self.flux_error.finish()),
        ]
    }
}
