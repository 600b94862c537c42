//! The store without a network; the rest of it is tested from the outside (`tests/worker/put.rs`).

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn write(data: &Path, name: &str, content: &[u8]) {
    let path = data.join("chunks").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn a_start_finds_what_is_there_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "dr1/Object/16/4294967297.parquet", b"12345");
    write(folder.path(), "dr1/Object/16/4294967298.overlap.parquet", b"123");
    write(folder.path(), "dr1/Band/everywhere/4294967299.parquet", b"1");
    write(folder.path(), "dr1/Object/16/readme.txt", b"no chunk file");
    write(folder.path(), "dr1/Object/no-chunk/4294967300.parquet", b"in no chunk");
    write(folder.path(), ".incoming/x.part", b"half");

    let store = ChunkStore::open(folder.path()).unwrap();
    assert_eq!(store.totals(), (3, 9));
    assert!(!folder.path().join("chunks/.incoming/x.part").exists());
    let find = |database, table, chunk, file, kind| store.find(database, table, ChunkId(chunk), FileId(file), kind);
    let found = find("dr1", "Object", 16, 4_294_967_297, FileKind::Rows).unwrap();
    assert_eq!((fs::read(found.path).unwrap(), found.bytes), (b"12345".to_vec(), 5));
    let found = find("DR1", "object", 16, 4_294_967_298, FileKind::Overlap).unwrap();
    assert_eq!((fs::read(found.path).unwrap(), found.bytes), (b"123".to_vec(), 3));
    assert!(find("dr1", "Band", u64::MAX, 4_294_967_299, FileKind::Rows).is_some());

    for (database, table, chunk, file, kind) in [
        ("dr2", "Object", 16, 4_294_967_297, FileKind::Rows),
        ("dr1", "Source", 16, 4_294_967_297, FileKind::Rows),
        ("dr1", "Object", 17, 4_294_967_297, FileKind::Rows),
        ("dr1", "Object", 16, 4_294_967_296, FileKind::Rows),
        ("dr1", "Object", 16, 4_294_967_297, FileKind::Overlap),
    ] {
        assert_eq!(find(database, table, chunk, file, kind), None, "{database} {table} {chunk} {file} {kind:?}");
    }
    assert!(matches!(store.receipt(FileId(4_294_967_297)), Err(WorkerError::Corrupt(_))), "no Parquet file");
    assert_eq!(store.receipt(FileId(7)).unwrap(), None);

    assert_eq!(store.drop_transaction(TransactionId(1)).unwrap(), 3);
    assert_eq!(store.totals(), (0, 0));
    assert!(folder.path().join("chunks/dr1/Object/16/readme.txt").exists());
}
