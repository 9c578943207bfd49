//! Mails: sent by a real SMTP exchange, and not lost when a process or the server dies.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use contract::identity::{MemberInvite, MemberReset, PasswordForgot, PasswordReset};
use domain::access::Role;
use testkit::{eventually, folder::free_port};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{EMAIL, PASSWORD, PATIENCE, Replica, World};

const NEW: &str = "a new and better password";

/// A mail as it came in.
#[derive(Clone, Debug)]
struct Mail {
    to: String,
    text: String,
}

impl Mail {
    /// The secret of its link, however its lines are folded.
    fn secret(&self) -> String {
        let text = self.text.replace("=\r\n", "").replace("=3D", "=");
        let after = text.split_once('#').unwrap().1;
        let end = after.find(|c: char| c.is_whitespace()).unwrap();
        after[..end].to_owned()
    }
}

/// As little of an SMTP server (RFC 5321) as takes a mail.
#[derive(Clone, Default)]
struct Smtp {
    mails: Arc<Mutex<VecDeque<Mail>>>,
}

impl Smtp {
    async fn listen(port: u16) -> Self {
        let smtp = Self::default();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let server = smtp.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.talk(stream).await });
            }
        });
        smtp
    }

    async fn talk(&self, stream: TcpStream) -> Option<()> {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        write.write_all(b"220 test\r\n").await.ok()?;
        let mut to = String::new();
        while let Ok(Some(line)) = lines.next_line().await {
            let word = line.get(..4).unwrap_or_default().to_uppercase();
            let answer: &[u8] = match word.as_str() {
                "RCPT" => {
                    to = line.split(['<', '>']).nth(1)?.to_owned();
                    b"250 ok\r\n"
                }
                "DATA" => {
                    write.write_all(b"354 go on\r\n").await.ok()?;
                    let mut text = String::new();
                    while let Ok(Some(line)) = lines.next_line().await {
                        if line == "." {
                            break;
                        }
                        text += &line;
                        text += "\r\n";
                    }
                    let mail = Mail {
                        to: to.clone(),
                        text,
                    };
                    self.mails.lock().unwrap().push_back(mail);
                    b"250 taken\r\n"
                }
                "QUIT" => b"221 bye\r\n",
                _ => b"250 ok\r\n",
            };
            write.write_all(answer).await.ok()?;
        }
        Some(())
    }

    async fn next(&self) -> Mail {
        eventually("a mail comes", PATIENCE, || async {
            self.mails.lock().unwrap().pop_front()
        })
        .await
    }

    fn is_empty(&self) -> bool {
        self.mails.lock().unwrap().is_empty()
    }
}

fn launch(world: &World, port: u16) -> Replica {
    let (url, system_url) = world.database_urls();
    let more = [
        (
            "DASHFLEET_PUBLIC_URL",
            "https://fleet.example.org/".to_owned(),
        ),
        ("DASHFLEET_SMTP_URL", format!("smtp://127.0.0.1:{port}")),
        (
            "DASHFLEET_SMTP_FROM",
            "DashFleet <fleet@example.org>".to_owned(),
        ),
    ];
    Replica::launch_with(&world.nats, url, system_url, &more)
}

async fn start() -> (World, Replica, Smtp) {
    let world = World::empty().await;
    let port = free_port();
    let smtp = Smtp::listen(port).await;
    let replica = launch(&world, port);
    replica.ready().await;
    (world, replica, smtp)
}

fn invite() -> MemberInvite {
    MemberInvite {
        email: "ann@example.org".into(),
        role: Role::Viewer,
    }
}

fn forgot(email: &str) -> PasswordForgot {
    PasswordForgot {
        email: email.into(),
        address: "10.0.0.1".into(),
    }
}

#[tokio::test]
async fn an_invitation_is_mailed_and_shown_to_nobody() {
    let (world, _replica, smtp) = start().await;
    let owner = world.owner().await;
    let made = world.ask_as(&owner, invite()).await.unwrap();
    assert!(made.link.is_none() && made.invitation.mail_pending);
    let mail = smtp.next().await;
    assert_eq!(mail.to, "ann@example.org");
    for words in [
        "From: DashFleet <fleet@example.org>",
        "Subject: You are invited to default",
    ] {
        assert!(mail.text.contains(words), "{}", mail.text);
    }
    assert!(
        mail.text
            .contains("https://fleet.example.org/invitation#dfi_"),
        "{}",
        mail.text
    );
    let link = format!("x#{}", mail.secret());
    assert!(world.accept(&link, PASSWORD).await.is_ok());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(smtp.is_empty(), "one mail");
}

