//! Secrets that people and programs carry: 32 random bytes behind a prefix that says what they open.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::store::Hash;

/// The fewest characters after the prefix of a secret that somebody else made.
const BODY_MIN_CHARS: usize = 24;
/// The characters of 32 bytes.
const BODY_CHARS: usize = 43;
/// The longest secret that is looked at.
const MAX_CHARS: usize = 256;

/// What a secret opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKind {
    /// `dfa_…`: a session, for a quarter of an hour.
    AccessToken,
    /// `dfr_…`: one refresh of a session.
    RefreshToken,
    /// `dfk_…`: an API key.
    ApiKey,
    /// `dfl_…`: a key of Dash-Fleet's agents and scripts.
    LegacyKey,
    /// `dfe_…`: an enrolment.
    EnrollmentToken,
    /// `dfi_…`: an invitation.
    Invitation,
    /// `dfp_…`: a new password.
    PasswordReset,
}

impl SecretKind {
    /// How a secret of this kind begins.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::AccessToken => "dfa_",
            Self::RefreshToken => "dfr_",
            Self::ApiKey => "dfk_",
            Self::LegacyKey => "dfl_",
            Self::EnrollmentToken => "dfe_",
            Self::Invitation => "dfi_",
            Self::PasswordReset => "dfp_",
        }
    }

    /// Whether a text says that it is of this kind.
    #[must_use]
    pub fn is_of(self, secret: &str) -> bool {
        secret.len() <= MAX_CHARS && secret.starts_with(self.prefix())
    }
}

/// A new secret.
#[must_use]
pub fn new(kind: SecretKind) -> String {
    let random: [u8; 32] = rand::random();
    format!("{}{}", kind.prefix(), URL_SAFE_NO_PAD.encode(random))
}

/// A family: what all refresh tokens of a session end with. Whoever shows it has, or had, one of them.
#[must_use]
pub fn new_family() -> String {
    let random: [u8; 32] = rand::random();
    URL_SAFE_NO_PAD.encode(random)
}

/// The family of a refresh token; nothing of a text that is none.
#[must_use]
pub fn family(refresh_token: &str) -> Option<&str> {
    let body = refresh_token.strip_prefix(SecretKind::RefreshToken.prefix())?;
    body.get(BODY_CHARS..)
        .filter(|family| family.len() == BODY_CHARS)
}

/// What is stored of a secret. It is random, so a slow hash would add nothing.
#[must_use]
pub fn hash(secret: &str) -> Hash {
    Sha256::digest(secret.as_bytes()).into()
}

/// Checks the form of a secret that somebody else made.
///
/// # Errors
/// What is wrong with it, without showing it.
pub fn check(kind: SecretKind, secret: &str) -> Result<(), String> {
    let prefix = kind.prefix();
    let body = secret
        .strip_prefix(prefix)
        .ok_or_else(|| format!("does not begin with `{prefix}`"))?;
    let takes = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if body.len() < BODY_MIN_CHARS || secret.len() > MAX_CHARS || !body.chars().all(takes) {
        return Err(format!(
            "needs {BODY_MIN_CHARS} or more letters, digits, `-` or `_` after `{prefix}`"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_secret_passes_its_own_check_and_no_other() {
        let key = new(SecretKind::ApiKey);
        assert_eq!(check(SecretKind::ApiKey, &key), Ok(()));
        assert!(check(SecretKind::EnrollmentToken, &key).is_err());
        assert!(check(SecretKind::ApiKey, "dfk_short").is_err());
        assert!(
            check(
                SecretKind::ApiKey,
                "dfk_with spaces in the middle of it all"
            )
            .is_err()
        );
        assert_ne!(key, new(SecretKind::ApiKey));
    }

    #[test]
    fn a_refresh_token_ends_with_its_family_and_nothing_else_has_one() {
        let (token, one) = (new(SecretKind::RefreshToken), new_family());
        assert_eq!(family(&format!("{token}{one}")), Some(one.as_str()));
        for none in [
            "",
            "dfr_",
            token.as_str(),
            &format!("{token}{one}x"),
            &format!("{}{one}", new(SecretKind::AccessToken)),
            &format!("dfr_{}\u{e9}{one}", "x".repeat(42)),
        ] {
            assert_eq!(family(none), None, "{none}");
        }
    }
}
