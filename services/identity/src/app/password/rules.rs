//! Which passwords are taken: long ones that are not the first that somebody else would try.

use contract::Problem;

/// The shortest and the longest password, in bytes.
pub const MIN_BYTES: usize = 12;
/// The longest password, in bytes.
pub const MAX_BYTES: usize = 1_024;

/// The commonest of those that are long enough, in lower case and without what is not a letter or a digit.
const COMMON: [&str; 40] = [
    "000000000000",
    "111111111111",
    "112233445566",
    "121212121212",
    "123123123123",
    "1234567890",
    "123456789012",
    "1234567890123",
    "123456123456",
    "123qweasdzxc",
    "1q2w3e4r5t6y",
    "1q2w3e4r5t6y7u",
    "1qaz2wsx3edc",
    "1qaz2wsx3edc4rfv",
    "abcdefghijkl",
    "abcdefghijklmnop",
    "abc123abc123",
    "adminadmin",
    "adminadminadmin",
    "administrator",
    "changemechangeme",
    "correcthorsebatterystaple",
    "dashfleet",
    "dashfleetdashfleet",
    "iloveyouiloveyou",
    "letmeinletmein",
    "monkeymonkey",
    "passw0rdpassw0rd",
    "password",
    "passwordpassword",
    "q1w2e3r4t5y6",
    "qazwsxedcrfv",
    "qwertyqwerty",
    "qwertyuiop",
    "qwertyuiopasdfgh",
    "qwertyuiopasdfghjkl",
    "supersecret",
    "topsecretpassword",
    "trustno1trustno1",
    "welcomewelcome",
];

/// What people add at an end to satisfy a rule says nothing: `Password-1234!` is `password`.
fn bare(text: &str) -> String {
    let text: String = text
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric())
        .collect();
    let letters = text.trim_matches(|c: char| c.is_ascii_digit());
    // All digits is a text of its own.
    if letters.is_empty() {
        text
    } else {
        letters.to_owned()
    }
}

/// Checks a new password of the person of this address and name. `path` is the field that it came in.
///
/// # Errors
/// INVALID naming the field, in words that help to choose another.
pub fn check(path: &str, password: &str, email: &str, name: &str) -> Result<(), Problem> {
    let invalid = |message: String| Err(Problem::invalid(path, message));
    let bytes = password.len();
    if bytes < MIN_BYTES {
        return invalid(format!(
            "has {bytes} bytes; at least {MIN_BYTES}: a few words are easy to remember and hard to guess"
        ));
    }
    if bytes > MAX_BYTES {
        return invalid(format!("has {bytes} bytes; at most {MAX_BYTES}"));
    }
    let whole = password.to_lowercase();
    let bare_password = bare(password);
    let local = email.split('@').next().unwrap_or(email);
    let own = [email, local, name]
        .iter()
        .any(|own| !own.is_empty() && (whole == own.to_lowercase() || bare_password == bare(own)));
    if own {
        return invalid("is the person's own name or address".to_owned());
    }
    let mut characters = password.chars();
    let first = characters.next();
    if characters.all(|c| Some(c) == first) {
        return invalid("is one character again and again".to_owned());
    }
    let alphanumeric: String = whole.chars().filter(|c| c.is_alphanumeric()).collect();
    if COMMON.contains(&bare_password.as_str()) || COMMON.contains(&alphanumeric.as_str()) {
        return invalid("is one of the first that anybody would try".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMAIL: &str = "margaret.hamilton@example.org";
    const NAME: &str = "Margaret Hamilton";

    #[test]
    fn good_passwords_are_taken() {
        for password in [
            "correct horse battery",
            "twelve bytes",
            "pässwörter!",
            "hamilton wrote it",
            &"ab".repeat(512),
        ] {
            assert_eq!(
                check("password", password, EMAIL, NAME),
                Ok(()),
                "{password}"
            );
        }
    }

    #[test]
    fn each_bad_password_is_refused_in_its_own_words() {
        for (password, words) in [
            ("", "at least 12"),
            ("eleven byte", "at least 12"),
            (&"ab".repeat(513), "at most 1024"),
            ("Margaret.Hamilton", "own name"),
            ("margaret.hamilton@example.org", "own name"),
            ("Margaret Hamilton 1969!", "own name"),
            ("aaaaaaaaaaaaaaaa", "again and again"),
            ("password1234", "first that anybody"),
            ("Password-2026!", "first that anybody"),
            ("123456789012", "first that anybody"),
            ("1q2w3e4r5t6y", "first that anybody"),
            ("correct horse battery staple", "first that anybody"),
        ] {
            let refused = check("newPassword", password, EMAIL, NAME);
            let refused = refused.map_err(|problem| (problem.errors.len(), problem.detail));
            assert!(
                matches!(&refused, Err((1, text)) if text.starts_with("newPassword: ") && text.contains(words)),
                "{password}: {refused:?}"
            );
        }
    }
}
