//! The same work where a wall is missing, or a row: it is seen.

use crate::{
    model::Breach,
    support::{DATABASE, World},
    worker::{Field, Mix, Worker},
};
use std::sync::Arc;

const NOTHING: Mix = Mix { transactions: 0, calls: 0, queries: 0, refusals: 0, moves: 0, redefinitions: 0 };
const BY_SQL: Mix = Mix { transactions: 1, ..NOTHING };
const BY_CALLS: Mix = Mix { calls: 1, ..NOTHING };
const BY_QUERIES: Mix = Mix { calls: 1, queries: 1, ..NOTHING };

const NO_POLICY: &str = "DROP POLICY app ON overskill_data.entities";
const NO_SECURITY: &str = "ALTER TABLE overskill_data.entities DISABLE ROW LEVEL SECURITY";
/// The context of the app that was first there, whoever asks.
const WRONG_APP: &str = "
    CREATE FUNCTION overskill_guard.weak() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS
        'SELECT min(app_id) FROM overskill_guard.apps';
    ALTER POLICY app ON overskill_data.entities USING (app_id = overskill_guard.weak()) WITH CHECK (true)";
/// A row goes with every other that is changed.
const LOSES: &str = "
    CREATE FUNCTION overskill_guard.weak() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
        IF NEW.id < 'r2' THEN
            DELETE FROM overskill_data.entities e WHERE e.app_id = NEW.app_id AND e.id > 'r8';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER weak AFTER UPDATE ON overskill_data.entities FOR EACH ROW EXECUTE FUNCTION overskill_guard.weak()";
/// What one app deletes, all do.
const DELETES_ALL: &str = "
    CREATE FUNCTION overskill_guard.weak() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
        IF NEW.deleted_at IS NOT NULL AND OLD.deleted_at IS NULL THEN
            PERFORM set_config('session_replication_role', 'replica', true); -- past our own trigger, which would refuse
            UPDATE overskill_data.entities e SET deleted_at = now()
            WHERE e.entity_type = NEW.entity_type AND e.id = NEW.id AND e.deleted_at IS NULL;
            PERFORM set_config('session_replication_role', 'origin', true);
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER weak AFTER UPDATE ON overskill_data.entities FOR EACH ROW EXECUTE FUNCTION overskill_guard.weak()";

type Is = fn(&Breach) -> bool;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_wall_is_missing_a_foreign_row_is_seen() {
    let world = World::new().await;
    found(
        world,
        &[
            ("no policy, by SQL", NO_POLICY, BY_SQL, Breach::is_foreign as Is),
            ("no policy, by calls", NO_POLICY, BY_CALLS, Breach::is_foreign),
            ("no policy, by queries", NO_POLICY, BY_QUERIES, Breach::is_foreign),
            ("no row level security", NO_SECURITY, BY_SQL, Breach::is_foreign),
            ("another app's context", WRONG_APP, BY_SQL, Breach::is_foreign),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_row_is_lost_it_is_missed() {
    let world = World::new().await;
    found(
        world,
        &[
            ("a row that goes with another, by SQL", LOSES, BY_SQL, Breach::is_lost as Is),
            ("a row that goes with another, by calls", LOSES, BY_CALLS, Breach::is_lost),
            ("a row that goes with another, by queries", LOSES, BY_QUERIES, Breach::is_lost),
            ("one app deletes another's", DELETES_ALL, BY_SQL, Breach::is_lost),
        ],
    )
    .await;
}

/// Each hole in a database of its own; the same work without it finds nothing.
async fn found(mut world: World, holes: &[(&str, &str, Mix, Is)]) {
    for (n, (name, hole, mix, is)) in holes.iter().enumerate() {
        for (m, sql) in ["", hole].into_iter().enumerate() {
            let database = format!("weak_{n}_{m}");
            let copied = format!("CREATE DATABASE {database} TEMPLATE {DATABASE} OWNER host");
            world.cluster.execute("postgres", &copied).unwrap();
            world.move_to(&database);
            let field = Arc::new(Field::without_projects(world));
            let mut worker = Worker::new(field.clone(), 0, 7, *mix).await;
            // First there is something to be seen or lost.
            for _ in 0..30 {
                worker.step().await.unwrap_or_else(|breach| panic!("{name}: {breach}"));
            }
            let again = field.world.lock().unwrap().take().unwrap();
            again.execute(sql);
            let mut seen = None;
            for _ in 0..if m == 0 { 60 } else { 3_000 } {
                match worker.step().await {
                    Err(breach) if is(&breach) => {
                        seen = Some(breach);
                        break;
                    }
                    // A hole makes more than one thing wrong.
                    Err(_) if m == 1 => {}
                    done => done.unwrap_or_else(|breach| panic!("{name}, before there was a hole: {breach}")),
                }
            }
            println!("{name}: {}", seen.as_ref().map_or_else(String::new, ToString::to_string));
            assert_eq!(seen.is_some(), m == 1, "{name}");
            world = again;
        }
    }
}
