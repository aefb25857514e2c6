//! The command line, parsed.

use std::ffi::OsString;

use lexopt::{Arg, Parser, ValueExt};

use crate::process::Failure;

/// What `cargo xtask help` prints.
pub(crate) const HELP: &str = "\
cargo xtask <command>

  setup                            install what the tests need
  test [--only STEP,...]           setup, then every check; stops at the first that fails
  ci [--full] [--only STEP,...]    the same; --full adds the slow checks
  bench [NAME] [--json] [--quick]  run the benchmarks, or the one named
  help                             this text
";

/// One command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Help,
    Setup,
    /// Run a suite's steps, or only those named.
    Check {
        suite: Suite,
        only: Vec<String>,
    },
    Bench(BenchOptions),
}

/// Which steps there are to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    /// What every change must pass.
    Test,
    /// That, and the slow checks.
    Full,
}

/// The options of `bench`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct BenchOptions {
    /// The one benchmark to run; all of them without it.
    pub(crate) name: Option<String>,
    /// Print nothing but the rows, as JSON.
    pub(crate) json: bool,
    /// Small sizes: does it run at all?
    pub(crate) quick: bool,
}

/// Parses the arguments, the program's own name first.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Request, Failure> {
    read(Parser::from_iter(args)).map_err(|error| Failure::new(format!("{error}\n\n{}", HELP.trim_end())))
}

fn read(mut parser: Parser) -> Result<Request, lexopt::Error> {
    let Some(first) = parser.next()? else {
        return Ok(Request::Help);
    };
    let command = match first {
        Arg::Long("help") | Arg::Short('h') => return Ok(Request::Help),
        Arg::Value(value) => value.string()?,
        other => return Err(other.unexpected()),
    };
    match command.as_str() {
        "help" => end(&mut parser, Request::Help),
        "setup" => end(&mut parser, Request::Setup),
        "test" => read_check(parser, false),
        "ci" => read_check(parser, true),
        "bench" => read_bench(parser),
        unknown => Err(format!("there is no command `{unknown}`").into()),
    }
}

fn end(parser: &mut Parser, request: Request) -> Result<Request, lexopt::Error> {
    match parser.next()? {
        None => Ok(request),
        Some(extra) => Err(extra.unexpected()),
    }
}

fn read_check(mut parser: Parser, may_be_full: bool) -> Result<Request, lexopt::Error> {
    let mut suite = Suite::Test;
    let mut only = Vec::new();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("full") if may_be_full => suite = Suite::Full,
            Arg::Long("only") => {
                let names = parser.value()?.string()?;
                only.extend(names.split(',').map(|name| name.trim().to_owned()));
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok(Request::Check { suite, only })
}

fn read_bench(mut parser: Parser) -> Result<Request, lexopt::Error> {
    let mut options = BenchOptions::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("json") => options.json = true,
            Arg::Long("quick") => options.quick = true,
            Arg::Value(name) if options.name.is_none() => options.name = Some(name.string()?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Request::Bench(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, String> {
        let words = ["xtask"].into_iter().chain(line.split_whitespace());
        parse(words.map(OsString::from)).map_err(|failure| failure.to_string())
    }

    #[test]
    fn nothing_asks_for_help() {
        for line in ["", "help", "--help", "-h"] {
            assert_eq!(parsed(line), Ok(Request::Help), "{line:?}");
        }
    }

    #[test]
    fn only_takes_a_list_and_may_be_repeated() {
        let only = vec!["fmt".to_owned(), "clippy".to_owned(), "doc".to_owned()];
        assert_eq!(parsed("test --only fmt,clippy --only=doc"), Ok(Request::Check { suite: Suite::Test, only }));
    }

    #[test]
    fn full_belongs_to_ci() {
        assert_eq!(parsed("ci --full"), Ok(Request::Check { suite: Suite::Full, only: Vec::new() }));
        assert!(parsed("test --full").is_err());
    }

    #[test]
    fn bench_takes_one_name_and_flags_in_any_order() {
        assert_eq!(
            parsed("bench --json queue --quick"),
            Ok(Request::Bench(BenchOptions { name: Some("queue".to_owned()), json: true, quick: true }))
        );
        assert!(parsed("bench one two").is_err());
    }

    #[test]
    fn what_is_not_known_is_refused_with_the_help() {
        for line in ["tset", "setup now", "test --fast", "--version"] {
            let message = parsed(line).expect_err(line);
            assert!(message.contains("cargo xtask <command>"), "{message}");
        }
    }
}
