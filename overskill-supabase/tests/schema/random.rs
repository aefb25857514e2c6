//! Random changes, one after another: what the inspector sees is what a model says.

use super::Desk;
use overskill_core::{IdsExt as _, SystemIds};
use overskill_supabase::{AppSchema, SchemaEditor};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
};

const TABLES: [&str; 3] = ["order", "users", "Things"];
const COLUMNS: [&str; 4] = ["a", "b", "select", "D"];
const KINDS: [&str; 6] = ["text", "integer", "bigint", "boolean", "timestamptz", "uuid"];

/// What is left out of a model: names of indexes, which are found by their columns.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model(BTreeMap<String, Table>);

#[derive(Clone, Debug, Default, PartialEq)]
struct Table {
    columns: BTreeMap<String, (String, bool, bool)>,
    indexes: BTreeSet<String>,
    unique: BTreeSet<String>,
    points: BTreeSet<(String, String)>,
}

/// Choices by number, so that they shrink.
type Step = (u8, usize, usize, usize, usize, bool);

fn change(step: Step) -> Value {
    let (what, table, column, kind, other, flag) = step;
    let (table, column, kind) = (TABLES[table], COLUMNS[column], KINDS[kind]);
    let default = if flag { default_of(kind) } else { Value::Null };
    match what {
        0 | 1 => json!({ "change": "create_table", "table": table, "columns": [
            { "name": column, "type": kind, "nullable": flag },
            { "name": "other", "type": "uuid" } ] }),
        2 => json!({ "change": "rename_table", "table": table, "to": TABLES[other % 3] }),
        3 => json!({ "change": "drop_table", "table": table }),
        4..=6 => json!({ "change": "add_column", "table": table,
            "column": { "name": column, "type": kind, "nullable": other % 2 == 0, "default": default } }),
        7 => json!({ "change": "rename_column", "table": table, "column": column, "to": COLUMNS[other] }),
        8 => json!({ "change": "drop_column", "table": table, "column": column }),
        9 => json!({ "change": "set_type", "table": table, "column": column, "type": kind }),
        10 => json!({ "change": "set_nullable", "table": table, "column": column, "nullable": flag }),
        11 => json!({ "change": "set_default", "table": table, "column": column, "default": default }),
        12 => json!({ "change": "add_unique", "table": table, "columns": [column] }),
        13 => json!({ "change": "create_index", "table": table, "columns": [column] }),
        14 => {
            json!({ "change": "add_foreign_key", "table": table, "columns": ["other"], "to": TABLES[other % 3], "to_columns": ["id"] })
        }
        _ => unreachable!("there are no others"),
    }
}

fn default_of(kind: &str) -> Value {
    match kind {
        "text" => json!({ "value": "it's \\ $1" }),
        "integer" | "bigint" => json!({ "value": 5 }),
        "boolean" => json!({ "value": true }),
        "timestamptz" => json!("now"),
        _ => json!("random_uuid"),
    }
}

