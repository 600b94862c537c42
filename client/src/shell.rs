//! The interactive shell and the runner of scripts.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::output::{Format, write_rows};
use crate::statements::{split_statements, statement_end};
use crate::{ClientError, Connection, Result};

const HISTORY_FILE: &str = ".skyflight_history";
const HELP: &str = "\
\\q         leave
\\d         list tables
\\d TABLE   show the columns of a table
\\f FORMAT  table, csv, json
statements end with a semicolon; Ctrl-C cancels the running one";

/// How rows are shown.
#[derive(Debug, Clone, Default)]
pub struct ShellOptions {
    /// The format.
    pub format: Format,
    /// A file for the rows; standard output where absent.
    pub output: Option<PathBuf>,
    /// No timing, no progress.
    pub quiet: bool,
}

/// Runs the statements of a script one after another; stops at the first that fails.
///
/// # Errors
/// That of the first failing statement, or of the output.
pub async fn run_script(connection: &mut Connection, script: &str, options: &ShellOptions) -> Result<()> {
    let statements = split_statements(script);
    let mut out = open_output(options, statements.len())?;
    for statement in statements {
        run(connection, &statement, options, out.as_mut()).await?;
    }
    Ok(())
}

fn open_output(options: &ShellOptions, statements: usize) -> Result<Box<dyn Write + Send>> {
    if options.format.is_binary() && statements > 1 {
        return Err(ClientError::Write(format!(
            "{} holds the rows of one statement; give one at a time",
            options.format
        )));
    }
    match &options.output {
        Some(path) => {
            let file =
                File::create(path).map_err(|cause| ClientError::File { path: path.display().to_string(), cause })?;
            Ok(Box::new(std::io::BufWriter::new(file)))
        }
        None if options.format.is_binary() && std::io::stdout().is_terminal() => {
            Err(ClientError::Write(format!("{} is not for a terminal; give a file with --output", options.format)))
        }
        None => Ok(Box::new(std::io::stdout())),
    }
}

async fn run(
    connection: &mut Connection,
    sql: &str,
    options: &ShellOptions,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let started = Instant::now();
    let bar = progress(options.quiet);
    let answer = async {
        let rows = connection.query(sql).await?;
        let schema = rows.schema();
        write_rows(options.format, schema, rows, out, |seen| bar.set_position(seen as u64)).await
    };
    let answer = answer.await;
    bar.finish_and_clear();
    let summary = answer?;
    out.flush().map_err(|e| ClientError::Write(e.to_string()))?;
    if !options.quiet {
        let plural = if summary.rows == 1 { "row" } else { "rows" };
        eprintln!("{} {plural} in {:.3} s", summary.rows, started.elapsed().as_secs_f64());
    }
    Ok(())
}

/// A line on standard error that counts rows; hidden where that is no terminal.
fn progress(quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} rows, {per_sec}, {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Reads statements from the terminal until the user leaves. Errors of statements are shown and
/// do not end the shell.
///
/// # Errors
/// The terminal cannot be used.
pub async fn run_shell(connection: &mut Connection, options: ShellOptions) -> Result<()> {
    let terminal = |e: ReadlineError| ClientError::Write(format!("the terminal: {e}"));
    let mut options = options;
    let mut editor = DefaultEditor::new().map_err(terminal)?;
    let history = std::env::home_dir().map(|home| home.join(HISTORY_FILE));
    if let Some(path) = &history {
        // No history yet is no error.
        let _ = editor.load_history(path);
    }
    eprintln!("\\? for help, \\q to leave");
    let mut pending = String::new();
    loop {
        let prompt = if pending.is_empty() { "sky> " } else { "...> " };
        let line = match editor.readline(prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                pending.clear();
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(terminal(error)),
        };
        if pending.is_empty() && line.trim_start().starts_with('\\') {
            match command(line.trim(), &mut options) {
                Command::Leave => break,
                Command::Done => continue,
                Command::Run(sql) => interactive(connection, &sql, &options).await,
            }
            continue;
        }
        pending.push_str(&line);
        pending.push('\n');
        while let Some(end) = statement_end(&pending) {
            let statement = pending[..end].trim().to_string();
            pending = pending[end + 1..].trim_start().to_string();
            if !statement.is_empty() {
                // A history that cannot grow is no reason to stop.
                let _ = editor.add_history_entry(format!("{statement};"));
                interactive(connection, &statement, &options).await;
            }
        }
    }
    if let Some(path) = &history {
        let _ = editor.save_history(path);
    }
    Ok(())
}

async fn interactive(connection: &mut Connection, sql: &str, options: &ShellOptions) {
    let mut out = match open_output(options, 1) {
        Ok(out) => out,
        Err(error) => return eprintln!("error: {error}"),
    };
    tokio::select! {
        answer = run(connection, sql, options, out.as_mut()) => {
            if let Err(error) = answer {
                eprintln!("error: {error}");
            }
        }
        // Dropping the rows cancels the query on the server.
        _ = tokio::signal::ctrl_c() => eprintln!("cancelled"),
    }
}

enum Command {
    Leave,
    Done,
    Run(String),
}

fn command(line: &str, options: &mut ShellOptions) -> Command {
    let (name, argument) = line.split_once(' ').unwrap_or((line, ""));
    match (name, argument.trim()) {
        ("\\q", _) => Command::Leave,
        ("\\d", "") => Command::Run("SHOW TABLES".to_string()),
        ("\\d", table) => Command::Run(format!("DESCRIBE {table}")),
        ("\\f", format) => {
            match format.parse() {
                Ok(format) => options.format = format,
                Err(error) => eprintln!("error: {error}"),
            }
            Command::Done
        }
        _ => {
            eprintln!("{HELP}");
            Command::Done
        }
    }
}
