//! QEMU's monitor: one request at a time over its socket, in JSON.
//!
//! The protocol is QEMU's "QMP" (docs/interop/qmp-spec.rst): a greeting, then a request per line, its answer, and events in
//! between.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long QEMU may take for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to the monitor of a machine that runs. What goes wrong is said in a sentence.
pub(crate) struct Monitor {
    stream: BufReader<UnixStream>,
    /// Events that came while something else was waited for.
    events: Vec<Value>,
}

impl Monitor {
    /// Connects to the monitor that listens at `socket`.
    pub(crate) fn connect(socket: &Path) -> Result<Self, String> {
        let what = |error| format!("QEMU's monitor at {}: {error}", socket.display());
        let stream = UnixStream::connect(socket).map_err(what)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(what)?;
        let mut monitor = Self { stream: BufReader::new(stream), events: Vec::new() };
        // The greeting, which says which QEMU it is.
        monitor.message()?;
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Has QEMU do something; returns its answer.
    pub(crate) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value, String> {
        let request = json!({ "execute": command, "arguments": arguments });
        let failed = |error: &dyn std::fmt::Display| format!("{command} of QEMU's monitor: {error}");
        writeln!(self.stream.get_mut(), "{request}").map_err(|error| failed(&error))?;
        loop {
            let mut message = self.message()?;
            if let Some(error) = message.get("error") {
                return Err(failed(&error["desc"]));
            }
            match message.get_mut("return") {
                Some(answer) => return Ok(answer.take()),
                None => self.events.push(message),
            }
        }
    }

    /// Waits for an event of this name about the device `device`.
    pub(crate) fn await_event(&mut self, name: &str, device: &str) -> Result<(), String> {
        let is = |event: &Value| event["event"] == name && event["data"]["device"] == device;
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self.events.iter().position(is) {
                self.events.remove(found);
                return Ok(());
            }
            if Instant::now() > until {
                return Err(format!("QEMU's monitor did not say {name} of {device}"));
            }
            let message = self.message()?;
            self.events.push(message);
        }
    }

    fn message(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => Err("QEMU's monitor has hung up".to_owned()),
            Ok(_) => serde_json::from_str(&line)
                .map_err(|error| format!("QEMU's monitor makes no sense ({error}): {line}")),
            Err(error) => Err(format!("QEMU's monitor says nothing: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn answers_and_events_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("qmp.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let qemu = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let (mut lines, mut out) = (BufReader::new(&stream).lines(), &stream);
            writeln!(out, r#"{{"QMP": {{}}}}"#).unwrap();
            for answer in [
                r#"{"return": {}}"#,
                "{\"event\": \"DEVICE_DELETED\", \"data\": {\"device\": \"card0\"}}\n{\"return\": [7]}",
                r#"{"error": {"class": "GenericError", "desc": "no such device"}}"#,
            ] {
                let request: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
                assert!(request["execute"].is_string());
                writeln!(out, "{answer}").unwrap();
            }
        });
        let mut monitor = Monitor::connect(&socket).unwrap();
        assert_eq!(monitor.execute("query-pci", &json!({})).unwrap(), json!([7]));
        monitor.await_event("DEVICE_DELETED", "card0").unwrap();
        let error = monitor.execute("device_del", &json!({ "id": "card9" })).unwrap_err();
        assert!(error.contains("device_del") && error.contains("no such device"), "{error}");
        qemu.join().unwrap();
        assert!(monitor.await_event("DEVICE_DELETED", "card0").unwrap_err().contains("hung up"));
    }
}
