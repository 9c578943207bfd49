//! The scheduler's stand-in: it notes what it is asked, as it travelled, and answers with an example. What it is asked about
//! [`ELSEWHERE`] is not there; what is [`DELIVERED`] runs; what [`ENDED`] has ended.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::{Bus, Context, GrantVerifier, Service};
use contract::execution::{
    Execution, ExecutionBatch, ExecutionBatched, ExecutionCancel, ExecutionCancelMany,
    ExecutionGet, ExecutionList, ExecutionLog, ExecutionLogPage, ExecutionPage, ExecutionRetry,
    ExecutionRetryMany, ExecutionsChanged, LogLines, LogPlace,
};
use contract::grant::Jwks;
use contract::job::{
    Job, JobCreate, JobDelete, JobDeleted, JobEdit, JobExecute, JobGet, JobList, JobPage, Settings,
    SettingsEdit, SettingsGet,
};
use contract::{Call, Problem, ProblemKind};
use domain::access::{JOBS_EXECUTE, JOBS_READ, JOBS_WRITE};
use domain::execution::ExecutionStatus;
use serde_json::{Value, json};

use super::{DELIVERED, ELSEWHERE, ENDED, SLOW, id};
use crate::messages;

/// The scheduler's memory, and what a test turns.
pub struct Scheduler {
    /// What was asked: `job.create`, and the message.
    pub asked: Mutex<Vec<(String, Value)>>,
    /// What every execution has logged.
    pub log: Mutex<Vec<LogLines>>,
    /// Where every execution stands that is asked for its log.
    pub status: Mutex<ExecutionStatus>,
}

impl Default for Scheduler {
    fn default() -> Self {
        Self {
            asked: Mutex::default(),
            log: Mutex::default(),
            status: Mutex::new(ExecutionStatus::Running),
        }
    }
}

impl Scheduler {
    /// What was asked last.
    pub fn last(&self) -> (String, Value) {
        self.asked.lock().unwrap().last().cloned().unwrap()
    }

    /// Adds lines to what every execution has logged.
    pub fn logs(&self, attempt: i32, first: i64, lines: &[&str]) {
        self.log.lock().unwrap().push(LogLines {
            first: LogPlace {
                attempt,
                line: first,
            },
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        });
    }

    /// Lines after a place, one at a time.
    fn after(&self, after: Option<LogPlace>) -> ExecutionLogPage {
        let status = *self.status.lock().unwrap();
        let mut items = Vec::new();
        for chunk in self.log.lock().unwrap().iter() {
            for (line, text) in (chunk.first.line..).zip(&chunk.lines) {
                let first = LogPlace {
                    line,
                    ..chunk.first
                };
                if after.is_none_or(|after| first > after) {
                    let lines = vec![text.clone()];
                    items.push(LogLines { first, lines });
                }
            }
        }
        ExecutionLogPage { items, status }
    }

