//! Enrolment: a token and a proof of possession make a machine one of the organisation's.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use contract::audit::{Actor, ActorKind, AuditEntry, Resource};
use contract::identity::{
    Challenged, Enroll, Enrolled, KeyStanding, Standing, StandingGet, enrollment_message,
    standing_message,
};
use contract::order::fingerprint;
use contract::{Origin, Problem, ProblemKind};
use database::{DatabaseError, OutboxRow};
use domain::{MachineId, OrgId, Timestamp};
use nkeys::{KeyPair, KeyPairType};
use serde_json::json;

use crate::app::action_key::not_bootstrapped;
use crate::app::machine::resource;
use crate::app::secret::{self, SecretKind};
use crate::app::signer::ChallengeFault;
use crate::app::{App, audit};
use crate::error::IdentityError;
use crate::metrics::Outcome;
use crate::store;
use crate::store::Hash;
use crate::store::machine::{KeyRow, MachineRow, NewMachine};

/// The longest host name, in characters.
const HOSTNAME_MAX_CHARS: usize = 253;
/// How often an enrolment is run again after a collision or a lost connection.
const TRIES: u32 = 3;

fn forbidden(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::Forbidden, detail)
}

/// One try's end.
enum Tried {
    Enrolled(Box<MachineRow>),
    Refused(Problem),
    /// Somebody else enrolled this key meanwhile: what was read before no longer holds.
    Overtaken,
}

impl App {
    /// What an agent must sign, and whose orders it would obey: not said while the database is away, when nobody can
    /// enrol anyway.
    ///
    /// # Errors
    /// [`IdentityError::Internal`].
    pub async fn challenge(&self) -> Result<Challenged, IdentityError> {
        let mut challenged = self.signer.challenge(Timestamp::now())?;
        let keys = store::action_key::list(self.pools.system()).await;
        let keys = keys.unwrap_or_else(|error| {
            tracing::debug!(%error, "a challenge without the keys of orders");
            Vec::new()
        });
        challenged.action_keys = keys.iter().map(|key| fingerprint(key)).collect();
        Ok(challenged)
    }

    /// Makes a machine one of the organisation's. The token's labels win over those that the machine asks for: whoever
    /// made the token says what its machines are. The same key with the same token again gets the same answer and
    /// takes no second use: the first answer may have been lost.
    ///
    /// # Errors
    /// INVALID naming the field; FORBIDDEN with words about token or key; CONFLICT for a key that is enrolled
    /// otherwise; RATE_LIMITED when the token's hour is full; UNAVAILABLE.
    pub async fn enroll(&self, from: &Origin, request: &Enroll) -> Result<Enrolled, IdentityError> {
        let result = self.enroll_checked(from, request).await;
        self.metrics.enrollment(Outcome::of(&result));
        result
    }

    async fn enroll_checked(
        &self,
        from: &Origin,
        request: &Enroll,
    ) -> Result<Enrolled, IdentityError> {
        check_fields(request)?;
        let signed = enrollment_message(&request.challenge, &request.token, &request.public_key);
        self.check_proof(
            &request.challenge,
            &request.public_key,
            &request.signature,
            &signed,
        )?;
        let action_keys = store::action_key::list(self.pools.system()).await?;
        if action_keys.is_empty() {
            let text = "the action service has not given its keys yet; try again shortly";
            return Err(Problem::unavailable(text).into());
        }
        let deployment = store::deployment::get(self.pools.system()).await?;
        let deployment_id = deployment.ok_or_else(not_bootstrapped)?;
        let machine = self.enroll_persistently(from, request).await?;
        Ok(Enrolled {
            organization_id: OrgId(machine.org_id),
            machine_id: MachineId(machine.id),
            deployment_id,
            nats_urls: self.agent_nats_urls.clone(),
            nats_ca: self.agent_nats_ca.clone(),
            action_keys,
        })
    }

