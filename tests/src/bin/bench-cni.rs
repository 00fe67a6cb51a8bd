//! Measures CNI plugins: ADD and DEL of real containers through flannel, bridge and host-local, as a runtime
//! calls them. Several directories of plugins are measured by turns in one run, so that what else the
//! machine does falls on all of them alike.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use kernel::route::{Change, NewLink, NewLinkKind, VethPeer};
use lab::Host;
use nix::sys::resource::{Usage, UsageWho, getrusage};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What the agent of the measured node writes.
const SUBNET_ENV: &str = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.16.1/22\n\
    FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
/// The interface in the containers.
const IF_NAME: &str = "eth0";

/// Measures ADD and DEL of CNI plugins, in network namespaces of its own.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// A directory with the plugins flannel, bridge and host-local; may be given several times.
    #[arg(long, required = true)]
    plugins: Vec<PathBuf>,
    /// How many ADDs and DELs alone.
    #[arg(long, default_value_t = 100)]
    alone: usize,
    /// How often the crowd is added and deleted.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How many containers are in the crowd.
    #[arg(long, default_value_t = 100)]
    crowd: usize,
    /// How many of them at a time.
    #[arg(long, default_value_t = 16)]
    parallel: usize,
    /// Also call portmap, with one port for each container.
    #[arg(long)]
    portmap: bool,
}

/// A directory of plugins on a node of their own, and what was measured so far.
struct Contender {
    plugins: PathBuf,
    host: Host,
    state: TempDir,
    portmap: bool,
    add: Samples,
    del: Samples,
    crowd_add: Samples,
    crowd_del: Samples,
    crowd_add_rates: Vec<f64>,
    crowd_del_rates: Vec<f64>,
}

/// A container: its namespace, deleted with the value, and its number among those of the node.
struct Pod {
    host: Host,
    number: usize,
}

/// What calls took.
#[derive(Default)]
struct Samples {
    wall: Vec<Duration>,
    cpu: Duration,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut contenders = arguments
        .plugins
        .iter()
        .enumerate()
        .map(|(index, plugins)| Contender::new(index, plugins, arguments.portmap))
        .collect::<Result<Vec<_>>>()?;
    // The first call makes the bridge, and brings the programs into memory.
    for contender in &mut contenders {
        contender.alone()?;
        (contender.add, contender.del) = Default::default();
    }
    let mut kernel_del = Samples::default();
    for round in 0..arguments.alone {
        // By turns the first and the last, as what comes first warms up what comes after it.
        if round % 2 == 0 {
            kernel_del.wall.push(delete_veth(&contenders[0])?);
            contenders.iter_mut().try_for_each(Contender::alone)?;
        } else {
            contenders.iter_mut().rev().try_for_each(Contender::alone)?;
            kernel_del.wall.push(delete_veth(&contenders[0])?);
        }
    }
    for _ in 0..arguments.rounds {
        for contender in &mut contenders {
            contender.crowd(arguments.crowd, arguments.parallel)?;
        }
    }
    print(&arguments, &contenders, &kernel_del);
    Ok(())
}

// === impl Contender ===

impl Contender {
    fn new(index: usize, plugins: &Path, portmap: bool) -> Result<Self> {
        let plugins = fs::canonicalize(plugins)
            .with_context(|| format!("--plugins {}", plugins.display()))?;
        let state = tempfile::Builder::new().prefix("tweed-bench-").tempdir()?;
        fs::write(state.path().join("subnet.env"), SUBNET_ENV)?;
        Ok(Self {
            plugins,
            host: Host::create(&format!("tweed-bench-{}-{index}", std::process::id()))?,
            state,
            portmap,
            add: Samples::default(),
            del: Samples::default(),
            crowd_add: Samples::default(),
            crowd_del: Samples::default(),
            crowd_add_rates: Vec::new(),
            crowd_del_rates: Vec::new(),
        })
    }