#[tokio::test]
async fn a_forgotten_password_is_set_anew_and_a_stranger_learns_nothing() {
    let (world, _replica, smtp) = start().await;
    let mut quickest = [Duration::MAX; 2];
    for (index, email) in [EMAIL, "nobody@example.org"].into_iter().enumerate() {
        for _ in 0..3 {
            let began = Instant::now();
            world.ask(forgot(email)).await.unwrap();
            quickest[index] = quickest[index].min(began.elapsed());
        }
    }
    println!("known {:?}, unknown {:?}", quickest[0], quickest[1]);
    let [known, unknown] = quickest.map(|took| took.as_secs_f64());
    assert!(known < 3.0 * unknown + 0.005 && unknown < 3.0 * known + 0.005);
    let rows = "SELECT count(DISTINCT email) FROM identity.password_resets";
    assert_eq!(world.count(rows).await, 2, "the same is written");
    let mails = [smtp.next().await, smtp.next().await, smtp.next().await];
    assert!(mails.iter().all(|mail| mail.to == EMAIL), "{mails:?}");
    let reset = |secret: String| PasswordReset {
        token: secret,
        password: NEW.into(),
    };
    world.ask(reset(mails[1].secret())).await.unwrap();
    assert!(world.login(EMAIL, NEW, "b").await.is_ok());
    for mail in &mails {
        assert!(
            world.ask(reset(mail.secret())).await.is_err(),
            "all are void"
        );
    }
    // At most five at a time fill a mailbox.
    for index in 0..8 {
        let from = PasswordForgot {
            address: format!("10.0.1.{index}"),
            ..forgot(EMAIL)
        };
        world.ask(from).await.unwrap();
    }
    let rows = "SELECT count(*) FROM identity.password_resets WHERE email LIKE 'owner%'";
    assert_eq!(world.count(rows).await, 5);
    for _ in 0..12 {
        let _ = world.ask(forgot(EMAIL)).await;
    }
    let limited = world.ask(forgot(EMAIL)).await.err().unwrap();
    assert_eq!(limited.kind, contract::ProblemKind::RateLimited);
}

#[tokio::test]
async fn a_mail_is_not_lost_when_the_server_is_away_and_the_process_dies() {
    let world = World::empty().await;
    let port = free_port();
    let one = launch(&world, port);
    one.ready().await;
    let owner = world.owner().await;
    world.ask_as(&owner, invite()).await.unwrap();
    let tried = "SELECT coalesce(max(mail_tries), 0)::bigint FROM identity.invitations";
    eventually("it was tried", PATIENCE, || async {
        (world.count(tried).await == 1).then_some(())
    })
    .await;
    one.stop().await;
    let smtp = Smtp::listen(port).await;
    let two = launch(&world, port);
    two.ready().await;
    assert!(smtp.is_empty(), "not before its time");
    world
        .alter("UPDATE identity.invitations SET mail_due_at = now()")
        .await;
    let mail = smtp.next().await;
    assert!(
        world
            .accept(&format!("#{}", mail.secret()), PASSWORD)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn an_administrators_link_is_mailed_to_the_person_and_may_then_reach_anybody() {
    let (world, _replica, smtp) = start().await;
    let owner = world.owner().await;
    world.ask_as(&owner, invite()).await.unwrap();
    let link = format!("#{}", smtp.next().await.secret());
    let tokens = world.accept(&link, PASSWORD).await.unwrap();
    let me = world
        .ask_as(&tokens.access_token, contract::identity::Me {})
        .await
        .unwrap();
    let reset = MemberReset {
        user_id: me.id.into(),
    };
    let made = world.ask_as(&owner, reset).await.unwrap();
    assert!(made.link.is_none());
    let mail = smtp.next().await;
    assert_eq!(mail.to, "ann@example.org");
    assert!(mail.secret().starts_with("dfp_"));
}
