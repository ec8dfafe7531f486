//! The threads: cards that hang, cards and drivers that come and go, an orderly end.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fake_nvml::control::Fake;
use fake_nvml::script::{Gpu, Process, Script, What};
use slicewatch::collect::clock::Clock;
use slicewatch::collect::nvml::driver::{NvmlHandle, NvmlRound, NvmlSettings, start};
use slicewatch::collect::sampler::SamplerSettings;
use slicewatch::model::{Cause, HostFiles, Reading};
use tempfile::TempDir;

const MEMORY: &str = "nvmlDeviceGetMemoryInfo_v2";

/// A host without files.
struct NoFiles;

impl HostFiles for NoFiles {
    fn read(&self, _: &str) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn read_link(&self, _: &str) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn list(&self, _: &str) -> io::Result<Vec<String>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// The threads over a scripted driver, everything faster than in life.
struct Agent {
    handle: NvmlHandle,
    clock: Clock,
    fake: Fake,
    _folder: TempDir,
}

fn settings(library: &Path) -> NvmlSettings {
    NvmlSettings {
        library: Some(library.to_owned()),
        sampler: SamplerSettings {
            memory_period: Duration::from_millis(10),
            window: Duration::from_millis(40),
            drain_period: Duration::from_millis(200),
            ..SamplerSettings::default()
        },
        hang_after: Duration::from_millis(300),
        slow_after: Duration::from_millis(60),
        rescan: Duration::from_millis(100),
        retry_min: Duration::from_millis(20),
        retry_max: Duration::from_millis(100),
        ..NvmlSettings::default()
    }
}

fn run(settings: NvmlSettings) -> NvmlHandle {
    start(settings, Arc::new(NoFiles), "/proc".to_owned())
}

fn agent(script: &Script) -> Agent {
    agent_with(script, |_| {})
}

fn agent_with(script: &Script, change: impl FnOnce(&mut NvmlSettings)) -> Agent {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::in_folder(folder.path());
    fake.set(script);
    let mut settings = settings(fake.path());
    change(&mut settings);
    Agent {
        clock: settings.clock,
        handle: run(settings),
        fake,
        _folder: folder,
    }
}

impl Agent {
    fn collect(&self) -> NvmlRound {
        self.handle.collect(self.clock.now())
    }

    /// Collects until a round is like this, and gives it.
    fn until(&self, what: &str, like: impl FnMut(&NvmlRound) -> bool) -> NvmlRound {
        until(&self.handle, self.clock, what, like)
    }

