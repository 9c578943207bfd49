//! Orders and pages: what is not signed for this machine, unaltered, is refused, and for its own reason.

use contract::order::{
    ORDER_PREFIX, Order, PAGE_PREFIX, SignatureError, Signed, SyncItem, SyncPage, Verb, fingerprint,
};
use dashfleet_agent::inbound::order::Verified;
use dashfleet_agent::inbound::{Identity, Refusal, order, page};
use dashfleet_agent::state::keys::PinnedKeys;
use domain::action::ActionKind;
use domain::{DeploymentId, MachineId, OrgId};
use nkeys::KeyPair;
use serde_json::Value;
use uuid::Uuid;

use super::task::{task, time};

struct Scene {
    key: KeyPair,
    me: Identity,
}

fn scene() -> Scene {
    let me = Identity {
        deployment: DeploymentId::new(),
        org: OrgId::new(),
        machine: MachineId::new(),
        fingerprint: fingerprint("UMACHINE"),
    };
    Scene {
        key: KeyPair::new_service(),
        me,
    }
}

impl Scene {
    fn order(&self) -> Order {
        Order {
            deployment: self.me.deployment,
            org: self.me.org,
            machine: self.me.machine,
            fingerprint: self.me.fingerprint.clone(),
            verb: Verb::New,
            issued_at: time(0),
            task: Some(task(1, ActionKind::Ping)),
            keys: None,
        }
    }

    fn signed(&self, prefix: &[u8], body: &Value) -> Signed {
        Signed::sign(prefix, serde_json::to_vec(body).unwrap(), &self.key).unwrap()
    }

    fn verify(&self, verb: &str, signed: &Signed) -> Result<Verified, Refusal> {
        let subject = format!(
            "df.act.{}.{}.{verb}",
            self.me.org.token(),
            self.me.machine.token()
        );
        let pinned = vec![self.key.public_key()];
        order::verify(
            &subject,
            &serde_json::to_vec(signed).unwrap(),
            &pinned,
            &self.me,
        )
        .map(|(verified, _)| verified)
    }

    /// The order after a change, properly signed.
    fn changed(&self, change: impl FnOnce(&mut Value)) -> Result<Verified, Refusal> {
        let mut body = serde_json::to_value(self.order()).unwrap();
        change(&mut body);
        self.verify("new", &self.signed(ORDER_PREFIX, &body))
    }
}

#[test]
fn an_order_for_this_machine_is_taken() {
    let scene = scene();
    assert!(matches!(scene.changed(|_| {}), Ok(Verified::New(_))));
}

#[test]
fn an_order_for_anybody_else_is_refused_though_it_is_signed() {
    let scene = scene();
    let other = Uuid::now_v7().to_string();
    for (field, what) in [
        ("deployment", "installation"),
        ("org", "organisation"),
        ("machine", "machine"),
    ] {
        assert_eq!(
            scene.changed(|body| body[field] = other.clone().into()),
            Err(Refusal::Address(what))
        );
    }
    let earlier = fingerprint("UEARLIER");
    let refused = scene.changed(|body| body["fingerprint"] = earlier.into());
    assert_eq!(refused, Err(Refusal::Address("enrolment of this machine")));
}

#[test]
fn what_is_not_signed_by_a_pinned_key_is_refused_before_it_is_read() {
    let scene = scene();
    let body = serde_json::to_value(scene.order()).unwrap();
    let unsigned = order::verify(
        "df.act.a.b.new",
        body.to_string().as_bytes(),
        &[],
        &scene.me,
    );
    assert!(matches!(unsigned, Err(Refusal::Malformed(_))));
    let foreign = Signed::sign(
        ORDER_PREFIX,
        serde_json::to_vec(&body).unwrap(),
        &KeyPair::new_service(),
    )
    .unwrap();
    assert!(matches!(
        scene.verify("new", &foreign),
        Err(Refusal::Signature(SignatureError::UnknownKey(_)))
    ));
    // The body is not even JSON: had it been parsed first, the reason would be another one.
    let nonsense = Signed {
        body: b"\xff{".to_vec(),
        ..foreign
    };
    assert!(matches!(
        scene.verify("new", &nonsense),
        Err(Refusal::Signature(_))
    ));
}

