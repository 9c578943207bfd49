//! Characters that no reader sees and that change what a reader sees.

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
