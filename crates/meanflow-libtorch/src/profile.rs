//! What libtorch did during a piece of work: its operations, the kernels of a device, and how long each of them took.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tch::Device;

use crate::LibtorchError;
use crate::call::check;

type Tell = extern "C" fn(*mut c_void, *const c_char, usize, bool, u64, u64, u64);

unsafe extern "C" {
    fn mf_profile_begin(cuda: bool) -> *mut c_char;
    fn mf_profile_end(tell: Tell, context: *mut c_void) -> *mut c_char;
}

/// One call of an operation of libtorch or of this crate's C++ side, or one kernel or copy of a device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// The name of the operation or the kernel.
    pub name: String,
    /// Whether a device did it; otherwise the host.
    pub on_device: bool,
    /// The thread of the host, or the stream of the device.
    pub lane: u64,
    /// When it began, in nanoseconds since a point that all events share.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
}

/// What all events of one name cost together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cost {
    /// The name of the operation or the kernel.
    pub name: String,
    /// How many events there are.
    pub calls: u64,
    /// Their time, on the host without that of the operations within them.
    pub time: Duration,
}

/// What was seen of a piece of work.
#[derive(Clone, Debug)]
pub struct Profile {
    /// How long the work took, with the wait for the device at its end.
    pub wall: Duration,
    /// Every event, by when it began; of those that began together the longest first.
    pub events: Vec<Event>,
}

impl Profile {
    /// The cost of every name on the device, or else on the host, the most expensive first.
    ///
    /// On the host the times of one thread sum to at most `wall`. A device may do several kernels at once, whose times all
    /// count; see [`busy`](Self::busy).
    pub fn costs(&self, on_device: bool) -> Vec<Cost> {
        let mut sums: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        // The events of the host that are open in each lane, innermost last.
        let mut open: BTreeMap<u64, Vec<&Event>> = BTreeMap::new();
        for event in self.side(on_device) {
            let ns = event.end_ns.saturating_sub(event.start_ns);
            if !on_device {
                let stack = open.entry(event.lane).or_default();
                while stack
                    .last()
                    .is_some_and(|outer| outer.end_ns <= event.start_ns)
                {
                    stack.pop();
                }
                if let Some(outer) = stack
                    .last()
                    .and_then(|outer| sums.get_mut(outer.name.as_str()))
                {
                    outer.1 = outer.1.saturating_sub(ns);
                }
                stack.push(event);
            }
            let own = sums.entry(&event.name).or_default();
            *own = (own.0 + 1, own.1 + ns);
        }
        let mut costs: Vec<Cost> = sums
            .into_iter()
            .map(|(name, (calls, ns))| Cost {
                name: name.to_owned(),
                calls,
                time: Duration::from_nanos(ns),
            })
            .collect();
        costs.sort_by_key(|cost| std::cmp::Reverse(cost.time));
        costs
    }

    /// How long at least one event of the device, or else of the host, was under way.
    pub fn busy(&self, on_device: bool) -> Duration {
        let (mut ns, mut until) = (0, 0);
        for event in self.side(on_device) {
            ns += event.end_ns.saturating_sub(event.start_ns.max(until));
            until = until.max(event.end_ns);
        }
        Duration::from_nanos(ns)
    }

    fn side(&self, on_device: bool) -> impl Iterator<Item = &Event> {
        let wanted = move |event: &&Event| event.on_device == on_device;
        self.events.iter().filter(wanted)
    }
}

/// Runs `work`, waits until the device has done it, and returns its result with what libtorch's profiler saw of it.
///
/// Operations of the thread that calls are seen, and those of threads that libtorch's backward pass uses for it; on a CUDA
/// device kernels and copies, too. The profiler makes every operation some microseconds longer, and its first use on a CUDA
/// device takes seconds before the work begins.
///
/// Where there is no GPU, libtorch itself writes a line about that on standard error.
///
/// # Errors
/// If a profile is being made already in this process, or libtorch refuses.
///
/// ```
/// use meanflow_libtorch::profile;
/// use tch::{Device, Kind, Tensor};
/// let x = Tensor::ones([8, 8], (Kind::Float, Device::Cpu));
/// let (_, profile) = profile::record(Device::Cpu, || x.matmul(&x))?;
/// assert!(profile.costs(false).iter().any(|cost| cost.name == "aten::mm" && cost.calls == 1));
/// # Ok::<(), meanflow_libtorch::LibtorchError>(())
/// ```
pub fn record<T>(device: Device, work: impl FnOnce() -> T) -> Result<(T, Profile), LibtorchError> {
    wait(device);
    let mut session = Session::begin(device)?;
    let start = Instant::now();
    let result = work();
    wait(device);
    let wall = start.elapsed();
    let mut events = session.end()?;
    events.sort_by_key(|event| (event.start_ns, std::cmp::Reverse(event.end_ns)));
    Ok((result, Profile { wall, events }))
}

