//! What somebody with one agent's key would speak to, listen to, and have answers sent to.

use contract::order::Verb;
use contract::subject::Up;

use super::fleet::Machine;

const WORDS: [Up; 7] = [
    Up::Metrics,
    Up::Accepted,
    Up::Started,
    Up::Result,
    Up::Sync,
    Up::Inventory,
    Up::Stopping,
];
const VERBS: [Verb; 4] = [Verb::New, Verb::Cancel, Verb::Time, Verb::Keys];

fn owned<const N: usize>(subjects: [&str; N]) -> Vec<String> {
    subjects.map(ToOwned::to_owned).into()
}

/// Subjects that this machine may not publish.
pub fn forbidden_subjects(me: &Machine, peer: &Machine, stranger: &Machine) -> Vec<String> {
    let (org, id) = (me.org.token(), me.id.token());
    let mut subjects = Vec::new();
    for machine in [me, peer, stranger] {
        // Orders, to itself and to others, and answers into inboxes.
        subjects.extend(VERBS.map(|verb| machine.act(verb)));
        subjects.push(format!("{}.evil", machine.inbox()));
    }
    for machine in [peer, stranger] {
        subjects.extend(WORDS.map(|word| machine.up(word)));
        subjects.push(machine.up(Up::Metrics).replace("metrics", "output.evil"));
    }
    // Its own name, written otherwise, or in part.
    subjects.extend([
        format!("df.up.{}.{}.sync", org.to_uppercase(), id.to_uppercase()),
        format!("df.up.{}.{}.sync", me.org, me.id),
        format!("df.up.{}.{id}.sync", stranger.org.token()),
        format!("df.up.{org}.*.sync"),
        format!("df.up.*.{id}.sync"),
        format!("df.up.{org}.{id}"),
        format!("df.up.{org}"),
        format!("DF.up.{org}.{id}.sync"),
        format!("df.act.{org}.{id}"),
    ]);
    subjects.extend([
        format!("df.evt.{org}.machine.revoked"),
        format!("df.evt.{org}.key.revoked"),
        format!("df.evt.{}.action.succeeded", stranger.org.token()),
        format!("df.live.{org}.action.{id}"),
        format!("df.live.{org}.machine.{id}"),
        format!("df.svc.{id}.identity.machine.quarantine"),
    ]);
    subjects.extend(owned([
        "df.rpc.identity.grant.exchange",
        "df.rpc.identity.auth.login",
        "df.rpc.identity.enrollment.complete",
        "df.rpc.identity.machine.release",
        "df.rpc.action.action.create",
        "df.rpc.action.action.cancel",
        "df.rpc.metrics.machine.list",
        "df.svc.action.identity.machine.quarantine",
        "df.svc.action.identity.actionkeys.put",
        "df.svc.metrics.identity.machine.changes",
        "df.svc.gateway.identity.jwks.get",
        "df.rpc.scheduler.job.execute",
        "df.svc.worker-default.scheduler.run.claim",
        "df.svc.scheduler.identity.principal.grant",
        "df.svc.scheduler.action.action.create",
        "df.scheduler.bell",
        "df.work.default",
        "_INBOX.w.default.evil",
        "_INBOX.s.scheduler.evil",
        "_INBOX.s.identity.evil",
        "_INBOX.s.action.evil",
        "_INBOX.s.gateway.evil",
        "_INBOX.s.metrics.evil",
        "_INBOX.s.bootstrap.evil",
        "_INBOX.evil",
        "$JS.API.INFO",
        "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.LIST",
        "$JS.API.STREAM.CREATE.EVIL",
        "$JS.API.STREAM.UPDATE.EVENTS",
        "$JS.API.STREAM.DELETE.EVENTS",
        "$JS.API.STREAM.PURGE.EVENTS",
        "$JS.API.STREAM.INFO.EVENTS",
        "$JS.API.STREAM.MSG.GET.EVENTS",
        "$JS.API.STREAM.MSG.DELETE.EVENTS",
        "$JS.API.STREAM.SNAPSHOT.EVENTS",
        "$JS.API.STREAM.RESTORE.EVENTS",
        "$JS.API.DIRECT.GET.EVENTS",
        "$JS.API.CONSUMER.CREATE.EVENTS",
        "$JS.API.CONSUMER.CREATE.EVENTS.evil",
        "$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.evil",
        "$JS.API.CONSUMER.LIST.EVENTS",
        "$JS.API.CONSUMER.INFO.EVENTS.action",
        "$JS.API.CONSUMER.MSG.NEXT.EVENTS.action",
        "$JS.API.CONSUMER.DELETE.EVENTS.action",
        "$JS.API.CONSUMER.PAUSE.EVENTS.action",
        "$JS.API.CONSUMER.MSG.NEXT.WORK.default",
        "$JS.ACK.WORK.default.1.2.3.4.5",
        "$JS.API.ACCOUNT.PURGE.APP",
        "$JS.ACK.EVENTS.action.1.2.3.4.5",
        "$JS.FC.EVENTS.action.evil",
        "$KV.evil.x",
        "$O.MODULES.C.evil",
        "$SYS.REQ.SERVER.PING",
        "$SYS.REQ.SERVER.PING.CONNZ",
        "$SYS.REQ.SERVER.evil.KICK",
        "$SYS.REQ.SERVER.evil.RELOAD",
        "$SYS.REQ.USER.INFO",
        "$SYS.REQ.USER.AUTH",
        "$SYS.REQ.ACCOUNT.APP.CONNZ",
        "$SYS.REQ.CLAIMS.UPDATE",
        "$SYS.ACCOUNT.APP.CONNECT",
        "$SYS.ACCOUNT.APP.DISCONNECT",
        "$SYS.SERVER.evil.SHUTDOWN",
        "$SRV.PING",
        "$SRV.INFO.identity",
        "$SRV.STATS.action",
        "$G.evil",
        ">",
        "df.>",
        "*",
    ]));
    subjects
}

