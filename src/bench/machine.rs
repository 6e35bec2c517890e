//! What the numbers were measured on.

use std::path::Path;

use serde::Serialize;

/// A machine, as far as it tells.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    cpu: String,
    cores: usize,
    memory_mb: u64,
    kernel: String,
    /// Of the folder that the store writes to.
    file_system: String,
    /// Processes that wanted a core in the minute before the run: much above 0 means that others were measured too.
    load_before: f64,
}

impl Machine {
    /// Describes this machine. `folder` is where the store writes.
    pub(super) fn describe(folder: &Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let unknown = || std::env::consts::OS.to_owned();
        let value =
            |text: &str, name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':').map(|(_, value)| value.trim().to_owned()));
        let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
        Self {
            cpu: value(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_mb: value(&read("/proc/meminfo"), "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok()).unwrap_or(0) / 1_024,
            kernel: if kernel.is_empty() { unknown() } else { format!("{} {kernel}", std::env::consts::OS) },
            file_system: file_system(&read("/proc/self/mounts"), folder).unwrap_or_else(unknown),
            load_before: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
        }
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
        let Self { cpu, cores, memory_mb, kernel, file_system, load_before } = self;
        format!(
            "{cpu}, {cores} cores, {:.1} GB, {kernel}, {file_system}, load before {load_before}",
            f64::from(u32::try_from(*memory_mb).unwrap_or(u32::MAX)) / 1_024.0
        )
    }
}

/// The type of the file system that holds `folder`: of all mounts above it, the nearest.
fn file_system(mounts: &str, folder: &Path) -> Option<String> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let above = fields.filter(|fields| fields.len() > 2 && folder.starts_with(fields[1]));
    above.max_by_key(|fields| fields[1].len()).map(|fields| fields[2].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/disk xfs rw 0 0\n";
        for (folder, expected) in [("/home/x", "ext4"), ("/tmp/x", "tmpfs"), ("/tmp/disk/x", "xfs"), ("/tmpx", "ext4")] {
            assert_eq!(file_system(mounts, Path::new(folder)).as_deref(), Some(expected), "{folder}");
        }
    }
}