impl Model {
    /// What it is after the change; none if it cannot be made. Tables are empty here.
    #[allow(clippy::too_many_lines, reason = "one kind of change after another")]
    fn after(&self, change: &Value, shared: bool) -> Option<Self> {
        let mut next = self.clone();
        let text = |key: &str| change[key].as_str().unwrap_or_default().to_owned();
        let (name, column) = (text("table"), text("column"));
        if change["change"] == "create_table" {
            let all = change["columns"].as_array()?.iter();
            let columns = all.map(|it| {
                let nullable = it["nullable"].as_bool().unwrap_or(true);
                (it["name"].as_str().unwrap().to_owned(), (it["type"].as_str().unwrap().to_owned(), nullable, false))
            });
            let table = Table { columns: columns.collect(), ..Table::default() };
            return next.0.insert(name, table).is_none().then_some(next);
        }
        if change["change"] == "rename_table" {
            let to = text("to");
            next.0.remove(&name)?;
            if self.0.contains_key(&to) {
                return None;
            }
            let mut all = self.clone();
            let table = all.0.remove(&name)?;
            all.0.insert(to.clone(), table);
            for it in all.0.values_mut() {
                let renamed = |(of, at): (String, String)| if at == name { (of, to.clone()) } else { (of, at) };
                it.points = std::mem::take(&mut it.points).into_iter().map(renamed).collect();
            }
            return Some(all);
        }
        if change["change"] == "drop_table" {
            next.0.remove(&name)?;
            let pointed = next.0.values().any(|it| it.points.iter().any(|(_, to)| *to == name));
            return (!pointed).then_some(next);
        }
        let exists = change["change"] == "add_foreign_key" && next.0.contains_key(&text("to"));
        let table = next.0.get_mut(&name)?;
        match change["change"].as_str()? {
            "add_column" => {
                let it = &change["column"];
                let of = it["name"].as_str()?.to_owned();
                let made = (it["type"].as_str()?.to_owned(), it["nullable"].as_bool()?, !it["default"].is_null());
                table.columns.insert(of, made).is_none().then_some(())?;
            }
            "rename_column" => {
                let to = text("to");
                let it = table.columns.remove(&column)?;
                // To itself is no change, and refused.
                (to != column && table.columns.insert(to.clone(), it).is_none()).then_some(())?;
                for set in [&mut table.indexes, &mut table.unique] {
                    if set.remove(&column) {
                        set.insert(to.clone());
                    }
                }
            }
            "drop_column" => {
                table.columns.remove(&column)?;
                table.indexes.remove(&column);
                table.unique.remove(&column);
            }
            "set_type" => {
                let it = table.columns.get_mut(&column)?;
                let to = text("type");
                if shared {
                    // Values stay as they are, and there are none; an index and a default have to be of that kind.
                    let number = |kind: &str| matches!(kind, "integer" | "bigint");
                    let moves = table.indexes.contains(&column) && number(&it.0) != number(&to);
                    let same = it.0 == to || (number(&it.0) && number(&to));
                    (!moves && (!it.2 || same)).then_some(())?;
                } else {
                    let from = it.0.clone();
                    let family = |kind: &str| {
                        if matches!(kind, "integer" | "bigint") { "number".to_owned() } else { kind.to_owned() }
                    };
                    let way = family(&from) == family(&to) || from == "text" || to == "text";
                    (way && (!it.2 || family(&from) == family(&to))).then_some(())?;
                }
                it.0 = to;
            }
            "set_nullable" => table.columns.get_mut(&column)?.1 = change["nullable"].as_bool()?,
            "set_default" => {
                let it = table.columns.get_mut(&column)?;
                let default = &change["default"];
                let fits = default.is_null() || *default == default_of(&it.0);
                fits.then_some(())?;
                it.2 = !default.is_null();
            }
            "add_unique" if !shared => {
                let of = change["columns"][0].as_str()?.to_owned();
                (table.columns.contains_key(&of) && table.unique.insert(of)).then_some(())?;
            }
            "create_index" => {
                let of = change["columns"][0].as_str()?.to_owned();
                let kind = table.columns.get(&of)?.0.clone();
                if shared {
                    let number = |of: &String| matches!(table.columns[of].0.as_str(), "integer" | "bigint");
                    let alike =
                        table.indexes.iter().filter(|it| number(it) == matches!(kind.as_str(), "integer" | "bigint"));
                    (kind != "boolean" && !table.indexes.contains(&of) && alike.count() < 3).then_some(())?;
                }
                table.indexes.insert(of);
            }
            "add_foreign_key" if !shared => {
                (exists && table.columns.contains_key("other")).then_some(())?;
                table.points.insert(("other".into(), text("to")));
            }
            _ => return None,
        }
        Some(next)
    }