#[test]
fn an_altered_order_is_refused() {
    let scene = scene();
    let signed = scene.signed(ORDER_PREFIX, &serde_json::to_value(scene.order()).unwrap());
    let text = String::from_utf8(signed.body.clone()).unwrap();
    for (from, to) in [
        ("\"ping\"", "\"reboot\""),
        ("\"seq\":1", "\"seq\":2"),
        ("}", " }"),
    ] {
        let altered = Signed {
            body: text.replacen(from, to, 1).into_bytes(),
            ..signed.clone()
        };
        assert_eq!(
            scene.verify("new", &altered),
            Err(Refusal::Signature(SignatureError::Mismatch)),
            "{from}"
        );
    }
    let mut sig = signed.sig.clone();
    sig[0] ^= 1;
    assert!(
        scene
            .verify(
                "new",
                &Signed {
                    sig,
                    ..signed.clone()
                }
            )
            .is_err()
    );
    assert!(
        scene
            .verify(
                "new",
                &Signed {
                    sig: Vec::new(),
                    ..signed
                }
            )
            .is_err()
    );
}

#[test]
fn a_signature_for_a_page_is_none_for_an_order_and_the_other_way_round() {
    let scene = scene();
    let body = serde_json::to_value(scene.order()).unwrap();
    let as_page = scene.signed(PAGE_PREFIX, &body);
    assert_eq!(
        scene.verify("new", &as_page),
        Err(Refusal::Signature(SignatureError::Mismatch))
    );
    let nonce = Uuid::new_v4();
    let page = serde_json::to_value(page_of(&scene, nonce)).unwrap();
    let as_order = scene.signed(ORDER_PREFIX, &page);
    let pinned = vec![scene.key.public_key()];
    assert!(matches!(
        page::verify(&as_order, &pinned, &scene.me, nonce),
        Err(Refusal::Signature(_))
    ));
}

#[test]
fn unknown_fields_and_unknown_words_are_refused() {
    let scene = scene();
    assert!(matches!(
        scene.changed(|body| body["sudo"] = true.into()),
        Err(Refusal::Body(_))
    ));
    assert!(matches!(
        scene.changed(|body| body["task"]["sudo"] = true.into()),
        Err(Refusal::Body(_))
    ));
    assert!(matches!(
        scene.changed(|body| body["task"]["kind"] = "format".into()),
        Err(Refusal::Body(_))
    ));
    assert!(matches!(
        scene.changed(|body| body["verb"] = "sudo".into()),
        Err(Refusal::Body(_))
    ));
    assert!(matches!(
        scene.changed(|body| body["issuedAt"] = "yesterday".into()),
        Err(Refusal::Body(_))
    ));
}

#[test]
fn an_order_that_comes_under_another_verb_is_refused() {
    let scene = scene();
    let signed = scene.signed(ORDER_PREFIX, &serde_json::to_value(scene.order()).unwrap());
    for verb in ["cancel", "time", "keys", "NEW", ""] {
        assert!(
            matches!(
                scene.verify(verb, &signed),
                Err(Refusal::Verb { says: "new", .. })
            ),
            "{verb}"
        );
    }
}

#[test]
fn each_verb_has_its_own_shape() {
    let scene = scene();
    let keys = vec![KeyPair::new_service().public_key()];
    let base = scene.order();
    for (verb, with_task, with_keys, taken) in [
        (Verb::New, true, false, true),
        (Verb::New, false, false, false),
        (Verb::New, true, true, false),
        (Verb::Cancel, true, false, true),
        (Verb::Cancel, false, false, false),
        (Verb::Time, false, false, true),
        (Verb::Time, true, false, false),
        (Verb::Keys, false, true, true),
        (Verb::Keys, false, false, false),
        (Verb::Keys, true, true, false),
    ] {
        let order = Order {
            verb,
            task: base.task.clone().filter(|_| with_task),
            keys: Some(keys.clone()).filter(|_| with_keys),
            ..base.clone()
        };
        let verified = scene.verify(
            verb.as_str(),
            &scene.signed(ORDER_PREFIX, &serde_json::to_value(order).unwrap()),
        );
        assert_eq!(
            verified.is_ok(),
            taken,
            "{verb:?} {with_task} {with_keys}: {verified:?}"
        );
    }
}

