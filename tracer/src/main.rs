//! `tracer`: parses the command line, runs the command, and reports errors and the exit code.

use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use clap_complete::Shell;
use tracer::{
    cli::{self, Cli, Command},
    commands::{
        agent, block_on, demo, doctor, exit, kubectl, mark, record, replay, report, timeline, top,
        watch, why,
    },
};

fn main() -> ExitCode {
    exit::report(run(Cli::parse_from(cli::kubectl::as_plugin(env::args_os()))))
}

fn run(cli: Cli) -> Result<()> {
    let options = cli.kernel.to_options();
    match cli.command {
        Command::Top(args) => block_on(top::run(&args, &options)),
        Command::Watch(args) => block_on(watch::run(&args, &options)),
        Command::Why(args) => block_on(why::run(&args, &options)),
        Command::Record(args) => block_on(record::run(&args, &options)),
        Command::Replay(args) => match args.check() {
            Ok(()) => block_on(replay::run(&args)),
            Err(error) => error.exit(),
        },
        Command::Timeline(args) => block_on(timeline::run(&args)),
        Command::Report(args) => block_on(report::run(&args)),
        Command::Mark(args) => block_on(mark::run(&args)),
        Command::Agent(args) => block_on(agent::run(&args, &options)),
        Command::Doctor(args) => doctor::run(&args, &options),
        Command::Kubectl(args) => kubectl::run(&args),
        // The arguments were checked above; `tracer-demo` parses them again.
        Command::Demo(_) => demo::run(),
        Command::Completions { shell } => print_completions(shell),
        Command::Man { of } => print_man(of.as_deref()),
    }
}

fn print_completions(shell: Shell) -> Result<()> {
    // clap_complete panics when it cannot write, and a pipe may be closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tracer", &mut script);
    print(&script)
}

fn print_man(of: Option<&str>) -> Result<()> {
    let mut tracer = Cli::command();
    tracer.build();
    let command = match of.map(|name| (name, tracer.find_subcommand(name))) {
        None => tracer,
        Some((_, Some(command))) => command.clone(),
        Some((name, None)) => {
            tracer.error(ErrorKind::InvalidValue, format!("there is no command `{name}`")).exit()
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).context("failed to write the manual page")?;
    print(&page)
}

fn print(bytes: &[u8]) -> Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(bytes).and_then(|()| output.flush()).context("failed to print")
}
