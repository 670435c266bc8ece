//! Many containers on one host: what each costs while there are few and while there are many.
//!
//! On a shared machine the times mean little by themselves. Processor time and counts (descriptors,
//! mounts, bytes) do: they are those of the host's own processes, whoever else is at work. Processor time is that of a
//! control group which daemon, shims, programs and containers are in; where there is none of version 1 it is summed up
//! from `/proc`, which loses up to 10 ms of every process.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use skep_testbed::{Bed, Daemon, Host, executable};

use crate::memory;
use crate::table::Table;

/// How many tasks there are after each step.
const STEPS: [u32; 4] = [1, 50, 200, 600];
/// Longer than anything here should take, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(900);
/// Processor time by control group, in nanoseconds (cgroup-v1/cpuacct.rst).
const ACCOUNTS: &str = "/sys/fs/cgroup/cpuacct";
/// Between two looks: each costs a client and an answer.
const PAUSE: Duration = Duration::from_millis(200);
/// Descriptors that a daemon may have open for a moment and not again.
const SPARE: usize = 12;
/// How long a daemon is looked at for what it keeps: longer than it waits before it gives memory back.
const REST: Duration = Duration::from_secs(15);
const SERVICE: &str = "crowd";

/// One service on an overlay network, scaled up to `most` tasks, restarted with, and removed.
pub fn measure(table: &mut Table, most: u32) -> Result<()> {
    let mut bed = Bed::new(&executable("skep")?)?;
    let host = bed.host("crowd")?;
    let daemon = start(&host)?;
    crate::prepare(&bed, &host)?;
    let bed = Crowd { host, most };
    bed.host.docker(&["network", "create", "-d", "overlay", "--subnet", "10.60.0.0/16", "many"])?;

    bed.grow(table, &daemon)?;
    let daemon = bed.restart(table, daemon)?;
    bed.shrink(table, &daemon)?;
    bed.at_once(table, &daemon)
}

/// Starts a daemon, in the control group that its containers will be in.
fn start(host: &Host) -> Result<Daemon> {
    let daemon = host.daemon(&["--log-level", "warn"])?;
    if Path::new(ACCOUNTS).exists() {
        let group = format!("{ACCOUNTS}{}", host.cgroup_parent());
        std::fs::create_dir_all(&group).context("make a control group")?;
        std::fs::write(format!("{group}/cgroup.procs"), daemon.pid().to_string())
            .context("put the daemon into a control group")?;
    }
    Ok(daemon)
}

struct Crowd {
    host: Host,
    most: u32,
}

/// What the host's processes have used and hold at one moment.
struct Moment {
    at: Instant,
    daemon: Duration,
    all: Duration,
    kilobytes: u64,
    descriptors: usize,
    mounts: usize,
}

impl Crowd {
    fn grow(&self, table: &mut Table, daemon: &Daemon) -> Result<()> {
        let mut steps: Vec<u32> = STEPS.into_iter().filter(|step| *step < self.most).collect();
        steps.push(self.most);
        self.create(1)?;
        let mut first = self.moment(daemon)?;
        (first.descriptors, first.kilobytes) = self.kept(daemon)?;
        let (mut before, mut tasks) = (self.moment(daemon)?, 1);
        for step in steps.into_iter().filter(|step| *step > 1) {
            self.scale(step)?;
            let mut now = self.moment(daemon)?;
            (now.descriptors, now.kilobytes) = self.kept(daemon)?;
            table.row(
                &format!("{tasks} → {step} tasks, each"),
                &used(&before, &now, step - tasks),
                None,
                "1.3 times those at 50",
            );
            table.row(
                &format!("held for each of {step}, without the first"),
                &held(&first, &now, step - 1),
                None,
                "60 KB, 3 descriptors, 0 mounts",
            );
            before = self.moment(daemon)?;
            tasks = step;
        }
        Ok(())
    }

