//! Who did what: each mutation leaves an entry, each refused attempt does, none is lost or doubled on its way, and what is
//! recorded cannot be changed by a service. [`verify`] finds what somebody else changed.

use std::sync::{Arc, Mutex};

use bus::Service;
use contract::audit::{
    Actor, AuditAppend, AuditCountersign, AuditEntry, AuditEvent, AuditExport, AuditFilter,
    AuditHeads, AuditList, AuditOutcome, AuditSigned, AuditSignedPage, AuditVerdict, HeadSignature,
    Resource, SignedHead, chain::ZERO,
};
use contract::identity::{
    ActionKeysPut, Logout, MachineEdit, MachineEdits, MachineLabel, MachineQuarantine,
    MachineRelease, MachineRevoke,
};
use contract::merge::Edit;
use contract::{Problem, ProblemKind};
use domain::{MachineId, OrgId, Timestamp};
use nkeys::KeyPair;
use serde_json::json;
use testkit::eventually;

use crate::world::{API_KEY, EMAIL, PASSWORD, PATIENCE, World, bootstrap};

#[path = "audit/denied.rs"]
mod denied;
#[path = "audit/others.rs"]
mod others;
#[path = "audit/verify.rs"]
mod verify;

/// Action, as far as the audit knows it: it signs, and keeps copies.
pub struct Countersigner {
    pub key: KeyPair,
    pub copies: Arc<Mutex<Vec<SignedHead>>>,
    service: Option<Service>,
}

impl Countersigner {
    pub async fn start(world: &World) -> Self {
        let key = KeyPair::new_user();
        let keys = vec![key.public_key()];
        let put = ActionKeysPut { keys: keys.clone() };
        world
            .action
            .service_call(&put, None, PATIENCE)
            .await
            .unwrap();
        let copies: Arc<Mutex<Vec<SignedHead>>> = Arc::default();
        let service = Service::start(&world.action, "action", None).await.unwrap();
        let kept = copies.clone();
        service
            .answer(move |_, asked: AuditSigned| {
                let of = |copy: &&SignedHead| {
                    let head = &copy.signature.head;
                    head.org == asked.org && head.seq >= asked.from
                };
                let items = kept.lock().unwrap().iter().filter(of).cloned().collect();
                let keys = keys.clone();
                async move {
                    Ok(AuditSignedPage {
                        items,
                        more: false,
                        keys,
                    })
                }
            })
            .await
            .unwrap();
        world.action.settled().await;
        Self {
            key,
            copies,
            service: Some(service),
        }
    }

    /// Signs what is not signed yet.
    pub async fn sign(&self, world: &World) {
        self.sign_at(world, Timestamp::now()).await;
    }

    /// The same as if it were this time.
    pub async fn sign_at(&self, world: &World, at: Timestamp) {
        let heads = AuditHeads {
            after: None,
            limit: 500,
        };
        let page = world
            .action
            .service_call(&heads, None, PATIENCE)
            .await
            .unwrap();
        let mut items = Vec::new();
        for head in page.items {
            let org = head.org;
            let signature = HeadSignature::sign(head, at, &self.key).unwrap();
            let mut copies = self.copies.lock().unwrap();
            let last = copies.iter().rfind(|copy| copy.signature.head.org == org);
            let prev = last.map_or(ZERO, |last| last.link);
            let link = signature.link(&prev);
            items.push(signature.clone());
            copies.push(SignedHead {
                signature,
                prev,
                link,
            });
        }
        let given = AuditCountersign { items };
        world
            .action
            .service_call(&given, None, PATIENCE)
            .await
            .unwrap();
    }

    pub async fn go_away(&mut self) {
        if let Some(service) = self.service.take() {
            service.stop().await;
        }
    }
}

pub fn entry(org: OrgId, n: u32) -> AuditEntry {
    let resource = Resource::of("thing", n).named(format!("thing {n}"));
    AuditEntry::new(org, Actor::service("test"), "thing.change", resource)
        .before(json!({ "n": n, "f": 0.1 + f64::from(n) / 3.0, "small": 1e-7, "big": 12_345_678_901_234_567_890_u64 }))
        .after(json!({ "b": 1.0, "a": [true, null, "\u{0}é\u{1F600}"], "long": "x".repeat(n as usize % 50) }))
}

