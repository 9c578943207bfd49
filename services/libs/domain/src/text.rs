//! Characters that no reader sees and that change what a reader sees; names that read as they look.

/// The longest name of a thing or a person, in characters.
pub const NAME_MAX_CHARS: usize = 200;

/// Checks a name: one line that reads as it looks.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.trim().is_empty() || name.chars().all(joins) {
        return Err("must not be empty".into());
    }
    if name.trim() != name {
        return Err("must not begin or end with a space".into());
    }
    check_text(name, NAME_MAX_CHARS, |c| {
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || is_blank(c)
    })
}

/// Whether a character shows nothing, or an empty place, where a name has one: soft hyphens, spaces and operators of no width,
/// fillers of alphabets.
fn is_blank(c: char) -> bool {
    matches!(
        c,
        '\u{2060}'..='\u{2064}' | '\u{00AD}' | '\u{115F}' | '\u{1160}' | '\u{180E}'
    ) || matches!(c, '\u{200B}' | '\u{2800}' | '\u{3164}' | '\u{FFA0}')
}

/// Whether a character says how its neighbours are drawn, as scripts and emoji need it: alone it shows nothing.
fn joins(c: char) -> bool {
    matches!(c, '\u{200C}' | '\u{200D}' | '\u{FE00}'..='\u{FE0F}')
}

/// Checks a text: not too long, without what no reader sees, and without what `banned` says.
///
/// # Errors
/// What is wrong with it.
pub fn check_text(text: &str, most: usize, banned: fn(char) -> bool) -> Result<(), String> {
    let length = text.chars().count();
    if length > most {
        return Err(format!("has {length} characters; at most {most}"));
    }
    if text.chars().any(|c| banned(c) || is_hidden(c)) {
        return Err("has control characters, or invisible ones that change how it reads".into());
    }
    Ok(())
}

/// Whether a character is invisible, or turns the direction of text: it has no place in what people are shown.
/// Control characters are another matter ([`char::is_control`]).
#[must_use]
pub fn is_hidden(c: char) -> bool {
    matches!(
        c,
        // Arabic letter mark, left-to-right and right-to-left marks, embeddings, overrides, isolates.
        '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
        // Deprecated formatting, the byte order mark, interlinear annotations, tags.
        | '\u{206A}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_shows_something_and_nothing_else() {
        for name in [
            "a",
            "two words",
            "\u{645}\u{200C}\u{628}",
            "\u{2764}\u{FE0F}",
            &"x".repeat(200),
        ] {
            assert_eq!(check_name(name), Ok(()), "{name:?}");
        }
        for name in ["", " ", "\u{200D}", "\u{200C}\u{FE0F}"] {
            assert_eq!(
                check_name(name),
                Err("must not be empty".into()),
                "{name:?}"
            );
        }
        for name in [
            "a\u{200B}b",
            "\u{2060}",
            "a\u{00AD}b",
            "\u{3164}",
            "a\nb",
            "a\u{202E}b",
            " a",
            "a\u{2003}",
            &"x".repeat(201),
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        // A text of several lines may have soft hyphens.
        let text = check_text("a\u{00AD}b\n", 10, |c| c.is_control() && c != '\n');
        assert_eq!(text, Ok(()));
    }
}
