//! Which names are names, that their case does not matter, and which one was probably meant.

use crate::error::{CatalogError, Result};

/// The longest name of a database or table, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

// Schemas that Flight SQL clients find beside the databases.
const RESERVED_DATABASES: [&str; 2] = ["information_schema", "system"];

const MAX_WORKER_ID_BYTES: usize = 128;

/// Refuses what cannot name a database or table: anything but `[A-Za-z_][A-Za-z0-9_]*` of at most
/// [`MAX_NAME_BYTES`] bytes. `what` is the noun for the message.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let starts_well = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if starts_well && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && name.len() <= MAX_NAME_BYTES {
        return Ok(());
    }
    Err(CatalogError::Invalid(format!(
        "\"{}\" cannot name a {what}: use a letter or _ followed by letters, digits and _, at most {MAX_NAME_BYTES} in all",
        name.escape_debug()
    )))
}

pub(crate) fn check_database_name(name: &str) -> Result<()> {
    check_name("database", name)?;
    if RESERVED_DATABASES.contains(&key(name).as_str()) {
        return Err(CatalogError::Invalid(format!("the name \"{name}\" is reserved; choose another")));
    }
    Ok(())
}

pub(crate) fn check_worker_id(id: &str) -> Result<()> {
    let fits = !id.is_empty() && id.len() <= MAX_WORKER_ID_BYTES;
    if fits && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte)) {
        return Ok(());
    }
    Err(CatalogError::Invalid(format!(
        "\"{}\" cannot name a worker: use letters, digits, '.', '_', ':' and '-', at most {MAX_WORKER_ID_BYTES} in all",
        id.escape_debug()
    )))
}

/// What names are compared by.
pub(crate) fn key(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// The error for a name that is not among `existing`, with the nearest of them.
pub(crate) fn not_found<'a>(
    what: &'static str,
    name: &str,
    existing: impl IntoIterator<Item = &'a str>,
) -> CatalogError {
    CatalogError::NotFound { what, name: name.to_owned(), suggestion: nearest(name, existing).map(str::to_owned) }
}

/// The candidate fewest edits away, whatever the case; none when all need more than a third of the name changed.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A name this long is no typing error, and the distance is quadratic.
    if name.len() > 4 * MAX_NAME_BYTES {
        return None;
    }
    let wanted = key(name);
    let most = (wanted.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (edits(&wanted, &key(candidate)), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions and substitutions between two words (Levenshtein 1966).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, a) in from.chars().enumerate() {
        let mut left = row + 1;
        let mut current = vec![left];
        for (b, pair) in to.iter().zip(above.windows(2)) {
            let [diagonal, up] = [pair.first().copied().unwrap_or(0), pair.last().copied().unwrap_or(0)];
            left = (diagonal + usize::from(a != *b)).min(up + 1).min(left + 1);
            current.push(left);
        }
        above = current;
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distances_of_known_pairs() {
        for (a, b, distance) in
            [("kitten", "sitting", 3), ("saturday", "sunday", 3), ("", "abc", 3), ("abc", "", 3), ("same", "same", 0)]
        {
            assert_eq!(edits(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
        assert_eq!(nearest("objct", ["Source", "Object"]), Some("Object"));
        assert_eq!(nearest("OBJECTS", ["Source", "Object"]), Some("Object"));
        assert_eq!(nearest("xyz", ["Source", "Object"]), None);
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn names_follow_the_rules() {
        let longest = "a".repeat(MAX_NAME_BYTES);
        for good in ["a", "_", "dr1", "Object_Extra", longest.as_str()] {
            assert!(check_database_name(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(MAX_NAME_BYTES + 1);
        for bad in ["", "1a", "a-b", "a b", "a/b", "..", "é", "a\0", "Information_Schema", "SYSTEM", &too_long] {
            assert!(matches!(check_database_name(bad), Err(CatalogError::Invalid(_))), "{bad}");
        }
    }
}
