//! Cloudflare on loopback, for any language: prints where it is as one line of JSON, and runs until it is told to stop.

use overskill_core::{Error, Result};
use overskill_testkit::cloudflare::{CloudflareEmulator, CloudflareOptions};
use std::{process::ExitCode, time::Duration};

const HELP: &str = "\
overskill-emulator: Cloudflare's API and edge on loopback

  --api-port PORT    port of the API (any free one)
  --edge-port PORT   port of the edge (any free one)
  --no-edge          the API alone, without workerd
  --account ID       the account's id
  --token TOKEN      an API token; may be repeated
  --zone NAME        a domain of the account; may be repeated
  --quota CALLS      calls of the API in 5 minutes (1200)
  --folder FOLDER    where the data of Durable Objects lies, and stays
  --help             this text";

#[tokio::main]
async fn main() -> ExitCode {
    match run(std::env::args().skip(1)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: impl Iterator<Item = String>) -> Result<()> {
    let Some(options) = parse(arguments)? else {
        println!("{HELP}");
        return Ok(());
    };
    let cloudflare = options.start().await?;
    let told = serde_json::json!({
        "api_url": cloudflare.api_url(), "s3_url": cloudflare.s3_url(), "edge": cloudflare.edge_address(),
        "account": cloudflare.account(), "token": cloudflare.token(),
    });
    println!("{told}");
    told_to_stop().await
}

/// Nothing when only help is wanted.
fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<CloudflareOptions>> {
    let mut options = CloudflareEmulator::options();
    let (mut tokens, mut zones) = (Vec::new(), Vec::new());
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| Error::invalid(format!("{argument} needs a value")));
        let port = |text: String| {
            text.parse().map_err(|_| Error::invalid(format!("{argument} must be 0 to 65535, but was {text:?}")))
        };
        options = match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--api-port" => options.api_port(port(value()?)?),
            "--edge-port" => options.edge_port(port(value()?)?),
            "--no-edge" => options.edge(false),
            "--account" => options.account(value()?),
            "--quota" => {
                let calls = value()?;
                let bad = |_| Error::invalid(format!("--quota must be a number of calls, but was {calls:?}"));
                options.quota(calls.parse().map_err(bad)?, Duration::from_mins(5))
            }
            "--folder" => options.folder(value()?),
            "--token" => {
                tokens.push(value()?);
                options
            }
            "--zone" => {
                zones.push(value()?);
                options
            }
            other => return Err(Error::invalid(format!("unknown argument {other:?}; --help lists them"))),
        };
    }
    if !tokens.is_empty() {
        options = options.tokens(tokens);
    }
    if !zones.is_empty() {
        options = options.zones(zones);
    }
    Ok(Some(options))
}

async fn told_to_stop() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |e| Error::unexpected("wait for a signal", e);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    tokio::select! {
        it = tokio::signal::ctrl_c() => it.map_err(failed),
        _ = terminate.recv() => Ok(()),
    }
}