    /// Adds and deletes one container.
    fn alone(&mut self) -> Result<()> {
        let pod = Pod::create(&self.host, 0)?;
        let (add, del) = self.host.within(|| -> Result<_> {
            let (added, add) = measured(|| self.add_pod(&pod))?;
            let ((), del) = measured(|| self.del_pod(&pod, &added))?;
            Ok((add, del))
        })??;
        self.add.take(add);
        self.del.take(del);
        Ok(())
    }

    /// Adds and deletes many containers, several at a time.
    fn crowd(&mut self, size: usize, parallel: usize) -> Result<()> {
        let pods = (0..size)
            .map(|number| Pod::create(&self.host, number))
            .collect::<Result<Vec<_>>>()?;
        let results = pods.iter().map(|_| Mutex::new(Value::Null));
        let results: Vec<_> = results.collect();
        let this = &*self;
        let (add, del) = this.host.within(|| -> Result<_> {
            let add = many(size, parallel, |index| {
                let added = this.add_pod(&pods[index])?;
                if let Ok(mut result) = results[index].lock() {
                    *result = added;
                }
                Ok(())
            })?;
            let del = many(size, parallel, |index| {
                let added = results[index].lock().map_or(Value::Null, |it| it.clone());
                this.del_pod(&pods[index], &added)
            })?;
            Ok((add, del))
        })??;
        self.crowd_add_rates.push(add.rate(size));
        self.crowd_del_rates.push(del.rate(size));
        self.crowd_add.wall.extend(add.wall);
        self.crowd_add.cpu += add.cpu;
        self.crowd_del.wall.extend(del.wall);
        self.crowd_del.cpu += del.cpu;
        Ok(())
    }

    /// Calls the plugins of the chain in their order; answers with the result of the last.
    fn add_pod(&self, pod: &Pod) -> Result<Value> {
        let mut result = Value::Null;
        for (plugin, mut conf) in self.chain(pod) {
            if !result.is_null() {
                conf["prevResult"] = result;
            }
            let output = self.call(plugin, "ADD", pod, &conf)?;
            result = serde_json::from_slice(&output.stdout)
                .with_context(|| format!("the result of {plugin}"))?;
        }
        Ok(result)
    }

    /// Calls the plugins of the chain backwards, each with the result of the ADD.
    fn del_pod(&self, pod: &Pod, added: &Value) -> Result<()> {
        for (plugin, mut conf) in self.chain(pod).into_iter().rev() {
            conf["prevResult"] = added.clone();
            self.call(plugin, "DEL", pod, &conf)?;
        }
        Ok(())
    }

    /// The plugins of the deployed conflist, with all of their state below an own directory.
    fn chain(&self, pod: &Pod) -> Vec<(&'static str, Value)> {
        let path = |name| self.state.path().join(name);
        let flannel = json!({
            "cniVersion": "1.0.0",
            "name": "cbr0",
            "type": "flannel",
            "subnetFile": path("subnet.env"),
            "dataDir": path("flannel"),
            "ipam": {"dataDir": path("networks")},
            "delegate": {"hairpinMode": true, "isDefaultGateway": true, "ipMasq": false},
        });
        let port = json!({
            "hostPort": 20000 + pod.number, "containerPort": 80, "protocol": "tcp",
        });
        let portmap = json!({
            "cniVersion": "1.0.0",
            "name": "cbr0",
            "type": "portmap",
            "capabilities": {"portMappings": true},
            "runtimeConfig": {"portMappings": [port]},
        });
        let mut chain = vec![("flannel", flannel)];
        if self.portmap {
            chain.push(("portmap", portmap));
        }
        chain
    }