    /// What a key is worth, said to whoever holds it.
    ///
    /// # Errors
    /// INVALID naming the field; FORBIDDEN when the key is not held; UNAVAILABLE.
    pub async fn standing(&self, request: &StandingGet) -> Result<Standing, IdentityError> {
        let signed = standing_message(&request.challenge, &request.public_key);
        let StandingGet {
            challenge,
            public_key,
            signature,
        } = request;
        self.check_proof(challenge, public_key, signature, &signed)?;
        let mut connection = self
            .pools
            .system()
            .acquire()
            .await
            .map_err(DatabaseError::from)?;
        let machine = store::machine::by_key_in_tx(&mut connection, public_key)
            .await
            .map_err(DatabaseError::from)?;
        let standing = match machine {
            None => KeyStanding::Unknown,
            Some(machine) if machine.revoked_at.is_some() => KeyStanding::Revoked,
            Some(machine) if machine.quarantined_at.is_some() => KeyStanding::Quarantined,
            Some(_) => KeyStanding::Enrolled,
        };
        Ok(Standing { standing })
    }

    /// The challenge is ours and young, and the key signed these bytes.
    fn check_proof(
        &self,
        challenge: &str,
        public_key: &str,
        signature: &str,
        signed: &[u8],
    ) -> Result<(), Problem> {
        match self.signer.challenge_check(challenge, Timestamp::now()) {
            Ok(()) => {}
            Err(ChallengeFault::Forged) => {
                return Err(Problem::invalid(
                    "challenge",
                    "is none of this installation's",
                ));
            }
            Err(ChallengeFault::Expired) => {
                return Err(Problem::invalid(
                    "challenge",
                    "has expired; ask for a new one",
                ));
            }
        }
        let key = KeyPair::from_public_key(public_key)
            .ok()
            .filter(|key| matches!(key.key_pair_type(), KeyPairType::User))
            .ok_or_else(|| Problem::invalid("publicKey", "is no public key of a user (U…)"))?;
        let signature = STANDARD
            .decode(signature)
            .or_else(|_| URL_SAFE_NO_PAD.decode(signature))
            .map_err(|_| Problem::invalid("signature", "is not base64"))?;
        key.verify(signed, &signature).map_err(|_| {
            forbidden("the signature does not fit: the machine does not hold this public key")
        })
    }

