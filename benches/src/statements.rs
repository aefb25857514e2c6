//! The statements of the stores, word for word. A test says when they are not any more.

/// One file.
pub const GET: &str = "
    SELECT c.digest, c.bytes FROM files f JOIN file_contents c ON c.digest = f.digest
    WHERE f.app = $1 AND f.environment = $2 AND f.path = $3";

/// All files.
pub const SNAPSHOT: &str = "
    SELECT s.seq, f.path, c.digest, c.bytes FROM file_scopes s
    LEFT JOIN files f ON f.app = s.app AND f.environment = s.environment
    LEFT JOIN file_contents c ON c.digest = f.digest
    WHERE s.app = $1 AND s.environment = $2";

/// One step further.
pub const STEP_SQLITE: &str = "
    INSERT INTO file_scopes (app, environment, seq)
    SELECT $1, $2, 1 WHERE $3 IS NULL OR $3 = coalesce(
    (SELECT seq FROM file_scopes WHERE app = $1 AND environment = $2), 0)
    ON CONFLICT (app, environment) DO UPDATE SET seq = file_scopes.seq + 1
    WHERE $3 IS NULL OR file_scopes.seq = $3
    RETURNING seq;
    DELETE FROM file_changes WHERE app = $1 AND environment = $2 AND seq <=
    (SELECT seq FROM file_scopes WHERE app = $1 AND environment = $2) - $4";

/// The same.
pub const STEP_POSTGRES: &str = "
    WITH step AS (
    INSERT INTO file_scopes (app, environment, seq)
    SELECT $1, $2, 1 WHERE $3::bigint IS NULL OR $3 = coalesce(
    (SELECT seq FROM file_scopes WHERE app = $1 AND environment = $2), 0)
    ON CONFLICT (app, environment) DO UPDATE SET seq = file_scopes.seq + 1
    WHERE $3 IS NULL OR file_scopes.seq = $3
    RETURNING seq
    ), pruned AS (
    DELETE FROM file_changes c USING step
    WHERE c.app = $1 AND c.environment = $2 AND c.seq <= step.seq - $4
    )
    SELECT seq FROM step";

/// One changed file.
pub const PUT_FILE_SQLITE: &str = "
    INSERT INTO file_contents (digest, bytes) VALUES ($5, $6) ON CONFLICT DO NOTHING;
    INSERT INTO file_changes (app, environment, seq, path, digest) VALUES ($1, $2, $3, $4, $5);
    INSERT INTO files (app, environment, path, digest, size_bytes) VALUES ($1, $2, $4, $5, $7)
    ON CONFLICT (app, environment, path) DO UPDATE
    SET digest = excluded.digest, size_bytes = excluded.size_bytes";

/// All changed files.
pub const PUT_FILES_POSTGRES: &str = "
    WITH put AS (
    SELECT * FROM unnest($4::text[], $5::text[], $6::bytea[], $7::bigint[]) AS p (path, digest, bytes, size_bytes)
    ), contents AS (
    INSERT INTO file_contents (digest, bytes)
    SELECT DISTINCT ON (digest) digest, bytes FROM put ORDER BY digest ON CONFLICT DO NOTHING
    ), changes AS (
    INSERT INTO file_changes (app, environment, seq, path, digest) SELECT $1, $2, $3, path, digest FROM put
    )
    INSERT INTO files (app, environment, path, digest, size_bytes) SELECT $1, $2, path, digest, size_bytes FROM put
    ON CONFLICT (app, environment, path) DO UPDATE
    SET digest = excluded.digest, size_bytes = excluded.size_bytes";

/// An artifact that is there.
pub const ARTIFACT_AGAIN_SQLITE: &str = "
    UPDATE artifacts SET since_ms = max(since_ms, $2) WHERE digest = $1";

/// The same.
pub const ARTIFACT_AGAIN_POSTGRES: &str = "
    UPDATE artifacts SET since_ms = greatest(since_ms, $2) WHERE digest = $1";

