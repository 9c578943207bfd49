//! What somebody wants to be executed, checked but for what the database knows.

use contract::Problem;
use contract::job::Order;
use domain::execution::{DELAY_MAX, KEY_MAX_CHARS, OVERRIDE_MAX_BYTES, made_at};
use domain::job::PRIORITY;
use domain::text::check_text;
use domain::{ExecutionId, JobId, Timestamp};
use serde_json::{Map, Value};

use crate::app::job::{check_json, within};
use crate::store::enqueue::{JobHead, NewExecution};

/// Where an order stands in its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(pub(super) Option<usize>);

impl Place {
    /// The path of one of its fields.
    pub(super) fn path(self, field: &str) -> String {
        match self.0 {
            Some(index) => format!("items[{index}].{field}"),
            None => field.to_owned(),
        }
    }

    /// Whether it is one of several.
    pub(super) fn is_in_list(self) -> bool {
        self.0.is_some()
    }
}

/// An execution that somebody wants. Its id is the same however often the transaction is run.
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) id: ExecutionId,
    pub(super) job: JobId,
    pub(super) order: Order,
    /// The order's `config`, as it is stored.
    pub(super) replaced: Option<Value>,
}

impl Item {
    /// An order, checked but for what the database knows.
    pub(super) fn of(place: Place, job: JobId, mut order: Order) -> Result<Self, Problem> {
        let replaced = order.config.take().map(Value::Object);
        if let Some(replaced) = &replaced {
            check_json(&place.path("config"), replaced, OVERRIDE_MAX_BYTES)?;
        }
        if let Some(priority) = order.priority {
            within(&place.path("priority"), priority, &PRIORITY)?;
        }
        if let Some(run_at) = order.run_at
            && run_at > Timestamp::now().plus(DELAY_MAX)
        {
            let message = "is more than 30 days ahead";
            return Err(Problem::invalid(place.path("runAt"), message));
        }
        for (field, key) in [
            ("deduplicationKey", &order.deduplication_key),
            ("concurrencyKey", &order.concurrency_key),
        ] {
            if let Some(key) = key {
                check_key(key).map_err(|error| Problem::invalid(place.path(field), error))?;
            }
        }
        Ok(Self {
            place,
            id: ExecutionId::new(),
            job,
            order,
            replaced,
        })
    }

    /// The fields that it replaces of its job's configuration, if any.
    pub(super) fn replaced_fields(&self) -> Option<&Map<String, Value>> {
        let fields = self.replaced.as_ref()?.as_object()?;
        (!fields.is_empty()).then_some(fields)
    }

    pub(super) fn new_execution<'a>(
        &'a self,
        job: &'a JobHead,
        pinned: Option<&'a Value>,
    ) -> NewExecution<'a> {
        NewExecution {
            id: self.id.0,
            job_id: job.id,
            pool: &job.pool,
            key: self.order.concurrency_key.as_deref().unwrap_or_default(),
            priority: self.order.priority.unwrap_or(job.priority),
            run_at: self.order.run_at.map(Timestamp::utc),
            replaced: pinned.or(self.replaced.as_ref()),
            deduplication_key: self.order.deduplication_key.as_deref(),
            created_at: made_at(self.id).utc(),
        }
    }
}

fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() {
        return Err("must not be empty".into());
    }
    check_text(key, KEY_MAX_CHARS, char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_wrong_order_is_named_where_it_stands() {
        let path = |order: Order| {
            let place = Place(Some(3));
            let problem = Item::of(place, JobId::new(), order).err()?;
            Some(problem.errors.first()?.path.clone())
        };
        let late = Timestamp::now().plus(DELAY_MAX + chrono::Duration::minutes(1));
        let config = json!({ "text": "x".repeat(OVERRIDE_MAX_BYTES) });
        let table = [
            (
                Order {
                    priority: Some(101),
                    ..Order::default()
                },
                "items[3].priority",
            ),
            (
                Order {
                    run_at: Some(late),
                    ..Order::default()
                },
                "items[3].runAt",
            ),
            (
                Order {
                    deduplication_key: Some(String::new()),
                    ..Order::default()
                },
                "items[3].deduplicationKey",
            ),
            (
                Order {
                    concurrency_key: Some("a\nb".into()),
                    ..Order::default()
                },
                "items[3].concurrencyKey",
            ),
            (
                Order {
                    concurrency_key: Some("x".repeat(129)),
                    ..Order::default()
                },
                "items[3].concurrencyKey",
            ),
            (
                Order {
                    config: config.as_object().cloned(),
                    ..Order::default()
                },
                "items[3].config",
            ),
        ];
        for (order, expected) in table {
            assert_eq!(path(order).as_deref(), Some(expected));
        }
        assert_eq!(path(Order::default()), None);
    }
}
