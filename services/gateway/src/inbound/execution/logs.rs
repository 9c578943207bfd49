//! Following what an execution logs: what its owner has kept, then what is told live, until it ends. What is live may be lost: a
//! line that is missing is seen by its number, and the owner is asked; so it is each quarter of a minute anyway. Nothing is held
//! for a client that does not take it but a few messages.

use std::time::Duration;

use bus::Subscription;
use bytes::Bytes;
use contract::Problem;
use contract::execution::{ExecutionLog, ExecutionLogPage, LogLines, LogPlace};
use contract::live::Live;
use domain::ExecutionId;
use domain::execution::ExecutionStatus;
use futures::{StreamExt, stream};
use poem::{Body, IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use runtime::Shutdown;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::reader::Reader;
use crate::document::execution as documented;
use crate::owners::Owners;

const EVENT_STREAM: &str = "text/event-stream";
/// How often the owner is asked when nothing is heard; also a sign of life for proxies and for the client.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How many live messages wait while a client takes its time; more are dropped, and asked for.
const LIVE_MAX: usize = 32;
/// How many events wait for a client.
const EVENTS_MAX: usize = 8;
/// How long they may wait; then the stream is over, and its place is somebody else's.
const TAKEN_MAX: Duration = Duration::from_secs(60);
/// When a browser may connect again, in milliseconds.
const RETRY_MS: u32 = 2_000;

/// The events.
pub struct Logs(Body);

/// Somebody who follows a log.
struct Follow {
    owners: Owners,
    reader: Reader,
    execution: ExecutionId,
    /// The last line that was sent.
    place: Option<LogPlace>,
    live: mpsc::Receiver<Told>,
    /// Whether nothing live comes any more.
    is_deaf: bool,
    events: mpsc::Sender<Bytes>,
    shutdown: Shutdown,
}

/// What was told live of the execution.
#[derive(Debug, Deserialize)]
struct Told {
    #[serde(default)]
    log: Option<ToldLines>,
    #[serde(default)]
    status: Option<ExecutionStatus>,
}

/// Lines that were logged just now.
#[derive(Debug, Deserialize)]
struct ToldLines {
    attempt: i32,
    first: i64,
    lines: Vec<String>,
}

/// What is to be done about something that was told.
#[derive(Debug, PartialEq, Eq)]
enum Fresh {
    /// These lines are next.
    Lines(LogLines),
    /// The owner knows more.
    Look,
    /// Nothing.
    Old,
}

impl Logs {
    /// Looks first, so that who may not, or when the owner is away, is answered as everywhere.
    ///
    /// # Errors
    /// The owner's refusal.
    pub async fn begin(
        owners: &Owners,
        reader: Reader,
        execution: ExecutionId,
        after: Option<LogPlace>,
        shutdown: &Shutdown,
    ) -> Result<Self, Problem> {
        // Heard before it is asked: nothing falls between what is kept and what is live.
        let live = owners
            .live(reader.caller().org(), "execution", &execution.token())
            .await?;
        let question = ExecutionLog {
            execution_id: execution,
            after,
        };
        let page = owners.read(reader.caller(), &question).await?;
        let (tell, told) = mpsc::channel(LIVE_MAX);
        tokio::spawn(pass_on(live, tell));
        let (events, taken) = mpsc::channel(EVENTS_MAX);
        let follow = Follow {
            owners: owners.clone(),
            reader,
            execution,
            place: after,
            live: told,
            is_deaf: false,
            events,
            shutdown: shutdown.clone(),
        };
        // The client's address goes along: the request's own work ends here.
        tokio::spawn(bus::client::carried(follow.run(page)));
        let body = stream::unfold(taken, |mut taken| async move {
            let event = taken.recv().await?;
            Some((Ok::<_, std::io::Error>(event), taken))
        });
        Ok(Self(Body::from_bytes_stream(body)))
    }
}

/// Passes on what is told, as far as there is room; until nobody takes it.
async fn pass_on(mut live: Subscription, tell: mpsc::Sender<Told>) {
    loop {
        let message = tokio::select! {
            () = tell.closed() => return,
            message = live.next() => message,
        };
        let Some(message) = message else {
            return;
        };
        let told = serde_json::from_slice(&message.payload)
            .and_then(|live: Live| serde_json::from_value(live.data));
        match told {
            // When there is no room, the next one that has shows what is missing.
            Ok(told) => drop(tell.try_send(told)),
            Err(error) => tracing::debug!(%error, "something live cannot be read"),
        }
    }
}

impl Follow {
    async fn run(mut self, mut page: ExecutionLogPage) {
        if !self.send(format!("retry: {RETRY_MS}\n\n").into()).await {
            return;
        }
        loop {
            let none = page.items.is_empty();
            for lines in page.items {
                if !self.send_lines(lines).await {
                    return;
                }
            }
            if none {
                if page.status.is_terminal() {
                    self.send(event("end", &json!({ "status": page.status })))
                        .await;
                    return;
                }
                if !self.wait().await {
                    return;
                }
            }
            let settled = tokio::select! {
                () = self.events.closed() => return,
                () = self.shutdown.begun() => return,
                settled = self.reader.settle(&self.owners) => settled,
            };
            if let Err(problem) = settled {
                return self.refuse(&problem).await;
            }
            let question = ExecutionLog {
                execution_id: self.execution,
                after: self.place,
            };
            page = match self.owners.read(self.reader.caller(), &question).await {
                Ok(page) => page,
                Err(problem) => return self.refuse(&problem).await,
            };
        }
    }

    async fn refuse(&mut self, problem: &Problem) {
        let data = json!({ "kind": problem.kind, "detail": problem.detail });
        self.send(event("problem", &data)).await;
    }

    /// Sends what is told live, until the owner is to be asked; `false` when the stream is over.
    async fn wait(&mut self) -> bool {
        let look = Instant::now() + LOOK_EVERY;
        loop {
            let told = tokio::select! {
                () = self.events.closed() => return false,
                () = self.shutdown.begun() => return false,
                () = sleep_until(look) => return self.send(Bytes::from_static(b":\n\n")).await,
                () = self.reader.doubted() => return true,
                told = self.live.recv(), if !self.is_deaf => told,
            };
            match told.map(|told| fresh(told, self.place)) {
                Some(Fresh::Lines(lines)) => {
                    if !self.send_lines(lines).await {
                        return false;
                    }
                }
                Some(Fresh::Look) => return true,
                Some(Fresh::Old) => {}
                None => self.is_deaf = true,
            }
        }
    }

    async fn send_lines(&mut self, lines: LogLines) -> bool {
        let Some(last) = last(&lines) else {
            return true;
        };
        let LogPlace { attempt, line } = lines.first;
        let data = json!({ "attempt": attempt, "first": line, "lines": lines.lines });
        let text = format!("id: {last}\nevent: log\ndata: {data}\n\n");
        self.place = Some(last);
        self.send(text.into()).await
    }

    /// Waits until the client takes it; `false` when it is gone or takes too long, or the end has begun.
    async fn send(&mut self, text: Bytes) -> bool {
        tokio::select! {
            sent = self.events.send_timeout(text, TAKEN_MAX) => sent.is_ok(),
            () = self.shutdown.begun() => false,
        }
    }
}

fn event(name: &str, data: &Value) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}

