//! Verifying a chain: every entry is computed anew and must follow from the one before, and the ends that action signed
//! must be what the chain has at their places, by identity's copies of the signatures and by action's own.
//!
//! Whose signature is action's, action says from its key files: a key that stands in a database only may be anybody's. And
//! when it was signed counts: whoever removed all signatures of a part and had it signed anew, it was signed long after it is
//! dated.
//!
//! One answer looks at a bounded part, and says where to go on.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use contract::Grant;
use contract::audit::chain::{Hash, ZERO};
use contract::audit::{
    AuditFault, AuditProblem, AuditSigned, AuditVerified, AuditVerify, HEADS_MAX, Head,
    HeadSignature, SignedHead, SignedThrough,
};
use domain::access::AUDIT_READ;
use domain::{OrgId, Timestamp};

use crate::app::App;
use crate::error::IdentityError;
use crate::store::audit::head::{HeadRow, SignatureRow};
use crate::store::audit::{self, EventRow, head};

/// How many entries are read at once.
const PAGE: i64 = 250;
/// How many entries one answer looks at, and for how long.
const ENTRIES_MAX: i64 = 20_000;
const TIME_MAX: Duration = Duration::from_millis(1_200);
/// How long action may take to answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// The most faults that one answer names.
const PROBLEMS_MAX: usize = 20;
/// How long an entry may be without a signature behind it: action signs each minute.
const UNSIGNED_MAX: chrono::Duration = chrono::Duration::minutes(10);
/// How long after its own time an entry may have been signed for the first time: its service or identity may have been away
/// for hours, and then action for hours more.
const SIGNED_LATE: chrono::Duration = chrono::Duration::hours(24);
/// Younger entries than this are never removed (migration 0009).
const KEPT_AT_LEAST: chrono::Duration = chrono::Duration::days(90);

/// Action's copies of what it signed, as they are needed.
struct Copies {
    org: OrgId,
    read: VecDeque<SignedHead>,
    /// From where there is more to read.
    next: Option<i64>,
    /// The link of the last that was read.
    link: Option<Hash>,
    keys: Vec<String>,
}

/// One verification.
struct Walk {
    org: OrgId,
    /// The next entry's place, and the hash that it follows, where that is known.
    expected: i64,
    prev: Option<Vec<u8>>,
    copies: Copies,
    rewritten: bool,
    /// The first entry behind the last signature, and when it was recorded.
    unsigned: Option<(i64, Timestamp)>,
    /// Of the whole entries behind the last signature the one with the earliest time.
    oldest: Option<(i64, Timestamp)>,
    found: AuditVerified,
}

impl App {
    /// Verifies an organisation's chain, or a part of it.
    ///
    /// # Errors
    /// FORBIDDEN; UNAVAILABLE for want of a database. That action is away is part of the answer.
    pub async fn audit_verify(
        &self,
        grant: &Grant,
        request: &AuditVerify,
    ) -> Result<AuditVerified, IdentityError> {
        grant.require(AUDIT_READ)?;
        let began = Instant::now();
        let org = grant.org;
        let head = self.audit_head(org).await?;
        let to = request.to.map_or(head.seq, |to| to.min(head.seq));
        let from = request.from.unwrap_or(0).max(head.anchor_seq + 1);
        let mut walk = Walk::new(org, from, head.anchor_seq);
        if let Err(problem) = self.audit_copies_read(&mut walk, i64::MAX).await {
            let words = format!(
                "action, which keeps its own copies of what it signed, does not answer ({}); what follows is identity's word alone",
                problem.detail
            );
            walk.wrong(from, AuditFault::ActionAway, words);
            walk.copies.next = None;
            walk.copies.keys = head::signers(self.pools.system()).await?;
        }
        self.audit_beginning(&mut walk, &head).await?;
        while walk.expected <= to {
            if walk.found.entries >= ENTRIES_MAX
                || began.elapsed() > TIME_MAX
                || walk.found.problems.len() >= PROBLEMS_MAX
            {
                walk.found.next = Some(walk.expected);
                break;
            }
            self.audit_part(&mut walk, to).await?;
        }
        if walk.found.next.is_none() && request.to.is_none_or(|to| to >= head.seq) {
            self.audit_end(&mut walk, &head).await?;
        }
        Ok(walk.ended())
    }