/// Appends as action does, and waits for the commit.
pub async fn append(world: &World, entries: Vec<AuditEntry>) -> Vec<AuditVerdict> {
    let append = AuditAppend { entries };
    let appended = world.action.service_call(&append, None, PATIENCE).await;
    appended.unwrap().items
}

pub async fn events(world: &World, filter: AuditFilter) -> Vec<AuditEvent> {
    let list = AuditList {
        filter,
        limit: 200,
        cursor: None,
    };
    world.ask_as(API_KEY, list).await.unwrap().items
}

/// The entries of a call, when there are so many.
async fn of_call(world: &World, call: &str, many: usize) -> Vec<AuditEvent> {
    eventually(&format!("{many} entries of {call}"), PATIENCE, || async {
        let call = Some(call.to_owned());
        let found = events(
            world,
            AuditFilter {
                call,
                ..AuditFilter::default()
            },
        )
        .await;
        assert!(found.len() <= many, "{found:?}");
        (found.len() == many).then_some(found)
    })
    .await
}

async fn viewer(world: &World) -> &'static str {
    world
        .alter(&format!(
            "INSERT INTO identity.api_keys (org_id, id, name, hash, role)
             VALUES ('{}', gen_random_uuid(), 'viewer', sha256('dfk_viewer-0123456789abcdef'::bytea), 'VIEWER')",
            world.org
        ))
        .await;
    "dfk_viewer-0123456789abcdef"
}

#[tokio::test]
async fn each_mutation_leaves_an_entry_with_who_from_where_and_what_changed() {
    let (world, _replica) = World::start().await;
    let here = "192.0.2.7".parse().unwrap();
    let (machine, id) = bus::client::on_behalf_of(here, async {
        let (_, enrolled) = world.machine().await;
        let id = enrolled.machine_id;
        let mut edits = MachineEdits {
            display_name: Edit::Set("Web".into()),
            notes: Edit::Set("the password is hunter2".into()),
            ..MachineEdits::default()
        };
        edits.labels = Edit::Set([("env".to_owned(), Some("test".to_owned()))].into());
        let edit = MachineEdit {
            machine_id: id,
            edits,
        };
        world.ask_as(API_KEY, edit).await.unwrap();
        let label = MachineLabel {
            machine_ids: None,
            selector: Some("env=test".into()),
            labels: [("site".to_owned(), Some("berlin".to_owned()))].into(),
        };
        world.ask_as(API_KEY, label).await.unwrap();
        let quarantine = MachineQuarantine {
            org: world.org,
            machine_id: id,
            reason: "a copy".into(),
        };
        world
            .action
            .service_call(&quarantine, None, PATIENCE)
            .await
            .unwrap();
        world
            .ask_as(
                API_KEY,
                MachineRelease {
                    machine_id: id,
                    accept: contract::identity::ReleaseAccept::default(),
                },
            )
            .await
            .unwrap();
        world.revoke(id).await.unwrap();
        // Again: nothing changes, and nothing is told.
        world.revoke(id).await.unwrap();
        let tokens = world.login(EMAIL, PASSWORD, "192.0.2.7").await.unwrap();
        world.ask_as(&tokens.access_token, Logout {}).await.unwrap();
        (enrolled, id)
    })
    .await;
    assert_eq!(machine.organization_id, world.org);
    let one = async |call: &str| of_call(&world, call, 1).await.remove(0);

    let enrolled = one("enrollment.complete").await;
    assert_eq!(enrolled.entry.resource.id, Some(id.to_string()));
    assert_eq!(enrolled.entry.resource.name.as_deref(), Some("web-1"));
    assert_eq!(enrolled.entry.address, Some(here));
    let edited = one("machine.edit").await.entry;
    assert_eq!(
        edited.actor.name.as_deref(),
        Some("bootstrap"),
        "identity names the key"
    );
    assert_eq!(edited.address, Some(here));
    assert_eq!(edited.before.unwrap()["labels"], json!({ "env": "prod" }));
    let after = edited.after.unwrap();
    assert_eq!(after["labels"], json!({ "env": "test" }));
    assert_eq!(after["displayName"], "Web");
    assert!(
        !after.to_string().contains("hunter2"),
        "notes stay where they are"
    );
    let labelled = one("machine.label").await.entry;
    assert_eq!(labelled.count, 1);
    let quarantined = one("machine.quarantine").await.entry;
    assert_eq!(quarantined.actor, Actor::service("action"));
    assert_eq!(quarantined.reason.as_deref(), Some("a copy"));
    assert_eq!(quarantined.address, None);
    assert_eq!(
        one("machine.release").await.entry.after.unwrap()["status"],
        "ENROLLED"
    );
    let revoked = one("machine.revoke").await;
    assert_eq!(revoked.service, "identity");
    assert_eq!(revoked.entry.outcome, AuditOutcome::Succeeded);
    assert_eq!(revoked.entry.before.unwrap()["status"], "ENROLLED");
    assert_eq!(revoked.entry.after.unwrap()["status"], "REVOKED");
    let login = one("auth.login").await.entry;
    assert_eq!(login.actor.name.as_deref(), Some(EMAIL));
    let logout = one("auth.logout").await.entry;
    assert_eq!(
        (logout.actor.id, logout.credential),
        (login.actor.id, login.credential)
    );
    let all = events(&world, AuditFilter::default()).await;
    let told = serde_json::to_string(&all).unwrap();
    for secret in ["dfk_", "dfa_", "dfr_", "dfe_", "hunter2", PASSWORD] {
        assert!(!told.contains(secret), "{secret} is told");
    }
    assert_eq!(
        world
            .count("SELECT count(*) FROM identity.audit_outbox")
            .await,
        0
    );
}