#[test]
fn a_flood_is_not_even_parsed() {
    let scene = scene();
    let refused = order::verify(
        "x.new",
        &vec![b'{'; order::ORDER_MAX_BYTES + 1],
        &[],
        &scene.me,
    );
    assert!(matches!(refused, Err(Refusal::TooLong(_))));
}

fn page_of(scene: &Scene, nonce: Uuid) -> SyncPage {
    SyncPage {
        deployment: scene.me.deployment,
        org: scene.me.org,
        machine: scene.me.machine,
        fingerprint: scene.me.fingerprint.clone(),
        nonce,
        server_time: time(0),
        items: Vec::new(),
        more: false,
        echo: None,
        quarantined: None,
    }
}

#[test]
fn a_page_must_answer_this_question_of_this_machine() {
    let scene = scene();
    let nonce = Uuid::new_v4();
    let pinned = vec![scene.key.public_key()];
    let verify = |page: SyncPage| {
        page::verify(
            &scene.signed(PAGE_PREFIX, &serde_json::to_value(page).unwrap()),
            &pinned,
            &scene.me,
            nonce,
        )
    };
    let good = page_of(&scene, nonce);
    assert!(verify(good.clone()).is_ok());
    assert_eq!(
        verify(SyncPage {
            nonce: Uuid::new_v4(),
            ..good.clone()
        }),
        Err(Refusal::Nonce)
    );
    assert_eq!(
        verify(SyncPage {
            deployment: DeploymentId::new(),
            ..good.clone()
        }),
        Err(Refusal::Address("installation"))
    );
    assert_eq!(
        verify(SyncPage {
            org: OrgId::new(),
            ..good.clone()
        }),
        Err(Refusal::Address("organisation"))
    );
    assert_eq!(
        verify(SyncPage {
            machine: MachineId::new(),
            ..good.clone()
        }),
        Err(Refusal::Address("machine"))
    );
    let other = SyncPage {
        fingerprint: fingerprint("UEARLIER"),
        ..good.clone()
    };
    assert!(matches!(verify(other), Err(Refusal::Address(_))));
    let open = |seq| SyncItem::Open {
        task: task(seq, ActionKind::Ping),
        cancel: false,
    };
    assert!(
        verify(SyncPage {
            items: vec![open(2), open(3)],
            ..good.clone()
        })
        .is_ok()
    );
    for items in [
        vec![open(3), open(2)],
        vec![open(2), open(2)],
        vec![SyncItem::Ended { seq: 1, through: 4 }, open(4)],
        vec![SyncItem::Ended { seq: 4, through: 1 }],
        vec![open(0)],
    ] {
        assert!(matches!(
            verify(SyncPage {
                items,
                ..good.clone()
            }),
            Err(Refusal::Shape(_))
        ));
    }
}

#[test]
fn a_rotation_of_keys_cannot_be_played_again() {
    let key = |_| KeyPair::new_service().public_key();
    let first = PinnedKeys {
        keys: vec![key(())],
        since: None,
    };
    let second = first.rotated(vec![key(()), key(())], time(10)).unwrap();
    assert_eq!(second.keys.len(), 2);
    assert!(
        second.rotated(first.keys.clone(), time(10)).is_err(),
        "not newer"
    );
    assert!(second.rotated(first.keys.clone(), time(9)).is_err());
    assert!(second.rotated(Vec::new(), time(11)).is_err());
    assert!(second.rotated(vec!["SANOTAKEY".into()], time(11)).is_err());
    assert!(second.rotated(first.keys, time(11)).is_ok());
}
