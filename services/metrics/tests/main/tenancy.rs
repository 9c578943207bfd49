//! Tenancy: an organisation sees its own and nothing else, and only with the right.

use contract::metrics::{MachineGet, MachineList, PresenceGet, SampleList};
use contract::{ProblemKind, metrics::SERVICE};
use domain::OrgId;
use domain::access::{Role, Scopes};
use sqlx::Connection;

use crate::main::world::{World, in_seconds, sample};

#[tokio::test(flavor = "multi_thread")]
async fn another_organisations_machine_is_no_machine() {
    let world = World::new().await;
    let (theirs, mine) = (OrgId::new(), world.enroll("web-1", &[]));
    let foreign = world.enroll_in(theirs, "db-1", &[]);
    let agent = world.connect(&foreign).await;
    agent
        .samples(vec![sample(in_seconds(-1), 1.0, 1.0, 1.0)])
        .await
        .unwrap();
    world.mirrored().await;
    let listed = world
        .list(MachineList {
            limit: 200,
            ..Default::default()
        })
        .await;
    assert_eq!(
        listed
            .items
            .iter()
            .map(|machine| machine.id)
            .collect::<Vec<_>>(),
        [mine.machine]
    );
    let nowhere = world
        .ask(&MachineGet::from(domain::MachineId::new()))
        .await
        .unwrap_err();
    assert_eq!(
        world
            .ask(&MachineGet::from(foreign.machine))
            .await
            .unwrap_err(),
        nowhere
    );
    let range = SampleList {
        machine_id: foreign.machine,
        from: in_seconds(-60),
        to: in_seconds(0),
        limit: 10,
        cursor: None,
    };
    assert_eq!(world.ask(&range).await.unwrap_err(), nowhere);
    assert_eq!(world.ask_in(theirs, &range).await.unwrap().items.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tenant_role_sees_one_organisation_or_none() {
    let world = World::new().await;
    let enrolled = world.enroll("web-1", &[]);
    let agent = world.connect(&enrolled).await;
    agent
        .samples(vec![sample(in_seconds(-1), 1.0, 1.0, 1.0)])
        .await
        .unwrap();
    let mut tenant = sqlx::PgConnection::connect(&world.database.url("df_metrics"))
        .await
        .unwrap();
    for sql in [
        "SELECT count(*) FROM metrics.machines",
        "SELECT count(*) FROM metrics.latest",
        "SELECT count(*) FROM metrics.samples",
    ] {
        let seen: i64 = sqlx::query_scalar(sql)
            .fetch_one(&mut tenant)
            .await
            .unwrap();
        assert_eq!(seen, 0, "{sql} without an organisation");
        for (org, expected) in [(world.org, 1), (OrgId::new(), 0)] {
            let mut tx = world.database.pools(SERVICE).tenant_tx(org).await.unwrap();
            let seen: i64 = sqlx::query_scalar(sql).fetch_one(&mut *tx).await.unwrap();
            assert_eq!(seen, expected, "{sql} in {org}");
        }
    }
    for sql in [
        "SELECT 1 FROM metrics.sessions",
        "SELECT 1 FROM metrics.servers",
        "SELECT 1 FROM metrics.cursors",
        "DELETE FROM metrics.samples",
        "UPDATE metrics.machines SET org_id = org_id",
    ] {
        assert!(
            sqlx::query(sql).execute(&mut tenant).await.is_err(),
            "{sql}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_wants_its_grant() {
    let world = World::new().await;
    let enrolled = world.enroll("web-1", &[]);
    world.mirrored().await;
    let second = std::time::Duration::from_secs(1);
    let (list, get) = (
        MachineList {
            limit: 10,
            ..Default::default()
        },
        MachineGet::from(enrolled.machine),
    );
    let range = SampleList {
        machine_id: enrolled.machine,
        from: in_seconds(-60),
        to: in_seconds(0),
        limit: 10,
        cursor: None,
    };
    let mut grant = world.claims(world.org, Role::Viewer);
    grant.scopes = Scopes::default();
    let scopeless = world.sign(&grant);
    grant.scopes = Role::Owner.scopes();
    grant.aud = vec!["action".into()];
    let foreign = world.sign(&grant);
    for (token, kind) in [
        (None, ProblemKind::Unauthenticated),
        (Some(scopeless.as_str()), ProblemKind::Forbidden),
        (Some(foreign.as_str()), ProblemKind::Unauthenticated),
    ] {
        assert_eq!(
            world
                .gateway
                .gateway_call(&list, token, second)
                .await
                .unwrap_err()
                .kind,
            kind
        );
        assert_eq!(
            world
                .gateway
                .gateway_call(&get, token, second)
                .await
                .unwrap_err()
                .kind,
            kind
        );
        assert_eq!(
            world
                .gateway
                .gateway_call(&range, token, second)
                .await
                .unwrap_err()
                .kind,
            kind
        );
    }
    // Presence across organisations is for services: the gateway has no subject for it.
    assert!(
        world
            .gateway
            .gateway_call(
                &PresenceGet {
                    after: 0,
                    limit: 10
                },
                None,
                second
            )
            .await
            .is_err()
    );
}
