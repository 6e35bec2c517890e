//! The same JSON in another spelling: other space between its parts, other escapes. Text and numbers stay as they are written, and members in their order, so that
//! what is signed byte for byte can be looked for among the ways to write it.

/// Deeper parts are indented no further: the text stays in proportion to what it is of.
const INDENTS_MAX: usize = 32;

/// What stands between the parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spelling {
    comma: &'static str,
    colon: &'static str,
    /// A line for each part, this much further in with each level.
    indent: Option<&'static str>,
}

impl Spelling {
    /// Nothing.
    pub(crate) const COMPACT: Self = Self { comma: ",", colon: ":", indent: None };
    /// A space behind each comma and colon, as Python writes it.
    pub(crate) const SPACED: Self = Self { comma: ", ", colon: ": ", indent: None };

    /// A line for each part.
    #[must_use]
    pub(crate) const fn lines(indent: &'static str) -> Self {
        Self { comma: ",", colon: ": ", indent: Some(indent) }
    }

    /// `json` so spelled. What is no JSON becomes something else that is none.
    #[must_use]
    pub(crate) fn of(self, json: &str) -> String {
        let mut text = String::with_capacity(json.len());
        let (mut depth, mut within, mut escaped, mut opened) = (0_usize, false, false, false);
        for sign in json.chars() {
            if within {
                text.push(sign);
                within = escaped || sign != '"';
                escaped = !escaped && sign == '\\';
                continue;
            }
            if sign.is_ascii_whitespace() {
                continue;
            }
            let closes = matches!(sign, '}' | ']');
            depth = depth.saturating_sub(usize::from(closes));
            // Nothing stands within what is empty.
            if closes != opened {
                self.new_line(&mut text, depth);
            }
            opened = matches!(sign, '{' | '[');
            depth = depth.saturating_add(usize::from(opened));
            match sign {
                ',' => {
                    text.push_str(self.comma);
                    self.new_line(&mut text, depth);
                }
                ':' => text.push_str(self.colon),
                _ => {
                    within = sign == '"';
                    text.push(sign);
                }
            }
        }
        text
    }

    fn new_line(self, text: &mut String, depth: usize) {
        if let Some(indent) = self.indent {
            text.push('\n');
            text.extend(std::iter::repeat_n(indent, depth.min(INDENTS_MAX)));
        }
    }
}

/// `json` with what need not be escaped as itself: `\/` is `/`, and `\u00e9` is `é`.
#[must_use]
pub(crate) fn unescaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let (length, sign) = escape(rest);
        match sign {
            Some(sign) => text.push(sign),
            None => text.push_str(&rest[..length]),
        }
        rest = &rest[length..];
    }
    text + rest
}

/// The length of the escape at the beginning, in bytes, and what it stands for if that can stand for itself.
fn escape(text: &str) -> (usize, Option<char>) {
    let unit = |at: usize| u16::from_str_radix(text.get(at..at + 6)?.strip_prefix("\\u")?, 16).ok();
    if text.starts_with("\\/") {
        return (2, Some('/'));
    }
    let Some(first) = unit(0) else { return (1 + text[1..].chars().next().map_or(0, char::len_utf8), None) };
    match char::decode_utf16([first].into_iter().chain(unit(6))).next() {
        Some(Ok(sign)) if sign >= ' ' && !matches!(sign, '"' | '\\') => (6 * sign.len_utf16(), Some(sign)),
        _ => (6, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_itself_in_every_spelling() {
        for json in [r#"{"a":{"b":[1,2,{}],"c":"x{,}\"]:\\"},"d":9007199254740993,"e":[]}"#, "{}", r#"[{"a":null},true]"#, "\"a b\"", "7"] {
            for spelling in [Spelling::COMPACT, Spelling::SPACED, Spelling::lines("  "), Spelling::lines("\t")] {
                let spelled = spelling.of(json);
                assert_eq!(Spelling::COMPACT.of(&spelled), json, "{spelled}");
                assert_eq!(spelling.of(&spelled), spelled);
            }
        }
        let json = r#"{"b":{"c":"}"},"a":[1, 2]}"#;
        assert_eq!(Spelling::lines("  ").of(json), "{\n  \"b\": {\n    \"c\": \"}\"\n  },\n  \"a\": [\n    1,\n    2\n  ]\n}");
        assert_eq!(Spelling::SPACED.of(json), r#"{"b": {"c": "}"}, "a": [1, 2]}"#);
    }

    /// As serde's own, which writes values of all kinds so.
    #[test]
    fn lines_are_those_that_others_write() {
        let value = serde_json::json!({ "a": [], "b": [{}, { "c": [1, "x"] }], "d": null });
        assert_eq!(Spelling::lines("  ").of(&value.to_string()), serde_json::to_string_pretty(&value).unwrap());
    }

    #[test]
    fn what_is_nested_deeply_stays_small() {
        let deep = "[".repeat(10_000);
        assert!(Spelling::lines("    ").of(&deep).len() < 10_000 * (4 * INDENTS_MAX + 2));
    }

    #[test]
    fn escapes_that_are_not_needed_are_undone() {
        for (json, plain) in [
            (r#""https:\/\/a\u00e9\ud83d\ude00""#, r#""https://aé😀""#),
            (r#""\u0022\u005c\u000a\n\"\\/\\u00e9""#, r#""\u0022\u005c\u000a\n\"\\/\\u00e9""#),
            // No characters at all.
            (r#""\ud83d x\ude00\u00""#, r#""\ud83d x\ude00\u00""#),
            ("\"\\é", "\"\\é"),
            ("\\", "\\"),
        ] {
            assert_eq!(unescaped(json), plain);
        }
    }
}
