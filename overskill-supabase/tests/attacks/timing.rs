//! What the time of an answer tells, where the answer tells nothing: both of two questions are answered alike.
//!
//! An attacker asks about something of the victim's and about something that is nobody's, in turn, and compares ranks: how
//! often one took longer than the other, of all pairs. A half says nothing.

use crate::{
    stage::{Attacker, Stage},
    support::{Way, scope},
};
use overskill_core::Rights;
use overskill_supabase::{Access, TenantTx};
use std::time::{Duration, Instant};

/// How many times each is asked; more often, when the machine was too busy to tell.
const ASKED: [usize; 3] = [200, 600, 1_800];
/// As far from a half as this, and the time tells.
const TELLS: f64 = 0.15;

/// As many rows of the victim's as make a difference that can be measured.
const ROWS: usize = 200;

#[test]
fn the_time_of_an_error_tells_what_is_taken() {
    // What is taken already is not written: that is faster, whatever error comes after it.
    let sql = format!(
        "WITH made AS (INSERT INTO {{t}} (entity_type, id, data) SELECT 'Todo', '{{x}}' || n, '{{}}' \
         FROM generate_series(1, {ROWS}) n ON CONFLICT DO NOTHING RETURNING 1) SELECT 1 / (count(*) * 0) FROM made"
    );
    let weak = format!(
        "ALTER TABLE weak.entities ALTER app_id SET DEFAULT 1; INSERT INTO weak.entities (app_id, id, owner, data) \
         SELECT 2, 'w' || n, 'vic', '{{}}' FROM generate_series(1, {ROWS}) n"
    );
    tells_by_its_time(&weak, &sql, &sql, ["w", "z"], "division by zero");
}

#[test]
fn the_time_of_an_empty_answer_tells_what_others_have() {
    // The policy is asked about each row that an index finds, and only then it is nobody's.
    let weak = format!(
        "CREATE INDEX ON weak.entities (t1); INSERT INTO weak.entities (app_id, id, owner, data, t1) \
         SELECT 2, 'w' || n, 'vic', '{{}}', 'w' FROM generate_series(1, {}) n",
        ROWS * 9
    );
    let twin = "SELECT count(*) FROM {t} WHERE t1 = '{x}'";
    let ours = "SELECT count(*) FROM {t} WHERE entity_type = 'Todo' AND t1 = '{x}'";
    tells_by_its_time(&weak, twin, ours, ["w", "z"], "0");
}

/// `weak` makes the twin; `{x}` is one of `two`, which both give `answer`.
fn tells_by_its_time(weak: &str, on_twin: &str, on_ours: &str, two: [&'static str; 2], answer: &str) {
    Stage::on(async |stage| {
        stage.world.execute(weak);
        fill(stage).await;
        let mut told = 0.5;
        for times in ASKED {
            told = advantage(stage, None, on_twin, two, answer, times).await;
            println!("on the twin, {times} times: {told:.3}");
            if (told - 0.5).abs() > 2.0 * TELLS {
                break;
            }
        }
        assert!((told - 0.5).abs() > 2.0 * TELLS, "the attack shows nothing: on the twin it tells {told:.3}");
        for way in Way::ALL {
            let mut told = 0.0;
            for times in ASKED {
                told = advantage(stage, Some(way), on_ours, two, answer, times).await;
                println!("on ours, {way:?}, {times} times: {told:.3}");
                if (told - 0.5).abs() < TELLS {
                    break;
                }
            }
            assert!((told - 0.5).abs() < TELLS, "the attack succeeds, {way:?}: {told:.3}");
        }
    });
}

/// The victim's rows, as the library writes them.
async fn fill(stage: &Stage) {
    let (world, at) = (&stage.world, scope("victim"));
    let developer = world.grant_of("dev", "victim", Rights::ALL).await;
    let work = async |tx: &TenantTx| {
        tx.define("Todo", Access::Everybody, &[("t1", "of")]).await?;
        let rows = format!(
            "INSERT INTO {} (entity_type, id, data) SELECT 'Todo', 'w' || n, '{{\"of\": \"w\"}}' \
             FROM generate_series(1, {}) n",
            tx.table("entities"),
            ROWS * 3
        );
        tx.simple(&rows).await.map(drop)
    };
    world.pool(Way::Direct).with_tenant(&developer, &at, work).await.unwrap();
    // The attacker's own kind has such a column, too.
    let eve = world.grant_of("eve", "evil", Rights::ALL).await;
    let work = async |tx: &TenantTx| tx.define("Todo", Access::Everybody, &[("t1", "of")]).await;
    world.pool(Way::Direct).with_tenant(&eve, &scope("evil"), work).await.unwrap();
}

/// Of all pairs, how many had the first take longer.
async fn advantage(
    stage: &Stage,
    ours: Option<Way>,
    sql: &str,
    two: [&'static str; 2],
    answer: &str,
    times: usize,
) -> f64 {
    let attacker = Attacker::connect(stage, ours.unwrap_or(Way::Direct), "overskill_app").await;
    let table = if ours.is_some() { "overskill_data.entities" } else { "weak.entities" };
    let mut took = [Vec::with_capacity(times), Vec::with_capacity(times)];
    for n in 0..times * 2 + 20 {
        // One, the other, the other, one: what drifts meets both.
        let which = [0, 1, 1, 0][n % 4];
        attacker.begin(ours.is_some(), true, "overskill_app").await;
        let statement = sql.replace("{t}", table).replace("{x}", two[which]);
        let begun = Instant::now();
        let said = attacker.say(&statement).await;
        let it = begun.elapsed();
        attacker.say("ROLLBACK").await;
        assert!(said.contains(answer), "{said}");
        // The first ones fill memories.
        if n >= 20 {
            took[which].push(it);
        }
    }
    share_above(&took[0], &took[1])
}

/// Of all pairs, in how many the one is larger; a draw counts half.
fn share_above(ones: &[Duration], others: &[Duration]) -> f64 {
    let above = |one: &Duration| others.iter().map(|it| if one > it { 2 } else { u32::from(one == it) }).sum::<u32>();
    let twice: u32 = ones.iter().map(above).sum();
    f64::from(twice) / 2.0 / f64::from(u32::try_from(ones.len() * others.len()).unwrap())
}
