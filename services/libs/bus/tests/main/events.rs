//! Events arrive as fast as they are published, however many they are.

use std::time::Duration;

use contract::event::Event;
use contract::streams::CONSUMERS;
use domain::OrgId;
use testkit::Nats;
use uuid::Uuid;

#[tokio::test]
async fn a_consumer_hears_event_after_event_without_a_pause() {
    let nats = Nats::start().await;
    let (identity, action) = (nats.bus("identity").await, nats.bus("action").await);
    let spec = CONSUMERS.iter().find(|spec| spec.name == "action").unwrap();
    let mut consumer = action.consume(spec);
    let (org, things) = (OrgId::new(), 200);
    let published: Vec<Uuid> = (0..things).map(|_| Uuid::now_v7()).collect();
    for id in &published {
        let event = Event {
            id: *id,
            org,
            noun: "machine".into(),
            verb: "enrolled".into(),
            subject_id: *id,
            version: 1,
            at: domain::Timestamp::now(),
            data: serde_json::Value::Null,
        };
        identity.publish_event(&event).await.unwrap();
    }
    let all = async {
        let mut heard = Vec::new();
        while heard.len() < things {
            let delivery = consumer.next().await;
            heard.push(delivery.event.id);
            delivery.ack().await;
        }
        heard
    };
    let heard = tokio::time::timeout(Duration::from_secs(5), all).await;
    assert_eq!(heard.expect("all of them, soon"), published);
}
