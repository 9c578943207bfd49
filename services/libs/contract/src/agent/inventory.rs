//! What a machine is: hardware, system, and who uses it. Every field may be absent.

use serde::{Deserialize, Serialize};

use crate::Problem;

/// The longest text of an inventory, in characters.
pub const INVENTORY_TEXT_MAX_CHARS: usize = 256;
/// The most items of each list of an inventory.
pub const INVENTORY_LIST_MAX: usize = 64;
/// The most bytes of all texts of an inventory together: lists of machines carry whole inventories.
pub const INVENTORY_MAX_BYTES: usize = 32 * 1024;

/// `inventory`: what the machine is. Sent at enrolment and when it changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// Operating system, such as `Debian GNU/Linux`.
    #[serde(default)]
    pub os: String,
    /// Its version.
    #[serde(default)]
    pub os_version: String,
    /// Kernel version.
    #[serde(default)]
    pub kernel: String,
    /// Processor architecture, such as `x86_64`.
    #[serde(default)]
    pub architecture: String,
    /// Processor model.
    #[serde(default)]
    pub cpu_model: String,
    /// Logical cores.
    #[serde(default)]
    pub cpu_cores: u32,
    /// Memory, in bytes.
    #[serde(default)]
    pub memory_total: u64,
    /// Version of the agent.
    #[serde(default)]
    pub agent_version: String,
    /// Disks: the devices, not what is mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<InventoryDisk>,
    /// Network interfaces, without the loopback.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<InventoryInterface>,
    /// What the firmware says; absent where it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bios: Option<Bios>,
    /// How many packages are installed; absent where no database of packages can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packages: Option<u32>,
    /// Who is logged in, each name once, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
}

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InventoryDisk {
    /// Its name, such as `nvme0n1`.
    pub name: String,
    /// Its model; empty where the machine does not say.
    #[serde(default)]
    pub model: String,
    /// Its size, in bytes.
    pub size: u64,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InventoryInterface {
    /// Its name, such as `eth0`.
    pub name: String,
    /// Its hardware address, such as `02:42:ac:11:00:02`; empty where it has none.
    #[serde(default)]
    pub mac: String,
    /// Its addresses with their prefixes, such as `10.0.0.5/24`, sorted.
    #[serde(default)]
    pub addresses: Vec<String>,
}

/// What the firmware says of the machine. Empty where it does not say, or only root may read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bios {
    /// Who made the machine.
    #[serde(default)]
    pub vendor: String,
    /// What it is called.
    #[serde(default)]
    pub product: String,
    /// Its serial number.
    #[serde(default)]
    pub serial: String,
    /// The firmware's version.
    #[serde(default)]
    pub version: String,
}

impl Inventory {
    /// Checks texts and lengths, which come from a stranger. `under` is the path that leads here: empty, or
    /// `inventory.`.
    ///
    /// # Errors
    /// INVALID naming the field: a text longer than [`INVENTORY_TEXT_MAX_CHARS`] characters or with control characters, a
    /// list longer than [`INVENTORY_LIST_MAX`], texts of more than [`INVENTORY_MAX_BYTES`] together.
    pub fn check(&self, under: &str) -> Result<(), Problem> {
        for (field, length) in [
            ("disks", self.disks.len()),
            ("interfaces", self.interfaces.len()),
            ("users", self.users.len()),
        ] {
            check_length(under, field, length)?;
        }
        for (index, interface) in self.interfaces.iter().enumerate() {
            let field = format!("interfaces[{index}].addresses");
            check_length(under, &field, interface.addresses.len())?;
        }
        let texts = self.texts();
        let bytes: usize = texts.iter().map(|(_, text)| text.len()).sum();
        if bytes > INVENTORY_MAX_BYTES {
            return Err(Problem::invalid(
                under.trim_end_matches('.'),
                format!("its texts have {bytes} bytes; at most {INVENTORY_MAX_BYTES}"),
            ));
        }
        for (field, text) in texts {
            let length = text.chars().count();
            let wrong = if length > INVENTORY_TEXT_MAX_CHARS {
                format!("has {length} characters; at most {INVENTORY_TEXT_MAX_CHARS}")
            } else if text.chars().any(char::is_control) {
                "has control characters".to_owned()
            } else {
                continue;
            };
            return Err(Problem::invalid(format!("{under}{field}"), wrong));
        }
        Ok(())
    }

