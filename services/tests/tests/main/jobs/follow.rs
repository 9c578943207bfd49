//! Somebody who follows an execution's log over HTTP, by server-sent events.

use std::collections::VecDeque;
use std::time::Duration;

use dashfleet_tests::Api;
use serde_json::Value;

/// For how long nothing may come: the gateway gives a sign of life each quarter of a minute.
const PATIENCE: Duration = Duration::from_secs(30);

/// A line, and its place: the attempt, and its number there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub place: (i64, i64),
    pub text: String,
}

/// A connection; dropped, it is cut.
pub struct Follower {
    reply: reqwest::Response,
    text: String,
    lines: VecDeque<Line>,
    last: Option<String>,
    ended: Option<String>,
}

impl Follower {
    /// Follows from the beginning, or after an event that it had.
    pub async fn open(api: &Api, execution: &str, last: Option<&str>) -> Self {
        let path = format!("{}/api/v1/executions/{execution}/logs", api.url);
        let mut request = reqwest::Client::new().get(path).bearer_auth(&api.key);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let reply = request.send().await.expect("an answer");
        assert_eq!(reply.status().as_u16(), 200);
        Self {
            reply,
            text: String::new(),
            lines: VecDeque::new(),
            last: last.map(ToOwned::to_owned),
            ended: None,
        }
    }

    /// The next line; `None` after the end of the execution.
    pub async fn next(&mut self) -> Option<Line> {
        while self.lines.is_empty() && self.ended.is_none() {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                self.take(&event);
                continue;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.reply.chunk()).await;
            let chunk = chunk.expect("a word in time").expect("a stream");
            let chunk = chunk.expect("the stream ends after the execution");
            let text = std::str::from_utf8(&chunk).expect("whole characters");
            self.text.push_str(text);
        }
        self.lines.pop_front()
    }

    /// Whether more lines of the last event are here.
    pub fn has_more(&self) -> bool {
        !self.lines.is_empty()
    }

    /// The id of the last event that had one.
    pub fn last(&self) -> Option<String> {
        self.last.clone()
    }

    /// How the execution ended, once that was said.
    pub fn ended(&self) -> Option<String> {
        self.ended.clone()
    }

    fn take(&mut self, event: &str) {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        let Some(data) = field("data: ") else {
            return;
        };
        let data: Value = serde_json::from_str(data).expect("JSON");
        match field("event: ") {
            Some("log") => {
                self.last = field("id: ").map(ToOwned::to_owned);
                let attempt = data["attempt"].as_i64().expect("an attempt");
                let first = data["first"].as_i64().expect("a number");
                let texts = data["lines"].as_array().expect("lines").iter();
                for (text, number) in texts.zip(first..) {
                    self.lines.push_back(Line {
                        place: (attempt, number),
                        text: text.as_str().expect("a text").to_owned(),
                    });
                }
            }
            Some("end") => {
                self.ended = data["status"].as_str().map(ToOwned::to_owned);
                assert!(self.ended.is_some(), "{data}");
            }
            other => panic!("{other:?}: {data}"),
        }
    }
}