    /// Windows of each card in this time, by the last digit of its UUID.
    fn windows(&self, time: Duration) -> BTreeMap<char, usize> {
        let mut windows = BTreeMap::new();
        let end = Instant::now() + time;
        while Instant::now() < end {
            for window in self.collect().windows {
                if window.up == Reading::Value(()) {
                    let card = window.card.uuid.as_str().chars().last();
                    *windows.entry(card.expect("a UUID")).or_default() += 1;
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        windows
    }

    /// Stops, and says how long it took.
    fn stop(self) -> (Duration, Fake, TempDir) {
        let begun = Instant::now();
        self.handle.stop();
        (begun.elapsed(), self.fake, self._folder)
    }
}

fn until(
    handle: &NvmlHandle,
    clock: Clock,
    what: &str,
    mut like: impl FnMut(&NvmlRound) -> bool,
) -> NvmlRound {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let round = handle.collect(clock.now());
        if like(&round) {
            return round;
        }
        assert!(Instant::now() < end, "never: {what}; last {round:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn heard(round: &NvmlRound, number: u32) -> bool {
    let digits = format!("{number:012}");
    let of = |uuid: &str| uuid.ends_with(&digits);
    let mut windows = round.windows.iter();
    windows.any(|window| of(window.card.uuid.as_str()) && window.up == Reading::Value(()))
}

fn silent(round: &NvmlRound) -> Vec<(String, Cause)> {
    let silent = round.silent.iter();
    silent
        .map(|(card, cause)| (card.index.to_string(), *cause))
        .collect()
}

fn two() -> Script {
    Script::of(vec![Gpu::h200(0), Gpu::h200(1)])
}

#[test]
fn two_cards_give_windows_and_health() {
    let mut script = two();
    script.gpus[1].compute = vec![Process::mib(100, 512)];
    script.gpus[1].memory.used = 520 << 20;
    let agent = agent(&script);
    let mut both = [false; 2];
    let round = agent.until("both cards", |round| {
        for (i, seen) in both.iter_mut().enumerate() {
            *seen |= heard(round, i as u32);
        }
        both == [true; 2] && heard(round, 1)
    });
    assert_eq!(silent(&round), []);
    assert_eq!(round.health.up, Reading::Value(()));
    assert_eq!(&*round.health.detail, "");
    assert!(round.health.last_success.is_some());
    let of_second = |window: &&slicewatch::model::GpuWindow| window.card.minor == Some(1);
    let window = round.windows.iter().find(of_second).expect("a window");
    let device = &window.devices[0];
    assert_eq!(device.memory.copied().expect("read").used.0, 520 << 20);
    assert_eq!(device.lists.last().expect("a list").processes.len(), 1);
    assert!(window.mig_profiles.value().expect("an H200 has them").len() > 3);
    let (took, fake, _folder) = agent.stop();
    assert!(took < Duration::from_millis(600), "{took:?}");
    assert_eq!(fake.opened(), 0, "NVML is shut down");
}

#[test]
fn a_card_that_hangs_blinds_itself_alone() {
    let agent = agent(&two());
    agent.until("both cards", |round| round.health.up == Reading::Value(()));
    agent.fake.set(&two().with(MEMORY, Some(1), What::Hang));
    let begun = Instant::now();
    let round = agent.until("the hang", |round| !round.silent.is_empty());
    let took = begun.elapsed();
    assert_eq!(silent(&round), [("1".to_owned(), Cause::Hung)]);
    assert!(took >= Duration::from_millis(250), "{took:?}");
    assert!(took < Duration::from_millis(900), "{took:?}");
    assert_eq!(round.health.errors.get("hung"), Some(&1));
    assert_eq!(
        round.health.up,
        Reading::Value(()),
        "the driver answers for the other"
    );
    // Over several looks for new cards, which the hung one must not stop either.
    let windows = agent.windows(Duration::from_millis(600));
    assert!(windows[&'0'] >= 5, "{windows:?}");
    assert!(!windows.contains_key(&'1'), "{windows:?}");
    agent.fake.set(&two());
    let round = agent.until("the return", |round| heard(round, 1));
    assert_eq!(silent(&round), []);
    assert_eq!(
        round.health.errors.get("hung"),
        Some(&1),
        "one hang, once told"
    );
    assert!(round.health.errors["slow"] >= 1);
    agent.stop();
}

#[test]
fn a_slow_card_is_counted_and_not_silent() {
    let agent = agent(&two().with(MEMORY, Some(0), What::Slow(100)));
    let mut never_silent = true;
    let round = agent.until("slow polls", |round| {
        never_silent &= round.silent.is_empty();
        round.health.errors.get("slow").is_some_and(|n| *n >= 3)
    });
    assert!(never_silent);
    assert!(!round.health.errors.contains_key("hung"));
    agent.stop();
}

#[test]
fn a_lost_card_is_silent_until_it_is_back() {
    let agent = agent(&two());
    agent.until("both cards", |round| heard(round, 1));
    let mut lost = two();
    lost.gpus[1].lost = true;
    agent.fake.set(&lost);
    let round = agent.until("the loss", |round| !round.silent.is_empty());
    assert_eq!(silent(&round), [("1".to_owned(), Cause::GpuLost)]);
    let windows = agent.windows(Duration::from_millis(400));
    assert!(windows[&'0'] >= 4, "{windows:?}");
    let round = agent.collect();
    assert_eq!(silent(&round), [("1".to_owned(), Cause::GpuLost)]);
    assert_eq!(round.health.up, Reading::Value(()));
    assert!(round.health.errors["gpu_lost"] >= 1);
    agent.fake.set(&two());
    let round = agent.until("the return", |round| heard(round, 1));
    assert_eq!(silent(&round), []);
    assert_eq!(
        agent.fake.calls("nvmlInit_v2"),
        1,
        "the other was not disturbed"
    );
    agent.stop();
}

#[test]
fn with_its_only_card_lost_the_driver_is_let_go_and_opened_anew() {
    let one = Script::of(vec![Gpu::h200(0)]);
    let agent = agent(&one);
    agent.until("the card", |round| heard(round, 0));
    let mut lost = one.clone();
    lost.gpus[0].lost = true;
    agent.fake.set(&lost);
    let round = agent.until("the loss", |round| {
        !round.silent.is_empty() && round.health.up == Reading::Failed(Cause::GpuLost)
    });
    assert_eq!(silent(&round), [("0".to_owned(), Cause::GpuLost)]);
    assert!(!round.health.detail.is_empty());
    let before = agent.fake.calls("nvmlInit_v2");
    std::thread::sleep(Duration::from_millis(300));
    let looks = agent.fake.calls("nvmlInit_v2") - before;
    assert!(
        (1..=6).contains(&looks),
        "{looks} looks: at most one each 100 ms"
    );
    agent.fake.set(&one);
    let round = agent.until("the return", |round| heard(round, 0));
    assert_eq!(round.health.up, Reading::Value(()));
    let (_, fake, _folder) = agent.stop();
    assert_eq!(fake.opened(), 0);
}

#[test]
fn a_reloaded_driver_is_opened_anew() {
    let agent = agent(&two());
    agent.until("both cards", |round| heard(round, 1));
    let mut unloaded = two();
    unloaded.unloaded = true;
    agent.fake.set(&unloaded);
    let round = agent.until("the unloading", |round| round.silent.len() == 2);
    assert_eq!(
        silent(&round),
        [
            ("0".to_owned(), Cause::DriverNotLoaded),
            ("1".to_owned(), Cause::DriverNotLoaded)
        ]
    );
    assert_eq!(round.health.up, Reading::Failed(Cause::DriverNotLoaded));
    agent.until("words", |round| round.health.detail.contains("not loaded"));
    assert_eq!(agent.fake.opened(), 0, "so that the driver can be unloaded");
    // It comes back with one card less.
    agent.fake.set(&Script::of(vec![Gpu::h200(0)]));
    let round = agent.until("the return", |round| heard(round, 0));
    assert_eq!(silent(&round), [("1".to_owned(), Cause::GpuLost)]);
    agent.fake.set(&two());
    agent.stop();
}

#[test]
fn a_driver_reload_while_a_card_hangs_brings_back_the_other_first() {
    let agent = agent(&two());
    agent.until("both cards", |round| heard(round, 1));
    agent.fake.set(&two().with(MEMORY, Some(1), What::Hang));
    agent.until("the hang", |round| !round.silent.is_empty());
    let reloading = two()
        .with(MEMORY, Some(1), What::Hang)
        .with(MEMORY, Some(0), What::Code(9));
    agent.fake.set(&reloading);
    agent.until("the loss", |round| round.silent.len() == 2);
    agent.fake.set(&two().with(MEMORY, Some(1), What::Hang));
    let round = agent.until("the first card", |round| heard(round, 0));
    assert_eq!(silent(&round), [("1".to_owned(), Cause::Hung)]);
    agent.fake.set(&two());
    agent.until("the second card", |round| heard(round, 1));
    let (_, fake, _folder) = agent.stop();
    assert_eq!(fake.opened(), 0);
}

#[test]
fn a_card_that_appears_is_found() {
    let agent = agent(&Script::of(vec![Gpu::h200(0)]));
    agent.until("the first", |round| heard(round, 0));
    agent.fake.set(&two());
    agent.until("the second", |round| heard(round, 1));
    agent.stop();
}

#[test]
fn without_library_driver_or_card_health_says_so_and_the_search_goes_on() {
    let mut unloaded = two();
    unloaded.unloaded = true;
    let agent = agent(&unloaded);
    let told = |cause| move |round: &NvmlRound| round.health.up == Reading::Failed(cause);
    let round = agent.until("no driver", told(Cause::DriverNotLoaded));
    assert!(round.health.detail.contains("kernel driver"));
    assert!(round.health.errors["driver_not_loaded"] >= 1);
    agent.fake.set(&Script::of(Vec::new()));
    let round = agent.until("no card", told(Cause::NotFound));
    assert!(
        round.health.detail.contains("no GPU"),
        "{}",
        round.health.detail
    );
    agent.fake.set(&two());
    agent.until("a card", |round| round.health.up == Reading::Value(()));
    agent.stop();

    let folder = tempfile::tempdir().expect("a folder");
    let path: PathBuf = folder.path().join("libnvidia-ml.so.1");
    let settings = settings(&path);
    let clock = settings.clock;
    let handle = run(settings);
    let round = until(&handle, clock, "no library", told(Cause::NotFound));
    assert!(round.health.detail.contains(&*path.to_string_lossy()));
    let fake = Fake::in_folder(folder.path());
    fake.set(&two());
    until(&handle, clock, "the library", |round| heard(round, 0));
    handle.stop();
}

#[test]
fn the_end_does_not_wait_for_a_card_that_hangs() {
    // Long before it counts as hung, and long after.
    for wait in [0, 400] {
        let agent = agent(&two());
        agent.until("both cards", |round| heard(round, 1));
        agent.fake.set(&two().with(MEMORY, Some(1), What::Hang));
        std::thread::sleep(Duration::from_millis(50 + wait));
        let (took, fake, _folder) = agent.stop();
        assert!(took < Duration::from_millis(900), "{took:?}");
        assert_eq!(fake.opened(), 1, "not shut down under the call");
        fake.set(&two());
        closes(&fake);
    }
}

#[test]
fn opening_that_hangs_is_told_and_does_not_hold_up_the_end() {
    let agent = agent(&two().with("nvmlInit_v2", None, What::Hang));
    let round = agent.collect();
    assert_eq!(round.health.up, Reading::Failed(Cause::NotYet));
    agent.until("the hang", |round| {
        round.health.up == Reading::Failed(Cause::Hung)
    });
    let (took, fake, _folder) = agent.stop();
    assert!(took < Duration::from_millis(900), "{took:?}");
    fake.set(&two());
    closes(&fake);
}

fn closes(fake: &Fake) {
    let end = Instant::now() + Duration::from_secs(10);
    while fake.opened() > 0 {
        assert!(Instant::now() < end, "NVML stays open");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn windows_that_nobody_takes_wait_and_do_not_grow() {
    let agent = agent_with(&two(), |settings| {
        settings.sampler.memory_period = Duration::from_millis(5);
        settings.sampler.window = Duration::from_millis(5);
    });
    std::thread::sleep(Duration::from_millis(900));
    let round = agent.collect();
    let taken = round.windows.len();
    assert!((64..=70).contains(&taken), "{taken} windows");
    assert_eq!(silent(&round), [], "a sampler that waits does not hang");
    std::thread::sleep(Duration::from_millis(900));
    let (took, ..) = agent.stop();
    assert!(took < Duration::from_millis(600), "{took:?}");
}