    async fn enroll_persistently(
        &self,
        from: &Origin,
        request: &Enroll,
    ) -> Result<MachineRow, IdentityError> {
        let hash = secret::hash(&request.token);
        let mut tries = 0;
        loop {
            tries += 1;
            match self.enroll_once(from, request, &hash).await {
                Ok(Tried::Enrolled(machine)) => return Ok(*machine),
                Ok(Tried::Refused(problem)) => return Err(problem.into()),
                Ok(Tried::Overtaken) if tries < TRIES => {}
                Ok(Tried::Overtaken) => return Err(DatabaseError::Collision.into()),
                // A commit whose outcome is unknown shows in the next try, as a repetition.
                Err(DatabaseError::Collision | DatabaseError::Ambiguous(_)) if tries < TRIES => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn enroll_once(
        &self,
        from: &Origin,
        request: &Enroll,
        hash: &Hash,
    ) -> Result<Tried, DatabaseError> {
        let mut tx = self.pools.system_tx().await?;
        let token = store::enrollment_token::by_hash_in_tx(&mut tx, hash).await?;
        let known = store::machine::by_key_in_tx(&mut tx, &request.public_key).await?;
        if let Some(machine) = known {
            let same = token.is_some_and(|token| Some(token.id) == machine.token_id);
            return Ok(repeated(machine, same));
        }
        let Some((org, token_id)) = store::enrollment_token::use_in_tx(&mut tx, hash).await? else {
            // Read again: the use that was the last may have been taken since.
            let token = store::enrollment_token::by_hash_in_tx(&mut tx, hash).await?;
            if let Some(token) = &token {
                self.enrollment_denied(from, token);
            }
            return Ok(Tried::Refused(why_not(token)));
        };
        let mut labels = request.labels.clone();
        labels.extend(token.map(|token| token.labels.0).unwrap_or_default());
        if let Err(error) = domain::labels::check(&labels) {
            let message = format!("with those of the token: {}", error.message);
            return Ok(Tried::Refused(Problem::invalid("labels", message)));
        }
        let machine = NewMachine {
            hostname: &request.hostname,
            public_key: &request.public_key,
            labels: &labels,
            inventory: &request.inventory,
        };
        let Some(row) = store::machine::insert_in_tx(&mut tx, org, token_id, &machine).await?
        else {
            return Ok(Tried::Overtaken);
        };
        let data = json!({ "hostname": row.hostname });
        let event = OutboxRow::new(org, "machine", "enrolled", row.id, row.change, data);
        event.insert_in_tx(crate::SCHEMA, &mut tx).await?;
        let actor = Actor::of(ActorKind::Machine, row.id);
        let entry = AuditEntry::new(org, actor, "enrollment.complete", resource(&row))
            .with(token_id)
            .asked(from)
            .after(json!({ "hostname": row.hostname, "labels": request.labels, "publicKey": request.public_key }));
        audit::note_in_tx(&mut tx, entry).await?;
        tx.commit().await?;
        self.relay.wake();
        self.audit_relay.wake();
        if let Some(key) = KeyRow::of(&row) {
            self.keys.apply(&key);
        }
        self.metrics.key_set.set(self.keys.len());
        tracing::info!(%org, machine = %row.id, hostname = row.hostname, "a machine enrolled");
        Ok(Tried::Enrolled(Box::new(row)))
    }

    /// Somebody shows a token that is good for nothing any more.
    fn enrollment_denied(&self, from: &Origin, token: &store::enrollment_token::TokenRow) {
        let reason = match (token.revoked, token.expired) {
            (true, _) => "the enrolment token was revoked",
            (false, true) => "the enrolment token has expired",
            (false, false) => "the enrolment token is used up",
        };
        // Which machine it would have become nobody knows.
        let actor = Actor {
            kind: ActorKind::Machine,
            id: None,
            name: None,
        };
        let (org, resource) = (
            OrgId(token.org_id),
            Resource::of("enrollment-token", token.id),
        );
        let entry = AuditEntry::new(org, actor, "enrollment.complete", resource);
        self.denials
            .note(entry.with(token.id).asked(from).denied(reason));
    }
}

fn repeated(machine: MachineRow, same_token: bool) -> Tried {
    if machine.revoked_at.is_some() {
        return Tried::Refused(forbidden(
            "this machine was revoked and its key is never accepted again; remove the agent's state to enrol it \
             as a new machine",
        ));
    }
    if same_token {
        return Tried::Enrolled(Box::new(machine));
    }
    Tried::Refused(Problem::new(
        ProblemKind::Conflict,
        "this key is enrolled already, with another token; remove the agent's state to enrol it as a new machine",
    ))
}

fn why_not(token: Option<store::enrollment_token::TokenRow>) -> Problem {
    let Some(token) = token else {
        return forbidden("this enrolment token is not known here; check it, or ask for a new one");
    };
    if token.revoked {
        return forbidden("this enrolment token was revoked; ask for a new one");
    }
    if token.expired {
        let at = Timestamp::from(token.expires_at);
        return forbidden(format!(
            "this enrolment token expired at {at}; ask for a new one"
        ));
    }
    if token.closed {
        return forbidden("the organisation of this enrolment token is closed");
    }
    if token.uses_left > 0
        && let Some(wait) = token.full_ms
    {
        return Problem {
            retry_after_ms: Some(wait.max(1).unsigned_abs()),
            ..Problem::new(
                ProblemKind::RateLimited,
                "as many machines as may in an hour have enrolled with this token; try again later",
            )
        };
    }
    forbidden("this enrolment token is used up; ask for a new one")
}

fn check_fields(request: &Enroll) -> Result<(), Problem> {
    if !SecretKind::EnrollmentToken.is_of(&request.token) {
        return Err(forbidden(
            "this is no enrolment token: one begins with `dfe_`",
        ));
    }
    if request.hostname.trim().is_empty() {
        return Err(Problem::invalid("hostname", "must not be empty"));
    }
    let length = request.hostname.chars().count();
    if length > HOSTNAME_MAX_CHARS {
        let text = format!("has {length} characters; at most {HOSTNAME_MAX_CHARS}");
        return Err(Problem::invalid("hostname", text));
    }
    if request.hostname.chars().any(char::is_control) {
        return Err(Problem::invalid("hostname", "has control characters"));
    }
    domain::labels::check(&request.labels)
        .map_err(|error| Problem::invalid(error.path, error.message))?;
    request.inventory.check("inventory.")
}
