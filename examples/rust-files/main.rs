//! rust-files: what Rust's standard library asks of a WASI host, one command for each part.
//!
//! ```text
//! rust-files files DIR    create, append, read, seek, rename, list and remove in DIR
//! rust-files env [NAME]   one environment variable, or all of them sorted
//! rust-files args ...     the arguments, one a line
//! rust-files lines        standard input, line by line with its number and length
//! rust-files time         check that both clocks run and that sleeping takes its time
//! rust-files exit CODE    leave with this exit status
//! rust-files panic        panic, which traps
//! ```
//!
//! Everything it prints is the same on every run, so that hosts can be compared.
//! Exit status: 0; 1 when something failed (and stderr says what); 2 for wrong use.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process;
use std::time::{Duration, Instant, SystemTime};

/// Adds to an I/O error what was being done.
fn during<T>(doing: &str, path: &Path, result: io::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("cannot {} '{}': {}", doing, path.display(), error))
}

fn check(holds: bool, what: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(format!("check failed: {}", what))
    }
}

/// Names in a directory, sorted, with "/" behind directories.
fn list(directory: &Path) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for entry in during("list", directory, fs::read_dir(directory))? {
        let entry = during("list", directory, entry)?;
        let kind = during("ask about", &entry.path(), entry.file_type())?;
        let mark = if kind.is_dir() { "/" } else { "" };
        names.push(format!("{}{}", entry.file_name().to_string_lossy(), mark));
    }
    names.sort();
    Ok(names)
}

fn files(directory: &Path, out: &mut impl Write) -> Result<(), String> {
    let say = |out: &mut dyn Write, text: String| {
        writeln!(out, "{}", text).map_err(|error| format!("cannot print: {}", error))
    };
    let work = directory.join("rust-files-work");
    let (first, second) = (work.join("first.txt"), work.join("second.txt"));
    let nested = work.join("a").join("b");

    during("make", &work, fs::create_dir(&work))?;
    during("make", &nested, fs::create_dir_all(&nested))?;
    let again = fs::create_dir(&work).map_err(|error| error.kind());
    say(out, format!("make it again: {:?}", again))?;

    during("write", &first, fs::write(&first, "one\ntwo\n"))?;
    let mut file = during("open", &first, OpenOptions::new().append(true).open(&first))?;
    during("append to", &first, file.write_all("drei äöü\n".as_bytes()))?;
    during("sync", &first, file.sync_all())?;
    drop(file);
    let text = during("read", &first, fs::read_to_string(&first))?;
    say(out, format!("contents: {:?}", text))?;

    let meta = during("ask about", &first, fs::metadata(&first))?;
    say(out, format!("length: {}, file: {}, dir: {}", meta.len(), meta.is_file(), meta.is_dir()))?;
    let modified = during("ask the time of", &first, meta.modified())?;
    check(modified > SystemTime::UNIX_EPOCH, "a new file's time is after 1970")?;

    let mut file = during(
        "open",
        &first,
        OpenOptions::new().read(true).write(true).open(&first),
    )?;
    let position = during("seek in", &first, file.seek(SeekFrom::End(-4)))?;
    let mut tail = Vec::new();
    during("read", &first, file.read_to_end(&mut tail))?;
    say(out, format!("from {}: {:02x?}", position, tail))?;
    during("cut", &first, file.set_len(4))?;
    during("seek in", &first, file.seek(SeekFrom::Start(6)))?;
    during("write", &first, file.write_all(b"!"))?;
    drop(file);
    let bytes = during("read", &first, fs::read(&first))?;
    say(out, format!("cut and written past the end: {:?}", bytes))?;

    let exclusive = OpenOptions::new().write(true).create_new(true).open(&first);
    say(out, format!("create_new: {:?}", exclusive.map(drop).map_err(|error| error.kind())))?;

    during("rename", &first, fs::rename(&first, &second))?;
    let copied = during("copy", &second, fs::copy(&second, &first))?;
    say(out, format!("copied: {}", copied))?;
    say(out, format!("listed: {}", list(&work)?.join(" ")))?;

    let mut many = BufWriter::new(during("make", &first, File::create(&first))?);
    for line in 0..1000 {
        during("write", &first, writeln!(many, "line {}", line))?;
    }
    during("write", &first, many.flush())?;
    drop(many);
    let reader = BufReader::new(during("open", &first, File::open(&first))?);
    let mut total = 0;
    for line in reader.lines() {
        total += during("read", &first, line)?.len();
    }
    say(out, format!("1000 lines, {} characters", total))?;

    let missing = work.join("missing.txt");
    let error = fs::read(&missing).map(drop).map_err(|error| error.kind());
    say(out, format!("missing file: {:?}", error))?;
    let outside = Path::new("/../outside.txt");
    let error = fs::read(outside).map(drop);
    check(error.is_err(), "a path outside the preopened directories is refused")?;
    let busy = fs::remove_dir(&work);
    check(busy.is_err(), "a directory that is not empty is not removed")?;

    during("remove", &first, fs::remove_file(&first))?;
    during("remove", &second, fs::remove_file(&second))?;
    say(out, format!("left: {}", list(&work)?.join(" ")))?;
    during("remove", &work, fs::remove_dir_all(&work))?;
    say(out, format!("gone: {}", !work.exists()))
}