    async fn example<C: Call>(
        self: &Arc<Self>,
        service: &Service,
        scope: &'static str,
        reply: impl Fn(C) -> Result<C::Reply, Problem> + Clone + Send + Sync + 'static,
    ) {
        let this = self.clone();
        let answer = move |context: Context, request: C| {
            let (this, reply) = (this.clone(), reply.clone());
            async move {
                context.grant()?.require(scope)?;
                let asked = serde_json::to_value(&request).unwrap();
                let text = asked.to_string();
                if text.contains(ELSEWHERE) {
                    return Err(Problem::not_found(C::NOUN));
                }
                if text.contains(SLOW) {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
                let call = format!("{}.{}", C::NOUN, C::VERB);
                this.asked.lock().unwrap().push((call, asked));
                reply(request)
            }
        };
        service.answer(answer).await.unwrap();
    }

    pub async fn answer(self: &Arc<Self>, bus: &Bus, jwks: &Jwks) -> Service {
        let verifier = GrantVerifier::fixed(jwks, "scheduler");
        let service = Service::start(bus, "scheduler", Some(verifier))
            .await
            .unwrap();
        self.answer_jobs(&service).await;
        self.answer_executions(&service).await;
        bus.settled().await;
        service
    }

    async fn answer_jobs(self: &Arc<Self>, service: &Service) {
        let job = |name: String| Job {
            name,
            ..messages::job()
        };
        self.example(service, JOBS_WRITE, move |create: JobCreate| {
            Ok(job(create.name))
        })
        .await;
        self.example(service, JOBS_READ, |get: JobGet| {
            Ok(Job {
                id: get.job_id,
                ..messages::job()
            })
        })
        .await;
        self.example(service, JOBS_READ, |_: JobList| {
            Ok(JobPage {
                items: vec![messages::job()],
                next_cursor: Some("next".into()),
            })
        })
        .await;
        self.example(service, JOBS_WRITE, |edit: JobEdit| {
            Ok(Job {
                id: edit.job_id,
                enabled: edit.enabled.unwrap_or(true),
                paused: edit.paused.unwrap_or(false),
                ..messages::job()
            })
        })
        .await;
        self.example(service, JOBS_WRITE, |_: JobDelete| Ok(JobDeleted {}))
            .await;
        self.example(service, JOBS_EXECUTE, |execute: JobExecute| {
            Ok(Execution {
                job_id: execute.job_id,
                duplicate: execute.order.deduplication_key.is_some(),
                ..messages::execution_waiting()
            })
        })
        .await;
        let settings = || Settings {
            paused: true,
            concurrency: None,
            weight: 1,
        };
        self.example(service, JOBS_READ, move |_: SettingsGet| Ok(settings()))
            .await;
        self.example(service, JOBS_WRITE, move |_: SettingsEdit| Ok(settings()))
            .await;
    }

    async fn answer_executions(self: &Arc<Self>, service: &Service) {
        self.example(service, JOBS_EXECUTE, |batch: ExecutionBatch| {
            let items = batch.items.iter();
            Ok(ExecutionBatched {
                items: items
                    .map(|item| messages::execution_summary(item.job_id))
                    .collect(),
            })
        })
        .await;
        self.example(service, JOBS_READ, |get: ExecutionGet| {
            Ok(Execution {
                id: get.execution_id,
                ..messages::execution_ended()
            })
        })
        .await;
        self.example(service, JOBS_READ, |_: ExecutionList| {
            Ok(ExecutionPage {
                items: vec![messages::execution_ended()],
                next_cursor: Some("next".into()),
            })
        })
        .await;
        self.example(service, JOBS_EXECUTE, |cancel: ExecutionCancel| {
            let status = match cancel.execution_id.0 {
                execution if execution == id(ENDED) => {
                    let text = "the execution has ended: COMPLETED";
                    return Err(Problem::new(ProblemKind::Conflict, text));
                }
                execution if execution == id(DELIVERED) => ExecutionStatus::Running,
                _ => ExecutionStatus::Cancelled,
            };
            Ok(Execution {
                id: cancel.execution_id,
                status,
                ..messages::execution_waiting()
            })
        })
        .await;
        self.example(service, JOBS_EXECUTE, |retry: ExecutionRetry| {
            Ok(Execution {
                id: retry.execution_id,
                ..messages::execution_waiting()
            })
        })
        .await;
        let changed = || ExecutionsChanged {
            count: 3,
            more: false,
        };
        self.example(service, JOBS_EXECUTE, move |_: ExecutionCancelMany| {
            Ok(changed())
        })
        .await;
        self.example(service, JOBS_EXECUTE, move |_: ExecutionRetryMany| {
            Ok(changed())
        })
        .await;
        let this = self.clone();
        self.example(service, JOBS_READ, move |log: ExecutionLog| {
            Ok(this.after(log.after))
        })
        .await;
    }
}

/// What the scheduler tells live of lines.
pub fn told(execution: &str, attempt: i32, first: i64, lines: &[&str]) -> Value {
    json!({ "id": execution, "log": { "attempt": attempt, "first": first, "lines": lines } })
}
