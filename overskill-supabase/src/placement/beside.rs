//! What an app has beside its records, when it moves to another database.

use super::side::Side;
use crate::tx::fault::{BACKEND, failed};
use overskill_core::{Error, ErrorKind, Result};
use tokio_postgres::types::Type;

/// That the app has no tables in [schemas of its own](crate::AppTables::own): a move takes none along, and they must not be
/// left behind unseen.
pub(super) async fn refuse_own_tables(side: &Side) -> Result<()> {
    const OWN: &str = "SELECT s.schema_name FROM overskill_guard.app_schemas s WHERE s.app_id = $1 AND EXISTS ( \
            SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = to_regnamespace(quote_ident(s.schema_name))::oid \
              AND c.relkind NOT IN ('i', 'I', 't', 'c')) \
        ORDER BY 1";
    let rows = side.rows(OWN, &[(&side.app_id, Type::INT8)]).await?;
    let names: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(failed("move"))?;
    if names.is_empty() {
        return Ok(());
    }
    let message = format!(
        "the app has tables of its own in {}, in schema {}, and a move takes records alone to another database: move those \
         tables yourself and drop them, then resume this move; or abort it",
        side.named,
        names.join(", ")
    );
    Err(Error::conflict(message).at(BACKEND, "move"))
}

/// Takes the history of the shared tables' columns along: the columns themselves are in the catalog, which is copied. What
/// is there already, from a time when the app was there, stays. Nobody changes columns while writes are paused.
pub(super) async fn carry_history(source: &Side, target: &Side, runner: &str) -> Result<()> {
    const PUT: &str = "INSERT INTO overskill_guard.schema_changes \
            (app_id, place, seq, incarnation, plan, changed_at, subject, change, steps, steps_done, state) \
        SELECT $1, place, seq, incarnation, plan, changed_at, subject, change, steps, steps_done, state \
        FROM json_populate_recordset(NULL::overskill_guard.schema_changes, $2::text::json) ON CONFLICT DO NOTHING";
    source.begin(true).await?;
    let old = history(source).await?;
    source.commit().await?;
    target.begin(false).await?;
    target.hold(runner).await?;
    target.run(PUT, &[(&target.app_id, Type::INT8), (&old, Type::TEXT)]).await?;
    let new = history(target).await?;
    if old != new {
        target.undo().await;
        let message = format!(
            "{} has another history of this app's columns than {}: look at `overskill_guard.schema_changes` in both; or \
             abort this move",
            target.named, source.named
        );
        return Err(Error::conflict(message).at(BACKEND, "move"));
    }
    target.commit().await
}

/// As a JSON list, the same from every server.
async fn history(side: &Side) -> Result<String> {
    const HISTORY: &str = "SELECT coalesce(json_agg(c), '[]')::text FROM ( \
            SELECT place, seq, incarnation, plan, changed_at, subject, change, steps, steps_done, state \
            FROM overskill_guard.schema_changes WHERE app_id = $1 AND place = '' ORDER BY seq) c";
    let rows = side.rows(HISTORY, &[(&side.app_id, Type::INT8)]).await?;
    let row = rows.first().ok_or_else(|| Error::new(ErrorKind::Unexpected, "an aggregate gave no row"))?;
    let text: String = row.try_get(0).map_err(failed("move"))?;
    if text.len() > HISTORY_BYTES {
        let message = format!("{} has a history of this app's columns of more than {HISTORY_BYTES} bytes", side.named);
        return Err(Error::new(ErrorKind::LimitExceeded, message).at(BACKEND, "move"));
    }
    Ok(text)
}

/// As much as tens of thousands of changes take.
const HISTORY_BYTES: usize = 64 << 20;