    fn restart(&self, table: &mut Table, daemon: Daemon) -> Result<Daemon> {
        let containers = || -> Result<BTreeSet<String>> {
            Ok(self.host.docker(&["ps", "-q"])?.lines().map(str::to_owned).collect())
        };
        let before = containers()?;
        let (descriptors, _) = self.kept(&daemon)?;
        daemon.stop()?;
        let begin = Instant::now();
        let daemon = start(&self.host)?;
        let answers = begin.elapsed();
        // It answers from its records at once; what it has taken over it holds descriptors of.
        wait("all containers to be adopted", || {
            let held = self.moment(&daemon)?.descriptors;
            let missing = descriptors.saturating_sub(held);
            Ok((missing <= SPARE, format!("{missing} descriptors missing")))
        })?;
        let adopted = begin.elapsed();
        self.replicas(self.most)?;
        let after = containers()?;
        let now = self.moment(&daemon)?;
        table.row(
            &format!("restart with {}", self.most),
            &format!(
                "answers after {:.2} s, all adopted after {:.2} s, {} replaced; {:.2} s of its own \
                 processor time",
                answers.as_secs_f64(),
                adopted.as_secs_f64(),
                before.difference(&after).count(),
                now.daemon.as_secs_f64()
            ),
            None,
            "1.5 s, 5 s, 0",
        );
        Ok(daemon)
    }

    fn shrink(&self, table: &mut Table, daemon: &Daemon) -> Result<()> {
        let half = self.most / 2;
        for (from, to) in [(self.most, half), (half, 0)] {
            let before = self.moment(daemon)?;
            self.host.docker(&["service", "scale", "-d", &format!("{SERVICE}={to}")])?;
            self.wait_for(to)?;
            let now = self.moment(daemon)?;
            table.row(
                &format!("{from} → {to} tasks, {:.1} s; each", seconds(&before, &now)),
                &used(&before, &now, from - to),
                None,
                "300 in 5 s",
            );
        }
        self.host.docker(&["service", "rm", SERVICE])?;
        Ok(())
    }

    fn at_once(&self, table: &mut Table, daemon: &Daemon) -> Result<()> {
        let before = self.moment(daemon)?;
        self.create(self.most)?;
        let now = self.moment(daemon)?;
        table.row(
            &format!("{} tasks from nothing, {:.1} s; each", self.most, seconds(&before, &now)),
            &used(&before, &now, self.most),
            None,
            "600 in 25 s",
        );
        let before = self.moment(daemon)?;
        self.host.docker(&["service", "rm", SERVICE])?;
        self.wait_for(0)?;
        let now = self.moment(daemon)?;
        table.row(
            &format!("{} removed, {:.1} s; each", self.most, seconds(&before, &now)),
            &used(&before, &now, self.most),
            None,
            "–",
        );
        Ok(())
    }

    fn create(&self, replicas: u32) -> Result<()> {
        let count = replicas.to_string();
        self.host.docker(&[
            "service",
            "create",
            "-d",
            "--name",
            SERVICE,
            "--network",
            "many",
            "--replicas",
            &count,
            "--stop-grace-period",
            "1ms",
            "busybox",
            "sleep",
            "36000",
        ])?;
        self.replicas(replicas)
    }

    fn scale(&self, replicas: u32) -> Result<()> {
        self.host.docker(&["service", "scale", "-d", &format!("{SERVICE}={replicas}")])?;
        self.replicas(replicas)
    }

    /// Waits until all tasks run.
    fn replicas(&self, wanted: u32) -> Result<()> {
        let wanted = format!("{wanted}/{wanted}");
        wait(&format!("{wanted} tasks"), || {
            self.host
                .docker(&["service", "ls", "--format", "{{.Replicas}}"])
                .map(|found| (found == wanted, found))
        })
    }

    /// Waits until so many containers are left, whatever their state.
    fn wait_for(&self, wanted: u32) -> Result<()> {
        let wanted = wanted.to_string();
        wait(&format!("{wanted} containers"), || {
            self.host
                .docker(&["info", "--format", "{{.Containers}}"])
                .map(|found| (found == wanted, found))
        })
    }

