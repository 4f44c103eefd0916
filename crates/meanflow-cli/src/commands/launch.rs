//! `meanflow launch`: several processes of one command on this machine.

use std::env;
use std::ffi::OsString;
use std::net::TcpListener;
use std::num::NonZeroUsize;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use meanflow_torch::{Store, World};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::failure::{LOST, USAGE};
use crate::output::{is_json, note};
use crate::signals;
use crate::usage::Usage;

/// Start several processes of one command on this machine, which share its work.
///
/// Each has a CUDA device of its own, where there are CUDA devices. No digit of a training depends on how many processes there
/// are, as long as they can share its microbatches. When one fails, the others are ended.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  meanflow launch --processes 2 -- train recipe.toml --out runs/two\n  \
meanflow launch --processes 8 --restarts 3 -- train recipe.toml\n  \
meanflow launch --processes 2 -- eval runs/digits --out report\n  \
meanflow launch --processes 8 -- sample runs/digits --seeds 0-999 --out fakes"
)]
pub(crate) struct Launch {
    /// How many
    #[arg(long, value_name = "N")]
    processes: NonZeroUsize,
    /// How often all of them are begun again where one has failed
    #[arg(long, value_name = "K", default_value_t = 0)]
    restarts: u32,
    /// train, eval, sample or data encode, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Commands whose processes share the work.
const SHARED: [&[&str]; 4] = [&["train"], &["eval"], &["sample"], &["data", "encode"]];
/// How long processes may take to find each other.
const PATIENCE: Duration = Duration::from_secs(300);
/// From one look at the processes to the next.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the others may go on when one has failed, and then again until they have saved.
const GRACE: Duration = Duration::from_secs(10);

pub(crate) fn run(args: &Launch) -> anyhow::Result<u8> {
    let is_shared = |words: &&[&str]| {
        let begins = args
            .command
            .iter()
            .zip(*words)
            .all(|(got, word)| got == word);
        begins && args.command.len() >= words.len()
    };
    if !SHARED.iter().any(is_shared) {
        let got = args
            .command
            .first()
            .map_or("none".into(), |word| word.to_string_lossy());
        let known = SHARED
            .map(|words| format!("-- {} …", words.join(" ")))
            .join(", ");
        let text = format!("expected one of {known}, which share their work, got {got}");
        return Err(Usage(text).into());
    }
    refuse_a_launcher()?;
    let signals = signals::channel()?;
    let mut attempt = 0;
    loop {
        let ended = Processes::start(args, attempt)?.wait(&signals)?;
        if !ended.is_worth_another() || attempt == args.restarts {
            return Ok(ended.code);
        }
        attempt += 1;
        let left = args.restarts - attempt;
        note(format_args!(
            "all processes begin again from the newest checkpoint; {left} more times after this"
        ));
    }
}

/// Refuses to be one of several processes itself, each of which would start all of them.
fn refuse_a_launcher() -> anyhow::Result<()> {
    let World { rank, size, .. } = World::from_env()?;
    if size == 1 {
        return Ok(());
    }
    let text = format!(
        "launch: expected to be started once, got rank {rank} of {size} from the environment: a launcher, such as torchrun, starts the \
         command itself, without `meanflow launch`"
    );
    Err(Usage(text).into())
}

/// How all processes have ended.
struct Ended {
    code: u8,
    /// Whether that was asked for.
    was_told: bool,
}

impl Ended {
    /// What was asked wrongly fails in the same way again.
    fn is_worth_another(&self) -> bool {
        !self.was_told && self.code != 0 && self.code != USAGE
    }
}

/// The processes of one attempt.
struct Processes {
    running: Vec<(usize, Child)>,
    /// Where they find each other.
    _store: Store,
    /// The code that counts, of the first that failed for a reason of its own.
    code: u8,
    failed: Option<Instant>,
    /// What the others were sent after a failure.
    sent: Option<Signal>,
    was_told: bool,
}

impl Processes {
    fn start(args: &Launch, attempt: u32) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(("127.0.0.1", 0)).context("could not listen on loopback")?;
        let port = listener.local_addr()?.port();
        let mut processes = Self {
            running: Vec::new(),
            _store: Store::serve(listener, PATIENCE)?,
            code: 0,
            failed: None,
            sent: None,
            was_told: false,
        };
        for rank in 0..args.processes.get() {
            let mut command = command(args, rank, port, attempt)?;
            match command.spawn() {
                Ok(child) => processes.running.push((rank, child)),
                Err(error) => {
                    processes.send(Signal::SIGKILL);
                    return Err(error).context("could not start a process");
                }
            }
        }
        Ok(processes)
    }