#[tokio::test]
async fn refused_attempts_are_told_once_and_then_counted() {
    let (world, replica) = World::start().await;
    let viewer = viewer(&world).await;
    let machine_id = MachineId::new();
    for _ in 0..30 {
        let refused = world.ask_as(viewer, MachineRevoke { machine_id }).await;
        assert_eq!(refused.unwrap_err().kind, ProblemKind::Forbidden);
    }
    for _ in 0..3 {
        assert!(world.login(EMAIL, "wrong", "a").await.is_err());
    }
    assert!(
        world
            .login("nobody@example.org", "wrong", "a")
            .await
            .is_err()
    );
    let first = of_call(&world, "machine.revoke", 1).await.remove(0).entry;
    assert_eq!((first.outcome, first.count), (AuditOutcome::Denied, 1));
    assert_eq!(
        first.reason.as_deref(),
        Some("this credential lacks the scope `machines:write`")
    );
    assert_eq!(first.actor.name.as_deref(), Some("viewer"));
    let login = of_call(&world, "auth.login", 1).await.remove(0).entry;
    assert_eq!(
        (login.outcome, login.actor.name.as_deref()),
        (AuditOutcome::Denied, Some(EMAIL))
    );
    // A process that ends says the rest.
    replica.stop().await;
    let _replica = world.replica().await;
    let told = of_call(&world, "machine.revoke", 2).await;
    assert_eq!(told.iter().map(|event| event.entry.count).sum::<u32>(), 30);
    let logins = of_call(&world, "auth.login", 2).await;
    assert_eq!(logins.iter().map(|event| event.entry.count).sum::<u32>(), 3);
}

#[tokio::test]
async fn a_key_that_is_revoked_or_has_expired_is_told_of_when_it_is_used() {
    let (world, _replica) = World::start().await;
    let viewer = viewer(&world).await;
    world
        .alter("UPDATE identity.api_keys SET revoked_at = now() WHERE name = 'viewer'")
        .await;
    assert!(world.exchange(viewer).await.is_err());
    let told = of_call(&world, "grant.exchange", 1).await.remove(0).entry;
    assert_eq!(told.reason.as_deref(), Some("this API key was revoked"));
    assert_eq!(told.resource.kind, "api-key");
}

