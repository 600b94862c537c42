//! deny.toml holds: every dependency has a licence that goes with Apache-2.0, comes from the registry,
//! and none is banned. `cargo deny` says the same, and more, where it is installed.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

/// What deny.toml says.
struct Rules {
    allowed: Vec<String>,
    banned: Vec<String>,
}

impl Rules {
    fn read() -> Rules {
        let text = std::fs::read_to_string("../deny.toml").unwrap();
        let rules: toml::Table = text.parse().unwrap();
        let texts = |list: &toml::Value, key: Option<&str>| -> Vec<String> {
            let of = |entry: &toml::Value| key.map_or(entry.clone(), |key| entry[key].clone());
            list.as_array().unwrap().iter().map(|entry| of(entry).as_str().unwrap().to_owned()).collect()
        };
        Rules {
            allowed: texts(&rules["licenses"]["allow"], None),
            banned: texts(&rules["bans"]["deny"], Some("crate")),
        }
    }

    /// True where an SPDX expression can be met with allowed licences only.
    fn allow(&self, expression: &str) -> bool {
        let expression = expression.trim();
        if let Some(parts) = split(expression, " AND ") {
            return parts.iter().all(|p| self.allow(p));
        }
        if let Some(parts) = split(expression, " OR ").or_else(|| split(expression, "/")) {
            return parts.iter().any(|p| self.allow(p));
        }
        match expression.strip_prefix('(').and_then(|e| e.strip_suffix(')')) {
            Some(inner) => self.allow(inner),
            None => self.allowed.iter().any(|allowed| allowed == expression),
        }
    }
}

/// Splits at an operator outside parentheses; `None` where there is none.
fn split<'a>(expression: &'a str, operator: &str) -> Option<Vec<&'a str>> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in expression.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && at >= start && expression[at..].starts_with(operator) => {
                parts.push(&expression[start..at]);
                start = at + operator.len();
            }
            _ => {}
        }
    }
    (!parts.is_empty()).then(|| {
        parts.push(&expression[start..]);
        parts
    })
}

#[test]
fn expressions_are_read() {
    let rules = Rules::read();
    assert!(rules.allow("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(rules.allow("GPL-3.0 OR MIT"));
    assert!(rules.allow("MIT/Apache-2.0"));
    assert!(!rules.allow("GPL-3.0"));
    assert!(!rules.allow("MIT AND GPL-3.0"));
    assert!(!rules.allow("(GPL-3.0 OR LGPL-3.0) AND MIT"));
}

#[test]
fn dependencies_may_be_used() {
    let arguments = ["metadata", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"];
    let output = Command::new(env!("CARGO")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 200, "{} packages are too few to be all", packages.len());
    let rules = Rules::read();
    let mut faults = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let licence = package["license"].as_str().unwrap_or("none");
        let source = package["source"].as_str();
        if !rules.allow(licence) {
            faults.push(format!("{name}: licence {licence}"));
        }
        if rules.banned.iter().any(|banned| banned == name) {
            faults.push(format!("{name} is banned"));
        }
        if source.is_none() != name.starts_with("skyflight") || source.is_some_and(|s| !s.starts_with("registry+")) {
            faults.push(format!("{name} comes from {source:?}"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}
