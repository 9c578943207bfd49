//! Identity's stand-in, as far as people, organisations, keys and tokens are concerned: it notes what it is asked and
//! answers with an example. What it is asked about [`ELSEWHERE`] is not there.

use std::sync::Arc;

use bus::Service;
use contract::identity::{
    ApiKeyCreate, ApiKeyEdit, ApiKeyGet, ApiKeyList, ApiKeyPage, ApiKeyRevoke, Done,
    EnrollmentTokenCreate, EnrollmentTokenGet, EnrollmentTokenList, EnrollmentTokenPage,
    EnrollmentTokenRevoke, InvitationAccept, InvitationCancel, InvitationList, InvitationPage,
    MemberEdit, MemberGet, MemberInvite, MemberList, MemberPage, MemberRemove, MemberReset,
    OrganizationClose, OrganizationCreate, OrganizationEdit, OrganizationGet, OrganizationList,
    OrganizationPage, PasswordChange, PasswordForgot, PasswordReset, SessionList, SessionPage,
    SessionRevoke, Switch,
};
use contract::{Call, Problem, ProblemKind};

use super::{ELSEWHERE, Identity};
use crate::messages;

impl Identity {
    /// Answers a call with an example; one that names [`ELSEWHERE`] is refused. An open call needs no grant, and is
    /// refused where its token is not `good`.
    async fn example<C: Call>(
        self: &Arc<Self>,
        service: &Service,
        reply: impl Fn() -> C::Reply + Clone + Send + Sync + 'static,
    ) {
        let this = self.clone();
        let answer = move |context: bus::Context, request: C| {
            let (this, reply) = (this.clone(), reply.clone());
            async move {
                let asked = serde_json::to_value(&request).unwrap();
                if asked.get("token").is_some_and(|token| token != "good") {
                    let text = "this link was used before";
                    return Err(Problem::new(ProblemKind::Forbidden, text));
                }
                if asked.get("token").is_none() && C::VERB != "forgot" {
                    context.grant()?;
                }
                if asked.to_string().contains(ELSEWHERE) {
                    return Err(Problem::not_found(C::NOUN));
                }
                this.asked.lock().unwrap().push((C::VERB, asked));
                Ok(reply())
            }
        };
        service.answer(answer).await.unwrap();
    }

    pub(super) async fn answer_people(self: &Arc<Self>, service: &Service) {
        let done = || Done {};
        let cursor = || Some("next".to_owned());
        self.example::<Switch>(service, messages::tokens).await;
        self.example::<InvitationAccept>(service, messages::tokens)
            .await;
        self.example::<PasswordChange>(service, done).await;
        self.example::<PasswordForgot>(service, done).await;
        self.example::<PasswordReset>(service, done).await;
        self.example::<SessionRevoke>(service, done).await;
        let page = move || SessionPage {
            items: vec![messages::session()],
            next_cursor: cursor(),
        };
        self.example::<SessionList>(service, page).await;

        let page = move || OrganizationPage {
            items: vec![messages::organization()],
            next_cursor: cursor(),
        };
        self.example::<OrganizationList>(service, page).await;
        self.example::<OrganizationGet>(service, messages::organization)
            .await;
        self.example::<OrganizationCreate>(service, messages::organization)
            .await;
        self.example::<OrganizationEdit>(service, messages::organization)
            .await;
        self.example::<OrganizationClose>(service, messages::organization)
            .await;

        let page = move || MemberPage {
            items: vec![messages::member()],
            next_cursor: cursor(),
        };
        self.example::<MemberList>(service, page).await;
        self.example::<MemberGet>(service, messages::member).await;
        self.example::<MemberEdit>(service, messages::member).await;
        self.example::<MemberInvite>(service, messages::invited)
            .await;
        self.example::<MemberRemove>(service, done).await;
        self.example::<MemberReset>(service, messages::one_time_link)
            .await;
        let page = move || InvitationPage {
            items: vec![messages::invited().invitation],
            next_cursor: cursor(),
        };
        self.example::<InvitationList>(service, page).await;
        self.example::<InvitationCancel>(service, done).await;

        let page = move || ApiKeyPage {
            items: vec![messages::api_key().api_key],
            next_cursor: cursor(),
        };
        self.example::<ApiKeyList>(service, page).await;
        self.example::<ApiKeyGet>(service, || messages::api_key().api_key)
            .await;
        self.example::<ApiKeyCreate>(service, messages::api_key)
            .await;
        self.example::<ApiKeyEdit>(service, || messages::api_key().api_key)
            .await;
        self.example::<ApiKeyRevoke>(service, done).await;

        let page = move || EnrollmentTokenPage {
            items: vec![messages::enrollment_token().enrollment_token],
            next_cursor: cursor(),
        };
        self.example::<EnrollmentTokenList>(service, page).await;
        let token = || messages::enrollment_token().enrollment_token;
        self.example::<EnrollmentTokenGet>(service, token).await;
        self.example::<EnrollmentTokenCreate>(service, messages::enrollment_token)
            .await;
        self.example::<EnrollmentTokenRevoke>(service, done).await;
    }
}