    async fn audit_head(&self, org: OrgId) -> Result<HeadRow, IdentityError> {
        let mut tx = self.pools.tenant_tx(org).await?;
        let head = head::get_in_tx(&mut tx, org).await?;
        tx.commit().await?;
        Ok(head.unwrap_or(HeadRow {
            seq: 0,
            hash: ZERO.to_vec(),
            anchor_seq: 0,
            anchor_hash: ZERO.to_vec(),
        }))
    }

    /// Reads action's copies until there is one behind this place, or none is left; one page at least.
    async fn audit_copies_read(&self, walk: &mut Walk, to: i64) -> Result<(), contract::Problem> {
        loop {
            let copies = &mut walk.copies;
            let enough = copies
                .read
                .back()
                .is_some_and(|last| last.signature.head.seq > to);
            let Some(from) = copies.next.filter(|_| !enough) else {
                return Ok(());
            };
            let question = AuditSigned {
                org: copies.org,
                from,
                limit: HEADS_MAX,
            };
            let page = self.bus.service_call(&question, None, CALL_TIMEOUT).await?;
            for key in page.keys {
                if !copies.keys.contains(&key) {
                    copies.keys.push(key);
                }
            }
            let last = page.items.last().map(|last| last.signature.head.seq);
            copies.next = last.filter(|_| page.more).map(|last| last + 1);
            let mut broken = Vec::new();
            for copy in page.items {
                let follows = copies.link.is_none_or(|link| link == copy.prev);
                if !copy.is_whole() || !follows {
                    broken.push(copy.signature.head.seq);
                }
                copies.link = Some(copy.link);
                copies.read.push_back(copy);
            }
            for seq in broken {
                let words =
                    "action's own copy of what it signed here does not follow from the one before";
                walk.wrong(seq, AuditFault::CopiesChanged, words.to_owned());
            }
            if to == i64::MAX {
                return Ok(());
            }
        }
    }

    /// Where the chain begins, or the part of it: what the first entry has to follow.
    async fn audit_beginning(&self, walk: &mut Walk, head: &HeadRow) -> Result<(), IdentityError> {
        if walk.expected > head.anchor_seq + 1 {
            let before = walk.expected - 1;
            let mut tx = self.pools.tenant_tx(walk.org).await?;
            let row = audit::range_in_tx(&mut tx, walk.org, before, before, 1).await?;
            let signed = head::signed_before_in_tx(&mut tx, walk.org, walk.expected).await?;
            let open = signed.unwrap_or_default().max(head.anchor_seq) + 1;
            let open = audit::range_in_tx(&mut tx, walk.org, open, before, 1).await?;
            tx.commit().await?;
            walk.prev = row.into_iter().next().map(|row| row.hash);
            // What was not signed before this part is by the first signature in it, which may be late for it.
            let whole = |row: &&EventRow| row.computed()[..] == row.hash;
            let open = open.first().filter(whole);
            walk.oldest = open.map(|row| (row.seq, row.at.into()));
            walk.copies
                .read
                .retain(|copy| copy.signature.head.seq > before);
            return Ok(());
        }
        walk.prev = Some(head.anchor_hash.clone());
        if head.anchor_seq == 0 {
            return Ok(());
        }
        // Retention removes up to a signed end only, and nothing young: nobody can move the anchor unnoticed.
        let anchor = head.anchor_seq;
        let mut tx = self.pools.tenant_tx(walk.org).await?;
        let own = head::countersigns_in_tx(&mut tx, walk.org, anchor, anchor, 1).await?;
        tx.commit().await?;
        let mut signatures: Vec<HeadSignature> = own.into_iter().map(signature).collect();
        while let Some(copy) = walk.copies.read.front() {
            if copy.signature.head.seq > anchor {
                break;
            }
            if copy.signature.head.seq == anchor {
                signatures.push(copy.signature.clone());
            }
            walk.copies.read.pop_front();
        }
        if signatures.is_empty() {
            let words = "entries before this were removed up to an end that nobody signed";
            walk.wrong(anchor, AuditFault::Unsigned, words.to_owned());
        }
        for signed in &signatures {
            if walk.fits(signed, &head.anchor_hash)
                && Timestamp::now().since(signed.at) < KEPT_AT_LEAST
            {
                let words = "entries up to this were removed before their time";
                walk.wrong(anchor, AuditFault::Missing, words.to_owned());
            }
        }
        Ok(())
    }

