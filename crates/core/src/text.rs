//! Makes a guest's text fit for logs, terminals and errors.

/// The most of a name that is shown, in bytes.
pub(crate) const NAME_BYTES: usize = 128;

/// Returns at most `max` bytes of a guest's text, all of it [printable](is_printable): other characters are written
/// as `\u{…}`, a cut ends in `…`.
pub(crate) fn printable(bytes: &[u8], max: usize) -> String {
    let mut text = String::new();
    let (bytes, cut) = match bytes.get(..max) {
        Some(head) if bytes.len() > max => (head, true),
        _ => (bytes, false),
    };
    for character in String::from_utf8_lossy(bytes).chars() {
        if is_printable(character) {
            text.push(character);
        } else {
            text.extend(character.escape_default());
        }
    }
    if cut {
        text.push('…');
    }
    text
}

/// Returns a name of the guest's in quotes, capped and printable.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", printable(name.as_bytes(), NAME_BYTES))
}

/// Whether a character can be shown as it is: it doesn't move a cursor, start a line or turn the writing direction, is
/// seen, and is no one's own or not yet anything.
pub fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    // The standard library's rule: neither control, format, private, unassigned nor a space of another kind. What
    // combines with a letter is only shown after one.
    let mut after_letter = [b'a', 0, 0, 0, 0];
    let length = 1 + character.encode_utf8(&mut after_letter[1..]).len();
    let is_shown = std::str::from_utf8(&after_letter[..length]).is_ok_and(|text| text.escape_debug().count() == 2);
    is_shown && !is_blank(character)
}

/// Whether a character counts as a letter or a mark and shows nothing.
fn is_blank(character: char) -> bool {
    matches!(character, '\u{34f}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{2800}' | '\u{3164}' | '\u{ffa0}' | '\u{e0100}'..='\u{e01ef}')
}

#[cfg(test)]
mod tests {
    use super::{is_printable, printable};

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable(b"a\x1b[31m\nb", 100), "a\\u{1b}[31m\\nb");
        assert_eq!(printable("x\u{202e}y".as_bytes(), 100), "x\\u{202e}y");
    }

    /// Tags, a soft hyphen, annotations, private and unassigned characters, blanks; letters, marks and emoji stay.
    #[test]
    fn what_cannot_be_seen_is_escaped() {
        for hidden in [
            '\u{ad}',
            '\u{a0}',
            '\u{61c}',
            '\u{200b}',
            '\u{200d}',
            '\u{2028}',
            '\u{2060}',
            '\u{2065}',
            '\u{206a}',
            '\u{3164}',
            '\u{e000}',
            '\u{feff}',
            '\u{fff9}',
            '\u{378}',
            '\u{e0041}',
            '\u{e0100}',
            '\u{10fffd}',
        ] {
            assert!(!is_printable(hidden), "{hidden:?}");
            assert_eq!(printable(format!("a{hidden}").as_bytes(), 9), format!("a{}", hidden.escape_unicode()));
        }
        for shown in ["é", "e\u{301}", "नमस्ते", "漢字", "العربية", "🙂", "\"'\\", "½ € ≠ → ─"]
        {
            assert_eq!(printable(shown.as_bytes(), 99), shown);
        }
    }

    #[test]
    fn bad_utf8_and_long_text_are_mended() {
        assert_eq!(printable(b"\xff", 10), "\u{fffd}");
        assert_eq!(printable(b"abcdef", 3), "abc…");
        assert_eq!(printable(b"abc", 3), "abc");
    }
}