#[tokio::test]
async fn what_is_handed_over_twice_is_chained_once_and_what_is_no_entry_holds_nobody_back() {
    let (world, replica) = World::start().await;
    replica.stop().await;
    let told = entry(world.org, 1);
    let text = serde_json::to_string(&told).unwrap().replace('\'', "''");
    let row = |text: &str| {
        format!(
            "INSERT INTO identity.audit_outbox (id, org_id, entry) VALUES ('{}', '{}', '{text}')",
            told.id, world.org
        )
    };
    // As after a death between identity's commit and the deletion, with something unreadable before.
    for text in ["what is this", &text, "{}", &text] {
        world.alter(&row(text)).await;
    }
    let replica = world.replica().await;
    let found = of_call(&world, "thing.change", 1).await.remove(0);
    assert_eq!(found.entry.before, told.before);
    eventually("the outbox keeps what is refused, with the reason", PATIENCE, || async {
        let aside = "SELECT count(*) FROM identity.audit_outbox WHERE failure IS NOT NULL AND not_before > now()";
        let all = "SELECT count(*) FROM identity.audit_outbox";
        ((world.count(aside).await, world.count(all).await) == (2, 2)).then_some(())
    })
    .await;
    assert_eq!(append(&world, vec![told]).await, [AuditVerdict::Duplicate]);
    replica.stop().await;
}

#[tokio::test]
async fn many_at_once_through_two_replicas_make_one_chain_for_each_organisation() {
    let (world, _replica) = World::start().await;
    let _second = world.replica().await;
    let others: Vec<OrgId> = (0..4).map(|_| OrgId::new()).collect();
    let mut tasks = Vec::new();
    for batch in 0..20_u32 {
        let mut entries = Vec::new();
        for n in 0..40 {
            let org = others.get((n as usize + batch as usize) % 5).copied();
            entries.push(entry(org.unwrap_or(world.org), batch * 100 + n));
        }
        // Repeated at the same time, as by a relay that was overtaken.
        for _ in 0..2 {
            let append = AuditAppend {
                entries: entries.clone(),
            };
            let bus = world.action.clone();
            tasks.push(tokio::spawn(async move {
                bus.service_call(&append, None, PATIENCE).await.unwrap()
            }));
        }
    }
    let mut applied = 0;
    for task in tasks {
        let items = task.await.unwrap().items;
        applied += items
            .iter()
            .filter(|verdict| **verdict == AuditVerdict::Applied)
            .count();
        assert!(!items.contains(&AuditVerdict::Refused));
    }
    assert_eq!(applied, 800);
    let gaps = "SELECT count(*) FROM (SELECT org_id, max(seq) AS last, count(*) AS entries FROM identity.audit_events GROUP BY org_id) AS chain
         WHERE last <> entries";
    assert_eq!(world.count(gaps).await, 0);
    let found = world
        .ask_as(API_KEY, contract::audit::AuditVerify::default())
        .await
        .unwrap();
    assert!(found.entries >= 160);
    assert!(
        found
            .problems
            .iter()
            .all(|problem| problem.kind == contract::audit::AuditFault::ActionAway),
        "{found:?}"
    );
}

#[tokio::test]
async fn lists_are_filtered_and_paged_and_exports_are_whole() {
    let (world, _replica) = World::start().await;
    let begin = Timestamp::now();
    for portion in 0..5 {
        let entries = (0..100)
            .map(|n| entry(world.org, portion * 100 + n))
            .collect();
        append(&world, entries).await;
    }
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let list = AuditList {
            filter: AuditFilter {
                call: Some("thing.change".into()),
                ..AuditFilter::default()
            },
            limit: 70,
            cursor,
        };
        let page = world.ask_as(API_KEY, list).await.unwrap();
        seen.extend(page.items.into_iter().map(|event| event.seq));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let mut sorted = seen.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!((seen.len(), sorted.len()), (500, 500));
    let one = AuditFilter {
        resource: Some("7".into()),
        from: Some(begin),
        ..AuditFilter::default()
    };
    assert_eq!(events(&world, one.clone()).await.len(), 1);
    assert!(
        events(
            &world,
            AuditFilter {
                to: Some(begin),
                ..one
            }
        )
        .await
        .is_empty()
    );
    let denied = AuditFilter {
        outcome: Some(AuditOutcome::Denied),
        ..AuditFilter::default()
    };
    assert!(events(&world, denied).await.is_empty());

    let mut export = AuditExport {
        limit: 130,
        ..AuditExport::default()
    };
    let mut exported = Vec::new();
    loop {
        let part = world.ask_as(API_KEY, export.clone()).await.unwrap();
        exported.extend(part.items.into_iter().map(|event| event.seq));
        let Some(next) = part.next else { break };
        export.after = next;
    }
    assert!(exported.len() >= 500);
    assert!(exported.is_sorted() && exported.first() == Some(&1));
    for (list, path) in [
        (
            AuditList {
                limit: 0,
                ..AuditList::default()
            },
            "limit",
        ),
        (
            AuditList {
                limit: 1,
                cursor: Some("x".into()),
                ..AuditList::default()
            },
            "cursor",
        ),
    ] {
        let refused: Problem = world.ask_as(API_KEY, list).await.unwrap_err();
        assert_eq!(refused.errors[0].path, path);
    }
}

