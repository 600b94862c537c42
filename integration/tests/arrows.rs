//! The arrows between crates go one way. What a crate may name is written here once; a dependency
//! that is not in the list fails, and so does a list that the manifests no longer need.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Each crate with the crates of the house it may name.
const ARROWS: [(&str, &[&str]); 10] = [
    ("sky", &[]),
    ("proto", &[]),
    ("client", &[]),
    ("integration", &[]),
    ("catalog", &["sky"]),
    ("engine", &["catalog", "proto", "sky"]),
    ("ingest", &["catalog", "proto", "sky"]),
    ("worker", &["catalog", "engine", "proto", "sky"]),
    ("server", &["catalog", "engine", "proto", "sky"]),
    ("skyflight", &["catalog", "client", "engine", "ingest", "proto", "server", "sky", "worker"]),
];

/// Libraries that only one room may use, with the rooms.
const ROOMS: [(&str, &[&str]); 5] = [
    ("datafusion", &["engine", "ingest", "worker", "server"]),
    ("datafusion-proto", &["engine"]),
    ("datafusion-distributed", &["engine"]),
    ("sqlx", &["catalog"]),
    ("cdshealpix", &["sky"]),
];

/// Cargo runs a test in the folder of its crate.
fn root() -> &'static Path {
    Path::new("..")
}

fn dependencies(member: &str) -> BTreeSet<String> {
    let path = root().join(member).join("Cargo.toml");
    let manifest: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
    let table = manifest.get("dependencies").and_then(|d| d.as_table());
    table.into_iter().flat_map(|t| t.keys().cloned()).collect()
}

#[test]
fn crates_name_only_those_below_them() {
    let allowed: BTreeMap<_, _> = ARROWS.into_iter().collect();
    let workspace: toml::Table = std::fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let members = workspace["workspace"]["members"].as_array().unwrap();
    assert_eq!(members.len(), allowed.len(), "a member without a place in the list of arrows");
    for member in members.iter().map(|m| m.as_str().unwrap()) {
        let may = allowed.get(member).unwrap_or_else(|| panic!("{member} has no place in the list of arrows"));
        let named = dependencies(member);
        let house = named.iter().filter_map(|d| d.strip_prefix("skyflight-"));
        for other in house {
            assert!(may.contains(&other), "{member} must not name {other}");
        }
    }
}

#[test]
fn libraries_stay_in_their_rooms() {
    for (library, rooms) in ROOMS {
        for (member, _) in ARROWS {
            let used = dependencies(member).contains(library);
            assert!(!used || rooms.contains(&member), "{member} must not use {library}; it belongs to {rooms:?}");
        }
    }
}

#[test]
fn there_is_no_room_for_odds_and_ends() {
    for (member, _) in ARROWS {
        assert!(!["common", "utils", "util", "helpers"].contains(&member));
    }
}
