//! Messages about people, organisations, keys and tokens, with every field set.

use contract::identity::{
    ApiKey, ApiKeyCreate, ApiKeyCreated, ApiKeyPage, EnrollmentToken, EnrollmentTokenCreate,
    EnrollmentTokenCreated, EnrollmentTokenPage, Invitation, InvitationAccept, InvitationPage,
    Invited, KeyKind, Member, MemberInvite, MemberPage, OneTimeLink, Organization,
    OrganizationCreate, OrganizationPage, PasswordChange, PasswordForgot, PasswordReset, Session,
    SessionPage, Switch,
};
use dashfleet_gateway::inbound::{key, member, organization};
use domain::access::Role;
use domain::{CredentialId, OrgId, UserId};
use serde_json::json;
use uuid::Uuid;

use super::{documented, taken, text, time};
use crate::standin::HERE;

fn here() -> Uuid {
    HERE.parse().unwrap()
}

pub fn session() -> Session {
    Session {
        id: CredentialId(here()),
        organization_id: OrgId::new(),
        address: Some(text("192.0.2.1")),
        user_agent: Some(text("curl/8")),
        created_at: time(),
        last_used_at: Some(time()),
        expires_at: time(),
        current: true,
    }
}

pub fn organization() -> Organization {
    Organization {
        id: OrgId(here()),
        name: text("default"),
        role: Some(Role::Owner),
        legacy_enabled: true,
        created_at: time(),
        closed_at: Some(time()),
    }
}

pub fn member() -> Member {
    Member {
        id: UserId(here()),
        email: text("a@example.org"),
        name: text("Ann"),
        role: Role::Admin,
        joined_at: time(),
        last_seen_at: Some(time()),
    }
}

pub fn invited() -> Invited {
    let invitation = Invitation {
        id: here(),
        email: text("b@example.org"),
        role: Role::Viewer,
        created_at: time(),
        expires_at: time(),
        mail_pending: false,
    };
    Invited {
        invitation,
        link: Some(text("/invitation#dfi_x")),
    }
}

pub fn one_time_link() -> OneTimeLink {
    OneTimeLink {
        link: Some(text("/password-reset#dfp_x")),
        expires_at: time(),
    }
}

pub fn api_key() -> ApiKeyCreated {
    let api_key = ApiKey {
        id: CredentialId(here()),
        name: text("ci"),
        kind: KeyKind::Api,
        role: Some(Role::Operator),
        scopes: Some(vec![text("machines:read")]),
        networks: Some(vec![text("10.0.0.0/8")]),
        machine_cap: Some(3),
        expires_at: Some(time()),
        created_by: Some(UserId::new()),
        created_at: time(),
        last_used_at: Some(time()),
        revoked_at: Some(time()),
    };
    ApiKeyCreated {
        api_key,
        key: text("dfk_x"),
    }
}

pub fn enrollment_token() -> EnrollmentTokenCreated {
    let enrollment_token = EnrollmentToken {
        id: here(),
        name: text("rack 4"),
        labels: [(text("env"), text("prod"))].into(),
        uses: 10,
        uses_left: 9,
        hourly_cap: Some(5),
        created_by: Some(Uuid::now_v7()),
        created_at: time(),
        expires_at: time(),
        revoked_at: Some(time()),
    };
    EnrollmentTokenCreated {
        enrollment_token,
        token: text("dfe_x"),
    }
}

#[test]
fn what_identity_sends_about_people_is_what_the_document_says() {
    let next_cursor = || Some(text("c"));
    documented(&SessionPage {
        items: vec![session()],
        next_cursor: next_cursor(),
    });
    documented(&SessionPage {
        items: vec![Session {
            address: None,
            user_agent: None,
            last_used_at: None,
            ..session()
        }],
        next_cursor: None,
    });
    documented(&organization());
    documented(&OrganizationPage {
        items: vec![Organization {
            role: None,
            closed_at: None,
            ..organization()
        }],
        next_cursor: next_cursor(),
    });
    documented(&MemberPage {
        items: vec![
            member(),
            Member {
                last_seen_at: None,
                ..member()
            },
        ],
        next_cursor: next_cursor(),
    });
    documented(&member());
    documented(&invited());
    documented(&Invited {
        link: None,
        ..invited()
    });
    documented(&InvitationPage {
        items: vec![invited().invitation],
        next_cursor: next_cursor(),
    });
    documented(&one_time_link());
    documented(&OneTimeLink {
        link: None,
        ..one_time_link()
    });
    documented(&api_key());
    documented(&ApiKeyPage {
        items: vec![ApiKey {
            kind: KeyKind::Legacy,
            role: None,
            scopes: None,
            networks: None,
            machine_cap: None,
            expires_at: None,
            created_by: None,
            last_used_at: None,
            revoked_at: None,
            ..api_key().api_key
        }],
        next_cursor: next_cursor(),
    });
    documented(&api_key().api_key);
    documented(&enrollment_token());
    documented(&enrollment_token().enrollment_token);
    documented(&EnrollmentTokenPage {
        items: vec![EnrollmentToken {
            hourly_cap: None,
            created_by: None,
            revoked_at: None,
            ..enrollment_token().enrollment_token
        }],
        next_cursor: next_cursor(),
    });
}

#[test]
fn what_the_document_takes_about_people_is_what_the_messages_take() {
    taken::<Switch>(json!({ "organizationId": HERE }));
    taken::<PasswordChange>(json!({ "currentPassword": "a", "newPassword": "b" }));
    taken::<PasswordForgot>(json!({ "email": "a@b" }));
    taken::<PasswordReset>(json!({ "token": "dfp_x", "password": "x" }));
    taken::<InvitationAccept>(json!({ "token": "dfi_x", "password": "x", "name": null }));
    taken::<InvitationAccept>(json!({ "token": "dfi_x", "password": "x", "name": "Ann" }));
    taken::<OrganizationCreate>(json!({ "name": "x" }));
    taken::<organization::Changes>(json!({}));
    taken::<organization::Changes>(json!({ "name": "x", "legacyEnabled": false }));
    taken::<MemberInvite>(json!({ "email": "a@b", "role": "OWNER" }));
    taken::<member::Changes>(json!({ "role": "VIEWER" }));
    taken::<ApiKeyCreate>(json!({ "name": "x", "role": "VIEWER" }));
    taken::<ApiKeyCreate>(json!({
        "name": "x", "kind": "LEGACY", "role": null, "scopes": ["legacy:agent"], "networks": ["::1"], "machineCap": 5,
        "expiresAt": "2030-01-01T00:00:00Z",
    }));
    taken::<key::Changes>(json!({ "name": "x" }));
    taken::<EnrollmentTokenCreate>(json!({ "name": "x" }));
    taken::<EnrollmentTokenCreate>(json!({
        "name": "x", "labels": { "env": "prod" }, "uses": 5, "hourlyCap": 1, "expiresAt": "2030-01-01T00:00:00Z",
    }));
}