fn wait(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

/// Whether a profile is being made; libtorch has one profiler for the whole process.
static RUNNING: AtomicBool = AtomicBool::new(false);

/// The profiler while it runs; it ends also where the work panics.
struct Session {
    ended: bool,
}

impl Session {
    fn begin(device: Device) -> Result<Self, LibtorchError> {
        const BEGIN: &str = "start the profiler";
        if RUNNING.swap(true, Ordering::SeqCst) {
            let reason = "one is running in this process already";
            return Err(LibtorchError::call(BEGIN, reason));
        }
        // SAFETY: no memory is passed.
        let begun = check(BEGIN, unsafe { mf_profile_begin(device.is_cuda()) });
        // From here on its end resets what is running.
        let session = Self {
            ended: begun.is_err(),
        };
        begun.map(|()| session)
    }

    fn end(&mut self) -> Result<Vec<Event>, LibtorchError> {
        self.ended = true;
        let mut events: Vec<Event> = Vec::new();
        // SAFETY: `keep` is called only during this call, with the list that outlives it.
        check("end the profiler", unsafe {
            mf_profile_end(keep, (&raw mut events).cast())
        })?;
        Ok(events)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.ended {
            // The panic on whose way out this is says more.
            let _ = self.end();
        }
        RUNNING.store(false, Ordering::SeqCst);
    }
}

/// Adds an event to the list that `context` points to.
extern "C" fn keep(
    context: *mut c_void,
    name: *const c_char,
    length: usize,
    on_device: bool,
    lane: u64,
    start_ns: u64,
    end_ns: u64,
) {
    // SAFETY: `Session::end` passed a live list, and the name is of that length for the duration of the call.
    let (events, name) = unsafe {
        let name = std::slice::from_raw_parts(name.cast::<u8>(), length);
        (&mut *context.cast::<Vec<Event>>(), name)
    };
    events.push(Event {
        name: String::from_utf8_lossy(name).into_owned(),
        on_device,
        lane,
        start_ns,
        end_ns,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Mutex, MutexGuard, PoisonError};
    use tch::{Kind, Tensor};

    /// Where tests are threads of one process, they make their profiles by turns.
    fn turn() -> MutexGuard<'static, ()> {
        static TURN: Mutex<()> = Mutex::new(());
        TURN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn matrix(side: i64) -> Tensor {
        Tensor::randn([side, side], (Kind::Float, Device::Cpu))
    }

    fn calls(profile: &Profile, name: &str) -> u64 {
        let costs = profile.costs(false);
        costs
            .iter()
            .find(|cost| cost.name == name)
            .map_or(0, |cost| cost.calls)
    }

    #[test]
    fn products_forward_and_backward_are_counted_within_the_wall_time() {
        let _turn = turn();
        let (x, weight) = (matrix(256), matrix(256).set_requires_grad(true));
        // A profiler that was used can be used again, and has forgotten.
        for products in [3, 5] {
            let work = || {
                let mut y = x.shallow_clone();
                for _ in 0..products {
                    y = y.matmul(&weight).tanh();
                }
                y.sum(Kind::Float).backward();
            };
            let ((), profile) = record(Device::Cpu, work).unwrap();
            // The first product has no gradient for its left factor, which is data.
            let backward = 2 * products - 1;
            assert_eq!(calls(&profile, "aten::mm"), products + backward);
            assert_eq!(calls(&profile, "aten::tanh"), products);
            assert!(profile.events.iter().all(|event| !event.on_device));
            assert!(profile.costs(true).is_empty());
            let sum: Duration = profile.costs(false).iter().map(|cost| cost.time).sum();
            let (busy, wall) = (profile.busy(false), profile.wall);
            // One thread does all of it, so that what is busy is the sum of its parts.
            assert_eq!(sum, busy);
            assert!(!busy.is_zero() && busy <= wall, "{busy:?} of {wall:?}");
        }
    }

    #[test]
    fn kernels_of_this_crate_are_seen_under_their_names() {
        let _turn = turn();
        let x = matrix(16);
        let (_, profile) = record(Device::Cpu, || crate::kernels::gelu(&x)).unwrap();
        assert_eq!(calls(&profile, "mf_gelu"), 1, "{:?}", profile.events);
        assert_eq!(calls(&profile, "mf_profile_end"), 0);
    }

    #[test]
    fn there_is_one_at_a_time_and_a_panic_ends_it() {
        let _turn = turn();
        let (inner, _) = record(Device::Cpu, || record(Device::Cpu, || 1).map(|_| ())).unwrap();
        let text = inner.unwrap_err().to_string();
        assert!(text.contains("running in this process already"), "{text}");
        let panics = || record(Device::Cpu, || panic!("on purpose"));
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(record(Device::Cpu, || 1).unwrap().0, 1);
    }

    fn event(name: &str, on_device: bool, lane: u64, start_ns: u64, end_ns: u64) -> Event {
        Event {
            name: name.to_owned(),
            on_device,
            lane,
            start_ns,
            end_ns,
        }
    }

    #[test]
    fn an_operation_has_the_time_that_those_within_it_have_not() {
        let events = vec![
            event("linear", false, 1, 0, 100),
            event("other", false, 2, 5, 50),
            event("mm", false, 1, 10, 70),
            event("kernel", true, 7, 20, 60),
            event("copy", true, 8, 50, 90),
            event("add", false, 1, 70, 80),
            event("linear", false, 1, 110, 140),
        ];
        let wall = Duration::from_nanos(200);
        let profile = Profile { wall, events };
        let costs = |on_device| -> Vec<(String, u64, u128)> {
            let costs = profile.costs(on_device).into_iter();
            costs
                .map(|cost| (cost.name, cost.calls, cost.time.as_nanos()))
                .collect()
        };
        let row = |name: &str, calls, ns| (name.to_owned(), calls, ns);
        let host = [
            row("linear", 2, 60),
            row("mm", 1, 60),
            row("other", 1, 45),
            row("add", 1, 10),
        ];
        assert_eq!(costs(false), host);
        assert_eq!(costs(true), [row("copy", 1, 40), row("kernel", 1, 40)]);
        assert_eq!(profile.busy(false).as_nanos(), 130);
        assert_eq!(profile.busy(true).as_nanos(), 70);
    }
}