    fn call(&self, plugin: &str, verb: &str, pod: &Pod, conf: &Value) -> Result<Output> {
        let mut child = Command::new(self.plugins.join(plugin))
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", pod.host.name())
            .env("CNI_NETNS", pod.host.namespace().path())
            .env("CNI_IFNAME", IF_NAME)
            .env("CNI_PATH", &self.plugins)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {plugin} of {}", self.plugins.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(conf.to_string().as_bytes())?;
        }
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "{plugin} of {}: {verb} failed: {}{}",
            self.plugins.display(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(output)
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        if let Err(error) = self.host.destroy() {
            eprintln!("{error:#}");
        }
    }
}

// === impl Pod ===

impl Pod {
    fn create(node: &Host, number: usize) -> Result<Self> {
        let name = format!("{}-pod{number}", node.name());
        Ok(Self {
            host: Host::create(&name)?,
            number,
        })
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // Nothing was started in there.
        if let Err(error) = kernel::netns::Namespace::delete_named(self.host.name()) {
            eprintln!("{error:#}");
        }
    }
}

// === impl Samples ===

impl Samples {
    fn take(&mut self, (wall, cpu): (Duration, Duration)) {
        self.wall.push(wall);
        self.cpu += cpu;
    }

    /// The wall-clock time that a part of the calls did not exceed, in milliseconds.
    fn percentile(&self, part: f64) -> f64 {
        let mut sorted = self.wall.clone();
        sorted.sort();
        let index = ((sorted.len() as f64 * part).ceil() as usize).max(1) - 1;
        milliseconds(sorted.get(index).copied().unwrap_or_default())
    }

    /// What the calls took more than those of the same rounds of others: lower quartile, median and upper
    /// quartile in milliseconds. Pairs tell more than two medians where the machine's speed drifts.
    fn more_than(&self, others: &Self) -> [f64; 3] {
        let pairs = self.wall.iter().zip(&others.wall);
        quartiles(pairs.map(|(one, other)| milliseconds(*one) - milliseconds(*other)))
    }

    /// What part of those of the same rounds of others the calls took: quartiles and median.
    fn part_of(&self, others: &Self) -> [f64; 3] {
        let pairs = self.wall.iter().zip(&others.wall);
        quartiles(pairs.map(|(one, other)| one.as_secs_f64() / other.as_secs_f64()))
    }

    /// Processor time of one call, in milliseconds.
    fn cpu_each(&self) -> f64 {
        milliseconds(self.cpu) / self.wall.len().max(1) as f64
    }
}

/// What a crowd took.
struct Crowd {
    wall: Vec<Duration>,
    cpu: Duration,
    whole: Duration,
}

// === impl Crowd ===

impl Crowd {
    /// Calls per second.
    fn rate(&self, size: usize) -> f64 {
        size as f64 / self.whole.as_secs_f64()
    }
}

/// The wall-clock and processor time of calls that are made one after the other.
fn measured<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, (Duration, Duration))> {
    let (cpu, start) = (children_cpu()?, Instant::now());
    let outcome = work()?;
    let wall = start.elapsed();
    Ok((outcome, (wall, children_cpu()? - cpu)))
}

/// Does something `size` times, on `parallel` threads.
fn many(size: usize, parallel: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<Crowd> {
    let next = AtomicUsize::new(0);
    let (cpu, start) = (children_cpu()?, Instant::now());
    let one_thread = || -> Result<Vec<Duration>> {
        let mut wall = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= size {
                return Ok(wall);
            }
            let start = Instant::now();
            work(index)?;
            wall.push(start.elapsed());
        }
    };
    let walls = thread::scope(|scope| {
        let threads: Vec<_> = (0..parallel).map(|_| scope.spawn(one_thread)).collect();
        let joined = threads.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        joined.collect::<Result<Vec<_>>>()
    })?;
    Ok(Crowd {
        whole: start.elapsed(),
        cpu: children_cpu()? - cpu,
        wall: walls.concat(),
    })
}