#[tokio::test]
async fn another_organisation_sees_nothing_of_it_and_a_weak_key_neither() {
    let (world, _replica) = World::start().await;
    append(&world, vec![entry(world.org, 1)]).await;
    let key = "dfk_other-organisation-0123456789";
    let other = bootstrap(
        &world.database,
        "other",
        "other@example.org",
        Some(key),
        None,
    );
    other.await.unwrap();
    let list = AuditList {
        limit: 50,
        ..AuditList::default()
    };
    let found = world.ask_as(key, list.clone()).await.unwrap().items;
    assert!(found.is_empty(), "{found:?}");
    let export = AuditExport {
        limit: 50,
        ..AuditExport::default()
    };
    assert!(world.ask_as(key, export).await.unwrap().items.is_empty());
    let verified = world
        .ask_as(key, contract::audit::AuditVerify::default())
        .await
        .unwrap();
    assert_eq!(verified.entries, 0);
    let refused = world.ask_as(viewer(&world).await, list).await.unwrap_err();
    assert_eq!(refused.kind, ProblemKind::Forbidden);
    // The gateway's plane has neither of them.
    let append = AuditAppend {
        entries: vec![entry(world.org, 2)],
    };
    assert!(
        world
            .gateway
            .service_call(&append, None, std::time::Duration::from_millis(300))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn no_role_of_a_service_changes_or_removes_what_is_recorded() {
    let (world, _replica) = World::start().await;
    append(&world, vec![entry(world.org, 1)]).await;
    let pools = world.database.pools("identity");
    let mut denied = 0;
    for statement in [
        "UPDATE identity.audit_events SET call = 'x'",
        "UPDATE identity.audit_events SET hash = prev",
        "DELETE FROM identity.audit_events",
        "TRUNCATE identity.audit_events",
        "INSERT INTO identity.audit_events (org_id, recorded_at) VALUES (gen_random_uuid(), now())",
        "UPDATE identity.audit_heads SET anchor_seq = 1",
        "UPDATE identity.audit_heads SET anchor_hash = hash",
        "DELETE FROM identity.audit_heads",
        "UPDATE identity.audit_countersigns SET hash = hash",
        "DELETE FROM identity.audit_countersigns",
        "DELETE FROM identity.audit_signers",
    ] {
        for system in [false, true] {
            let mut tx = match system {
                false => pools.tenant_tx(world.org).await.unwrap(),
                true => pools.system_tx().await.unwrap(),
            };
            let error = sqlx::query(statement).execute(&mut *tx).await.unwrap_err();
            let code = error
                .as_database_error()
                .and_then(|error| error.code().map(|code| code.into_owned()));
            assert_eq!(code.as_deref(), Some("42501"), "{statement}: {error}");
            denied += 1;
        }
    }
    assert_eq!(denied, 22);
    let pools = world.database.pools("action");
    for statement in [
        "UPDATE action.audit_heads_signed SET hash = hash",
        "DELETE FROM action.audit_heads_signed",
    ] {
        let error = sqlx::query(statement)
            .execute(pools.system())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("permission denied"), "{error}");
    }
}
