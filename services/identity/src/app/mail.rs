//! Mails with links that work once. What is due stands in the link's own row, so a crash loses none; the secret is made
//! when the mail is, so it stands nowhere else. A mail that was sent twice holds in its second copy.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use domain::Timestamp;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use uuid::Uuid;

use crate::app::App;
use crate::app::secret::{self, SecretKind};
use crate::config::MailConfig;
use crate::error::IdentityError;
use crate::store;

/// How often to look when nobody rings: for what another replica wrote, and for what is to be tried again.
const POLL: Duration = Duration::from_secs(5);
/// How long one exchange with the SMTP server may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// The way to the SMTP server.
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailer").finish_non_exhaustive()
    }
}

impl Mailer {
    /// A way to this server, in no connection yet.
    ///
    /// # Errors
    /// [`IdentityError::Internal`] when the URL cannot be used; the text has no password.
    pub fn new(config: &MailConfig) -> Result<Self, IdentityError> {
        let hello = ClientId::Domain(config.from.email.domain().to_owned());
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(&config.url)
            .map_err(|_| IdentityError::internal("DASHFLEET_SMTP_URL cannot be used"))?
            .timeout(Some(PATIENCE))
            .hello_name(hello)
            .build();
        Ok(Self {
            transport,
            from: config.from.clone(),
        })
    }

    async fn send(&self, to: &str, subject: String, text: String) -> Result<(), String> {
        let to = Mailbox::new(None, to.parse().map_err(|error| format!("{error}"))?);
        let id = format!("<{}@{}>", Uuid::now_v7(), self.from.email.domain());
        let message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(subject)
            .message_id(Some(id))
            .header(ContentType::TEXT_PLAIN)
            .body(text)
            .map_err(|error| error.to_string())?;
        let sent = self.transport.send(message).await;
        sent.map(drop).map_err(|error| error.to_string())
    }
}

/// What is mailed.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Invitation,
    PasswordReset,
}

impl App {
    /// What a person opens. The secret is behind `#`, which browsers keep to themselves: it comes into no server's log.
    pub(crate) fn link(&self, kind: SecretKind, secret: &str) -> String {
        let base = self.public_url.as_deref().unwrap_or_default();
        let page = match kind {
            SecretKind::Invitation => "invitation",
            _ => "password-reset",
        };
        format!("{base}/{page}#{secret}")
    }

    /// Sends what is due, for ever. Nothing to do without SMTP.
    pub async fn mail_run(self: Arc<Self>) {
        let Some(mailer) = &self.mailer else {
            return;
        };
        loop {
            for kind in [Kind::Invitation, Kind::PasswordReset] {
                loop {
                    match self.mail_next(mailer, kind).await {
                        Ok(true) => {}
                        Ok(false) => break,
                        Err(error) => {
                            tracing::debug!(%error, "mails are not looked for now");
                            break;
                        }
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(POLL) => {}
                () = self.mail_wake.notified() => {}
            }
        }
    }

    /// Sends one mail, if one is due. What could not be sent is due again later, until its link has expired.
    async fn mail_next(&self, mailer: &Mailer, kind: Kind) -> Result<bool, IdentityError> {
        let system = self.pools.system();
        let (secret_kind, hash, secret) = {
            let kind = match kind {
                Kind::Invitation => SecretKind::Invitation,
                Kind::PasswordReset => SecretKind::PasswordReset,
            };
            let secret = secret::new(kind);
            (kind, secret::hash(&secret), secret)
        };
        let link = self.link(secret_kind, &secret);
        let (to, subject, text) = match kind {
            Kind::Invitation => {
                let Some(due) = store::invitation::due(system, &hash).await? else {
                    return Ok(false);
                };
                let until = Timestamp::from(due.expires_at);
                let organization = due.organization;
                let subject = format!("You are invited to {organization}");
                let text = format!(
                    "Somebody invites you to the organisation {organization} on DashFleet.\n\nTo join, open\n\n{link}\n\n\
                     until {until}. The link works once. If you do not want to join, do nothing.\n"
                );
                (due.email, subject, text)
            }
            Kind::PasswordReset => {
                let Some(due) = store::password_reset::due(system, &hash).await? else {
                    return Ok(false);
                };
                if !due.known {
                    store::password_reset::sent(system, &hash).await?;
                    return Ok(true);
                }
                let until = Timestamp::from(due.expires_at);
                let text = format!(
                    "Somebody, perhaps you, asks to set a new password for this address on DashFleet.\n\nTo do so, \
                     open\n\n{link}\n\nuntil {until}. The link works once. If it was not you, do nothing: the password \
                     stays.\n"
                );
                (due.email, "Your new password".to_owned(), text)
            }
        };
        let sent = mailer.send(&to, subject, text).await;
        self.metrics.mail(sent.is_ok());
        if let Err(error) = sent {
            tracing::warn!(error, ?kind, "a mail could not be sent; it is tried again");
            return Ok(true);
        }
        match kind {
            Kind::Invitation => store::invitation::sent(system, &hash).await?,
            Kind::PasswordReset => store::password_reset::sent(system, &hash).await?,
        }
        Ok(true)
    }
}
