//! The real program in a real pseudo-terminal, whose output a terminal emulator reads.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpListener;
use std::num::NonZero;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use slicewatch::publish::terminal::screen::Screen;
use vt100::Parser;

use super::*;
use crate::agent::{BINARY, output};

/// Long enough on a busy machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal, and the program in it.
pub(crate) struct Terminal {
    ours: File,
    /// Held, so that its modes can be read when the program has ended.
    theirs: File,
    child: Child,
    before: Termios,
    screen: Arc<Mutex<Parser>>,
    /// All that was sent to it.
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    pub(crate) fn start(command: &str, arguments: &[&str], size: (u16, u16)) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let mut open = OpenOptions::new();
        let theirs = open.read(true).write(true);
        let theirs = theirs.open(name.to_str().unwrap()).unwrap();
        let ours = File::from(ours);
        tcsetwinsize(&ours, winsize(size)).unwrap();
        let before = tcgetattr(&theirs).unwrap();
        // In a session of its own whose terminal this is, so that it hears of resizes.
        let child = Command::new("setsid")
            .args(["--ctty", command])
            .args(arguments)
            .env_remove("NO_COLOR")
            .env("RUST_BACKTRACE", "0")
            .env("TERM", "xterm")
            .env("LANG", "C.UTF-8")
            .env_remove("LC_ALL")
            .env("SLICEWATCH_TEST_SCREEN", "panic")
            .stdin(theirs.try_clone().unwrap())
            .stdout(theirs.try_clone().unwrap())
            .stderr(theirs.try_clone().unwrap())
            .spawn()
            .unwrap();
        let (width, height) = size;
        let screen = Arc::new(Mutex::new(Parser::new(cells(height), cells(width), 0)));
        let sent = Arc::<Mutex<Vec<u8>>>::default();
        let (mut from, into, all) = (
            ours.try_clone().unwrap(),
            Arc::clone(&screen),
            Arc::clone(&sent),
        );
        spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                into.lock().unwrap().process(&bytes[..count]);
                all.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self {
            ours,
            theirs,
            child,
            before,
            screen,
            sent,
        }
    }

    fn top(arguments: &[&str], size: (u16, u16)) -> Self {
        Self::start(BINARY, &[&["top"], arguments].concat(), size)
    }

    fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Waits until the screen is as wanted.
    fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            if wanted(&text) {
                return text;
            }
            assert!(Instant::now() < deadline, "not {what}:\n{text}");
            sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn shows(&self, words: &str) -> String {
        self.until(words, |text| text.contains(words))
    }

    fn press(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).unwrap();
    }

    fn resize(&self, (width, height): (u16, u16)) {
        self.screen
            .lock()
            .unwrap()
            .screen_mut()
            .set_size(cells(height), cells(width));
        tcsetwinsize(&self.ours, winsize((width, height))).unwrap();
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn is_drawn_on(&self) -> bool {
        let screen = self.screen.lock().unwrap();
        screen.screen().alternate_screen() && screen.screen().hide_cursor()
    }

    /// Waits for the program's end, after which the terminal is as it was.
    pub(crate) fn ends(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "it does not end:\n{}",
                self.text()
            );
            sleep(Duration::from_millis(20));
        };
        // What it sent last may still be on its way: this comes after it, and shows nothing.
        (&self.theirs).write_all(b"\x05").unwrap();
        let text = self.until("given back", |_| {
            if !self.sent.lock().unwrap().ends_with(b"\x05") {
                return false;
            }
            let screen = self.screen.lock().unwrap();
            !screen.screen().alternate_screen() && !screen.screen().hide_cursor()
        });
        let after = tcgetattr(&self.theirs).unwrap();
        for (before, after) in [
            (self.before.local_modes.bits(), after.local_modes.bits()),
            (self.before.input_modes.bits(), after.input_modes.bits()),
            (self.before.output_modes.bits(), after.output_modes.bits()),
        ] {
            assert_eq!(before, after, "modes of the terminal");
        }
        (status, text)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).unwrap()
}

