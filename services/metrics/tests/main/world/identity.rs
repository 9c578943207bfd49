//! A stand-in for identity that speaks the real protocol: keys, changes of machines, the callout.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus::Service;
use bus::callout::{Admitted, CalloutKeys};
use contract::Problem;
use contract::grant::{Jwk, Jwks};
use contract::identity::{JwksGet, MachineChanges, MachineChangesPage, MachineRecord};
use contract::legacy::LegacyBind;
use domain::{CredentialId, OrgId};
use nkeys::{KeyPair, XKey};
use testkit::Nats;

use crate::main::legacy;

/// What it knows.
#[derive(Default)]
pub struct Identity {
    pub machines: Vec<MachineRecord>,
    pub change: i64,
    /// Changes are not given.
    pub dumb: bool,
    /// How often it was asked for changes.
    pub asked: usize,
    /// Whose machines over HTTP it binds, and to which key.
    pub legacy: Option<(OrgId, CredentialId)>,
}

/// Answers what services ask.
pub async fn stand_in(nats: &Nats, identity: &Arc<Mutex<Identity>>, jwt: &KeyPair) -> Service {
    let service = Service::start(&nats.bus("identity").await, "identity", None)
        .await
        .unwrap();
    let (_, raw) = nkeys::from_public_key(&jwt.public_key()).unwrap();
    let x = URL_SAFE_NO_PAD.encode(raw);
    service
        .answer(move |_, _: JwksGet| {
            let key = Jwk {
                kty: "OKP".into(),
                crv: "Ed25519".into(),
                x: x.clone(),
                kid: "test".into(),
                alg: "EdDSA".into(),
                usage: "sig".into(),
            };
            async move { Ok(Jwks { keys: vec![key] }) }
        })
        .await
        .unwrap();
    let state = identity.clone();
    service
        .answer(move |_, asked: MachineChanges| {
            let mut state = state.lock().unwrap();
            state.asked += 1;
            let mut items: Vec<_> = state
                .machines
                .iter()
                .filter(|record| record.change > asked.after)
                .cloned()
                .collect();
            items.sort_by_key(|record| record.change);
            let more = items.len() > asked.limit as usize;
            items.truncate(asked.limit as usize);
            let answer = if state.dumb {
                Err(Problem::unavailable("identity is not in the mood"))
            } else {
                Ok(MachineChangesPage { items, more })
            };
            async move { answer }
        })
        .await
        .unwrap();
    let state = identity.clone();
    service
        .answer(move |_, asked: LegacyBind| {
            let answer = legacy::bind(&mut state.lock().unwrap(), &asked);
            async move { answer }
        })
        .await
        .unwrap();
    service
}

/// Lets in whoever has the key of a machine.
pub async fn callout(nats: &Nats, identity: &Arc<Mutex<Identity>>) {
    let bus = nats.bus("identity-auth").await;
    let seed = |name: &str| runtime::keys::read_seed(&nats.keys("identity"), name).unwrap();
    let keys = CalloutKeys {
        issuer: KeyPair::from_seed(&seed("callout-issuer.nk")).unwrap(),
        xkey: XKey::from_seed(&seed("callout-xkey.nk")).unwrap(),
    };
    let identity = identity.clone();
    tokio::spawn(async move {
        let decide = move |attempt: bus::callout::Attempt| {
            let known = identity
                .lock()
                .unwrap()
                .machines
                .iter()
                .find(|record| record.public_key == attempt.public_key)
                .cloned();
            async move {
                known
                    .map(|record| Admitted {
                        org: record.org,
                        machine: record.machine_id,
                        lifetime: Duration::from_secs(3_600),
                    })
                    .ok_or_else(|| "unknown key".to_owned())
            }
        };
        drop(bus::callout::serve(&bus, keys, decide).await);
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
}
