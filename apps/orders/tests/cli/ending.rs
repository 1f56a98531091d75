//! How the program ends when it is told to, and told again; and what it leaves in a log file.

#![cfg(unix)]

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::{Served, orders};

fn signal(served: &Served, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &served.child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// What it says until a line has this in it.
fn said_until(served: &mut Served, wanted: &str) {
    use std::io::BufRead as _;
    let mut line = String::new();
    while !line.contains(wanted) {
        line.clear();
        assert_ne!(served.out.read_line(&mut line).unwrap(), 0, "no {wanted:?}");
    }
}

/// It waited for what was under way, whoever asked how often, for as long as a client takes to send a body.
#[test]
fn who_tells_it_twice_to_end_is_obeyed_at_once() {
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let data = TempDir::new().unwrap();
        let mut command = orders();
        command
            .arg("--data")
            .arg(data.path())
            .stderr(Stdio::piped());
        let mut served = Served::spawn(&mut command);
        // A request that is under way: its head is taken, and its body doesn't come.
        let mut stream = TcpStream::connect(served.url.trim_start_matches("http://")).unwrap();
        let head = "POST /users HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                    Content-Length: 100\r\nExpect: 100-continue\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut reading = [0; 12];
        stream.read_exact(&mut reading).unwrap();
        assert_eq!(&reading, b"HTTP/1.1 100");
        signal(&served, name);
        said_until(&mut served, "stopping");
        assert!(served.child.try_wait().unwrap().is_none(), "it drains");
        signal(&served, name);
        let status = served.child.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{name}");
        let mut said = String::new();
        served
            .child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert!(said.contains("ended at once by"), "{said}");
    }
}

/// What an hour of load had measured was gone with a ctrl-c, or with a platform that did not come to rest.
#[test]
fn an_interrupted_load_shows_what_came_of_it_until_then() {
    use std::io::{BufRead as _, BufReader};
    let data = TempDir::new().unwrap();
    let served = Served::start(&data);
    let load = orders()
        .args([
            "load",
            "--for",
            "1h",
            "--rate",
            "20",
            "--target",
            &served.url,
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Until it sends orders.
    let mut metrics = String::new();
    let orders_taken =
        r#"factum_commands_total{service="order",aggregate="order",outcome="accepted"}"#;
    while !metrics
        .lines()
        .any(|line| line.starts_with(orders_taken) && !line.ends_with(" 0"))
    {
        let mut stream = TcpStream::connect(served.url.trim_start_matches("http://")).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        metrics = BufReader::new(stream)
            .lines()
            .map_while(Result::ok)
            .collect::<Vec<_>>()
            .join("\n");
    }
    let sent = Command::new("kill")
        .args(["-INT", &load.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
    let output = load.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = crate::fails(&output, 130);
    assert!(error.contains("interrupted by ctrl-c"), "{error}");
    for wanted in ["taken in    p50", "invariants  not checked: interrupted"] {
        assert!(said.contains(wanted), "no {wanted:?} in:\n{said}");
    }
    served.terminate();
}

/// A log file was full of colours: no search found `level=WARN`.
#[test]
fn a_log_file_has_no_colours_in_it() {
    let data = TempDir::new().unwrap();
    let log = data.path().join("log");
    let mut command = orders();
    command.arg("--data").arg(data.path().join("data"));
    command.stderr(File::create(&log).unwrap());
    let served = Served::spawn_logging(&mut command, "debug");
    served.terminate();
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("DEBUG"), "{log}");
    assert!(!log.contains('\u{1b}'), "{log:.2000}");
}
