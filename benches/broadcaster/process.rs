//! What the benchmark asks of the operating system: pinning, CPU time, memory and descriptors of a process.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Which core runs what.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Cores {
    pub server: usize,
    pub generator: usize,
}

impl Cores {
    /// The first two cores this process may use; one twice where there is only one.
    pub fn choose() -> io::Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut usable = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let server = usable.next().ok_or_else(|| io::Error::other("no usable core"))?;
        Ok(Self { server, generator: usable.next().unwrap_or(server) })
    }

    /// True when server and generator must share one core.
    pub fn is_shared(&self) -> bool {
        self.server == self.generator
    }
}

/// Starts `command` bound to one core.
///
/// The affinity is set on the calling thread and inherited, because setting it in the child after the fork
/// needs `unsafe`, and setting it on a running process misses threads it has already started.
pub fn spawn_pinned(core: usize, command: &mut Command) -> io::Result<Child> {
    let before = sched_getaffinity(None)?;
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only)?;
    let child = command.spawn();
    sched_setaffinity(None, &before)?;
    child
}

/// Scheduled time of every thread of a process, user and kernel part.
pub struct CpuSample(BTreeMap<String, ThreadTime>);

/// In nanoseconds since the thread began.
#[derive(Clone, Copy, Default)]
struct ThreadTime {
    /// Whether it is one of switchboard's threads that serve connections.
    is_shard: bool,
    ran: u64,
    /// Ready to run, but something else had the core.
    waited: u64,
}

/// The difference of two samples.
pub struct CpuUsage {
    /// CPU time of the threads alive at the end.
    pub ran: Duration,
    /// Time they waited for their core.
    pub waited: Duration,
    /// The part of switchboard's threads that serve connections.
    pub shards: ShardUsage,
    /// Threads that ended in between: what they spent in the meantime is unknown.
    pub ended_threads: usize,
}

/// The shards' part of a [`CpuUsage`].
#[derive(Default)]
pub struct ShardUsage {
    pub ran: Duration,
    pub waited: Duration,
}

impl CpuSample {
    /// Reads `/proc/PID/task/*/schedstat`.
    pub fn take(pid: u32) -> io::Result<Self> {
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let entry = entry?;
            // A thread may end between the listing and the reading.
            if let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) {
                let mut fields = text.split(' ').map(str::parse);
                let (Some(Ok(ran)), Some(Ok(waited))) = (fields.next(), fields.next()) else {
                    return Err(io::Error::other(format!("odd schedstat: {text:?}")));
                };
                let time = ThreadTime { is_shard: is_shard(&entry.path()), ran, waited };
                threads.insert(entry.file_name().to_string_lossy().into_owned(), time);
            }
        }
        Ok(Self(threads))
    }

    /// What has been spent since `earlier`.
    pub fn since(&self, earlier: &Self) -> CpuUsage {
        let (mut ran, mut waited, mut shards) = (Duration::ZERO, Duration::ZERO, ShardUsage::default());
        for (id, now) in &self.0 {
            let before = earlier.0.get(id).copied().unwrap_or_default();
            let more_ran = Duration::from_nanos(now.ran - before.ran);
            let more_waited = Duration::from_nanos(now.waited - before.waited);
            ran += more_ran;
            waited += more_waited;
            if now.is_shard {
                shards.ran += more_ran;
                shards.waited += more_waited;
            }
        }
        CpuUsage {
            ran,
            waited,
            shards,
            ended_threads: earlier.0.keys().filter(|id| !self.0.contains_key(*id)).count(),
        }
    }

    /// Threads alive at the time of the sample.
    pub fn threads(&self) -> usize {
        self.0.len()
    }
}

fn is_shard(thread: &Path) -> bool {
    fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.starts_with("shard-"))
}

/// Memory of a process in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Proportional set size: pages in RAM, shared ones divided by their sharers.
    pub pss: f64,
    /// The anonymous part of it: heap and stacks, without the program file.
    pub anonymous: f64,
}

impl Memory {
    /// Reads `/proc/PID/smaps_rollup`.
    pub fn of(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let kilobytes = |name: &str| -> io::Result<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let value =
                line.and_then(|rest| rest.trim().strip_suffix(" kB")).and_then(|n| n.trim().parse().ok());
            value.ok_or_else(|| io::Error::other(format!("no {name} in smaps_rollup")))
        };
        Ok(Self { pss: 1024.0 * kilobytes("Pss:")?, anonymous: 1024.0 * kilobytes("Pss_Anon:")? })
    }
}

/// Number of open descriptors of a process.
pub fn open_files(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}