/// Makes a veth pair as the bridge plugin does, and deletes it: what a DEL takes in the kernel.
fn delete_veth(contender: &Contender) -> Result<Duration> {
    use std::os::fd::AsRawFd;

    let pod = Pod::create(&contender.host, 0)?;
    let mut route = contender.host.route()?;
    let bridge = route.link_by_name(&"cni0".parse()?)?.context("no cni0")?;
    let name: kernel::IfName = "veth-bench".parse()?;
    route.apply(&[Change::AddLink(NewLink {
        name: name.clone(),
        kind: NewLinkKind::Veth(VethPeer {
            name: IF_NAME.parse()?,
            namespace: Some(pod.host.namespace().as_raw_fd()),
            mac: None,
            mtu: None,
        }),
        mac: None,
        mtu: None,
        up: true,
        master: Some(bridge.index),
    })])?;
    pod.host.configure(IF_NAME, "10.1.19.200/22".parse()?)?;
    let link = route.link_by_name(&name)?.context("no veth")?;
    let start = Instant::now();
    route.apply(&[Change::DeleteLink(link.index)])?;
    Ok(start.elapsed())
}

/// Processor time of all children that have ended, theirs included.
fn children_cpu() -> Result<Duration> {
    let usage: Usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let total = usage.user_time() + usage.system_time();
    Ok(Duration::new(
        total.tv_sec().try_into()?,
        u32::try_from(total.tv_usec())? * 1000,
    ))
}

/// The lower quartile, the median and the upper quartile; zeros of nothing.
fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| {
        sorted
            .get(sorted.len() * quarter / 4)
            .copied()
            .unwrap_or(0.0)
    })
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn print(arguments: &Arguments, contenders: &[Contender], kernel_del: &Samples) {
    let Arguments {
        alone,
        rounds,
        crowd,
        parallel,
        ..
    } = arguments;
    let row = |title: &str, cell: &dyn Fn(&Contender) -> String| {
        let cells: Vec<String> = contenders.iter().map(cell).collect();
        println!("| {title} | {} |", cells.join(" | "));
    };
    let quantiles =
        |it: &Samples| format!("{:.2} / {:.2} ms", it.percentile(0.5), it.percentile(0.99));
    let cpu = |it: &Samples| format!("{:.2} ms", it.cpu_each());
    let best = |rates: &[f64]| format!("{:.0}", rates.iter().fold(0.0, |a: f64, b| a.max(*b)));
    row("", &|it| format!("`{}`", it.plugins.display()));
    println!("|---|{}", "---|".repeat(contenders.len()));
    row(&format!("ADD alone, p50 / p99 of {alone}"), &|it| {
        quantiles(&it.add)
    });
    row("ADD alone, processor time", &|it| cpu(&it.add));
    row("ADD alone, part of the first column's (pairs)", &|it| {
        let [low, middle, high] = it.add.part_of(&contenders[0].add);
        format!("{middle:.2} ({low:.2} to {high:.2})")
    });
    let title = format!("{crowd} ADDs, {parallel} at a time: per second, best of {rounds}");
    row(&title, &|it| best(&it.crowd_add_rates));
    row("the same, p50 / p99", &|it| quantiles(&it.crowd_add));
    row("the same, processor time each", &|it| cpu(&it.crowd_add));
    row(&format!("DEL alone, p50 / p99 of {alone}"), &|it| {
        quantiles(&it.del)
    });
    row("DEL alone, processor time", &|it| cpu(&it.del));
    row("DEL alone, more than the kernel alone (pairs)", &|it| {
        let [low, middle, high] = it.del.more_than(kernel_del);
        format!("{middle:.2} ms ({low:.2} to {high:.2})")
    });
    let title = format!("{crowd} DELs, {parallel} at a time: per second, best of {rounds}");
    row(&title, &|it| best(&it.crowd_del_rates));
    println!(
        "\nThe kernel alone takes {} (p50 / p99) to delete a veth pair.",
        quantiles(kernel_del)
    );
}
