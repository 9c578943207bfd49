//! Making streams and durable consumers, from the contract's table. The bootstrap job's right, and nobody else's.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use contract::streams::{CONSUMERS, Keeps, STREAMS, WORK, WORK_ACK_WAIT};

use crate::connection::Bus;
use crate::error::BusError;

impl Bus {
    /// Makes every stream and durable consumer that is missing, those of the workers of `pools` among them, and brings those
    /// that differ in line. With `replicas` above 1 the streams survive the loss of a server.
    ///
    /// # Errors
    /// [`BusError::JetStream`] naming the stream or consumer that was refused.
    pub async fn ensure_streams(&self, replicas: usize, pools: &[String]) -> Result<(), BusError> {
        for spec in STREAMS {
            let retention = match spec.keeps {
                Keeps::Everything => RetentionPolicy::Limits,
                Keeps::UntilTaken => RetentionPolicy::WorkQueue,
            };
            let config = Config {
                name: spec.name.into(),
                subjects: spec
                    .subjects
                    .iter()
                    .map(|subject| (*subject).to_owned())
                    .collect(),
                retention,
                discard: DiscardPolicy::Old,
                storage: StorageType::File,
                max_age: spec.max_age,
                max_bytes: spec.max_bytes,
                duplicate_window: spec.duplicate_window,
                num_replicas: replicas,
                ..Config::default()
            };
            self.jetstream
                .create_or_update_stream(config)
                .await
                .map_err(|error| BusError::JetStream(format!("stream {}: {error}", spec.name)))?;
        }
        for spec in CONSUMERS {
            self.ensure_consumer(spec.stream, spec.name, spec.filters, spec.ack_wait)
                .await?;
        }
        for pool in pools {
            let offers = contract::work::subject(pool);
            self.ensure_consumer(WORK.name, pool, &[offers.as_str()], WORK_ACK_WAIT)
                .await?;
        }
        Ok(())
    }

    async fn ensure_consumer(
        &self,
        stream: &str,
        name: &str,
        filters: &[&str],
        ack_wait: Duration,
    ) -> Result<(), BusError> {
        let refused =
            |error: String| BusError::JetStream(format!("consumer {name} on {stream}: {error}"));
        let config = pull::Config {
            durable_name: Some(name.into()),
            ack_policy: AckPolicy::Explicit,
            ack_wait,
            filter_subjects: filters.iter().map(|&filter| filter.to_owned()).collect(),
            ..pull::Config::default()
        };
        let stream = self
            .jetstream
            .get_stream(stream)
            .await
            .map_err(|error| refused(error.to_string()))?;
        stream
            .create_consumer(config)
            .await
            .map_err(|error| refused(error.to_string()))?;
        Ok(())
    }
}
