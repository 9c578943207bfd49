//! Whose grant it is, as far as limits need it. The gateway does not verify grants: this one came from identity a moment ago,
//! and the owners verify it for themselves.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use contract::grant::PrincipalKind;
use serde::Deserialize;
use uuid::Uuid;

/// The part of a grant's claims that is read here.
#[derive(Deserialize)]
struct Claims {
    sub: Uuid,
    kind: PrincipalKind,
}

/// The person who logged in; nothing for a key, which stands for itself.
#[must_use]
pub fn person(grant: &str) -> Option<Uuid> {
    let claims = grant.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    (claims.kind == PrincipalKind::User).then_some(claims.sub)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_found_and_a_key_is_none() {
        let grant = |claims: &str| format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims));
        let id = Uuid::now_v7();
        let of = |kind: &str| {
            person(&grant(&format!(
                r#"{{"sub":"{id}","kind":"{kind}","x":1}}"#
            )))
        };
        assert_eq!((of("USER"), of("API_KEY")), (Some(id), None));
        for wrong in ["", "a", "a.b", "a.b.c", &grant("{}"), &grant("[")] {
            assert_eq!(person(wrong), None, "{wrong}");
        }
    }
}