    /// Descriptors and kilobytes that the daemon keeps: whoever talks to it for a moment has some more, which a daemon
    /// that has just started never gets, and what a burst left it gives back.
    fn kept(&self, daemon: &Daemon) -> Result<(usize, u64)> {
        let (mut descriptors, mut kilobytes) = (usize::MAX, u64::MAX);
        let begin = Instant::now();
        while begin.elapsed() < REST {
            let now = self.moment(daemon)?;
            descriptors = descriptors.min(now.descriptors);
            kilobytes = kilobytes.min(now.kilobytes);
            std::thread::sleep(PAUSE * 5);
        }
        Ok((descriptors, kilobytes))
    }

    fn moment(&self, daemon: &Daemon) -> Result<Moment> {
        let pid = daemon.pid();
        let at = Instant::now();
        let list =
            |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).map(Iterator::count);
        let own =
            std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the daemon's times")?;
        let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo"))
            .context("the daemon's mounts")?;
        Ok(Moment {
            at,
            daemon: times(&own, 2),
            all: self.all()?,
            kilobytes: memory::resident(&pid.to_string())?,
            descriptors: list("fd").context("the daemon's descriptors")?,
            mounts: mounts.lines().count(),
        })
    }
}

impl Crowd {
    /// Processor time of the host's processes, those that have ended included.
    fn all(&self) -> Result<Duration> {
        let account = format!("{ACCOUNTS}{}/cpuacct.usage", self.host.cgroup_parent());
        if let Ok(text) = std::fs::read_to_string(account) {
            return Ok(Duration::from_nanos(text.trim().parse().context("processor time")?));
        }
        // Who has ended and is collected counts with whoever collected it.
        let all = self.host.sh("cat /proc/[0-9]*/stat 2>/dev/null || true")?.text()?;
        Ok(all.lines().map(|line| times(line, 4)).sum())
    }
}

fn wait(what: &str, mut probe: impl FnMut() -> Result<(bool, String)>) -> Result<()> {
    let begin = Instant::now();
    loop {
        let (done, found) = probe()?;
        if done {
            return Ok(());
        }
        ensure!(begin.elapsed() < LIMIT, "waited {LIMIT:?} for {what}; there are {found}");
        std::thread::sleep(PAUSE);
    }
}

/// Processor time in a line of `/proc/<pid>/stat` (proc_pid_stat(5), fields 14 to 17): two fields
/// are its own, four with those of its collected children. A tick is 10 ms.
fn times(stat: &str, fields: usize) -> Duration {
    let ticks: u64 = stat
        .rsplit(')')
        .next()
        .into_iter()
        .flat_map(str::split_whitespace)
        .skip(11)
        .take(fields)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

fn seconds(before: &Moment, now: &Moment) -> f64 {
    now.at.duration_since(before.at).as_secs_f64()
}

fn used(before: &Moment, now: &Moment, tasks: u32) -> String {
    let each = |time: Duration| time.as_secs_f64() * 1000.0 / f64::from(tasks);
    format!(
        "{:.0} ms; processor time {:.1} ms, of it the daemon {:.1} ms",
        each(now.at.duration_since(before.at)),
        each(now.all.saturating_sub(before.all)),
        each(now.daemon.saturating_sub(before.daemon)),
    )
}

fn held(first: &Moment, now: &Moment, more: u32) -> String {
    let more = f64::from(more);
    format!(
        "{:.0} KB, {:.2} descriptors, {:.2} mounts ({:.1} MB, {} and {} in all)",
        (now.kilobytes as f64 - first.kilobytes as f64) / more,
        (now.descriptors as f64 - first.descriptors as f64) / more,
        (now.mounts as f64 - first.mounts as f64) / more,
        now.kilobytes as f64 / 1024.0,
        now.descriptors,
        now.mounts
    )
}
