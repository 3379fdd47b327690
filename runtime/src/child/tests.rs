use super::*;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ENTRY: &str = "child::tests::entry";

/// A child that does what it is told, word by word, and answers each.
const PROBE: Kind = Kind { name: "probe", run: probe };

#[test]
fn entry() {
    dispatch_in_test(&[PROBE]);
}

const LIMITS: Limits =
    Limits { memory_bytes: 64 << 20, cpu_seconds: None, descriptors: 16, file_bytes: 1 << 20, nice: 3 };

fn probe(mut socket: UnixStream, _: &str) -> ExitCode {
    while let Ok(Some(message)) = frame::read(&mut socket, 1 << 20) {
        let text = String::from_utf8(message).unwrap();
        let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
        let answer = act(word, rest);
        if frame::write(&mut socket, answer.as_bytes()).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

fn act(word: &str, rest: &str) -> String {
    let done = |result: io::Result<()>| result.map_or_else(|error| error.to_string(), |()| "done".into());
    match word {
        "descriptors" => {
            let open = fs::read_dir("/proc/self/fd").unwrap().map(|entry| {
                let entry = entry.unwrap();
                let target = fs::read_link(entry.path()).unwrap_or_default();
                format!("{}={}", entry.file_name().display(), target.display())
            });
            open.collect::<Vec<_>>().join("\n")
        }
        "environment" => std::env::vars().map(|(name, _)| name).collect::<Vec<_>>().join(","),
        "limit" => done(LIMITS.apply()),
        "restrict" => format!("{:?}", restrict(&[Path::new(rest)])),
        "write" => done(fs::write(rest, "text").and_then(|()| fs::remove_file(rest))),
        "fill" => done(fs::write(rest, vec![0; 2 << 20])),
        "open" => done(fs::File::open(rest).map(drop)),
        "allocate" => {
            let mut bytes = Vec::<u8>::new();
            bytes.try_reserve_exact(rest.parse::<usize>().unwrap()).map_or("refused", |()| "taken").into()
        }
        "run" => done(Command::new(rest).spawn().map(drop)),
        "connect" => done(TcpStream::connect(rest).map(drop)),
        "signal" => {
            let pid = Pid::from_raw(rest.parse().unwrap()).unwrap();
            done(rustix::process::test_kill_process(pid).map_err(Into::into))
        }
        "thread" => std::thread::spawn(|| "ran").join().unwrap().into(),
        "spin" => loop {
            std::hint::spin_loop();
        },
        _ => "what?".into(),
    }
}

fn start() -> (Process, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    (Process::spawn(&Program::of_test(ENTRY), PROBE, "x", theirs).unwrap(), ours)
}

fn ask(mut socket: &UnixStream, message: &str) -> String {
    frame::write(&mut socket, message.as_bytes()).unwrap();
    String::from_utf8(frame::read(&mut socket, 1 << 20).unwrap().unwrap()).unwrap()
}

fn is_there(process: u32) -> bool {
    PathBuf::from(format!("/proc/{process}")).exists()
}

#[test]
fn a_child_inherits_its_socket_and_nothing_else() {
    let file = tempfile::NamedTempFile::new().unwrap();
    // One that is not closed by itself when a program starts.
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let (_process, socket) = start();
    let open = ask(&socket, "descriptors");
    assert!(open.contains("socket:"), "{open}");
    assert!(!open.contains(file.path().to_str().unwrap()), "{open}");
    let others = open.lines().filter(|line| {
        // What a test program has beside: the folder that is read.
        !line.contains("socket:") && !line.contains("/dev/null") && !line.contains("/proc/")
    });
    assert_eq!(others.count(), 0, "{open}");
    let variables = ask(&socket, "environment");
    let known = [TEST_VARIABLE, "TZ", "MIMALLOC_ARENA_EAGER_COMMIT"];
    assert!(variables.split(',').all(|name| known.contains(&name)), "{variables}");
}

#[test]
fn limits_hold() {
    let (_process, socket) = start();
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(ask(&socket, "allocate 200000000"), "taken");
    assert_eq!(ask(&socket, "limit"), "done");
    assert_eq!(ask(&socket, "allocate 200000000"), "refused");
    assert_eq!(ask(&socket, "allocate 2000000"), "taken");
    let answer = ask(&socket, &format!("fill {}", folder.path().join("large").display()));
    assert!(answer.contains("too large"), "{answer}");
}

#[test]
fn a_restricted_child_has_its_folder_and_nothing_else() {
    let (_process, socket) = start();
    let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mine, theirs) = (own.path().join("file"), other.path().join("file"));
    fs::write(&theirs, "theirs").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let attempts = [
        format!("open {}", theirs.display()),
        format!("write {}", other.path().join("new").display()),
        "run /bin/true".to_owned(),
        format!("connect {address}"),
        format!("signal {}", std::process::id()),
    ];
    for attempt in &attempts {
        assert_eq!(ask(&socket, attempt), "done", "{attempt}: what is refused below is possible now");
    }
    let held = ask(&socket, &format!("restrict {}", own.path().display()));
    let (files, calls) = (held.contains("files: true"), held.contains("calls: true"));
    assert!(files || calls, "this kernel has neither Landlock nor seccomp, which the tests need: {held}");
    for (attempt, holds) in attempts.iter().zip([files, files, calls, calls, calls]) {
        assert!(!holds || ask(&socket, attempt) != "done", "{attempt}");
    }
    assert_eq!(ask(&socket, &format!("write {}", mine.display())), "done");
    assert_eq!(ask(&socket, "thread"), "ran");
}

#[test]
fn a_killed_child_is_gone_and_no_zombie() {
    let (process, mut socket) = start();
    let id = process.id();
    ask(&socket, "thread");
    frame::write(&mut socket, b"spin").unwrap();
    process.kill();
    assert!(process.wait().is_some_and(|status| !status.success()));
    assert!(!is_there(id));
    // The word that it did not read makes a reset of the end.
    assert!(matches!(socket.read(&mut [0; 8]), Ok(0) | Err(_)));
    // Again is nothing: the number may be another process'.
    process.kill();
    assert_eq!(process.wait(), None);
    let (dropped, socket) = start();
    ask(&socket, "thread");
    let id = dropped.id();
    drop(dropped);
    assert!(!is_there(id));
}

#[test]
fn a_child_ends_with_its_socket_and_not_by_signals_to_a_group() {
    let (process, socket) = start();
    ask(&socket, "thread");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        rustix::process::kill_process(Pid::from_raw(process.id().cast_signed()).unwrap(), signal).unwrap();
    }
    assert_eq!(ask(&socket, "thread"), "ran");
    drop(socket);
    assert!(process.wait().is_some_and(|status| status.success()));
}