    fn seen(schema: &AppSchema) -> Self {
        let tables = schema.tables.iter().map(|table| {
            let own = ["id", "created_at", "updated_at"];
            let columns = table.columns.iter().filter(|it| !own.contains(&it.name.as_str())).map(|it| {
                (it.name.clone(), (it.kind.map(String::from).unwrap_or_default(), it.nullable, it.default.is_some()))
            });
            let indexes = table.indexes.iter().filter(|it| !it.of_key).map(|it| it.columns.join(","));
            let it = Table {
                columns: columns.collect(),
                indexes: indexes.collect(),
                unique: table.unique.iter().map(|it| it.columns.join(",")).collect(),
                points: table.foreign_keys.iter().map(|it| (it.columns.join(","), it.to.clone())).collect(),
            };
            (table.name.clone(), it)
        });
        Self(tables.collect())
    }
}

async fn run(
    desk: &Desk,
    editors: &[SchemaEditor],
    steps: &[Step],
    shared: bool,
    counts: &Mutex<BTreeMap<String, [usize; 2]>>,
) {
    let mut model = Model::default();
    for (n, step) in steps.iter().enumerate() {
        let change = change(*step);
        let editor = &editors[n % editors.len()];
        let want = model.after(&change, shared);
        let done = match desk.plan(editor, change.clone()).await {
            Ok(plan) => desk.apply(editor, &plan).await.map(drop),
            Err(e) => Err(e),
        };
        assert_eq!(done.is_ok(), want.is_some(), "{change} on {model:?}: {done:?}");
        let kind = change["change"].as_str().unwrap().to_owned();
        counts.lock().unwrap().entry(kind).or_default()[usize::from(done.is_ok())] += 1;
        model = want.unwrap_or(model);
        assert_eq!(Model::seen(&desk.schema().await), model, "after {change}");
    }
    desk.walls_stand().await;
}

#[test]
fn the_inspector_sees_what_a_model_says() {
    let seed = std::env::var("OVERSKILL_PROPERTY_SEED").ok();
    let seed: u64 = seed.map_or_else(|| SystemIds.random_u64(), |seed| seed.parse().unwrap());
    println!("OVERSKILL_PROPERTY_SEED={seed}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let step = (0_u8..15, 0_usize..3, 0_usize..4, 0_usize..6, 0_usize..4, any::<bool>());
    let steps = proptest::collection::vec(step, 50);
    for shared in [false, true] {
        let config = Config { cases: 5, max_shrink_iters: 100, failure_persistence: None, ..Config::default() };
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed.to_le_bytes().repeat(4));
        let desk = runtime.block_on(async { if shared { Desk::shared().await } else { Desk::new().await } });
        let counts = Mutex::new(BTreeMap::new());
        let ran = TestRunner::new_with_rng(config, random).run(&steps, |steps| {
            runtime.block_on(async {
                clear(&desk).await;
                // As if all tables with a row were large, too; these have none.
                run(&desk, &[desk.editor(), desk.careful()], &steps, shared, &counts).await;
            });
            Ok(())
        });
        ran.unwrap();
        let counts = counts.into_inner().unwrap();
        println!("refused and made: {counts:?}");
        assert_eq!(counts.len(), 12, "{counts:?}");
        // Seeds make 47 to a hundred of 250.
        assert!(counts.values().map(|[_, made]| made).sum::<usize>() > 20, "{counts:?}");
    }
}

/// Drops all tables, those that others point to last.
async fn clear(desk: &Desk) {
    loop {
        let schema = desk.schema().await;
        if schema.tables.is_empty() {
            return;
        }
        for table in &schema.tables {
            let change = json!({ "change": "drop_table", "table": table.name });
            match desk.plan(&desk.editor(), change).await {
                Ok(plan) => drop(desk.apply(&desk.editor(), &plan).await.unwrap()),
                Err(_) => {
                    // A ring: its keys go first.
                    for key in &table.foreign_keys {
                        let change =
                            json!({ "change": "drop_constraint", "table": table.name, "constraint": key.name });
                        desk.change(change).await;
                    }
                }
            }
        }
    }
}