fn winsize((width, height): (u16, u16)) -> Winsize {
    Winsize {
        ws_row: height,
        ws_col: width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

const SCENARIO: [&str; 4] = ["--scenario", "noisy-neighbour", "--speed", "30"];

#[test]
fn a_scenario_is_looked_at_with_keys_and_resizes_and_left_as_it_was() {
    let mut terminal = Terminal::top(&SCENARIO, (80, 24));
    terminal.shows("ml-training/finetune-0");
    terminal.shows("q quit");
    assert!(terminal.is_drawn_on());
    terminal.press("n");
    terminal.shows("Neighbours of ml-training/finetune-0 on GPU 0");
    terminal.press("\u{1b}");
    terminal.shows("n neighbours");
    terminal.press("s");
    terminal.shows("s by time");
    terminal.press("/FINE\r");
    let text = terminal.shows("only with \"FINE\"");
    assert!(!text.contains("analytics/"), "{text}");
    terminal.press("\u{1b}");
    terminal.shows("analytics/ba");
    terminal.resize((150, 40));
    terminal.shows("evidence");
    terminal.resize((40, 10));
    let text = terminal.until("small", |text| {
        !text.contains("evidence") && text.contains("> ml-trainin")
    });
    assert!(
        text.lines().all(|line| line.chars().count() <= 40),
        "{text}"
    );
    terminal.press("?");
    terminal.shows("choose a pod");
    terminal.press("q");
    let (status, text) = terminal.ends();
    assert!(status.success(), "{status}");
    assert_eq!(text.trim(), "", "nothing stays on the screen");
}

#[test]
fn a_signal_and_control_c_give_the_terminal_back() {
    for signal in [Some(Signal::TERM), Some(Signal::INT), None] {
        let mut terminal = Terminal::top(&SCENARIO, (80, 24));
        terminal.shows("finetune-0");
        match signal {
            Some(signal) => terminal.signal(signal),
            None => terminal.press("\u{3}"),
        }
        let (status, text) = terminal.ends();
        assert!(status.success(), "{signal:?}: {status}");
        assert_eq!(text.trim(), "", "{signal:?}");
    }
}

/// Run by the test below as a program of its own.
#[test]
fn child_that_panics() {
    if std::env::var_os("SLICEWATCH_TEST_SCREEN").is_some() {
        let mut screen = Screen::open().unwrap();
        screen.draw(|_| ()).unwrap();
        panic!("on a screen");
    }
}

#[test]
fn a_panic_gives_the_terminal_back_before_it_tells() {
    let program = std::env::current_exe().unwrap();
    let arguments = ["--exact", "--nocapture", "top::terminal::child_that_panics"];
    let terminal = Terminal::start(program.to_str().unwrap(), &arguments, (80, 24));
    let sent = Arc::clone(&terminal.sent);
    let (status, text) = terminal.ends();
    assert!(!status.success());
    assert!(text.contains("on a screen"), "{text}");
    let sent = String::from_utf8_lossy(&sent.lock().unwrap()).into_owned();
    assert!(sent.contains("\u{1b}[?1049h"), "it was taken over");
}

/// A demo agent at an address of its own, or of one before.
fn agent(address: Option<std::net::SocketAddr>) -> (Child, std::net::SocketAddr) {
    let address = address.unwrap_or_else(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    });
    let mut demo = Command::new(BINARY);
    demo.args([
        "--log",
        "off",
        "demo",
        "--scenario",
        "quiet",
        "--speed",
        "20",
        "--listen",
    ])
    .arg(address.to_string())
    .stdout(std::process::Stdio::null());
    (demo.spawn().unwrap(), address)
}

#[test]
fn an_agent_that_dies_is_told_with_the_mend_and_heard_again() {
    let (mut demo, address) = agent(None);
    let url = format!("http://{address}");
    let mut terminal = Terminal::top(&["--url", &url, "--interval", "200ms"], (100, 30));
    terminal.shows("jupyter-ana-0");
    demo.kill().unwrap();
    demo.wait().unwrap();
    let text = terminal.shows("no answer for");
    assert!(
        text.contains("asking on") && text.contains("--url"),
        "{text}"
    );
    // What was known stays.
    terminal.shows("jupyter-ana-0");
    terminal.until("older", |text| {
        ["2 s old", "3 s old"].iter().any(|age| text.contains(age))
    });
    terminal.press("?");
    terminal.shows("choose a pod");
    terminal.press("?");
    let (mut demo, _) = agent(Some(address));
    terminal.until("heard again", |text| {
        !text.contains("no answer") && text.contains("jupyter-ana-0")
    });
    terminal.press("q");
    assert!(terminal.ends().0.success());
    demo.kill().unwrap();
    demo.wait().unwrap();
}

#[test]
fn an_agent_that_never_answers_does_not_hold_the_keys() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut terminal = Terminal::top(&["--url", &url], (80, 24));
    terminal.shows("Waiting for the first answer.");
    let begun = Instant::now();
    terminal.press("?");
    terminal.shows("choose a pod");
    terminal.press("q");
    assert!(terminal.ends().0.success());
    // The request itself is given 10 s.
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn names_of_an_agent_cannot_steer_the_terminal() {
    let mut snapshot = crate::publish::example::full();
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\r\n\u{202e}x";
    snapshot.node = Some(evil.into());
    for gpu in &mut snapshot.gpus {
        for row in &mut gpu.containers {
            row.namespace = evil.into();
            row.container = evil.into();
        }
    }
    for health in &mut snapshot.sources {
        health.detail = evil.into();
    }
    for finding in &mut snapshot.findings {
        (finding.evidence, finding.mend) = (evil.into(), evil.into());
        (finding.code, finding.subject) = (evil.into(), evil.into());
    }
    let body = serde_json::to_string(&snapshot).unwrap();
    let url = format!("http://{}", crate::cli::serve(body));
    let mut terminal = Terminal::top(&["--url", &url], (120, 40));
    terminal.shows("\\u{1b}]0;owned");
    terminal.press("f");
    terminal.shows("Sources");
    terminal.press("fn");
    terminal.shows("Neighbours");
    let sent = terminal.sent.lock().unwrap().clone();
    for steering in ["\u{1b}]", "\u{7}", "\u{9b}", "\u{202e}"] {
        let steering = steering.as_bytes();
        let found = sent.windows(steering.len()).any(|bytes| bytes == steering);
        assert!(!found, "{steering:?}");
    }
    terminal.press("q");
    terminal.ends();
}

#[test]
fn without_a_terminal_there_are_plain_lines() {
    let mut command = Command::new(BINARY);
    command
        .args(["top", "--interval", "300ms", "--count", "2"])
        .args(SCENARIO);
    let ended = output(&mut command);
    let text = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.success(), "{text}");
    assert_eq!(text.matches("node simulated").count(), 2, "{text}");
    assert!(text.contains("share of time"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn plain_lines_tell_of_an_agent_that_does_not_answer_and_go_on() {
    let (mut demo, address) = agent(None);
    let url = format!("http://{address}");
    let mut child = Command::new(BINARY)
        .args(["top", "--url", &url, "--interval", "200ms"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut said = String::new();
    let mut until = |words: &str| {
        let deadline = Instant::now() + PATIENCE;
        while !said.contains(words) {
            assert!(Instant::now() < deadline, "no {words:?} in {said}");
            let mut bytes = [0; 1024];
            match out.read(&mut bytes) {
                Ok(count) => said.push_str(&String::from_utf8_lossy(&bytes[..count])),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted),
            }
        }
        said.clear();
    };
    until("jupyter-ana-0");
    demo.kill().unwrap();
    demo.wait().unwrap();
    until("no answer, asking on");
    let (mut demo, _) = agent(Some(address));
    until("jupyter-ana-0");
    let pid = Pid::from_raw(child.id() as i32).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    demo.kill().unwrap();
    demo.wait().unwrap();

    let ended = output(Command::new(BINARY).args(["top", "--url", &url, "--count", "1"]));
    let error = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{error}");
    assert!(error.contains("did not answer; give --url"), "{error}");
}

#[test]
fn a_long_look_says_how_far_it_is_on_a_line_that_goes() {
    let (mut demo, address) = agent(None);
    let url = format!("http://{address}");
    let ready = || {
        output(Command::new(BINARY).args(["snapshot", "--url", &url, "--duration", "1ms"]))
            .status
            .success()
    };
    while !ready() {
        sleep(Duration::from_millis(50));
    }
    let arguments = ["snapshot", "--url", &url, "--duration", "4s"];
    let terminal = Terminal::start(BINARY, &arguments, (120, 30));
    terminal.shows("watching, 2 s to go (2 s)");
    let (status, text) = terminal.ends();
    assert!(status.success());
    assert!(
        text.contains("jupyter-ana-0") && !text.contains("watching"),
        "{text}"
    );
    let piped = output(Command::new(BINARY).args(arguments));
    assert_eq!(String::from_utf8_lossy(&piped.stderr), "");
    demo.kill().unwrap();
    demo.wait().unwrap();
}
