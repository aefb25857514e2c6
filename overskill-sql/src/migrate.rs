//! Which migrations are still to run. They only go forward, and what ran never changes.

use overskill_core::{Digest, Effect, Error, ErrorKind, Result};

/// One step of the schema.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Migration {
    /// Its place; the first is 1.
    pub(crate) version: i64,
    /// What it is about.
    pub(crate) name: &'static str,
    /// Its statements.
    pub(crate) sql: &'static str,
}

impl Migration {
    /// What tells whether it was changed. A checkout that turned line ends into CRLF is not a change.
    pub(crate) fn checksum(&self) -> String {
        Digest::of(self.sql.replace("\r\n", "\n").as_bytes()).to_string()
    }
}

/// Those of `known` that have not run, given version and checksum of those that have, in order.
pub(crate) fn to_run<'a>(known: &'a [Migration], ran: &[(i64, String)]) -> Result<&'a [Migration]> {
    for (i, (version, checksum)) in ran.iter().enumerate() {
        let Some(migration) = known.get(i).filter(|m| m.version == *version) else {
            let newest = known.last().map_or(0, |m| m.version);
            let message = format!(
                "the database has schema version {version}, but this library knows versions up to {newest}: update \
                 overskill, or open the copy that was made before the schema moved on"
            );
            return Err(Error::new(ErrorKind::Unsupported, message).effect_as(Effect::None));
        };
        if migration.checksum() != *checksum {
            let message = format!(
                "migration {version} ({}) is not the one that made this database: migrations never change once they ran",
                migration.name
            );
            return Err(Error::new(ErrorKind::Unexpected, message).effect_as(Effect::None));
        }
    }
    Ok(&known[ran.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Migration; 2] =
        [Migration { version: 1, name: "one", sql: "a;\nb;" }, Migration { version: 2, name: "two", sql: "c;" }];

    fn ran(known: &[Migration]) -> Vec<(i64, String)> {
        known.iter().map(|m| (m.version, m.checksum())).collect()
    }

    #[test]
    fn what_ran_does_not_run_again() {
        let rest = |n| to_run(&KNOWN, &ran(&KNOWN[..n])).unwrap().iter().map(|m| m.version).collect::<Vec<_>>();
        assert_eq!((rest(0), rest(1), rest(2)), (vec![1, 2], vec![2], vec![]));
    }

    #[test]
    fn newer_and_changed_schemas_are_refused() {
        let newer = [KNOWN.to_vec(), vec![Migration { version: 3, name: "three", sql: "d;" }]].concat();
        let e = to_run(&KNOWN, &ran(&newer)).unwrap_err();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Unsupported, Effect::None));
        assert!(e.to_string().contains("schema version 3") && e.to_string().contains("update"), "{e}");

        let changed = [Migration { sql: "a; -- now with a comment", ..KNOWN[0] }];
        let e = to_run(&KNOWN, &ran(&changed)).unwrap_err();
        assert!(e.to_string().contains("migration 1 (one)"), "{e}");
    }

    #[test]
    fn line_ends_do_not_count() {
        assert_eq!(Migration { sql: "a;\r\nb;", ..KNOWN[0] }.checksum(), KNOWN[0].checksum());
    }
}
