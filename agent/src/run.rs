//! `run`: puts the parts together, in the order in which each needs the one before, and runs the loop.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusConfig};
use domain::SessionId;
use runtime::Shutdown;
use tokio::sync::mpsc::channel;

use crate::app::core::{Core, Exit, Parts};
use crate::app::execution_log::{ExecutionLog, ROTATE_AT_BYTES};
use crate::app::uplink::{InventoryKeeper, Uplink};
use crate::clock::{Clock, SystemTime};
use crate::collect::inventory::{self, VERSION};
use crate::collect::sampler::Sampler;
use crate::config::AgentConfig;
use crate::engine::{Engine, Life};
use crate::error::AgentError;
use crate::inbound::{Identity, Refused};
use crate::journal::{Journal, Limits};
use crate::kinds::Means;
use crate::metrics::Metrics;
use crate::platform;
use crate::policy::Policy;
use crate::state::StateFolder;
use crate::state::enrolment::{Enrolment, MachineKey};
use crate::state::keys::PinnedKeys;
use crate::state::seal::Seal;

/// How long the admin endpoint may take to end after everything else. With the limits before it (`DASHFLEET_SHUTDOWN_MS` for
/// what is under way, the bus' closing, the last spans) a stop takes 15 s, which is less than the unit's `TimeoutStopSec`.
const ADMIN_MAX: Duration = Duration::from_secs(1);

/// Reports and executes until told to stop; `program` is the agent's own file, where it was when the process began.
///
/// # Errors
/// [`AgentError`]: why it could not begin, or why it had to end.
pub async fn run(
    config: &AgentConfig,
    program: Option<&Path>,
    shutdown: Shutdown,
) -> Result<Exit, AgentError> {
    if !config.state.exists() {
        return Err(AgentError::NotEnrolled(config.state.clone()));
    }
    let folder = Arc::new(StateFolder::take_patiently(&config.state, false).await?);
    folder.check_trusted()?;
    let policy = Policy::read(&config.policy)?;
    let not_enrolled = || AgentError::NotEnrolled(config.state.clone());
    let enrolment = Enrolment::read(&folder)?.ok_or_else(not_enrolled)?;
    let key = MachineKey::read(&folder)?.ok_or_else(not_enrolled)?;
    if key.pair.public_key() != enrolment.public_key {
        return Err(AgentError::state(
            folder.path(),
            "the key is not the one that was enrolled",
        ));
    }
    Seal::of_this_machine(config.machine_id.as_deref())
        .await?
        .verify(&folder)?;
    let me = Identity::of(&enrolment);
    let life = Life {
        session: SessionId(uuid::Uuid::new_v4()),
        boot: platform::boot_id().await,
        version: VERSION.into(),
    };

    let clock = Arc::new(Clock::new(SystemTime));
    let (events, journal_events) = channel(crate::journal::ANSWERS);
    let mut engine = Engine::new(life.clone(), policy.clone());
    let (journal, head) = Journal::open(
        &folder.file("journal.log"),
        Limits::default(),
        |record| {
            clock.remember(&record, &life.boot);
            engine.apply(record);
        },
        events,
    )?;
    engine.begin(clock.moment());

    let sampler = Sampler::begin(
        folder.file("samples"),
        config.sample,
        config.optional,
        Arc::clone(&clock),
        life.boot.clone(),
    )?;
    let metrics =
        Metrics::new(sampler.clone()).map_err(|error| AgentError::Internal(error.to_string()))?;
    let log_path = folder.file("execution.log");
    let log = ExecutionLog::open(&log_path, ROTATE_AT_BYTES)
        .map_err(|error| AgentError::state(&log_path, error))?;

    let enrolled = &enrolment.enrolled;
    let bus = BusConfig::agent(
        enrolment.bus_urls()?,
        enrolment.bus_ca(&folder)?,
        key.seed,
        me.org,
        me.machine,
    );
    let bus = Bus::connect(bus)
        .await
        .map_err(|error| AgentError::Config(format!("the enrolment's bus: {error}")))?;
    let orders = bus
        .subscribe(&contract::subject::act_all(me.org, me.machine))
        .await
        .map_err(|error| AgentError::Internal(error.to_string()))?;
    tracing::info!(
        machine = %me.machine,
        organization = %me.org,
        version = VERSION,
        session = %life.session,
        journal = %head.journal,
        entries = head.entries,
        "the agent begins"
    );
    if let Some(address) = &config.admin_addr {
        let state = bus.state();
        let ready = move || match &*state.borrow() {
            bus::BusState::Connected(_) => None,
            other => Some(format!("the bus: {other:?}")),
        };
        runtime::admin::serve(address, metrics.registry(), Arc::new(ready), &shutdown)
            .await
            .map_err(|error| {
                AgentError::Config(format!("DASHFLEET_AGENT_ADMIN_ADDR: {address}: {error}"))
            })?;
    }
    let uplink = Uplink {
        bus: bus.clone(),
        org: me.org,
        machine: me.machine,
    };
    let samples = tokio::spawn(uplink.samples(sampler, Arc::clone(&clock)));
    let core = Core::new(Parts {
        keys: PinnedKeys::read(&folder, &enrolled.action_keys)?,
        inventory: Arc::new(InventoryKeeper {
            watch: inventory::begin(),
            file: folder.file("inventory.sha256"),
            period: config.inventory,
        }),
        means: Means {
            policy: Arc::new(policy),
            reboot: config.reboot,
        },
        program: program.map(Path::to_owned),
        session: life.session,
        boot: life.boot,
        folder,
        engine,
        journal,
        journal_events,
        clock,
        bus,
        me,
        log,
        metrics,
        refused: Refused::default(),
        door: Arc::new((enrolment.url.clone(), key.pair)),
        shutdown: shutdown.clone(),
        patience: config.shutdown,
    });
    let exit = Box::pin(core.run(orders)).await;
    samples.abort();
    shutdown.begin();
    shutdown.finish(ADMIN_MAX).await;
    exit
}
