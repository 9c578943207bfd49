//! What samples say is what the system's own programs say.

use dashfleet_agent::collect::Collector;
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
    let sample = Collector::new().unwrap().sample(Timestamp::now());
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
