//! The words of a line as `iptables-save` prints it and `iptables-restore` takes it.

/// Takes a line apart: words are separated by blanks, and may be quoted.
pub fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = None;
    let mut quoted = false;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_with(String::new);
            }
            ' ' if !quoted => words.extend(word.take()),
            '\\' => {
                let escaped = letters.next().unwrap_or(letter);
                word.get_or_insert_with(String::new).push(escaped);
            }
            _ => word.get_or_insert_with(String::new).push(letter),
        }
    }
    words.extend(word);
    words
}

/// A word as it has to be written.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '\'' | '#');
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotes_are_taken_off() {
        let line = r#"-m comment --comment "dnat name: \"n\" id: \"c\"" -j X"#;
        assert_eq!(
            split(line),
            [
                "-m",
                "comment",
                "--comment",
                r#"dnat name: "n" id: "c""#,
                "-j",
                "X"
            ]
        );
        assert_eq!(split(r#"a  "" b"#), ["a", "", "b"]);
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_split_again(words in prop::collection::vec("[^\u{0}-\u{1f}]{0,8}", 0..5)) {
            let line: Vec<String> = words.iter().map(|word| quote(word)).collect();
            prop_assert_eq!(split(&line.join(" ")), words);
        }

        #[test]
        fn any_line_can_be_split(line: String) {
            drop(split(&line));
        }
    }
}
