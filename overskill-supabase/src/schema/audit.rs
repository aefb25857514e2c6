//! Looking at the walls from outside.

use crate::tx::fault::failed;
use overskill_core::Result;
use tokio_postgres::{Client, types::Type};

/// What is wrong with them, in sentences; nothing when they stand.
pub(crate) async fn walls(client: &Client) -> Result<Vec<String>> {
    let mut rows = client.query_typed(include_str!("audit.sql"), &[]).await.map_err(failed("audit"))?;
    rows.extend(client.query_typed(SCHEMAS, &[(&None::<&str>, Type::TEXT)]).await.map_err(failed("audit"))?);
    // A statement about a table that is not there cannot be sent.
    let there = client.query_typed_one("SELECT to_regclass('storage.buckets') IS NOT NULL", &[]).await;
    if there.and_then(|row| row.try_get(0)).map_err(failed("audit"))? {
        rows.extend(client.query_typed(BUCKETS, &[]).await.map_err(failed("audit"))?);
    }
    rows.iter().map(|row| row.try_get(0).map_err(failed("audit"))).collect()
}

const BUCKETS: &str = "SELECT 'the bucket apps is public, and everybody reads the files of all apps: make it private' \
    FROM storage.buckets WHERE id = 'apps' AND public";

/// What the project's own tables and functions answer to visitors of apps. No wall between apps, and nothing that an
/// installation could mend: a project of a customer's may have them, for no app's tokens are shown there.
pub(crate) async fn visitors(client: &Client) -> Result<Vec<String>> {
    let there = client.query_typed_one("SELECT to_regrole('authenticated') IS NOT NULL", &[]).await;
    if !there.and_then(|row| row.try_get::<_, bool>(0)).map_err(failed("audit"))? {
        return Ok(Vec::new());
    }
    let rows = client.query_typed(include_str!("visitors.sql"), &[]).await.map_err(failed("audit"))?;
    rows.iter().map(|row| row.try_get(0).map_err(failed("audit"))).collect()
}

/// What is wrong with schemas that are one app's: all, or the one that its argument names.
pub(crate) const SCHEMAS: &str = include_str!("audit_schemas.sql");

/// What is wrong with the role that asks.
pub(crate) async fn role(client: &Client) -> Result<Vec<String>> {
    const ROLE: &str = "SELECT format('role %I is a superuser or bypasses row level security', rolname) \
        FROM pg_catalog.pg_roles WHERE rolname = current_user AND (rolsuper OR rolbypassrls) \
        UNION ALL SELECT format('role %I belongs to others', current_user) \
        WHERE EXISTS (SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.member \
                      WHERE r.rolname = current_user)
        UNION ALL SELECT 'the schema of tenants is not installed, or an older one' \
        WHERE to_regprocedure('overskill_data.whereabouts()') IS NULL";
    let rows = client.query_typed(ROLE, &[]).await.map_err(failed("check"))?;
    rows.iter().map(|row| row.try_get(0).map_err(failed("check"))).collect()
}
