//! However the sources came to be what they are, pages get the same.

use super::app::{App, env, path, todo};
use overskill_core::{AppFile, Change, Changes, Snapshot};
use proptest::prelude::*;

const NAMES: [&str; 8] = [
    "src/App.tsx",
    "src/Label.tsx",
    "src/loud.ts",
    "src/index.css",
    "src/a.module.css",
    "src/d.json",
    "src/New.ts",
    "tsconfig.json",
];
const TEXTS: [&str; 6] = [
    "export const loud = (s: string) => s;\nexport default 1; export const Label = 2;\n",
    "import './New'; import '@/loud'; export const Label = () => <b/>; export default Label;\n",
    "{ \"x\": 1 }",
    ".box { color: red }",
    "export const broken = (",
    "{ \"compilerOptions\": { \"paths\": { \"@/*\": [\"src/*\"] } } }",
];

/// Everything that the app serves, without stamps.
fn served(app: &App) -> Vec<(String, u16, String)> {
    let addresses =
        NAMES.iter().map(|name| format!("/{name}")).chain(["/".to_owned(), "/@overskill/env.js".to_owned()]);
    addresses
        .map(|address| {
            let response = app.get(&address);
            let text = String::from_utf8_lossy(&response.body).into_owned();
            (address, response.status, unstamped(&text.replace("&amp;", "&")))
        })
        .collect()
}

fn unstamped(text: &str) -> String {
    let mut parts = text.split("t=");
    let first = parts.next().unwrap_or_default().to_owned();
    let plain = parts.fold(first, |all, part| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        // `?t=5` and `?import&t=5` are the same module as without.
        let all = if rest.len() < part.len() { all.trim_end_matches(['?', '&']).to_owned() } else { all + "t=" };
        all + rest
    });
    // Which packages were asked for before is part of their address, and of nothing else.
    let mut parts = plain.split("/@npm/");
    let first = parts.next().unwrap_or_default().to_owned();
    let plain =
        parts.fold(first, |all, part| all + "/@npm/" + part.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
    plain.split("\"seq\":").map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn batches_replacing_and_opening_come_to_the_same(
        batches in proptest::collection::vec(proptest::collection::vec((0..NAMES.len(), proptest::option::of(0..TEXTS.len())), 1..4), 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let step_by_step = App::open(&todo()).await;
            let mut files = super::app::snapshot(1, &todo()).files;
            let mut position = step_by_step.preview.position();
            for batch in &batches {
                let changes: Changes = batch.iter().map(|(name, text)| {
                    let change = text.map_or(Change::Delete, |n| Change::Put(AppFile::new(TEXTS[n])));
                    (path(NAMES[*name]), change)
                }).collect();
                changes.apply_to(&mut files);
                step_by_step.preview.apply(position, position.next(), &changes).await.unwrap().unwrap();
                position = position.next();
            }
            let last = Snapshot::new(position, files);
            let replaced = App::open(&todo()).await;
            replaced.preview.replace(&last, &env(1, &[])).await.unwrap();
            let fresh = App::open(&[]).await;
            fresh.preview.replace(&last, &env(1, &[])).await.unwrap();
            assert_eq!(served(&step_by_step), served(&replaced));
            assert_eq!(served(&replaced), served(&fresh));
            // What a broken module led to counts as long as pages run it.
            assert_eq!(step_by_step.preview.problems().is_empty(), fresh.preview.problems().is_empty());
        });
    }
}
