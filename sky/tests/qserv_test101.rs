//! The stripe scheme against a catalog that Qserv itself partitioned (data/qserv/test101): every id and every
//! overlap row must come out the same.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use skyflight_sky::{Arcsec, ChunkId, Circle, Degrees, Location, Position, Region, Scheme, Stripes, SubChunkId};

/// A row of a chunk file: its object, where it is, and the chunk and sub-chunk Qserv wrote beside it.
struct Row {
    object: String,
    position: Position,
    location: Location,
}

fn rows(file: &str) -> Option<Vec<Row>> {
    let root =
        std::env::var_os("SKYFLIGHT_TEST_DATA").map_or_else(|| PathBuf::from("../../shared/data"), PathBuf::from);
    let path = root.join("qserv/test101/data/Object").join(file);
    if !path.exists() {
        eprintln!("skipped: no test data at {}", path.display());
        return None;
    }
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(path).unwrap();
    let rows = reader.records().map(|record| {
        let record = record.unwrap();
        let number = |i: usize| record[i].parse::<f64>().unwrap();
        let end = record.len();
        Row {
            object: record[0].to_owned(),
            position: Position::new(Degrees(number(2)), Degrees(number(4))).unwrap(),
            location: Location {
                chunk: record[end - 2].parse().unwrap(),
                sub_chunk: SubChunkId(record[end - 1].parse().unwrap()),
            },
        }
    });
    Some(rows.collect())
}

fn scheme() -> Stripes {
    Stripes::new(85, 12, Degrees(0.01667)).unwrap()
}

#[test]
fn chunk_and_sub_chunk_ids() {
    let Some(rows) = rows("chunk_7480.txt") else {
        return;
    };
    assert_eq!(rows.len(), 1000);
    let scheme = scheme();
    for row in &rows {
        assert_eq!(scheme.locate(row.position), row.location, "object {}", row.object);
    }
}

#[test]
fn overlap_rows() {
    let Some(objects) = rows("chunk_7480.txt") else {
        return;
    };
    let scheme = scheme();
    // What Qserv wrote: for each chunk, the (object, sub-chunk) pairs of its overlap.
    let mut expected = BTreeMap::new();
    for file in ["chunk_7310_overlap.txt", "chunk_7480_overlap.txt"] {
        for row in rows(file).unwrap() {
            let pairs: &mut Vec<_> = expected.entry(row.location.chunk).or_default();
            pairs.push((row.object, row.location.sub_chunk));
        }
    }
    let listed: Vec<usize> = expected.values().map(Vec::len).collect();
    assert_eq!(listed, [66, 91]);
    // What this crate says of every object of the data set, in every chunk.
    let mut found: BTreeMap<ChunkId, Vec<(String, SubChunkId)>> = BTreeMap::new();
    for row in &objects {
        for overlap in scheme.sub_chunk_overlaps(row.position) {
            found.entry(overlap.chunk).or_default().push((row.object.clone(), overlap.sub_chunk));
        }
    }
    for pairs in expected.values_mut().chain(found.values_mut()) {
        pairs.sort();
    }
    assert_eq!(found, expected);
}

#[test]
fn overlap_of_whole_chunks() {
    let Some(objects) = rows("chunk_7480.txt") else {
        return;
    };
    let scheme = scheme();
    let south = ChunkId(7310);
    let listed: BTreeSet<String> = rows("chunk_7310_overlap.txt").unwrap().into_iter().map(|row| row.object).collect();
    assert_eq!(listed.len(), 66);
    let mut chunks = Vec::new();
    for row in &objects {
        scheme.overlaps(row.position, &mut chunks);
        let expected: &[ChunkId] = if listed.contains(&row.object) { &[south] } else { &[] };
        assert_eq!(chunks, expected, "object {}", row.object);
        for chunk in scheme.neighbours(row.location.chunk).unwrap() {
            assert_eq!(scheme.in_overlap(chunk, row.position), chunks.contains(&chunk));
        }
        assert!(!scheme.in_overlap(row.location.chunk, row.position));
    }
}

#[test]
fn cones_on_objects_find_their_chunk() {
    let Some(objects) = rows("chunk_7480.txt") else {
        return;
    };
    let scheme = scheme();
    for row in &objects {
        let circle = Circle::new(row.position, Degrees::from(Arcsec(0.5))).unwrap();
        assert_eq!(scheme.cover(&Region::Circle(circle)), [ChunkId(7480)]);
    }
}