/// Patterns that this machine may not subscribe.
pub fn forbidden_patterns(me: &Machine, peer: &Machine, stranger: &Machine) -> Vec<String> {
    let (org, id) = (me.org.token(), me.id.token());
    let mut patterns = Vec::new();
    for machine in [peer, stranger] {
        patterns.push(format!(
            "df.act.{}.{}.*",
            machine.org.token(),
            machine.id.token()
        ));
        patterns.push(format!(
            "df.act.{}.{}.>",
            machine.org.token(),
            machine.id.token()
        ));
        patterns.extend(VERBS.map(|verb| machine.act(verb)));
        patterns.push(format!("{}.>", machine.inbox()));
        patterns.push(format!("{}.*", machine.inbox()));
        patterns.push(machine.inbox());
    }
    patterns.extend([
        format!("df.act.{org}.>"),
        format!("df.act.{org}.*.*"),
        format!("df.act.{org}.*.new"),
        format!("df.act.*.{id}.*"),
        format!("df.*.{org}.{id}.*"),
        format!("*.act.{org}.{id}.*"),
        format!("df.up.{org}.{id}.>"),
        format!("df.up.{org}.{id}.sync"),
        format!("df.up.{org}.*.result"),
        format!("df.evt.{org}.>"),
        format!("df.live.{org}.>"),
        format!("_INBOX.a.{org}.>"),
        format!("_INBOX.a.{org}.*.>"),
        format!("_INBOX.*.{org}.{id}.>"),
    ]);
    patterns.extend(owned([
        ">",
        "*",
        "*.>",
        "*.*.*.*.*",
        "df.>",
        "df.*.>",
        "df.act.>",
        "df.act.*.*.*",
        "df.act.*.*.new",
        "df.up.>",
        "df.up.*.*.sync",
        "df.rpc.>",
        "df.svc.>",
        "df.evt.>",
        "df.live.>",
        "df.work.>",
        "_INBOX.>",
        "_INBOX.a.>",
        "_INBOX.s.>",
        "_INBOX.s.action.>",
        "_INBOX.s.identity.>",
        "_INBOX.s.gateway.>",
        "_INBOX.w.>",
        "$JS.>",
        "$JS.API.>",
        "$JS.ACK.>",
        "$JS.EVENT.>",
        "$SYS.>",
        "$SYS.REQ.USER.AUTH",
        "$SYS.ACCOUNT.>",
        "$SYS.ACCOUNT.APP.CONNECT",
        "$SRV.>",
        "$SRV.PING",
        "$KV.>",
    ]));
    patterns
}

/// Where an answer to this machine does not belong.
pub fn reply_targets(me: &Machine, peer: &Machine, stranger: &Machine) -> Vec<String> {
    let (org, id) = (me.org.token(), me.id.token());
    let mut targets = vec![
        format!("{}.evil", peer.inbox()),
        format!("{}.evil", stranger.inbox()),
        format!("df.act.{org}.{}.evil", peer.id.token()),
        peer.act(Verb::New),
        peer.act(Verb::Keys),
        stranger.act(Verb::New),
        stranger.act(Verb::Cancel),
        me.act(Verb::New),
        me.act(Verb::Cancel),
        me.up(Up::Result),
        peer.up(Up::Result),
        format!("df.evt.{org}.machine.evil"),
        format!("df.live.{org}.action.evil"),
        // Its own inbox in part, or as the beginning of another.
        me.inbox(),
        format!("{}evil.x", me.inbox()),
        format!("{}.*", me.inbox()),
        format!("{}.>", me.inbox()),
        format!("_INBOX.a.{org}.*.evil"),
        format!("_INBOX.a.{}.{}.evil", org.to_uppercase(), id.to_uppercase()),
        format!("_INBOX.a.{}.{}.evil", me.org, me.id),
    ];
    targets.extend(owned([
        "_INBOX.s.identity.evil",
        "_INBOX.s.action.evil",
        "_INBOX.s.gateway.evil",
        "_INBOX.s.metrics.evil",
        "_INBOX.w.default.evil",
        "df.rpc.identity.grant.evil",
        "df.svc.action.identity.machine.evil",
        "df.work.evil",
        "$JS.API.STREAM.DELETE.EVENTS",
        "$JS.API.CONSUMER.MSG.NEXT.EVENTS.action",
        "$JS.ACK.EVENTS.action.1.2.3.4.5",
        "$JS.ACK.EVENTS.metrics.1.2.3.4.5",
        "$SYS.REQ.SERVER.PING.CONNZ",
        "$SRV.PING",
        "_INBOX.>",
        ">",
    ]));
    targets
}
