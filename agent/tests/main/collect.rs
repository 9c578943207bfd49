//! What samples say is what the system's own programs say.

use std::time::{Duration, Instant};

use contract::agent::{BatteryState, DiskSample};
use dashfleet_agent::collect::watch::Watch;
use dashfleet_agent::collect::{Collector, Optional, disks, inventory, networks};
use dashfleet_agent::platform::linux::{mounts, packages, procfs, sensors};
use domain::Timestamp;

/// Total, used and available bytes, as `df` shows them for one mount point.
fn df(mount: &str) -> [u64; 3] {
    let output = std::process::Command::new("df")
        .args(["-P", "-B1", mount])
        .output()
        .expect("df");
    let text = String::from_utf8(output.stdout).unwrap();
    let columns: Vec<u64> = text
        .lines()
        .nth(1)
        .expect("a file system")
        .split_whitespace()
        .filter_map(|column| column.parse().ok())
        .collect();
    [columns[0], columns[1], columns[2]]
}

#[test]
fn a_disk_is_as_full_as_df_says() {
    let sample = Collector::new(Optional::default())
        .unwrap()
        .sample(Timestamp::now());
    assert!(!sample.disks.is_empty());
    for disk in &sample.disks {
        let [total, used, available] = df(&disk.mount);
        assert_eq!(disk.total, total, "{disk:?}");
        // Others write meanwhile.
        let share = 100.0 * used as f64 / (used + available) as f64;
        assert!((disk.percent - share).abs() < 1.0, "{disk:?}: {share}");
        assert!(
            disk.used.abs_diff(used) < total / 100,
            "{disk:?}: {used} used"
        );
    }
}

#[test]
fn a_disk_tells_what_is_free_and_an_interface_what_passed() {
    let mut collector = Collector::new(Optional::default()).unwrap();
    collector.sample(Timestamp::now());
    let sample = collector.sample(Timestamp::now());
    let root = sample.disks.iter().find(|disk| disk.mount == "/").unwrap();
    assert!(root.available.unwrap() <= root.total);
    for network in &sample.networks {
        assert!(network.packets_received.is_some() && network.receive_drops.is_some());
        assert_ne!(network.name, "lo");
    }
    assert_eq!(sample.faults, []);
    assert_eq!(sample.top_processes, None, "nobody has switched it on");
}

#[test]
fn top_processes_are_at_most_ten_with_names_and_without_command_lines() {
    let mut collector = Collector::new(Optional { processes: true }).unwrap();
    collector.sample(Timestamp::now());
    let begun = Instant::now();
    let mut burnt = 0_u64;
    while begun.elapsed() < Duration::from_millis(500) {
        burnt = burnt.wrapping_add(1);
    }
    let top = collector.sample(Timestamp::now()).top_processes.unwrap();
    assert!(burnt > 0 && top.by_cpu.len() <= 10 && top.by_memory.len() <= 10);
    assert!(
        top.by_memory
            .is_sorted_by(|one, next| one.memory >= next.memory)
    );
    let me = top
        .by_cpu
        .iter()
        .find(|process| process.pid == std::process::id())
        .expect("this test is busy");
    assert!(me.cpu_percent > 0.0 && me.memory > 0 && !me.name.contains('/'));
}

