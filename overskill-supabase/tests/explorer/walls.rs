//! What the list of what queries may hold would let through, the role and the policies stop. What the list refuses, query by
//! query, is in `attacks/explorer.rs`.

use crate::{Field, scope, support::Way};

/// What nobody of `todo` may see.
const DIARY: &str = "the diary of shop";

#[tokio::test(flavor = "multi_thread")]
async fn without_the_list_the_walls_stand_too() {
    // As if the list let everything through: the same role and context, the text as it is, on the bare connection.
    let field = Field::new().await;
    let client = field.world.raw(Way::Direct, "overskill_explorer").await;
    let grant = field.developer("todo").await;
    let role = field.world.pool_with(
        Way::Direct,
        "overskill_explorer",
        overskill_supabase::PoolOptions::new().right(overskill_core::Right::Develop),
    );
    for sql in [
        "SELECT data FROM overskill_data.entities",
        "SELECT query_to_xml('select data from overskill_data.entities', true, true, '')::text",
        "SELECT schema_to_xml('overskill_data', true, true, '')::text",
        "SELECT inner_pad FROM overskill_guard.keys",
        "SELECT set_config('overskill.context', 'x', true), (SELECT string_agg(data::text, '') FROM overskill_data.entities)",
        "SELECT set_config('role', 'service_role', true)",
        "SELECT pg_read_file('PG_VERSION')",
        "DELETE FROM overskill_data.entities",
        "SELECT most_common_vals::text FROM pg_stats WHERE schemaname = 'overskill_data'",
    ] {
        // Without a context there is nothing; with one there are no rows of others.
        let bare = client.simple_query(sql).await;
        assert!(!format!("{bare:?}").contains(DIARY), "{sql}");
        let tx = role.begin_read_only(&grant, &scope("todo")).await.unwrap();
        let inside = tx.query(sql, &[]).await;
        assert!(!format!("{inside:?}").contains(DIARY), "{sql}");
        if let Ok(rows) = inside {
            for row in rows.iter().filter(|row| !row.is_empty()) {
                let text = row.try_get::<_, Option<&str>>(0).ok().flatten().unwrap_or_default().to_owned();
                assert!(!text.contains(DIARY), "{sql}");
            }
        }
        drop(tx);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_was_taken_is_given_back_with_the_connection() {
    let field = Field::new().await;
    let grant = field.developer("todo").await;
    let options = || overskill_supabase::PoolOptions::new().right(overskill_core::Right::Develop);
    let other = field.world.raw(Way::Direct, "host").await;
    for way in Way::ALL {
        let role = field.world.pool_with(way, "overskill_explorer", options());
        let tx = role.begin_read_only(&grant, &scope("todo")).await.unwrap();
        tx.query("SELECT g.pg_advisory_lock FROM generate_series(7, 7) g", &[]).await.unwrap();
        let free = "SELECT pg_try_advisory_lock(7), pg_advisory_unlock_all()";
        assert!(!other.query_one(free, &[]).await.unwrap().get::<_, bool>(0), "it holds as long as the transaction");
        tx.rollback().await.unwrap();
        assert!(other.query_one(free, &[]).await.unwrap().get::<_, bool>(0), "{way:?}");
    }
}
