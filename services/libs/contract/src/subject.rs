//! Subjects: built and read in this one place.
//!
//! A token is a UUID without hyphens or matches `[a-z0-9-]+`; anything else is escaped by [`escape`].

use domain::{ActionId, MachineId, OrgId};

/// Makes any text one subject token: `[a-z0-9-]` stays, every other byte becomes `_` and two hexadecimal digits.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut token = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => token.push(char::from(byte)),
            _ => token.push_str(&format!("_{byte:02x}")),
        }
    }
    if token.is_empty() {
        "_".to_owned()
    } else {
        token
    }
}

/// The text that [`escape`] made into this token; `None` for a token that it never makes.
#[must_use]
pub fn unescape(token: &str) -> Option<String> {
    if token == "_" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => bytes.push(byte),
            b'_' => {
                let digits = [rest.next()?, rest.next()?];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            _ => return None,
        }
    }
    String::from_utf8(bytes).ok()
}

/// Whether a concrete subject is one that a subscription to `pattern` (`*`, `>`) should bring.
#[must_use]
pub fn matches(pattern: &str, subject: &str) -> bool {
    let mut subject = subject.split('.');
    let mut pattern = pattern.split('.');
    loop {
        match (pattern.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if !token.is_empty() => {}
            (Some(expected), Some(token)) if expected == token => {}
            _ => return false,
        }
    }
}

/// What an agent says upwards; the last token of `df.up.<org>.<machine>.<word>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Up {
    /// Samples; metrics answers after commit.
    Metrics,
    /// An order is in the journal; action answers after commit.
    Accepted,
    /// An order began; action answers after commit.
    Started,
    /// An order ended; action answers after commit.
    Result,
    /// What have I missed? Action answers with a signed page.
    Sync,
    /// Hardware and system; metrics answers after commit.
    Inventory,
    /// A clean stop; metrics answers after commit.
    Stopping,
}

impl Up {
    /// The token.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Accepted => "accepted",
            Self::Started => "started",
            Self::Result => "result",
            Self::Sync => "sync",
            Self::Inventory => "inventory",
            Self::Stopping => "stopping",
        }
    }

    /// The pattern by which the owning service hears all agents.
    #[must_use]
    pub fn pattern(self) -> String {
        format!("df.up.*.*.{}", self.as_str())
    }
}

/// `df.up.<org>.<machine>.<word>`
#[must_use]
pub fn up(org: OrgId, machine: MachineId, word: Up) -> String {
    format!(
        "df.up.{}.{}.{}",
        org.token(),
        machine.token(),
        word.as_str()
    )
}

/// The organisation and machine that a `df.up` subject names. The server's permissions fix both, so they can be
/// believed, unlike anything in the body.
#[must_use]
pub fn up_sender(subject: &str) -> Option<(OrgId, MachineId)> {
    let mut tokens = subject.strip_prefix("df.up.")?.split('.');
    Some((tokens.next()?.parse().ok()?, tokens.next()?.parse().ok()?))
}

/// `df.act.<org>.<machine>.<verb>`; verbs are [`crate::order::Verb`].
#[must_use]
pub fn act(org: OrgId, machine: MachineId, verb: crate::order::Verb) -> String {
    format!(
        "df.act.{}.{}.{}",
        org.token(),
        machine.token(),
        verb.as_str()
    )
}

/// What an agent subscribes: `df.act.<org>.<machine>.*`
#[must_use]
pub fn act_all(org: OrgId, machine: MachineId) -> String {
    format!("df.act.{}.{}.*", org.token(), machine.token())
}

/// `df.evt.<org>.<noun>.<verb>`
#[must_use]
pub fn event(org: OrgId, noun: &str, verb: &str) -> String {
    format!("df.evt.{}.{}.{}", org.token(), escape(noun), escape(verb))
}

/// `df.live.<org>.<noun>.<id>`
#[must_use]
pub fn live(org: OrgId, noun: &str, id: &str) -> String {
    format!("df.live.{}.{}.{}", org.token(), escape(noun), escape(id))
}

/// `df.up.<org>.<machine>.output.<action>`
#[must_use]
pub fn output(org: OrgId, machine: MachineId, action: ActionId) -> String {
    format!(
        "df.up.{}.{}.output.{}",
        org.token(),
        machine.token(),
        action.token()
    )
}

/// The inbox prefix of an agent; replies to it go nowhere else.
#[must_use]
pub fn agent_inbox(org: OrgId, machine: MachineId) -> String {
    format!("_INBOX.a.{}.{}", org.token(), machine.token())
}

/// The inbox prefix of a service.
#[must_use]
pub fn service_inbox(service: &str) -> String {
    format!("_INBOX.s.{service}")
}

/// The name of an agent's NATS user, by which presence and the kick know it: `<org>.<machine>`.
#[must_use]
pub fn agent_user(org: OrgId, machine: MachineId) -> String {
    format!("{}.{}", org.token(), machine.token())
}

/// The organisation and machine of an agent's NATS user name; `None` for a service's.
#[must_use]
pub fn agent_of_user(user: &str) -> Option<(OrgId, MachineId)> {
    let (org, machine) = user.split_once('.')?;
    Some((org.parse().ok()?, machine.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_survives_the_codec() {
        for text in ["", "noop", "Data.Synced", "a*b>c", "ä ö", "_", "x_41"] {
            let token = escape(text);
            assert!(!token.contains(['.', '*', '>', ' ']), "{token}");
            assert_eq!(unescape(&token).as_deref(), Some(text));
        }
        assert_eq!(unescape("A"), None);
        assert_eq!(unescape("_4"), None);
    }

    #[test]
    fn patterns_match_as_the_server_matches() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("*.b", "a.b", true),
            ("a.*", "a.", false),
        ] {
            assert_eq!(matches(pattern, subject), expected, "{pattern} {subject}");
        }
    }

    #[test]
    fn the_sender_is_read_from_the_subject() {
        let (org, machine) = (OrgId::new(), MachineId::new());
        assert_eq!(up_sender(&up(org, machine, Up::Sync)), Some((org, machine)));
        assert_eq!(up_sender("df.up.x.y.sync"), None);
        assert_eq!(
            agent_of_user(&agent_user(org, machine)),
            Some((org, machine))
        );
    }
}