    /// Every text, with the path of its field.
    fn texts(&self) -> Vec<(String, &str)> {
        let Self {
            os,
            os_version,
            kernel,
            architecture,
            cpu_model,
            agent_version,
            cpu_cores: _,
            memory_total: _,
            disks,
            interfaces,
            bios,
            packages: _,
            users,
        } = self;
        let mut texts: Vec<(String, &str)> = vec![
            ("os".into(), os),
            ("osVersion".into(), os_version),
            ("kernel".into(), kernel),
            ("architecture".into(), architecture),
            ("cpuModel".into(), cpu_model),
            ("agentVersion".into(), agent_version),
        ];
        for (index, disk) in disks.iter().enumerate() {
            let InventoryDisk {
                name,
                model,
                size: _,
            } = disk;
            texts.push((format!("disks[{index}].name"), name));
            texts.push((format!("disks[{index}].model"), model));
        }
        for (index, interface) in interfaces.iter().enumerate() {
            let InventoryInterface {
                name,
                mac,
                addresses,
            } = interface;
            let under = format!("interfaces[{index}]");
            texts.push((format!("{under}.name"), name));
            texts.push((format!("{under}.mac"), mac));
            for (index, address) in addresses.iter().enumerate() {
                texts.push((format!("{under}.addresses[{index}]"), address));
            }
        }
        if let Some(Bios {
            vendor,
            product,
            serial,
            version,
        }) = bios
        {
            texts.push(("bios.vendor".into(), vendor));
            texts.push(("bios.product".into(), product));
            texts.push(("bios.serial".into(), serial));
            texts.push(("bios.version".into(), version));
        }
        for (index, user) in users.iter().enumerate() {
            texts.push((format!("users[{index}]"), user));
        }
        texts
    }
}

fn check_length(under: &str, field: &str, length: usize) -> Result<(), Problem> {
    if length <= INVENTORY_LIST_MAX {
        return Ok(());
    }
    Err(Problem::invalid(
        format!("{under}{field}"),
        format!("has {length} items; at most {INVENTORY_LIST_MAX}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_texts_of_an_inventory_are_named() {
        let long = Inventory {
            cpu_model: "x".repeat(INVENTORY_TEXT_MAX_CHARS + 1),
            ..Inventory::default()
        };
        let odd = Inventory {
            kernel: "6.1\0".into(),
            ..Inventory::default()
        };
        let paths = |inventory: &Inventory, under| {
            inventory.check(under).map_err(|problem| {
                let errors = problem.errors.into_iter();
                errors.map(|error| error.path).collect::<Vec<_>>()
            })
        };
        let far = Inventory {
            interfaces: vec![InventoryInterface {
                addresses: vec!["10.0.0.1/8".into(), "\u{1b}[2J".into()],
                ..InventoryInterface::default()
            }],
            ..Inventory::default()
        };
        let many = Inventory {
            users: vec![String::new(); INVENTORY_LIST_MAX + 1],
            ..Inventory::default()
        };
        assert_eq!(
            paths(&far, ""),
            Err(vec!["interfaces[0].addresses[1]".to_owned()])
        );
        assert_eq!(paths(&many, ""), Err(vec!["users".to_owned()]));
        assert_eq!(paths(&long, ""), Err(vec!["cpuModel".to_owned()]));
        assert_eq!(
            paths(&odd, "inventory."),
            Err(vec!["inventory.kernel".to_owned()])
        );
        assert_eq!(paths(&Inventory::default(), ""), Ok(()));
    }
}
