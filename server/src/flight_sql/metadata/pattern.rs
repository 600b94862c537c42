//! Search patterns of metadata commands: `%` is any text, `_` any character, `\` takes the next
//! character as it is. Names are found whatever their case, as in SQL.

/// A compiled filter.
#[derive(Debug)]
pub(super) struct Pattern {
    /// `None` lets everything pass.
    parts: Option<Vec<Part>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    AnyText,
    AnyCharacter,
    Character(char),
}

impl Pattern {
    /// No filter lets everything pass; an empty one only the empty name.
    pub(super) fn of_filter(filter: Option<&str>) -> Pattern {
        Pattern { parts: filter.map(compile) }
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        let Some(parts) = &self.parts else { return true };
        let name: Vec<char> = name.chars().map(fold).collect();
        // The usual walk with one step back: on a mismatch the last `%` takes one character more.
        let (mut at, mut part) = (0, 0);
        let mut last_any: Option<(usize, usize)> = None;
        while at < name.len() {
            let fits = match parts.get(part) {
                Some(Part::AnyText) => {
                    last_any = Some((part, at));
                    part += 1;
                    continue;
                }
                Some(Part::AnyCharacter) => true,
                Some(Part::Character(wanted)) => *wanted == name[at],
                None => false,
            };
            if fits {
                at += 1;
                part += 1;
            } else if let Some((any_part, any_at)) = last_any {
                last_any = Some((any_part, any_at + 1));
                at = any_at + 1;
                part = any_part + 1;
            } else {
                return false;
            }
        }
        parts[part..].iter().all(|rest| *rest == Part::AnyText)
    }
}

fn compile(filter: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut characters = filter.chars();
    while let Some(character) = characters.next() {
        parts.push(match character {
            '%' => Part::AnyText,
            '_' => Part::AnyCharacter,
            '\\' => Part::Character(fold(characters.next().unwrap_or('\\'))),
            other => Part::Character(fold(other)),
        });
    }
    parts
}

fn fold(character: char) -> char {
    character.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn patterns_match_as_in_the_specification() {
        let cases = [
            ("Object", "object", true),
            ("obj%", "Object", true),
            ("%ect", "Object", true),
            ("%b%c%", "Object", true),
            ("o_j_ct", "Object", true),
            ("o_ject_", "Object", false),
            ("%", "", true),
            ("", "", true),
            ("", "Object", false),
            ("_", "", false),
            (r"forced\_source", "forced_source", true),
            (r"forced\_source", "forcedXsource", false),
            ("forced_source", "forcedXsource", true),
            (r"100\%", "100%", true),
            (r"100\%", "1000", false),
            (r"\\", r"\", true),
            (r"a\", r"a\", true),
            ("%a%b", "aXaXbXb", true),
            ("a%a", "a", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(Pattern::of_filter(Some(pattern)).matches(name), expected, "{pattern} on {name}");
        }
        assert!(Pattern::of_filter(None).matches("anything"));
    }

    #[test]
    fn long_patterns_are_quick() {
        // Exponential for a matcher that tries every split.
        let pattern = "%a".repeat(30) + "%b";
        assert!(!Pattern::of_filter(Some(&pattern)).matches(&"a".repeat(5_000)));
    }
}