fn environment(name: Option<String>, out: &mut impl Write) -> Result<(), String> {
    let failed = |error: io::Error| format!("cannot print: {}", error);
    if let Some(name) = name {
        let value = env::var(&name).map_err(|error| format!("variable '{}': {}", name, error))?;
        return writeln!(out, "{}", value).map_err(failed);
    }
    let mut all: Vec<(String, String)> = env::vars().collect();
    all.sort();
    for (name, value) in all {
        writeln!(out, "{}={}", name, value).map_err(failed)?;
    }
    Ok(())
}

fn lines(out: &mut impl Write) -> Result<(), String> {
    let mut count = 0;
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|error| format!("cannot read standard input: {}", error))?;
        count += 1;
        writeln!(out, "{} {} {}", count, line.chars().count(), line)
            .map_err(|error| format!("cannot print: {}", error))?;
    }
    writeln!(out, "{} lines", count).map_err(|error| format!("cannot print: {}", error))
}

fn time(out: &mut impl Write) -> Result<(), String> {
    let start = Instant::now();
    let nap = Duration::from_millis(20);
    std::thread::sleep(nap);
    let slept = start.elapsed();
    check(slept >= nap, "sleeping takes at least as long as asked")?;
    check(slept < Duration::from_secs(20), "sleeping does not take forever")?;
    let wall = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(|error| format!("the wall clock is before 1970: {}", error))?;
    check(wall > Duration::from_secs(1_600_000_000), "the wall clock is after 2020")?;
    writeln!(out, "clocks run").map_err(|error| format!("cannot print: {}", error))
}

const USAGE: &str = "usage: rust-files files DIR | env [NAME] | args ... | lines | time | exit CODE | panic";

fn run(out: &mut impl Write) -> Result<i32, String> {
    let mut arguments = env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    match (command.as_str(), rest.as_slice()) {
        ("files", [directory]) => files(Path::new(directory), out)?,
        ("env", []) => environment(None, out)?,
        ("env", [name]) => environment(Some(name.clone()), out)?,
        ("args", rest) => {
            for (index, argument) in rest.iter().enumerate() {
                writeln!(out, "{}: {:?}", index + 1, argument)
                    .map_err(|error| format!("cannot print: {}", error))?;
            }
        }
        ("lines", []) => lines(out)?,
        ("time", []) => time(out)?,
        ("exit", [code]) => {
            return code.parse().map_err(|_| format!("'{}' is no exit status", code));
        }
        ("panic", []) => panic!("asked to"),
        _ => {
            eprintln!("{}", USAGE);
            return Ok(2);
        }
    }
    Ok(0)
}

fn main() {
    let stdout = io::stdout();
    let mut out = BufWriter::new(stdout.lock());
    let result = run(&mut out);
    let flushed = out.flush();
    drop(out);
    let code = match (result, flushed) {
        (Ok(code), Ok(())) => code,
        (Ok(_), Err(error)) => {
            eprintln!("rust-files: cannot print: {}", error);
            1
        }
        (Err(message), _) => {
            eprintln!("rust-files: {}", message);
            1
        }
    };
    process::exit(code);
}
