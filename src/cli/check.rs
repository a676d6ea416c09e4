//! `wsgate check`: what is wrong with a configuration, and what it would change in a gateway that runs.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::Args;
use http::Method;
use serde_json::json;

use super::{
    BAD_CONFIGURATION, failed,
    filter::{AdminArguments, AdminUrl, SteerError, ask},
    say,
};
use crate::{
    admin::{ReloadReport, Tokens},
    auth::{Authenticators, Revocations},
    config::Config,
    door::Door,
    filter::check_scripts,
    telemetry::metrics::Metrics,
    upstream::Upstreams,
};

#[derive(Args, Debug)]
pub(super) struct CheckArguments {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The admin API of a running gateway: say what loading the file would change there, and change nothing
    #[arg(long, value_name = "URL")]
    against: Option<AdminUrl>,
    /// A file with a token for it; else the variable WSGATE_ADMIN_TOKEN counts, where it is set
    #[arg(long, value_name = "FILE", requires = "against")]
    token_file: Option<PathBuf>,
}

pub(super) fn main(arguments: CheckArguments) -> ExitCode {
    let CheckArguments { config: file, against, token_file } = arguments;
    match Config::load(&file) {
        Ok((config, warnings)) => {
            for warning in warnings {
                say(&warning);
            }
            if let Err(error) = keys_fit(&config) {
                failed(&*error);
                return ExitCode::from(BAD_CONFIGURATION);
            }
            let refused = check_scripts(&config);
            for (path, error) in &refused {
                say(&format_args!("{}: {error}", path.display()));
            }
            if !refused.is_empty() {
                return ExitCode::from(BAD_CONFIGURATION);
            }
            if let Err(error) = Door::check(&config) {
                failed(&error);
                return ExitCode::from(BAD_CONFIGURATION);
            }
            // A closed stdout does not make the configuration wrong.
            let _ = writeln!(io::stdout(), "{}: ok", file.display());
            match against {
                Some(url) => compare(&file, &AdminArguments::at(url, token_file)),
                None => ExitCode::SUCCESS,
            }
        }
        Err(errors) => {
            say(&errors);
            ExitCode::from(BAD_CONFIGURATION)
        }
    }
}

/// Keys, tokens and certificates of upstreams in files.
fn keys_fit(config: &Config) -> Result<(), Box<dyn std::error::Error>> {
    let metrics = Metrics::new()?;
    let revocations = Arc::new(Revocations::in_memory(metrics.auth.revocations()));
    Authenticators::load(config, &metrics, revocations, None)?;
    Tokens::load(&config.admin.tokens)?;
    Upstreams::check(config, &metrics)?;
    Ok(())
}

/// What the file would change in a gateway that runs. One that it would refuse is refused here.
fn compare(file: &Path, admin: &AdminArguments) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&SteerError::Start(error)),
    };
    let (text, folder) = match (fs::read_to_string(file), std::path::absolute(file)) {
        (Ok(text), Ok(absolute)) => (text, absolute.parent().map(Path::to_owned).unwrap_or_default()),
        (Err(error), _) | (_, Err(error)) => return failed(&error),
    };
    let body = json!({ "config": text, "base_dir": folder });
    match runtime.block_on(ask(admin, Method::POST, "/v1/check", Some(body))) {
        Err(error @ SteerError::Refused(_)) => {
            failed(&error);
            ExitCode::from(BAD_CONFIGURATION)
        }
        Err(error) => failed(&error),
        Ok(answer) => match serde_json::from_value::<ReloadReport>(answer) {
            Ok(report) => {
                let _ = io::stdout().write_all(told(&report).as_bytes());
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error),
        },
    }
}

fn told(report: &ReloadReport) -> String {
    let mut text = String::new();
    if report.changed.is_empty() {
        text.push_str("nothing would change\n");
    }
    for change in &report.changed {
        let _ = writeln!(text, "{change}");
    }
    for (route, connections) in report.connections.iter().filter(|(_, connections)| connections.closed() > 0) {
        let _ = write!(text, "connections of {route}: {} would stay", connections.kept);
        for (count, how) in [
            (connections.route_changed, "1001 (its route is another one)"),
            (connections.no_longer_allowed, "4403 (no longer allowed)"),
        ] {
            if count > 0 {
                let _ = write!(text, ", {count} would be closed with {how}");
            }
        }
        text.push('\n');
    }
    text
}
