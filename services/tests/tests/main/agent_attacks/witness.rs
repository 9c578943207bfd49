//! Those who must hear nothing of what a thief does.

use contract::order::{ORDER_PREFIX, Order, Signed};

use super::fleet::{Fleet, Machine};
use crate::main::hostile::Hostile;

/// One of them, and what it hears in order.
pub struct Witness {
    name: &'static str,
    client: Hostile,
    /// The keys that sign what may come; services hear their own traffic, in which nothing is called evil.
    orders: Option<Vec<String>>,
}

impl Witness {
    pub async fn agent(fleet: &Fleet, name: &'static str, machine: &Machine) -> Self {
        let mut client = fleet.connect(machine).await;
        client
            .subscribe(&format!("{}.>", machine.inbox()), None)
            .await;
        client
            .subscribe(
                &format!("df.act.{}.{}.*", machine.org.token(), machine.id.token()),
                None,
            )
            .await;
        client.sync().await;
        Self {
            name,
            client,
            orders: Some(machine.action_keys.clone()),
        }
    }

    pub async fn service(fleet: &Fleet, name: &'static str) -> Self {
        let mut client = fleet.service(name).await;
        for pattern in contract::permissions::user(name).unwrap().subscribe {
            client.subscribe(&pattern, None).await;
        }
        client.sync().await;
        Self {
            name,
            client,
            orders: None,
        }
    }

    pub async fn swears(&mut self) {
        self.client.sync().await;
        for message in self.client.take_messages() {
            let in_order = match &self.orders {
                None => !message.subject.contains("evil") || message.subject.starts_with("df.up."),
                // The thief's own questions are answered to itself.
                Some(_) if self.name == "myself" && message.subject.ends_with(".answer") => true,
                Some(pinned) => {
                    serde_json::from_slice::<Signed>(&message.payload).is_ok_and(|signed| {
                        let body = signed.verify(ORDER_PREFIX, pinned);
                        body.is_ok_and(|body| serde_json::from_slice::<Order>(body).is_ok())
                    })
                }
            };
            assert!(
                in_order,
                "{} heard {}: {}",
                self.name,
                message.subject,
                String::from_utf8_lossy(&message.payload)
            );
        }
    }
}
