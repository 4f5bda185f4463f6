//! Fills a post's excerpt from the beginning of its body.

use fuseboard_guest::{Error, filter, settings};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
struct Post {
    title: String,
    body: String,
    excerpt: Option<String>,
}

#[derive(Deserialize)]
struct Settings {
    length: usize,
}

#[filter]
fn post_excerpt(post: Post) -> Result<Option<Post>, Error> {
    if post.excerpt.is_some() {
        return Ok(None);
    }
    let Settings { length } = settings()?;
    let excerpt = Some(excerpt(&post.body, length));
    Ok(Some(Post { excerpt, ..post }))
}

/// Returns whole sentences that fit into so many characters, or as many words of the first one with an ellipsis.
fn excerpt(body: &str, length: usize) -> String {
    let text = body.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some((end, _)) = text.char_indices().nth(length) else { return text };
    let sentences = sentence_ends(&text).take_while(|&at| at <= end).last();
    match sentences {
        Some(at) => text[..at].to_owned(),
        None => words(&text, length),
    }
}

/// Returns where sentences end: behind a mark that a space follows.
fn sentence_ends(text: &str) -> impl Iterator<Item = usize> {
    const MARKS: [char; 5] = ['.', '!', '?', '…', '。'];
    let marks = text.char_indices().filter(|(_, character)| MARKS.contains(character));
    marks.map(|(at, mark)| at + mark.len_utf8()).filter(|&at| text[at..].starts_with(' '))
}

/// Returns as many whole words as fit with an ellipsis, or a part of the first one.
fn words(text: &str, length: usize) -> String {
    let Some(room) = length.checked_sub(1) else { return String::new() };
    let end = text.char_indices().nth(room).map_or(text.len(), |(at, _)| at);
    let at_words_end = if text[end..].starts_with(' ') { Some(end) } else { text[..end].rfind(' ') };
    format!("{}…", &text[..at_words_end.unwrap_or(end)])
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn short_bodies_are_their_own_excerpts() {
        assert_eq!(excerpt("One  line.\nAnother.", 160), "One line. Another.");
        assert_eq!(excerpt("", 160), "");
    }

    #[test]
    fn whole_sentences_are_kept() {
        assert_eq!(excerpt("One. Two! Three is longer.", 12), "One. Two!");
        assert_eq!(excerpt("Version 1.2 is out. It has more.", 20), "Version 1.2 is out.");
    }

    #[test]
    fn a_long_sentence_ends_at_a_words_end() {
        assert_eq!(excerpt("Words come before sentences end", 12), "Words come…");
        assert_eq!(excerpt("Words come before sentences end", 11), "Words come…");
        assert_eq!(excerpt("Words come before sentences end", 10), "Words…");
    }

    #[test]
    fn characters_are_counted_not_bytes() {
        assert_eq!(excerpt("Übergrößen für Ärzte und Köche", 15), "Übergrößen für…");
        assert_eq!(excerpt("日本語の長い文章", 5), "日本語の…");
        assert_eq!(excerpt("🦀🦀🦀🦀", 2), "🦀…");
    }

    #[test]
    fn no_room_gives_nothing() {
        assert_eq!(excerpt("Words", 0), "");
        assert_eq!(excerpt("Words", 1), "…");
    }
}
