//! The private PostgreSQL: a real one is made, started, killed and recovered.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use launcher::cluster::{self, Cluster};
use launcher::folder::Folder;
use launcher::ports::Ports;
use launcher::secrets::Secrets;
use launcher::supervisor::Supervisor;
use launcher::supervisor::spec::User;
use launcher::system::Signal;
use launcher::{process, tools};

use crate::{Scratch, eventually};

const LIMIT: Duration = Duration::from_secs(60);

struct Server {
    supervisor: Supervisor,
    cluster: Cluster,
    binaries: std::path::PathBuf,
    port: u16,
    password: String,
}

impl Server {
    fn start(scratch: &Scratch) -> Self {
        let data = Folder::make(&scratch.join("data")).unwrap();
        let secrets = Secrets::load_or_make(&data.join("secrets.json")).unwrap();
        let cluster = Cluster::locate(&data, &secrets).unwrap();
        let binaries = tools::postgres::ensure(None).unwrap().folder;
        let mut supervisor = Supervisor::new(&data.record(), &data.join("logs"));
        let command = cluster
            .prepare(&binaries, &secrets.postgres_password)
            .unwrap();
        supervisor
            .run_step("initdb", command, &data.log("initdb"), LIMIT)
            .unwrap();
        assert!(!cluster.exists());
        cluster.adopt().unwrap();
        assert!(cluster.exists());
        let mut ports = Ports::open(&data.join("ports.json")).unwrap();
        let port = ports.choose("postgres", None, 0).unwrap().port;
        supervisor
            .start(cluster.spec(&binaries, port, data.log("postgres")))
            .unwrap();
        supervisor.wait_ready("postgres", LIMIT, 5).unwrap();
        Self {
            supervisor,
            cluster,
            binaries,
            port,
            password: secrets.postgres_password,
        }
    }

    /// Runs one statement as the superuser with this password.
    fn ask(&self, password: &str, statement: &str) -> Result<String, String> {
        let url = format!(
            "postgres://postgres:{password}@127.0.0.1:{}/postgres",
            self.port
        );
        let output = Command::new(self.binaries.join("psql"))
            .args([&url, "--no-psqlrc", "-Atc", statement])
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }

    fn ask_own(&self, statement: &str) -> String {
        self.ask(&self.password, statement).unwrap()
    }

    fn pid(&self) -> Option<u32> {
        Some(self.supervisor.entries()[0].identity.as_ref()?.pid)
    }
}

#[test]
fn a_private_server_is_durable_local_and_asks_for_its_password() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    let settings = "select string_agg(current_setting(name), ' ' order by place) from \
        unnest('{fsync,synchronous_commit,listen_addresses,max_connections,data_checksums}'::text[]) \
        with ordinality as wanted(name, place)";
    // Enough for the most replicas that can be asked for, whenever they are.
    let connections = 50 + 16 * launcher::table::connections_of_replicas();
    assert!(connections > 16 * 3 * 2 * 8, "{connections}");
    let expected = format!("on on 127.0.0.1 {connections} on");
    assert_eq!(server.ask_own(settings), expected);
    assert!(
        server
            .ask("wrong", "select 1")
            .unwrap_err()
            .contains("password authentication failed")
    );
    let first = server.pid().unwrap();
    server.supervisor.stop();
    assert!(process::working_in(&server.cluster.folder, "postgres").is_empty());
    assert!(process::Identity::of(first).is_none());
}

#[test]
fn what_was_committed_survives_a_kill_and_the_server_comes_back_on_its_port() {
    let scratch = Scratch::new();
    let mut server = Server::start(&scratch);
    server.ask_own("create table kept (n int)");
    for round in 1..=3 {
        server.ask_own(&format!("insert into kept values ({round})"));
        let killed = process::Identity::of(server.pid().unwrap()).unwrap();
        assert!(killed.signal(Signal::Kill));
        eventually("the supervisor sees the death", || {
            server.supervisor.turn(Duration::from_millis(20)).unwrap();
            server.pid() != Some(killed.pid)
        });
        server
            .supervisor
            .wait_ready("postgres", LIMIT, 100)
            .unwrap();
        assert_eq!(
            server.ask_own("select count(*) from kept"),
            round.to_string()
        );
    }
    server.supervisor.stop();
}

#[test]
fn a_lock_file_whose_number_belongs_to_another_process_now_does_not_hinder() {
    let scratch = Scratch::new();
    let lock = scratch.join("postmaster.pid");
    std::fs::write(&lock, format!("{}\n/elsewhere\n", std::process::id())).unwrap();
    assert!(cluster::is_settled(&scratch.path, false));
    assert!(!lock.exists());
}

#[test]
fn the_user_is_read_from_passwd() {
    let users = "root:x:0:0::/root:/bin/sh\npostgres:x:101:104:PostgreSQL,,,:/var/lib:/bin/sh\n";
    assert_eq!(
        cluster::postgres_user(users),
        Some(User { uid: 101, gid: 104 })
    );
    assert_eq!(cluster::postgres_user("root:x:0:0::/root:/bin/sh\n"), None);
}

#[test]
fn the_name_of_a_folder_outside_stays_the_same_between_builds() {
    assert_eq!(
        cluster::name_hash(Path::new("/root/dashfleet/.dashfleet")),
        0x9c50_521c_c3de_3690
    );
}
