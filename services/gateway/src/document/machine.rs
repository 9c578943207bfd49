//! Machines, as the document shows them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use contract::FieldError;
use contract::identity::{MachineEdits, MachineLabel};
use contract::metrics as message;
use poem_openapi::{Enum, Object};
use serde_json::Value;
use uuid::Uuid;

use super::nullable::Nullable;
use super::sample::Sample;
use crate::json::{Documented, exactly_one};

/// Whether a machine can be reached, and whether it is trusted.
#[derive(Enum)]
#[oai(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MachineStatus {
    /// It holds a connection.
    Online,
    /// It holds none.
    Offline,
    /// Perhaps a copy of another machine: nothing is offered to it until an operator decides.
    Quarantined,
    /// Its key is no longer accepted, for ever.
    Revoked,
}

/// How a machine reaches us.
#[derive(Enum)]
#[oai(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Transport {
    /// The bus.
    Nats,
    /// HTTP.
    Http,
}

/// What stands behind a machine's name.
#[derive(Enum)]
#[oai(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Trust {
    /// A key of its own: what it says, it signed.
    Verified,
    /// Nothing but a name that comes with the same key from the same addresses: an agent of Dash-Fleet.
    Unverified,
}

/// How a machine is.
#[derive(Enum)]
#[oai(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HealthStatus {
    /// Score 80 and more.
    Ok,
    /// Score 60 to 79.
    Warn,
    /// Score below 60.
    Critical,
}

/// How a list of machines is sorted.
#[derive(Enum)]
pub enum MachineSort {
    /// By name.
    #[oai(rename = "hostname")]
    Hostname,
    /// By name, Z first.
    #[oai(rename = "-hostname")]
    HostnameDesc,
    /// By when it was last seen, oldest first.
    #[oai(rename = "lastSeen")]
    LastSeen,
    /// By when it was last seen, newest first.
    #[oai(rename = "-lastSeen")]
    LastSeenDesc,
    /// By health score, the worst first.
    #[oai(rename = "health")]
    Health,
    /// By health score, the best first.
    #[oai(rename = "-health")]
    HealthDesc,
}

/// The parts of a score, each 0 (bad) to 1 (good).
#[derive(Object)]
pub struct HealthComponents {
    /// From the use of all cores.
    cpu: f64,
    /// From the use of memory.
    ram: f64,
    /// From the use of the fullest disk.
    disk: f64,
}

/// A machine's health at one sample.
#[derive(Object)]
pub struct Health {
    /// 0 to 100.
    score: u8,
    status: HealthStatus,
    components: HealthComponents,
}

/// What a machine is.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct Inventory {
    /// Operating system, such as `Debian GNU/Linux`.
    os: Option<String>,
    /// Its version.
    os_version: Option<String>,
    /// Kernel version.
    kernel: Option<String>,
    /// Processor architecture, such as `x86_64`.
    architecture: Option<String>,
    /// Processor model.
    cpu_model: Option<String>,
    /// Logical cores.
    cpu_cores: Option<u32>,
    /// Memory, in bytes.
    memory_total: Option<u64>,
    /// Version of the agent.
    agent_version: Option<String>,
    /// Disks: the devices, not what is mounted. At most 64.
    disks: Option<Vec<InventoryDisk>>,
    /// Network interfaces, without the loopback. At most 64.
    interfaces: Option<Vec<InventoryInterface>>,
    bios: Option<Bios>,
    /// How many packages are installed.
    packages: Option<u32>,
    /// Who is logged in, each name once. At most 64.
    users: Option<Vec<String>>,
}

/// A disk.
#[derive(Object)]
pub struct InventoryDisk {
    /// Its name, such as `nvme0n1`.
    name: String,
    /// Its model; empty where the machine does not say.
    model: Option<String>,
    /// Its size, in bytes.
    size: u64,
}

/// A network interface.
#[derive(Object)]
pub struct InventoryInterface {
    /// Its name, such as `eth0`.
    name: String,
    /// Its hardware address, such as `02:42:ac:11:00:02`.
    mac: Option<String>,
    /// Its addresses with their prefixes, such as `10.0.0.5/24`.
    addresses: Option<Vec<String>>,
}

