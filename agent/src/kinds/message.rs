//! `message`: a text for whoever uses the machine, without what could deceive the reader.

use domain::action::MessagePayload;
use domain::text::is_hidden;
use serde_json::json;

use crate::kinds::Ending;
use crate::platform::{self, Notice};
use crate::policy::Policy;

/// The line above a text that comes without one.
const TITLE: &str = "Message from your administrator";

/// A text without control characters and without those that turn the reading direction; line breaks stay.
#[must_use]
pub fn sanitise(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => clean.push('\n'),
            '\t' => clean.push(' '),
            // Line and paragraph separator.
            '\u{2028}' | '\u{2029}' => clean.push('\n'),
            c if c.is_control() || is_hidden(c) => {}
            c => clean.push(c),
        }
    }
    clean
}

/// A notice made from a payload; `None` when nothing readable is left of it.
#[must_use]
pub fn notice(payload: &MessagePayload) -> Option<Notice> {
    let text = sanitise(&payload.message).trim().to_owned();
    let title = payload
        .title
        .as_deref()
        .map(|title| sanitise(title).replace('\n', " ").trim().to_owned());
    let title = title
        .filter(|title| !title.is_empty())
        .unwrap_or_else(|| TITLE.to_owned());
    (!text.is_empty()).then_some(Notice { title, text })
}

/// Shows it.
pub async fn show(payload: &MessagePayload, policy: &Policy) -> Ending {
    let Some(notice) = notice(payload) else {
        return Ending::failed(
            "payload-invalid",
            "payload.message: nothing readable is left without control characters",
        );
    };
    let shown = platform::show(&notice, policy).await;
    Ending::succeeded(json!({ "shownOn": shown.on.as_str(), "sessions": shown.sessions }))
}
