//! Makes a guest's text fit for logs, terminals and errors.

/// The most of a name that is shown, in bytes.
pub(crate) const NAME_BYTES: usize = 128;

/// Returns at most `max` bytes of a guest's text, in which nothing can move a cursor, start a line
/// or turn the writing direction: such characters are written as `\u{…}`, a cut ends in `…`.
pub(crate) fn printable(bytes: &[u8], max: usize) -> String {
    let mut text = String::new();
    let (bytes, cut) = match bytes.get(..max) {
        Some(head) if bytes.len() > max => (head, true),
        _ => (bytes, false),
    };
    for character in String::from_utf8_lossy(bytes).chars() {
        if is_plain(character) {
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

fn is_plain(character: char) -> bool {
    let turns_direction = matches!(character,
        '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    !character.is_control() && !turns_direction
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable(b"a\x1b[31m\nb", 100), "a\\u{1b}[31m\\nb");
        assert_eq!(printable("x\u{202e}y".as_bytes(), 100), "x\\u{202e}y");
    }

    #[test]
    fn bad_utf8_and_long_text_are_mended() {
        assert_eq!(printable(b"\xff", 10), "\u{fffd}");
        assert_eq!(printable(b"abcdef", 3), "abc…");
        assert_eq!(printable(b"abc", 3), "abc");
    }
}