/// The place of the last of these lines.
fn last(lines: &LogLines) -> Option<LogPlace> {
    let count = i64::try_from(lines.lines.len())
        .ok()
        .filter(|count| *count > 0)?;
    Some(LogPlace {
        line: lines.first.line.saturating_add(count - 1),
        ..lines.first
    })
}

/// What is to be done about something that was told, after the last line that was sent.
fn fresh(told: Told, place: Option<LogPlace>) -> Fresh {
    let Some(log) = told.log else {
        let has_ended = told.status.is_some_and(ExecutionStatus::is_terminal);
        return if has_ended { Fresh::Look } else { Fresh::Old };
    };
    let lines = LogLines {
        first: LogPlace {
            attempt: log.attempt,
            line: log.first,
        },
        lines: log.lines,
    };
    let Some(end) = last(&lines) else {
        return Fresh::Old;
    };
    match place {
        // Nothing was sent: whether these are the first is for the owner to say.
        None => Fresh::Look,
        Some(place) if end <= place => Fresh::Old,
        // The attempt before may have logged more than was heard.
        Some(place) if lines.first.attempt != place.attempt => Fresh::Look,
        Some(place) if lines.first.line > place.line.saturating_add(1) => Fresh::Look,
        Some(place) => {
            let next = place.line.saturating_add(1);
            let known = usize::try_from(next.saturating_sub(lines.first.line)).unwrap_or_default();
            Fresh::Lines(LogLines {
                first: LogPlace {
                    line: next,
                    ..place
                },
                lines: lines.lines.into_iter().skip(known).collect(),
            })
        }
    }
}

impl Payload for Logs {
    const CONTENT_TYPE: &'static str = EVENT_STREAM;

    fn schema_ref() -> MetaSchemaRef {
        documented::LogLines::schema_ref()
    }

    fn register(registry: &mut Registry) {
        documented::LogLines::register(registry);
    }
}

impl IntoResponse for Logs {
    fn into_response(self) -> Response {
        Response::builder().content_type(EVENT_STREAM).body(self.0)
    }
}

impl ApiResponse for Logs {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "The events; this is the data of `log`.",
                status: Some(200),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: EVENT_STREAM,
                    schema: Self::schema_ref(),
                }],
                headers: vec![],
            }],
        }
    }

    fn register(registry: &mut Registry) {
        <Self as Payload>::register(registry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(attempt: i32, first: i64, count: i64) -> Told {
        Told {
            log: Some(ToldLines {
                attempt,
                first,
                lines: (first..first + count)
                    .map(|line| line.to_string())
                    .collect(),
            }),
            status: None,
        }
    }

    fn lines(attempt: i32, first: i64, count: i64) -> Fresh {
        Fresh::Lines(LogLines {
            first: LogPlace {
                attempt,
                line: first,
            },
            lines: (first..first + count)
                .map(|line| line.to_string())
                .collect(),
        })
    }

    #[test]
    fn what_is_next_is_sent_and_what_is_missing_is_asked_for() {
        let place = Some(LogPlace {
            attempt: 2,
            line: 4,
        });
        for (told, expected) in [
            (told(2, 5, 2), lines(2, 5, 2)),
            (told(2, 3, 4), lines(2, 5, 2)),
            (told(2, 3, 2), Fresh::Old),
            (told(1, 9, 2), Fresh::Old),
            (told(2, 6, 1), Fresh::Look),
            (told(3, 0, 1), Fresh::Look),
            (told(2, 5, 0), Fresh::Old),
        ] {
            assert_eq!(fresh(told, place), expected);
        }
        assert_eq!(fresh(told(1, 0, 1), None), Fresh::Look);
        let status = |status| Told {
            log: None,
            status: Some(status),
        };
        assert_eq!(fresh(status(ExecutionStatus::Running), place), Fresh::Old);
        assert_eq!(fresh(status(ExecutionStatus::Failed), place), Fresh::Look);
    }
}
