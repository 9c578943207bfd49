//! Request and reply as types: a message owns its subject, its version and its reply.

use serde::{Serialize, de::DeserializeOwned};

/// Who may make a call, and so on which plane its subject lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The gateway on a user's behalf: `df.rpc.<service>.<noun>.<verb>`.
    Gateway,
    /// Services for themselves: `df.svc.<caller>.<service>.<noun>.<verb>`.
    Services,
    /// Both.
    Both,
}

/// A request with its reply.
pub trait Call: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The service that answers.
    const SERVICE: &'static str;
    /// What it is about.
    const NOUN: &'static str;
    /// What is to be done.
    const VERB: &'static str;
    /// Version of the form of request and reply.
    const VERSION: u32 = 1;
    /// Who may make it.
    const AUDIENCE: Audience;
    /// Whether it can be repeated without harm, so that "no answer" may be tried again.
    const IDEMPOTENT: bool;
    /// What comes back.
    type Reply: Serialize + DeserializeOwned + Send + Sync + 'static;
}

/// The subject on which the gateway makes this call.
#[must_use]
pub fn gateway_subject<C: Call>() -> String {
    format!("df.rpc.{}.{}.{}", C::SERVICE, C::NOUN, C::VERB)
}

/// The subject on which `caller` makes this call for itself.
#[must_use]
pub fn service_subject<C: Call>(caller: &str) -> String {
    format!("df.svc.{caller}.{}.{}.{}", C::SERVICE, C::NOUN, C::VERB)
}

/// The patterns on which the owner answers this call.
#[must_use]
pub fn endpoint_patterns<C: Call>() -> Vec<String> {
    let gateway = gateway_subject::<C>();
    let services = service_subject::<C>("*");
    match C::AUDIENCE {
        Audience::Gateway => vec![gateway],
        Audience::Services => vec![services],
        Audience::Both => vec![gateway, services],
    }
}

/// Declares a [`Call`]: `call!(Login => Tokens: "identity", "auth", "login", Gateway, idempotent: false);`
#[macro_export]
macro_rules! call {
    ($request:ty => $reply:ty: $service:literal, $noun:literal, $verb:literal, $audience:ident, idempotent: $idempotent:literal) => {
        impl $crate::Call for $request {
            const SERVICE: &'static str = $service;
            const NOUN: &'static str = $noun;
            const VERB: &'static str = $verb;
            const AUDIENCE: $crate::Audience = $crate::Audience::$audience;
            const IDEMPOTENT: bool = $idempotent;
            type Reply = $reply;
        }
    };
}