    /// Waits until all have ended, hands signals on, and ends the others when one has failed.
    fn wait(mut self, signals: &Receiver<Signal>) -> anyhow::Result<Ended> {
        while !self.running.is_empty() {
            for signal in signals.try_iter() {
                self.was_told = true;
                self.send(signal);
            }
            self.collect()?;
            self.end_the_others();
            thread::sleep(PAUSE);
        }
        Ok(Ended {
            code: self.code,
            was_told: self.was_told,
        })
    }

    fn collect(&mut self) -> anyhow::Result<()> {
        let mut index = 0;
        while index < self.running.len() {
            let (rank, child) = &mut self.running[index];
            let (rank, Some(status)) = (*rank, child.try_wait()?) else {
                index += 1;
                continue;
            };
            self.running.swap_remove(index);
            self.count(rank, status);
        }
        Ok(())
    }

    fn count(&mut self, rank: usize, status: ExitStatus) {
        let code = code_of(status);
        // How one ends that was asked to end is no reason of its own.
        if code == 0 || self.sent.is_some() {
            return;
        }
        self.failed.get_or_insert_with(Instant::now);
        // One that lost another says less than the other.
        if self.code == 0 || self.code == LOST {
            self.code = code;
        }
        if !self.was_told && code != LOST {
            note(format_args!("rank {rank} ended: {status}"));
        }
    }

    fn end_the_others(&mut self) {
        let Some(failed) = self.failed else { return };
        let due = match failed.elapsed() {
            time if time > 2 * GRACE => Signal::SIGKILL,
            time if time > GRACE => Signal::SIGTERM,
            _ => return,
        };
        if self.sent != Some(due) {
            self.sent = Some(due);
            self.send(due);
        }
    }

    fn send(&self, signal: Signal) {
        for (_, child) in &self.running {
            // One that has just ended needs none.
            let _ = i32::try_from(child.id()).map(|id| kill(Pid::from_raw(id), signal));
        }
    }
}

/// The process of a rank, in a group of its own, so that Ctrl-C reaches it once.
fn command(args: &Launch, rank: usize, port: u16, attempt: u32) -> anyhow::Result<Command> {
    let program = env::current_exe().context("could not find this program")?;
    let processes = args.processes.get();
    let mut command = Command::new(program);
    command.args(words(&args.command, attempt));
    if is_json() {
        command.arg("--json");
    }
    let numbers = [
        ("RANK", rank.to_string()),
        ("LOCAL_RANK", rank.to_string()),
        ("WORLD_SIZE", processes.to_string()),
        ("LOCAL_WORLD_SIZE", processes.to_string()),
        ("MASTER_ADDR", "127.0.0.1".to_owned()),
        ("MASTER_PORT", port.to_string()),
        ("TORCHELASTIC_USE_AGENT_STORE", "True".to_owned()),
        ("TORCHELASTIC_RESTART_COUNT", attempt.to_string()),
        // NCCL would listen on whatever interface it finds first.
        ("NCCL_SOCKET_IFNAME", "lo".to_owned()),
    ];
    command.envs(numbers);
    if env::var_os(THREADS).is_none() {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        command.env(THREADS, (cores / processes).max(1).to_string());
    }
    command.stdin(Stdio::null()).process_group(0);
    Ok(command)
}

const THREADS: &str = "OMP_NUM_THREADS";

/// The words of a command. Begun again it goes on with what it has done, where it was first to find nothing that was done before.
fn words(command: &[OsString], attempt: u32) -> Vec<OsString> {
    const RESUME: &str = "--resume";
    let mut words = command.to_vec();
    for index in (0..words.len()).filter(|_| attempt > 0) {
        if words[index] == "--resume=never" {
            words[index] = format!("{RESUME}=auto").into();
        } else if words[index] == "never" && index > 0 && words[index - 1] == RESUME {
            words[index] = "auto".into();
        }
    }
    words
}

/// The exit code, or as a shell has it, 128 and the signal's number.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_begun_again_goes_on() {
        let first = ["train", "never", "--resume", "never", "--out", "run"].map(OsString::from);
        assert_eq!(words(&first, 0), first);
        let again = ["train", "never", "--resume", "auto", "--out", "run"];
        assert_eq!(words(&first, 1), again);
        assert_eq!(words(&["--resume=never".into()], 2), ["--resume=auto"]);
        let path = ["--resume".into(), "elsewhere".into()];
        assert_eq!(words(&path, 1), path);
    }
}
