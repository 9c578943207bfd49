//! Characters that no reader sees and that change what a reader sees; names that read as they look.

/// The longest name of a thing or a person, in characters.
pub const NAME_MAX_CHARS: usize = 200;

/// Checks a name: one line that reads as it looks.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.trim().is_empty() {
        return Err("must not be empty".into());
    }
    if name.trim() != name {
        return Err("must not begin or end with a space".into());
    }
    check_text(name, NAME_MAX_CHARS, |c| {
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
    })
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