#[test]
fn children_outlive_the_thread_that_asked_for_them() {
    let (process, socket) = std::thread::spawn(start).join().unwrap();
    let until = Instant::now() + Duration::from_millis(200);
    while Instant::now() < until {
        assert_eq!(ask(&socket, "thread"), "ran");
    }
    drop(process);
}

#[test]
fn messages_are_bounded_and_whole() {
    let read = |mut bytes: &[u8], max| frame::read(&mut bytes, max);
    let mut message = Vec::new();
    frame::write(&mut message, &[7; 600_000]).unwrap();
    assert_eq!(read(&message, 600_000).unwrap().unwrap(), vec![7; 600_000]);
    assert_eq!(read(&message, 599_999).unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(read(&[], 9).unwrap(), None);
    for short in [&message[..2], &message[..4], &message[..300_000]] {
        assert_eq!(read(short, 600_000).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
    // Announced is not taken: this would be 4 GiB.
    assert_eq!(read(&[0xff; 8], usize::MAX).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let mut closed = UnixStream::pair().unwrap().0;
    assert!(closed.write_all(b"x").is_err() || frame::write(&mut closed, b"x").is_err());
}

#[test]
fn a_program_that_does_not_dispatch_has_no_children() {
    assert!(matches!(Program::this(), Err(ChildError::NoDispatch)));
}
