//! A reply that is passed on as its owner wrote it.

use std::time::Duration;

use bus::Service;
use contract::Problem;
use contract::metrics::{Availability, AvailabilityGet, AvailabilityOfDay};
use domain::{MachineId, Timestamp};
use testkit::Nats;

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_passed_on_is_what_the_owner_wrote_and_a_refusal_is_one() {
    let nats = Nats::start().await;
    let known = MachineId::new();
    let reply = Availability {
        items: vec![AvailabilityOfDay {
            day: "2026-11-21".to_owned(),
            observed_ms: 86_400_000,
            online_ms: 86_399_999,
            percent: 99.999,
        }],
    };
    let answer = reply.clone();
    let owner = nats.bus("metrics").await;
    let service = Service::start(&owner, "metrics", None).await.unwrap();
    service
        .answer(move |_, asked: AvailabilityGet| {
            std::future::ready(match asked.machine_id == known {
                true => Ok(answer.clone()),
                false => Err(Problem::not_found("machine")),
            })
        })
        .await
        .unwrap();
    owner.settled().await;

    let gateway = nats.bus("gateway").await;
    let of = |machine_id| AvailabilityGet {
        machine_id,
        from: Timestamp::now(),
        to: Timestamp::now(),
    };
    let passed = gateway
        .gateway_call_unread(&of(known), None, PATIENCE)
        .await;
    assert_eq!(
        passed.unwrap().into_json(),
        serde_json::to_string(&reply).unwrap()
    );
    let refused = gateway
        .gateway_call_unread(&of(MachineId::new()), None, PATIENCE)
        .await;
    assert_eq!(refused.unwrap_err(), Problem::not_found("machine"));
    service.stop().await;
}