#[test]
fn a_look_that_hangs_or_fails_is_named_and_stops_nobody() {
    let (_keep, never) = std::sync::mpsc::sync_channel::<()>(0);
    let hanging = Watch::<u8>::begin("hanging", Duration::from_millis(300), move || {
        move || {
            let _ = never.recv();
            Ok(1)
        }
    });
    let mut looks = 0;
    let failing = Watch::<u8>::begin("failing", Duration::from_secs(5), move || {
        move || {
            looks += 1;
            if looks == 2 {
                Err(format!("no such\u{1b} sensor {}", "x".repeat(1_000)))
            } else {
                Ok(looks)
            }
        }
    });
    let ending = Watch::<u8>::begin("ending", Duration::from_secs(5), || {
        || -> Result<u8, String> { std::panic::resume_unwind(Box::new("gone")) }
    });
    failing.wait();
    assert_eq!((failing.known(), failing.fault()), (Some(1), None));
    failing.ask();
    failing.wait();
    let fault = failing.fault().unwrap();
    assert_eq!(
        (failing.known(), fault.collector.as_str()),
        (None, "failing")
    );
    assert!(fault.message.starts_with("no such sensor") && fault.message.len() <= 200);
    failing.ask();
    failing.wait();
    assert_eq!(
        (failing.known(), failing.fault()),
        (Some(3), None),
        "it works again"
    );
    let begun = Instant::now();
    while hanging.fault().is_none() {
        hanging.ask();
        hanging.wait();
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    assert!(hanging.fault().unwrap().message.contains("hangs"));
    // Who hangs was waited for once, and is not any more.
    let begun = Instant::now();
    for _ in 0..100 {
        hanging.ask();
        hanging.wait();
    }
    assert!(begun.elapsed() < Duration::from_millis(100));
    ending.wait();
    assert!(
        ending.fault().unwrap().message.contains("ended"),
        "{:?}",
        ending.fault()
    );
}

#[test]
fn a_full_disk_stays_full_while_the_disks_cannot_be_looked_at() {
    let full = DiskSample {
        mount: "/".into(),
        file_system: "ext4".into(),
        total: 100,
        used: 99,
        percent: 99.0,
        available: Some(1),
        read: Some(5.0),
        written: Some(6.0),
    };
    let kept = vec![DiskSample {
        read: None,
        written: None,
        ..full.clone()
    }];
    let first = vec![full.clone()];
    let (_keep, never) = std::sync::mpsc::sync_channel::<()>(0);
    let hanging = Watch::begin("disks", Duration::from_millis(200), move || {
        let mut looks = 0;
        move || {
            looks += 1;
            if looks > 1 {
                let _ = never.recv();
            }
            Ok(first.clone())
        }
    });
    let first = vec![full.clone()];
    let failing = Watch::begin("disks", Duration::from_secs(5), move || {
        let mut looks = 0;
        move || {
            looks += 1;
            if looks > 1 {
                Err("a device is gone".to_owned())
            } else {
                Ok(first.clone())
            }
        }
    });
    for watch in [hanging, failing] {
        let begun = Instant::now();
        while watch.known().is_none() {
            watch.wait();
            assert!(begun.elapsed() < Duration::from_secs(5));
        }
        assert_eq!(disks::shown(&watch), std::slice::from_ref(&full));
        while watch.fault().is_none() {
            watch.ask();
            watch.wait();
            assert!(begun.elapsed() < Duration::from_secs(10));
        }
        assert_eq!(disks::shown(&watch), kept);
    }
}

#[test]
fn a_server_of_files_that_is_away_costs_nothing_of_the_machines_own_disks() {
    let disk = |mount: &str, used| DiskSample {
        mount: mount.into(),
        total: 100,
        used,
        ..DiskSample::default()
    };
    let own = Watch::begin("disks", Duration::from_secs(5), move || {
        let mut looks = 0;
        move || {
            looks += 1;
            Ok(vec![disk("/", looks)])
        }
    });
    let (_keep, never) = std::sync::mpsc::sync_channel::<()>(0);
    let served = Watch::begin("network-disks", Duration::from_millis(200), move || {
        let mut looks = 0;
        move || {
            looks += 1;
            if looks > 1 {
                let _ = never.recv();
            }
            Ok(vec![disk("/mnt/share", 7)])
        }
    });
    let begun = Instant::now();
    while own.known().is_none() || served.known().is_none() {
        own.wait();
        served.wait();
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    while served.fault().is_none() {
        served.ask();
        served.wait();
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    own.ask();
    own.wait();
    let shown = disks::all(&own, &served);
    let shown: Vec<_> = shown.iter().map(|d| (d.mount.as_str(), d.used)).collect();
    assert_eq!(shown, [("/", 2), ("/mnt/share", 7)]);
    assert_eq!(own.fault(), None);
    // Where nothing is known of the machine's own disks, a share is not all of its disks.
    let blind = Watch::begin("disks", Duration::from_secs(5), || {
        || Err::<Vec<DiskSample>, _>("a device is gone".to_owned())
    });
    while blind.fault().is_none() {
        blind.wait();
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
    assert_eq!(disks::all(&blind, &served), []);
}

#[test]
fn a_first_look_that_takes_long_does_not_look_like_a_machine_without_disks() {
    let disk = |mount: &str| DiskSample {
        mount: mount.into(),
        total: 100,
        ..DiskSample::default()
    };
    let (answer, asked) = std::sync::mpsc::sync_channel::<()>(0);
    let own = Watch::begin("disks", Duration::from_secs(600), move || {
        move || {
            let _ = asked.recv();
            Ok(vec![disk("/")])
        }
    });
    let served = Watch::begin("network-disks", Duration::from_secs(600), move || {
        move || Ok(vec![disk("/mnt/share")])
    });
    let begun = Instant::now();
    while served.known().is_none() {
        served.wait();
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
    // It has time, and nothing is wrong with it. But what is not known yet is not empty.
    assert_eq!(own.fault(), None);
    assert_eq!(disks::all(&own, &served), []);
    assert_eq!(disks::fault(&own).unwrap().collector, "disks");
    assert_eq!(disks::fault(&served), None);
    answer.send(()).unwrap();
    while own.known().is_none() {
        own.wait();
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
    assert_eq!(disks::fault(&own), None);
    assert_eq!(disks::all(&own, &served), [disk("/"), disk("/mnt/share")]);
}

#[test]
fn file_systems_are_read_as_the_kernel_shows_them_and_those_that_others_serve_are_known() {
    let text = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
28 27 0:40 / /run/user/0 rw - tmpfs tmpfs rw
29 27 0:41 / /run/media/ann/stick rw - vfat /dev/sdb1 rw
30 27 0:50 /export /mnt/nfs rw,relatime shared:5 master:2 - nfs4 files.example.com:/export rw,vers=4.2,hard
31 27 0:51 / /mnt/with\\040space\\134and\\011tab rw - cifs //files/share rw
32 27 0:52 / /home/ann/remote rw,nosuid - fuse.sshfs ann@files:/home/ann rw,user_id=0
33 27 0:53 / /host rw - 9p hostshare rw,trans=virtio
34 27 8:17 / /mnt/ntfs rw - fuseblk /dev/sdb2 rw
35 30 8:33 / /mnt/nfs/local rw - xfs /dev/sdc1 rw
36 27 8:34 / /mnt/nfsomething rw - btrfs /dev/sdd1 rw,subvol=/@
37 27 0:60 / /data rw - zfs tank/data rw
this is no line
38 27 0:61 / /short rw -
";
    let mounts = mounts::parse(text);
    let found: Vec<_> = mounts
        .iter()
        .map(|mount| {
            let path = mount.path.to_str().unwrap();
            (path, mount.file_system.as_str(), mount.is_served)
        })
        .collect();
    assert_eq!(
        found,
        [
            ("/", "ext4", false),
            ("/run/media/ann/stick", "vfat", false),
            ("/mnt/nfs", "nfs4", true),
            ("/mnt/with space\\and\ttab", "cifs", true),
            ("/home/ann/remote", "fuse.sshfs", true),
            ("/host", "9p", true),
            ("/mnt/ntfs", "fuseblk", false),
            // A disk of this machine, and the way to it leads through the server.
            ("/mnt/nfs/local", "xfs", true),
            ("/mnt/nfsomething", "btrfs", false),
            ("/data", "zfs", false),
        ]
    );
    assert_eq!(mounts[2].device, "files.example.com:/export");
    for served in ["nfs", "smb3", "ceph", "virtiofs", "fuse.rclone", "lustre"] {
        assert!(mounts::is_served(served), "{served}");
    }
    // Where the root itself is served, its disks are its own all the same.
    let text = "1 0 0:1 / / rw - nfs server:/root rw\n2 1 8:1 / /var rw - ext4 /dev/sda1 rw\n";
    let served: Vec<_> = mounts::parse(text).iter().map(|m| m.is_served).collect();
    assert_eq!(served, [true, false]);
}

#[test]
fn interfaces_are_read_as_the_kernel_shows_them() {
    let text = "Inter-|   Receive                                                |  Transmit\n \
         face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n\
         \x20   lo: 100 2 0 0 0 0 0 0 100 2 0 0 0 0 0 0\n\
         \x20 eth0:1000 20 3 4 0 0 0 0 5000 60 7 8 0 0 0 0\n";
    let before = procfs::parse_traffic(text);
    assert_eq!(before.len(), 2);
    let mut now = before.clone();
    now[1].received += 50;
    now[1].send_drops = Some(28);
    now[1].sent = 0;
    let samples = networks::samples(&before, &now, 10.0);
    assert_eq!(samples.len(), 1, "the loopback is left out");
    let eth0 = &samples[0];
    assert_eq!(
        (
            eth0.received,
            eth0.sent,
            eth0.send_drops,
            eth0.receive_errors
        ),
        (5.0, 0.0, Some(2.0), Some(0.0)),
        "what began anew has not gone backwards"
    );
    assert_eq!(networks::samples(&[], &now, 10.0)[0].received, 0.0);
}

#[test]
fn a_process_may_call_itself_anything() {
    let units = procfs::Units {
        ticks: 100,
        page: 4_096,
    };
    let text = "42 (evil) R 1 (x) S 1 42 42 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 777 1000 10 18446744073709551615";
    let process = procfs::parse_stat(42, text, units).unwrap();
    assert_eq!(
        (process.name.as_str(), process.started, process.memory),
        ("evil) R 1 (x", 777, 40_960)
    );
    assert_eq!(process.cpu, Duration::from_secs(2));
    assert_eq!(procfs::parse_stat(1, "1 (short) S", units), None);
}

#[test]
fn sensors_are_read_as_the_kernel_shows_them() {
    let folder = testkit::Folder::new("sensors");
    let file = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    assert_eq!(sensors::temperatures(folder.path()), Ok(Vec::new()));
    file("thermal/thermal_zone0/type", "acpitz\n");
    file("thermal/thermal_zone0/temp", "27800\n");
    let zones = sensors::temperatures(folder.path()).unwrap();
    assert_eq!((zones[0].name.as_str(), zones[0].celsius), ("acpitz", 27.8));
    for disk in ["hwmon/hwmon0", "hwmon/hwmon1"] {
        file(&format!("{disk}/name"), "nvme\n");
        file(&format!("{disk}/temp1_input"), "41850\n");
        file(&format!("{disk}/temp1_label"), "Composite\n");
        file(&format!("{disk}/temp1_crit"), "84850\n");
    }
    file("hwmon/hwmon1/temp2_input", "-273150\n");
    let read = sensors::temperatures(folder.path()).unwrap();
    let read: Vec<_> = read
        .iter()
        .map(|sensor| (sensor.name.as_str(), sensor.celsius, sensor.critical))
        .collect();
    assert_eq!(
        read,
        [
            ("nvme Composite", 41.9, Some(84.9)),
            ("nvme Composite #2", 41.9, Some(84.9))
        ]
    );
    for (name, scope, capacity) in [("BAT0", "System", "87"), ("mouse", "Device", "5")] {
        file(&format!("power_supply/{name}/type"), "Battery\n");
        file(&format!("power_supply/{name}/scope"), scope);
        file(&format!("power_supply/{name}/status"), "Not charging\n");
        file(&format!("power_supply/{name}/capacity"), capacity);
    }
    file("power_supply/AC/type", "Mains\n");
    let batteries = sensors::batteries(folder.path()).unwrap();
    assert_eq!(batteries.len(), 1);
    assert_eq!(
        (
            batteries[0].name.as_str(),
            batteries[0].percent,
            batteries[0].state
        ),
        ("BAT0", 87.0, BatteryState::Idle)
    );
    file("power_supply/BAT0/capacity", "?");
    assert!(
        sensors::batteries(folder.path())
            .unwrap_err()
            .contains("BAT0/capacity")
    );
}

#[test]
fn packages_are_counted_from_each_managers_own_database() {
    let folder = testkit::Folder::new("packages");
    assert_eq!(packages::count(folder.path()), None);
    let file = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let long = "x".repeat(100_000);
    file(
        "var/lib/dpkg/status",
        &format!(
            "Package: a\nStatus: install ok installed\nDescription: {long}\nStatus: not one\n\nPackage: b\n\
             Status: deinstall ok config-files\n\nPackage: c\nStatus: hold ok installed"
        ),
    );
    assert_eq!(packages::count(folder.path()), Some(2));
    file("lib/apk/db/installed", "C:Q1\nP:musl\n\nP:busybox\n");
    assert_eq!(packages::count(folder.path()), Some(4));
    std::fs::create_dir_all(folder.path().join("var/lib/rpm")).unwrap();
    let database = folder.path().join("var/lib/rpm/rpmdb.sqlite");
    let made = std::process::Command::new("python3")
        .args([
            "-c",
            "import sqlite3, sys\n\
             d = sqlite3.connect(sys.argv[1])\n\
             d.execute('CREATE TABLE Other (key TEXT)')\n\
             d.execute('CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)')\n\
             d.executemany('INSERT INTO Packages (blob) VALUES (?)', [(b'x' * (n * 7 % 9000),) for n in range(5000)])\n\
             d.commit()",
        ])
        .arg(&database)
        .status()
        .expect("python3");
    assert!(made.success());
    assert_eq!(packages::count(folder.path()), Some(5_004));
    std::fs::write(&database, b"SQLite format 3\0 and then rubbish").unwrap();
    assert_eq!(packages::count(folder.path()), Some(4));
}

#[tokio::test]
async fn the_inventory_is_the_same_twice_and_the_server_takes_it() {
    let watch = inventory::begin();
    let one = watch.look().await.unwrap();
    let two = watch.look().await.unwrap();
    assert_eq!(one, two);
    assert_eq!(one.check(""), Ok(()));
    assert!(one.cpu_cores > 0 && !one.kernel.is_empty());
    if std::path::Path::new("/var/lib/dpkg/status").exists() {
        assert!(one.packages.unwrap() > 0);
    }
    assert!(
        one.interfaces
            .iter()
            .all(|interface| interface.name != "lo")
    );
}