/// An artifact that is new.
pub const ARTIFACT_NEW_SQLITE: &str = "
    INSERT INTO artifacts (digest, manifest, size_bytes, since_ms) VALUES ($1, $2, $3, $4)";

/// The same.
pub const ARTIFACT_NEW_POSTGRES: &str = "
    INSERT INTO artifacts (digest, manifest, size_bytes, since_ms) VALUES ($1, $2, $3, $4)
    ON CONFLICT (digest) DO UPDATE
    SET since_ms = greatest(artifacts.since_ms, excluded.since_ms)";

/// One blob of an artifact.
pub const PUT_BLOB_SQLITE: &str = "
    INSERT INTO blobs (digest, bytes) VALUES ($2, $3) ON CONFLICT DO NOTHING;
    INSERT INTO artifact_blobs (artifact, blob) VALUES ($1, $2)";

/// All blobs of an artifact.
pub const PUT_BLOBS_POSTGRES: &str = "
    WITH put AS (
    SELECT * FROM unnest($2::text[], $3::bytea[]) AS p (digest, bytes)
    ), new AS (
    INSERT INTO blobs (digest, bytes) SELECT digest, bytes FROM put ORDER BY digest ON CONFLICT DO NOTHING
    )
    INSERT INTO artifact_blobs (artifact, blob) SELECT $1, digest FROM put ON CONFLICT DO NOTHING";

/// A deployment moves on.
pub const ADVANCE: &str = "
    INSERT INTO deployments (id, app, environment, seq, ended, due_ms)
    SELECT $1, $2, $3, $4, $5, CASE WHEN $9 IS NULL AND $5 IS NULL THEN $8 ELSE $9 END
    WHERE CASE WHEN $6 = 0 THEN NOT EXISTS (SELECT 1 FROM deployments WHERE app = $2 AND environment = $3
    AND id > CASE WHEN $10 < $1 THEN $10 ELSE $1 END)
    ELSE EXISTS (SELECT 1 FROM deployments WHERE id = $1) END
    ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, ended = coalesce(deployments.ended, excluded.ended),
    due_ms = CASE WHEN $9 IS NOT NULL OR coalesce(deployments.ended, excluded.ended) IS NOT NULL THEN $9
    WHEN deployments.due_ms <= $8 THEN deployments.due_ms ELSE $8 END
    WHERE deployments.seq = $6 AND deployments.app = $2 AND deployments.environment = $3
    AND (deployments.ended IS NULL OR $7)
    RETURNING $8";

/// The same.
pub const ADVANCE_POSTGRES: &str = "
    INSERT INTO deployments (id, app, environment, seq, ended, due_ms)
    SELECT $1, $2, $3, $4, $5, CASE WHEN $9 IS NULL AND $5 IS NULL THEN $8 ELSE $9 END
    WHERE CASE WHEN $6 = 0 THEN NOT EXISTS (SELECT 1 FROM deployments WHERE app = $2 AND environment = $3
    AND id > CASE WHEN $10 < $1 THEN $10 ELSE $1 END)
    ELSE EXISTS (SELECT 1 FROM deployments WHERE id = $1) END
    ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, ended = coalesce(deployments.ended, excluded.ended),
    due_ms = CASE WHEN $9 IS NOT NULL OR coalesce(deployments.ended, excluded.ended) IS NOT NULL THEN $9
    WHEN deployments.due_ms <= $8 THEN deployments.due_ms ELSE $8 END
    WHERE deployments.seq = $6 AND deployments.app = $2 AND deployments.environment = $3
    AND (deployments.ended IS NULL OR $7)
    RETURNING greatest($8, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)";