    /// Looks at the next entries.
    async fn audit_part(&self, walk: &mut Walk, to: i64) -> Result<(), IdentityError> {
        let mut tx = self.pools.tenant_tx(walk.org).await?;
        let rows = audit::range_in_tx(&mut tx, walk.org, walk.expected, to, PAGE).await?;
        let last = rows.last().map_or(to, |last| last.seq);
        let own = head::countersigns_in_tx(&mut tx, walk.org, walk.expected, last, PAGE).await?;
        tx.commit().await?;
        if rows.first().is_none_or(|row| row.seq > walk.expected) {
            // Retention may have been here since the last page.
            let head = self.audit_head(walk.org).await?;
            if head.anchor_seq >= walk.expected {
                walk.expected = head.anchor_seq + 1;
                walk.prev = Some(head.anchor_hash);
                return Ok(());
            }
        }
        if let Err(problem) = self.audit_copies_read(walk, last).await {
            walk.wrong(walk.expected, AuditFault::ActionAway, problem.detail);
            walk.copies.next = None;
        }
        let mut own: VecDeque<HeadSignature> = own.into_iter().map(signature).collect();
        for row in &rows {
            walk.entry(row);
            while let Some(signed) = own.pop_front_if(|signed| signed.head.seq <= row.seq) {
                walk.signed(&signed, row);
            }
            while let Some(copy) = walk
                .copies
                .read
                .pop_front_if(|copy| copy.signature.head.seq <= row.seq)
            {
                walk.signed(&copy.signature, row);
            }
        }
        if rows.is_empty() {
            walk.missing(to + 1);
            walk.expected = to + 1;
        }
        Ok(())
    }

    /// What is known of the end besides its entries.
    async fn audit_end(&self, walk: &mut Walk, head: &HeadRow) -> Result<(), IdentityError> {
        if walk.prev.as_ref().is_some_and(|last| *last != head.hash)
            && head.seq + 1 == walk.expected
        {
            let words = "the chain's end does not say what its last entry is";
            walk.wrong(head.seq, AuditFault::Changed, words.to_owned());
        }
        // In this order: both go on meanwhile, and the end is never behind the entries.
        let mut tx = self.pools.tenant_tx(walk.org).await?;
        let last = audit::last_seq_in_tx(&mut tx, walk.org).await?;
        tx.commit().await?;
        if let Err(problem) = self.audit_copies_read(walk, head.seq).await {
            walk.wrong(walk.expected, AuditFault::ActionAway, problem.detail);
        }
        let signed = walk.copies.read.back().map(|copy| copy.signature.head.seq);
        let now = self.audit_head(walk.org).await?;
        if last > now.seq {
            let words = format!("there are entries up to {last} behind the chain's end");
            walk.wrong(now.seq + 1, AuditFault::Changed, words);
        }
        if let Some(signed) = signed.filter(|signed| *signed > now.seq) {
            let words = format!(
                "entries {} to {signed} were signed by action and are gone",
                now.seq + 1
            );
            walk.wrong(now.seq + 1, AuditFault::Missing, words);
        }
        if let Some((seq, recorded)) = walk.unsigned
            // What says that it comes from the future was not recorded then.
            && Timestamp::now().since(recorded).abs() > UNSIGNED_MAX
        {
            let words = format!("nobody has signed this and what follows since {recorded}");
            walk.wrong(seq, AuditFault::Unsigned, words);
        }
        Ok(())
    }
}

impl Walk {
    fn new(org: OrgId, from: i64, anchor: i64) -> Self {
        // The copy of the place before is the last that is not looked at, or the anchor's.
        let copies = Copies {
            org,
            read: VecDeque::new(),
            next: Some((from - 1).max(anchor)),
            link: None,
            keys: Vec::new(),
        };
        Self {
            org,
            expected: from,
            prev: None,
            copies,
            rewritten: false,
            unsigned: None,
            oldest: None,
            found: AuditVerified {
                ok: false,
                entries: 0,
                first_seq: None,
                last_seq: None,
                signed_through: None,
                problems: Vec::new(),
                next: None,
            },
        }
    }

