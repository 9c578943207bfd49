//! Reports and syncs that are not true, not this machine's, or not of now.

use contract::agent::{ResultReport, Step};
use contract::subject::Up;
use domain::action::Outcome;
use domain::{ActionId, SessionId, Timestamp};
use serde_json::{Value, json};

use super::effects::{say, sync};
use super::fleet::{Fleet, Life, Machine};
use crate::main::hostile::Hostile;

pub fn result(action: ActionId, attempt: i32, outcome: Outcome) -> ResultReport {
    let (result, error) = (Some(json!({ "shownOn": "evil" })), None);
    ResultReport {
        action,
        attempt,
        outcome,
        result,
        error,
        accepted_at: None,
        started_at: None,
        finished_at: Timestamp::now(),
    }
}

fn verdict(answer: &Value) -> &str {
    answer["ok"]["verdict"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"))
}

/// Steps and results of what was not this machine's to do, or not now, or not so.
pub async fn forged_reports(
    fleet: &Fleet,
    thief: &mut Hostile,
    me: &Machine,
    mine: ActionId,
    others: &[ActionId],
) -> usize {
    let mut tried = 0;
    let at = Timestamp::now();
    let step = |action, attempt| {
        me.says(&Step {
            action,
            attempt,
            at,
        })
    };
    let end = |action, attempt, outcome| me.says(&result(action, attempt, outcome));
    let unoffered = fleet.action(&fleet.ours, me).await;
    fleet.alter("df_action_system", &format!("UPDATE action.actions SET offered_at = NULL, ring_at = NULL WHERE id = '{unoffered}'")).await;
    let unknown = ActionId::new();
    for action in others.iter().copied().chain([unknown, unoffered]) {
        let mut reports = vec![
            (Up::Accepted, step(action, 1)),
            (Up::Started, step(action, 1)),
        ];
        let outcomes = [
            Outcome::Succeeded,
            Outcome::Failed,
            Outcome::Expired,
            Outcome::Cancelled,
            Outcome::Interrupted,
        ];
        reports.extend(outcomes.map(|outcome| (Up::Result, end(action, 1, outcome))));
        for (word, report) in reports {
            assert_eq!(
                verdict(&say(thief, me, word, &report).await),
                "FENCED",
                "{word:?}"
            );
            tried += 1;
        }
    }
    assert_eq!(
        fleet.get(&fleet.ours, unoffered).await.status.as_str(),
        "QUEUED"
    );
    for attempt in [i32::MIN, -1, 0, 2, i32::MAX] {
        let answer = say(
            thief,
            me,
            Up::Result,
            &end(mine, attempt, Outcome::Succeeded),
        )
        .await;
        assert_ne!(verdict(&answer), "APPLIED", "attempt {attempt}");
        tried += 1;
    }
    assert_eq!(fleet.get(&fleet.ours, mine).await.status.as_str(), "QUEUED");

    // Its own, once; then nothing of it changes any more.
    assert_eq!(
        verdict(&say(thief, me, Up::Result, &end(mine, 1, Outcome::Failed)).await),
        "APPLIED"
    );
    let ended = fleet.get(&fleet.ours, mine).await;
    for outcome in [
        Outcome::Succeeded,
        Outcome::Expired,
        Outcome::Cancelled,
        Outcome::Interrupted,
    ] {
        assert_eq!(
            verdict(&say(thief, me, Up::Result, &end(mine, 1, outcome)).await),
            "FENCED"
        );
        tried += 1;
    }
    for (word, report) in [
        (Up::Accepted, step(mine, 1)),
        (Up::Started, step(mine, 1)),
        (Up::Result, end(mine, 1, Outcome::Failed)),
    ] {
        assert_eq!(verdict(&say(thief, me, word, &report).await), "DUPLICATE");
        tried += 1;
    }
    let old = json!({ "v": 99, "id": uuid::Uuid::now_v7(), "sentAt": at, "body": result(mine, 1, Outcome::Succeeded) });
    for malformed in [
        b"".to_vec(),
        b"null".to_vec(),
        b"\xff\xfe".to_vec(),
        vec![b'['; 100_000],
        old.to_string().into_bytes(),
        me.says(&json!({ "action": "x" })),
    ] {
        let answer = say(thief, me, Up::Result, &malformed).await;
        assert_eq!(answer["error"]["kind"], "INVALID", "{answer}");
        tried += 1;
    }
    assert_eq!(fleet.get(&fleet.ours, mine).await, ended);
    // What the attempts table may say of it: one end.
    let attempts = format!("SELECT count(*)::text FROM action.attempts WHERE action_id = '{mine}'");
    assert_eq!(
        fleet.look("df_action_system", &attempts).await.as_deref(),
        Some("1")
    );
    fleet
        .alter(
            "df_action_system",
            &format!("UPDATE action.actions SET status = 'QUEUED' WHERE id = '{unoffered}'"),
        )
        .await;
    tried
}

/// Words of a life that another has replaced, and of none.
pub async fn replayed_syncs(fleet: &Fleet, thief: &mut Hostile, me: &Machine, life: Life) -> usize {
    let mut tried = 0;
    let recorded = me.says(&life.request(0));
    sync(thief, me, &recorded).await;
    let next = Life {
        session: SessionId::new(),
        entries: 9,
        ..life
    };
    let page = sync(thief, me, &me.says(&next.request(0))).await;
    assert!(page.echo.is_none() && page.quarantined.is_none());
    let row = format!(
        "SELECT concat_ws('|', journal_id, journal_entries, journal_head, session_id, quarantined_at, last_seq) FROM action.machines WHERE id = '{}'",
        me.id
    );
    let known = fleet.look("df_action_system", &row).await;
    let offered = format!(
        "SELECT count(*)::text FROM action.actions WHERE machine_id = '{}' AND offered_at IS NOT NULL",
        me.id
    );
    let count = fleet.look("df_action_system", &offered).await;
    // The old life's words, as they were recorded, and with an answer guessed to what the page asks of the living.
    for echo in [
        None,
        None,
        None,
        Some(uuid::Uuid::nil()),
        Some(uuid::Uuid::new_v4()),
    ] {
        let request = match echo {
            None => recorded.clone(),
            Some(_) => me.says(&contract::order::SyncRequest {
                echo,
                ..life.request(0)
            }),
        };
        let page = sync(thief, me, &request).await;
        assert!(
            page.items.is_empty() && page.echo.is_some() && page.quarantined.is_none(),
            "{page:?}"
        );
        tried += 1;
    }
    // Less than was told before, or another history.
    for request in [
        Life { entries: 1, ..next }.request(0),
        contract::order::SyncRequest {
            head: "f".repeat(64),
            ..next.request(0)
        },
        Life {
            entries: i64::MIN,
            ..next
        }
        .request(0),
    ] {
        let page = sync(thief, me, &me.says(&request)).await;
        assert!(page.items.is_empty() && page.echo.is_some(), "{page:?}");
        tried += 1;
    }
    assert_eq!(
        fleet.look("df_action_system", &row).await,
        known,
        "a replay changed what is known of the machine"
    );
    // Places that there are not, and another organisation's name on the envelope.
    for after in [i64::MIN, -1, i64::MAX] {
        let page = sync(thief, me, &me.says(&next.request(after))).await;
        assert_eq!((page.org, page.machine, page.echo), (me.org, me.id, None));
        tried += 1;
    }
    let foreign = contract::Envelope::new(
        contract::agent::VERSION,
        Some(fleet.theirs.org),
        next.request(0),
    );
    let page = sync(thief, me, &serde_json::to_vec(&foreign).unwrap()).await;
    assert_eq!((page.org, page.machine), (me.org, me.id));
    assert_eq!(fleet.look("df_action_system", &row).await, known);
    assert!(fleet.look("df_action_system", &offered).await >= count);
    tried + 1
}
