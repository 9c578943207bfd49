//! The loop when the journal's thread is gone: an agent that hears no answer any more must end, not go deaf.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusConfig};
use dashfleet_agent::app::core::{Core, Parts};
use dashfleet_agent::app::execution_log::{ExecutionLog, ROTATE_AT_BYTES};
use dashfleet_agent::app::uplink::InventoryKeeper;
use dashfleet_agent::clock::{Clock, SystemTime};
use dashfleet_agent::collect::sampler::Sampler;
use dashfleet_agent::collect::{Optional, inventory};
use dashfleet_agent::engine::Engine;
use dashfleet_agent::inbound::{Identity, Refused};
use dashfleet_agent::journal::{ANSWERS, Journal, Limits};
use dashfleet_agent::kinds::{Means, RebootMode};
use dashfleet_agent::metrics::Metrics;
use dashfleet_agent::policy::Policy;
use dashfleet_agent::state::StateFolder;
use dashfleet_agent::state::enrolment::{Enrolment, MachineKey};
use dashfleet_agent::state::keys::PinnedKeys;
use runtime::Shutdown;
use tokio::sync::mpsc::channel;

use super::task::life;
use super::world::{PATIENCE, World};

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_journal_has_ended_without_a_word_ends_too() {
    let world = World::new().await;
    let agent = world.enrol();
    let folder = Arc::new(StateFolder::take(&agent.state(), false).unwrap());
    let enrolment = Enrolment::read(&folder).unwrap().unwrap();
    let key = MachineKey::read(&folder).unwrap().unwrap();
    let me = Identity::of(&enrolment);
    let life = life("boot-a");
    let clock = Arc::new(Clock::new(SystemTime));
    let mut engine = Engine::new(life.clone(), Policy::default());
    engine.begin(clock.moment());
    let (words, _unheard) = channel(ANSWERS);
    let path = folder.file("journal.log");
    let (journal, _) = Journal::open(&path, Limits::default(), |_| {}, words).unwrap();
    // The writer's end of what the loop listens to is gone, as after a panic in its thread.
    let (gone, journal_events) = channel(1);
    drop(gone);
    let period = Duration::from_secs(5);
    let sampler = Sampler::begin(
        folder.file("samples"),
        period,
        Optional::default(),
        Arc::clone(&clock),
        life.boot.clone(),
    )
    .unwrap();
    let urls = enrolment.enrolled.nats_urls.clone();
    let config = BusConfig::agent(urls, None, key.seed, me.org, me.machine);
    let bus = Bus::connect(config).await.unwrap();
    let orders = bus
        .subscribe(&contract::subject::act_all(me.org, me.machine))
        .await
        .unwrap();
    let core = Core::new(Parts {
        program: None,
        keys: PinnedKeys::read(&folder, &enrolment.enrolled.action_keys).unwrap(),
        inventory: Arc::new(InventoryKeeper {
            watch: inventory::begin(),
            file: folder.file("inventory.sha256"),
            period: Duration::from_secs(300),
        }),
        means: Means {
            policy: Arc::new(Policy::default()),
            reboot: RebootMode::DryRun,
        },
        session: life.session,
        boot: life.boot,
        log: ExecutionLog::open(&folder.file("execution.log"), ROTATE_AT_BYTES).unwrap(),
        metrics: Metrics::new(sampler).unwrap(),
        folder,
        engine,
        journal,
        journal_events,
        clock,
        bus,
        me,
        refused: Refused::default(),
        door: Arc::new((enrolment.url.clone(), key.pair)),
        shutdown: Shutdown::new(),
        patience: Duration::from_secs(1),
    });
    let ended = tokio::time::timeout(PATIENCE, core.run(orders)).await;
    let error = ended.expect("it ends").unwrap_err();
    assert_eq!(error.code(), 69);
    assert!(
        error.to_string().contains("its writer has ended"),
        "{error}"
    );
}
