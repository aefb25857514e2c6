//! Server versions with holes in their row level security.

use crate::tx::fault::{BACKEND, failed};
use overskill_core::{Effect, Error, ErrorKind, Result};
use tokio_postgres::Client;

/// A hole, and the first release of each major version without it.
struct Hole {
    cve: &'static str,
    what: &'static str,
    mended: &'static [(i32, i32)],
}

/// What is known, newest first. Versions before 15 lack `security_invoker` and are refused whatever they mended.
const HOLES: [Hole; 5] = [
    Hole {
        cve: "CVE-2025-8713",
        what: "statistics show sampled rows past a policy",
        mended: &[(15, 14), (16, 10), (17, 6)],
    },
    Hole {
        cve: "CVE-2024-10976",
        what: "a plan made for one role is used for another",
        mended: &[(15, 9), (16, 5), (17, 1)],
    },
    Hole { cve: "CVE-2024-4317", what: "extended statistics show values to whoever asks", mended: &[(15, 7), (16, 3)] },
    Hole { cve: "CVE-2023-39418", what: "MERGE passes by policies for UPDATE and SELECT", mended: &[(15, 4)] },
    Hole { cve: "CVE-2023-2455", what: "policies are not applied after inlining", mended: &[(15, 3)] },
];

/// `Unsupported` if the server has a hole that is known, or the role that asks is one that policies do not bind.
pub(crate) async fn refuse_known_holes(client: &Client) -> Result<()> {
    const VERSION: &str = "SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4";
    let row = client.query_typed_one(VERSION, &[]).await.map_err(failed("look at the server's version"))?;
    judge(row.try_get(0).map_err(failed("look at the server's version"))?)
}

/// `number` as in `server_version_num`: 150018 is 15.18.
fn judge(number: i32) -> Result<()> {
    let (major, minor) = (number / 10_000, number % 10_000);
    let refuse = |message: String| {
        let error = Error::new(ErrorKind::Unsupported, message).effect_as(Effect::None).at(BACKEND, "connect");
        Err(error.with("server_version", format!("{major}.{minor}")))
    };
    if major < 15 {
        return refuse(format!(
            "the server is Postgres {major}; tenants need 15 or later, where views can ask as their caller"
        ));
    }
    let open: Vec<_> =
        HOLES.iter().filter(|hole| hole.mended.iter().any(|&(with, first)| with == major && minor < first)).collect();
    if open.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = open.iter().map(|hole| format!("{} ({})", hole.cve, hole.what)).collect();
    let first =
        open.iter().flat_map(|hole| hole.mended).filter(|(with, _)| *with == major).map(|(_, first)| first).max();
    let first = first.copied().unwrap_or_default();
    refuse(format!(
        "Postgres {major}.{minor} has known holes in row level security: {}; update it to {major}.{first} or later",
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_holes_are_refused_by_name() {
        for (number, names) in [
            (150_002, "CVE-2025-8713 CVE-2024-10976 CVE-2024-4317 CVE-2023-39418 CVE-2023-2455"),
            (150_013, "CVE-2025-8713"),
            (160_004, "CVE-2025-8713 CVE-2024-10976"),
            (170_000, "CVE-2025-8713 CVE-2024-10976"),
            (170_005, "CVE-2025-8713"),
            (140_019, "needs"),
        ] {
            let e = judge(number).unwrap_err();
            assert_eq!((e.kind(), e.effect()), (ErrorKind::Unsupported, Effect::None));
            for name in names.split(' ') {
                assert!(e.to_string().contains(name.trim_end_matches('s')), "{number}: {e}");
            }
            assert_eq!(e.to_string().matches("CVE-").count(), names.matches("CVE-").count(), "{e}");
        }
        assert!(judge(150_013).unwrap_err().to_string().contains("15.14 or later"));
        for fine in [150_014, 150_018, 160_010, 170_006, 170_010, 180_000, 180_004, 190_000] {
            assert!(judge(fine).is_ok(), "{fine}");
        }
    }
}