/// What the firmware says of the machine. Empty where it does not say, or only root may read it.
#[derive(Object)]
pub struct Bios {
    /// Who made the machine.
    vendor: Option<String>,
    /// What it is called.
    product: Option<String>,
    /// Its serial number.
    serial: Option<String>,
    /// The firmware's version.
    version: Option<String>,
}

/// A machine.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct Machine {
    /// Its id.
    id: Uuid,
    /// Its name, as it said it when it enrolled. Several machines may have the same.
    hostname: String,
    /// The name that an operator gave it.
    display_name: Option<String>,
    /// An operator's notes.
    notes: Option<String>,
    status: MachineStatus,
    /// Why, for a person.
    status_reason: Option<String>,
    transport: Transport,
    trust: Trust,
    /// Its labels.
    labels: HashMap<String, String>,
    inventory: Inventory,
    health: Option<Health>,
    latest_sample: Option<Sample>,
    /// When it was last heard.
    last_seen_at: Option<DateTime<Utc>>,
    /// When it enrolled.
    enrolled_at: DateTime<Utc>,
}

/// What an operator says of a machine, as a merge patch (RFC 7396): a field that is absent stays as it is, `null` takes
/// it away.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct MachineEdit {
    /// A name that people see instead of the host's: one line, without spaces at its ends.
    #[oai(validator(min_length = 1, max_length = 200))]
    display_name: Nullable<String>,
    /// Notes, of several lines if need be.
    #[oai(validator(max_length = 4000))]
    notes: Nullable<String>,
    /// Labels to set or, with `null`, to take away; those that are not named stay. `null` instead of them all takes all
    /// away. A machine has at most 64, a key or a value at most 63 characters.
    labels: Nullable<HashMap<String, Nullable<String>>>,
}

/// Labels of many machines to be edited: of those in `machineIds`, or of every machine that `selector` chooses. Exactly
/// one of the two is given.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct MachineLabels {
    /// The machines, 1 to 1,000.
    #[oai(validator(min_items = 1, max_items = 1000))]
    machine_ids: Option<Vec<Uuid>>,
    /// The labels of the machines, as in the list of machines: `env=prod,role!=db,gpu,!legacy`. It may choose 1,000
    /// machines; revoked ones are left out.
    #[oai(validator(min_length = 1))]
    selector: Option<String>,
    /// Labels to set or, with `null`, to take away; at least one. Those that are not named stay.
    labels: HashMap<String, Nullable<String>>,
}

/// By what a machine over HTTP is known after its release; `KNOWN` when it is not said.
#[derive(Enum)]
#[oai(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReleaseAccept {
    /// By the key and the block of addresses that it had: what quarantined it was somebody else.
    Known,
    /// By those that quarantined it: it has moved, or has another key.
    New,
}

/// What is said with a release.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct MachineRelease {
    accept: Option<ReleaseAccept>,
}

/// A machine that was meant.
#[derive(Object)]
pub struct LabelledMachine {
    /// Its id.
    id: Uuid,
    /// Whether its labels are others than before.
    changed: bool,
}

/// The machines that were meant, in the order of their ids.
#[derive(Object)]
pub struct LabelledMachines {
    /// One for each; none when none was chosen.
    items: Vec<LabelledMachine>,
}

/// A page of machines.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct MachinePage {
    /// The machines.
    items: Vec<Machine>,
    /// Where the next page begins; absent at the end.
    next_cursor: Option<String>,
}

impl Documented for message::Machine {
    type Schema = Machine;
}

impl Documented for MachineEdits {
    type Schema = MachineEdit;
}

impl Documented for MachineLabel {
    type Schema = MachineLabels;

    fn rules(body: &Value) -> Vec<FieldError> {
        exactly_one(body, "machineIds", "selector")
    }
}

impl Documented for message::MachinePage {
    type Schema = MachinePage;
}

impl Documented for domain::machine::MachineStatus {
    type Schema = MachineStatus;
}

impl Documented for domain::health::HealthStatus {
    type Schema = HealthStatus;
}
