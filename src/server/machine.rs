//! How much memory there is: the machine's, or what a control group leaves of it.

use std::fs;
use std::path::Path;

/// Memory where the system does not say.
const UNKNOWN: u64 = 1 << 30;
/// Where Linux shows control groups.
const GROUPS: &str = "/sys/fs/cgroup";

/// Bytes of memory that this process may have.
pub fn memory() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    machine.into_iter().chain(limits(Path::new(GROUPS), &groups)).min().unwrap_or(UNKNOWN)
}

/// `MemTotal` of `proc_meminfo(5)`, which counts in kilobytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The limits of a process's control groups and of all above them; `groups` as `cgroups(7)` shows them. Inside of a
/// container the path may be one of the host's: then the container's own group is at the top.
fn limits(root: &Path, groups: &str) -> Vec<u64> {
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let own = root.join(path.trim_start_matches('/'));
        let above = own.ancestors().take_while(|folder| folder.starts_with(&root));
        limits.extend(
            above.filter_map(|folder| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok()),
        );
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_some() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       24590436 kB\n"), Some(24_590_436 * 1024));
        assert_eq!(total("MemTotal: much"), None);
        assert!(memory() > 64 << 20);
    }

    #[test]
    fn the_smallest_limit_of_a_group_and_those_above_it_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        let write = |path: &str, text: &str| {
            let file = root.join(path);
            fs::create_dir_all(file.parent().expect("a folder")).expect("created");
            fs::write(file, text).expect("written");
        };
        write("system.slice/memory.max", "2000\n");
        write("system.slice/switchboard.service/memory.max", "max\n");
        assert_eq!(limits(root, "0::/system.slice/switchboard.service\n"), [2000]);
        // A container that sees its own group at the top, under the host's path.
        write("memory.max", "3000\n");
        assert_eq!(limits(root, "0::/docker/0123\n"), [3000]);
        write("memory/a/memory.limit_in_bytes", "4000\n");
        assert_eq!(limits(root, "5:cpu,memory:/a\n3:cpuset:/b\n"), [4000]);
        assert_eq!(limits(root, ""), [0_u64; 0]);
    }
}
