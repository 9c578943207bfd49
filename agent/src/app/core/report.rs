//! The loop's words to the server: reports, and the question what was missed.

use std::time::Duration;

use contract::Problem;
use contract::agent::ReportAnswer;
use contract::order::{Signed, SyncItem, SyncRequest};
use contract::subject::{Up, up};
use tracing::Instrument;
use uuid::Uuid;

use crate::app::core::{Core, Event, tell};
use crate::app::outbox::{Outgoing, Report};
use crate::engine::StepWord;
use crate::inbound::page;
use crate::journal::Head;

/// How long an owner may take to answer a report or a question.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Core {
    /// Sends a report; the answer comes back as an event.
    pub(super) fn send(&self, outgoing: Outgoing) {
        let (org, machine) = (self.parts.me.org, self.parts.me.machine);
        let (bus, events) = (self.parts.bus.clone(), self.events.0.clone());
        let span = tracing::info_span!("action.report", action = %outgoing.key.action, attempt = outgoing.key.attempt);
        bus::trace::set_parent(&span, outgoing.traceparent.as_deref());
        let task = async move {
            let answer = match &outgoing.report {
                Report::Step(StepWord::Accepted, step) => {
                    bus.agent_request(up(org, machine, Up::Accepted), org, step, TIMEOUT)
                        .await
                }
                Report::Step(StepWord::Started, step) => {
                    bus.agent_request(up(org, machine, Up::Started), org, step, TIMEOUT)
                        .await
                }
                Report::Result(result) => {
                    bus.agent_request(up(org, machine, Up::Result), org, result, TIMEOUT)
                        .await
                }
            };
            tell(&events, Event::Answered(outgoing, answer)).await;
        };
        tokio::spawn(task.instrument(span));
    }

    pub(super) fn answered(&mut self, outgoing: &Outgoing, answer: Result<ReportAnswer, Problem>) {
        let verdict = match answer {
            Ok(answer) => Some(answer.verdict),
            Err(problem) => {
                tracing::debug!(action = %outgoing.key.action, %problem, "a report is not taken yet");
                None
            }
        };
        let now = self.moment().boot;
        if self.outbox.answered(outgoing, verdict, now) {
            self.parts.engine.reported(outgoing.key);
        }
    }

    /// Asks the server what was missed: the journal has just said where it stands.
    pub(super) fn ask(&mut self, head: Head) {
        let engine = &self.parts.engine;
        let Some(question) = self
            .sync
            .asks(engine.span(), |whole| engine.sync_after(whole))
        else {
            return;
        };
        let request = SyncRequest {
            after_seq: question.after,
            journal_id: head.journal,
            entries: head.entries,
            head: head.head,
            session_id: self.parts.session,
            boot_id: self.parts.boot.clone(),
            nonce: question.nonce,
            echo: question.echo,
            keys: self.parts.keys.keys.clone(),
        };
        let (org, machine) = (self.parts.me.org, self.parts.me.machine);
        let (bus, events) = (self.parts.bus.clone(), self.events.0.clone());
        tokio::spawn(async move {
            let answer = bus
                .agent_request(up(org, machine, Up::Sync), org, &request, TIMEOUT)
                .await;
            tell(&events, Event::Page(question.nonce, answer)).await;
        });
    }

    pub(super) fn page(&mut self, nonce: Uuid, answer: Result<Signed, Problem>) {
        let Some(question) = self.sync.awaits(nonce) else {
            return;
        };
        let now = self.moment().boot;
        let verified = match answer {
            Ok(signed) => page::verify(&signed, &self.parts.keys.keys, &self.parts.me, nonce),
            Err(problem) => {
                tracing::debug!(%problem, "the server does not say what was missed");
                return self.sync.failed(now);
            }
        };
        let page = match verified {
            Ok(page) => page,
            Err(refusal) => {
                self.parts.refused.note("sync", &refusal);
                return self.sync.failed(now);
            }
        };
        self.parts.clock.server_says(page.server_time);
        let moment = self.moment();
        if let Some(echo) = page.echo {
            tracing::warn!(
                "the server suspects that this is a copy of the machine, and wants to hear from it again"
            );
            self.parts.engine.suspected();
            return self.sync.suspected(question, echo, moment.boot);
        }
        match (self.parts.engine.quarantined(), &page.quarantined) {
            (None, Some(reason)) => tracing::error!(
                reason,
                "the server does not trust this machine: perhaps it is a copy of another. Nothing is executed until an operator decides"
            ),
            (Some(_), None) => tracing::info!("the server trusts this machine again"),
            _ => {}
        }
        let last = page
            .items
            .last()
            .map(SyncItem::through)
            .filter(|last| *last > question.after);
        let wanted = self
            .parts
            .engine
            .page(page.items, page.quarantined, page.server_time, moment);
        let next = last.filter(|_| page.more && wanted);
        self.sync.answered(next, moment.boot);
        if page.more && wanted && next.is_none() {
            // The page was full of what is known already; when the server has the reports, the rest follows.
            self.sync.want(true);
        }
    }
}