    fn wrong(&mut self, seq: i64, kind: AuditFault, words: String) {
        let problems = &mut self.found.problems;
        let known = problems
            .iter()
            .any(|known| (known.seq, known.kind) == (seq, kind));
        if problems.len() < PROBLEMS_MAX && !known {
            problems.push(AuditProblem { seq, kind, words });
        }
    }

    /// Nothing is there up to this place.
    fn missing(&mut self, until: i64) {
        let (from, last) = (self.expected, until - 1);
        let words = if from == last {
            format!("entry {from} is gone")
        } else {
            format!("entries {from} to {last} are gone")
        };
        self.wrong(from, AuditFault::Missing, words);
        self.prev = None;
    }

    fn entry(&mut self, row: &EventRow) {
        if row.seq > self.expected {
            self.missing(row.seq);
        }
        if row.computed()[..] != row.hash {
            let words = "what is stored is not what was hashed when it was recorded";
            self.wrong(row.seq, AuditFault::Changed, words.to_owned());
        } else if self.prev.as_ref().is_some_and(|prev| *prev != row.prev) {
            // Whole in itself, and the next does not follow: it was changed together with its hash.
            let (before, seq) = (row.seq - 1, row.seq);
            let words = format!("entry {seq} does not follow from entry {before} as it is now");
            self.wrong(before.max(1), AuditFault::Changed, words);
        } else {
            let at = Timestamp::from(row.at);
            if self.oldest.is_none_or(|(_, oldest)| at < oldest) {
                self.oldest = Some((row.seq, at));
            }
        }
        self.expected = row.seq + 1;
        self.prev = Some(row.hash.clone());
        self.unsigned
            .get_or_insert((row.seq, row.recorded_at.into()));
        self.found.entries += 1;
        self.found.first_seq.get_or_insert(row.seq);
        self.found.last_seq = Some(row.seq);
    }

    /// A signature of an end that is this entry, or one that is gone.
    fn signed(&mut self, signed: &HeadSignature, row: &EventRow) {
        if signed.head.seq == row.seq && self.fits(signed, &row.hash) {
            self.unsigned = None;
            self.in_time(signed);
            self.found.signed_through = Some(SignedThrough {
                seq: row.seq,
                at: signed.at,
            });
        }
    }

    /// What was signed here for the first time was signed when it was young.
    fn in_time(&mut self, signed: &HeadSignature) {
        let Some((seq, oldest)) = self.oldest.take() else {
            return;
        };
        if signed.at.since(oldest) > SIGNED_LATE {
            let words = format!(
                "this is dated {oldest}, and nobody signed it before {}: whoever removed earlier signatures could have written it anew until then",
                signed.at
            );
            self.wrong(seq, AuditFault::Unsigned, words);
        }
    }

    /// Whether action signed this hash at this place.
    fn fits(&mut self, signed: &HeadSignature, hash: &[u8]) -> bool {
        let seq = signed.head.seq;
        if let Err(error) = signed.verify(&self.copies.keys) {
            let words = format!("what is kept as action's signature is not: {error}");
            self.wrong(seq, AuditFault::BadSignature, words);
            return false;
        }
        if signed.head.hash[..] == *hash {
            return true;
        }
        if !self.rewritten {
            self.rewritten = true;
            let last_good = self.found.signed_through.map(|through| through.seq);
            let from = last_good.map_or_else(|| self.found.first_seq.unwrap_or(seq), |seq| seq + 1);
            let words = format!(
                "what action signed at {seq} ({}) is another entry than the one that is there: entries {from} to {seq} were written anew",
                signed.at
            );
            self.wrong(from, AuditFault::RewrittenTail, words);
        }
        false
    }

    fn ended(mut self) -> AuditVerified {
        self.found.problems.sort_by_key(|problem| problem.seq);
        self.found.ok = self.found.problems.is_empty();
        self.found
    }
}

fn signature(row: SignatureRow) -> HeadSignature {
    HeadSignature {
        head: Head {
            org: OrgId(row.org_id),
            seq: row.seq,
            hash: Hash::try_from(row.hash).unwrap_or_default(),
        },
        at: row.at.into(),
        kid: row.kid,
        sig: row.signature,
    }
}
