//! What the hardware is, from `/sys`.

use std::path::Path;

use contract::agent::{Bios, InventoryDisk};

use super::super::Hardware;
use super::sensors::{entries, text};

/// Bytes of a sector as `/sys` counts them, whatever the device's own are.
const SECTOR: u64 = 512;

/// The hardware that this `/sys` shows.
#[must_use]
pub fn hardware(sys: &Path) -> Hardware {
    Hardware {
        disks: disks(&sys.join("block")),
        bios: bios(&sys.join("class/dmi/id")),
    }
}

/// Devices with something behind them: no loops, memory disks, or volumes made of others.
fn disks(folder: &Path) -> Vec<InventoryDisk> {
    entries(folder, "")
        .into_iter()
        .filter(|disk| disk.join("device").exists())
        .filter_map(|disk| {
            let sectors: u64 = text(&disk.join("size"))?.parse().ok()?;
            (sectors > 0).then(|| InventoryDisk {
                name: disk
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                model: text(&disk.join("device/model")).unwrap_or_default(),
                size: sectors.saturating_mul(SECTOR),
            })
        })
        .collect()
}

/// The serial number is for root's eyes only; without root it stays empty.
fn bios(folder: &Path) -> Option<Bios> {
    let file = |name: &str| text(&folder.join(name)).unwrap_or_default();
    let bios = Bios {
        vendor: file("sys_vendor"),
        product: file("product_name"),
        serial: file("product_serial"),
        version: file("bios_version"),
    };
    (bios != Bios::default()).then_some(bios)
}
