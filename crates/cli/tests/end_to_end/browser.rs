//! What is made for browsers, in one: the page of `jitney validate --report` and the picture of `jitney time … --plot`.

use crate::support::{Ground, Outcome, Process};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs that are looked for, beside what `JITNEY_BROWSER` names.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A browser that shows a page without a window, if there is one.
fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("JITNEY_BROWSER") {
        return Some(named.into());
    }
    let folders = std::env::var_os("PATH")?;
    let all = std::env::split_paths(&folders).flat_map(|folder| BROWSERS.map(|name| folder.join(name)));
    all.into_iter().find(|path| path.is_file())
}

/// Has a browser show a file, and returns what it made of it, and on standard error what its console says.
fn shown(ground: &Ground, browser: &Path, file: &Path) -> Outcome {
    let mut command = Command::new(browser);
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .arg(format!("--user-data-dir={}", ground.path("browser").display()))
        .args(["--enable-logging=stderr", "--dump-dom"])
        .arg(format!("file://{}", file.display()))
        // So that what it starts is known to be this test's.
        .env("XDG_RUNTIME_DIR", ground.path("run"))
        .env("HOME", ground.path("browser"));
    Process::start(command).wait().exits(0)
}

/// Fails if something was fetched, or if the browser had anything to complain of.
fn assert_alone(outcome: &Outcome) {
    let console: Vec<&str> = outcome.err.lines().filter(|line| line.contains("CONSOLE")).collect();
    assert!(console.is_empty(), "{console:?}");
    for what in [" src=", " href=", "url(", "@import", "<script", "<iframe"] {
        assert!(!outcome.out.contains(what), "{what}: {}", outcome.out);
    }
}

#[test]
fn a_report_and_a_picture_stand_alone_and_are_understood() {
    let Some(browser) = browser() else {
        println!(
            "skipped: no browser here to show a page in; install chromium, or name one by JITNEY_BROWSER"
        );
        return;
    };
    let ground = Ground::new();
    let outcome = ground.run("validate --emulate nitefury --report r.html").exits(0);
    let passed = outcome.out.lines().filter(|line| line.starts_with(" passed ")).count();
    let page = shown(&ground, &browser, &ground.path("r.html"));
    assert_alone(&page);
    assert!(page.out.contains("<title>jitney validate: 1 board tested, all is well</title>"), "{}", page.out);
    assert_eq!(page.out.matches("<td class=\"v passed\">").count(), passed, "{}", page.out);
    assert_eq!((page.out.matches("<svg").count(), page.out.matches("</svg>").count()), (2, 2));
    assert!(page.out.contains("64 KiB") && page.out.contains("h2c0, 8 at once"), "{}", page.out);

    // A page that asks for something from elsewhere is kept from it, and this test would see that.
    let text = std::fs::read_to_string(ground.path("r.html")).unwrap();
    let bad = text.replacen("<h1>", "<img src=\"http://127.0.0.1:9/x.png\"/><h1>", 1);
    std::fs::write(ground.path("bad.html"), bad).unwrap();
    let bad = shown(&ground, &browser, &ground.path("bad.html"));
    assert!(bad.err.lines().any(|line| line.contains("CONSOLE") && line.contains("127.0.0.1:9")), "{bad}");

    ground.run("time dma --emulate nitefury --sizes 4K,64K --depth 1 --for 1ms --plot p.svg").exits(0);
    let picture = shown(&ground, &browser, &ground.path("p.svg"));
    assert_alone(&picture);
    assert!(picture.out.contains("bytes of a transfer") && picture.out.contains("<polyline"), "{picture}");
}