/// The lease is taken.
pub const TAKE: &str = "
    INSERT INTO deployment_leases (app, environment, fence, deployment, holder, expires_ms)
    VALUES ($1, $2, $3 + 1, $4, $5, $6)
    ON CONFLICT (app, environment) DO UPDATE
    SET fence = CASE WHEN deployment_leases.fence > $3 THEN deployment_leases.fence ELSE $3 END + 1,
    deployment = excluded.deployment, holder = excluded.holder,
    expires_ms = excluded.expires_ms
    WHERE deployment_leases.fence < $8
    AND (deployment_leases.deployment IS NULL OR deployment_leases.expires_ms <= $7
    OR (deployment_leases.deployment = $4 AND deployment_leases.holder = $5))
    RETURNING fence";

/// The lease is kept.
pub const KEEP: &str = "
    UPDATE deployment_leases SET expires_ms = $6
    WHERE app = $1 AND environment = $2 AND deployment = $3 AND fence = $4 AND expires_ms > $5
    RETURNING holder";

/// The lease is given back.
pub const RELEASE: &str = "
    UPDATE deployment_leases SET deployment = NULL, holder = NULL, expires_ms = NULL
    WHERE app = $1 AND environment = $2 AND deployment = $3 AND fence = $4 AND expires_ms > $5";

/// Events of a deployment.
pub const ADD_EVENTS_SQLITE: &str = "
    INSERT INTO deployment_events (deployment, seq, at_ms, event)
    SELECT $1, $2 + key + 1, $3, value FROM json_each($4)";

/// The same.
pub const ADD_EVENTS_POSTGRES: &str = "
    INSERT INTO deployment_events (deployment, seq, at_ms, event)
    SELECT $1, $2 + place, $3, event::text
    FROM json_array_elements($4::json) WITH ORDINALITY AS events (event, place)";

/// A route is set.
pub const SET_ROUTE: &str = "
    INSERT INTO routes (app, environment, target, deployment, reference, url, fence)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (app, environment) DO UPDATE
    SET target = excluded.target, deployment = excluded.deployment,
    reference = excluded.reference, url = excluded.url, fence = excluded.fence
    WHERE routes.fence < excluded.fence
    OR (routes.fence = excluded.fence AND routes.deployment = excluded.deployment)";

#[cfg(test)]
mod tests {
    use super::*;

    const STORES: [&str; 8] = [
        include_str!("../../overskill-sql/src/stores/bundles.rs"),
        include_str!("../../overskill-sql/src/stores/deployments.rs"),
        include_str!("../../overskill-sql/src/stores/files.rs"),
        include_str!("../../overskill-sql/src/stores/routes.rs"),
        include_str!("../../overskill-sql/src/sqlite/change_files.rs"),
        include_str!("../../overskill-sql/src/sqlite/put_blobs.rs"),
        include_str!("../../overskill-sql/src/postgres/change_files.rs"),
        include_str!("../../overskill-sql/src/postgres/put_blobs.rs"),
    ];

    fn words(text: &str) -> String {
        text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_peers_run_what_the_stores_run() {
        let stores = words(&STORES.concat());
        // What the stores put together from two pieces.
        let joined = [ADVANCE, ADVANCE_POSTGRES].map(|sql| sql.rsplit_once("RETURNING").expect("it returns").0);
        let whole = [
            GET,
            SNAPSHOT,
            STEP_SQLITE,
            STEP_POSTGRES,
            PUT_FILE_SQLITE,
            PUT_FILES_POSTGRES,
            ARTIFACT_AGAIN_SQLITE,
            ARTIFACT_AGAIN_POSTGRES,
            ARTIFACT_NEW_SQLITE,
            ARTIFACT_NEW_POSTGRES,
            PUT_BLOB_SQLITE,
            PUT_BLOBS_POSTGRES,
            TAKE,
            KEEP,
            RELEASE,
            SET_ROUTE,
            ADD_EVENTS_SQLITE,
            ADD_EVENTS_POSTGRES,
        ];
        for sql in whole.into_iter().chain(joined) {
            assert!(stores.contains(&words(sql)), "the stores have changed; they do not say any more: {}", words(sql));
        }
    }
}
