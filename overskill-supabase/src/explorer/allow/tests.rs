use super::{super::tables::OwnTable, *};

fn allowed(sql: &str) -> Result<String> {
    super::allowed(sql, Tables { home: "overskill_data", own: Some(&[]) })
}

#[test]
fn tables_of_the_apps_own_are_named_as_the_database_compares_names() {
    let columns = || vec!["name".to_owned(), "Odd \"column\"".into()];
    let own = |schema: &str, name: &str, is_kind| OwnTable {
        schema: schema.into(),
        name: name.into(),
        is_kind,
        columns: columns(),
    };
    let own = [
        own("shop", "people", false),
        own("shop", "Odd \"Name\"", false),
        own("shop", "both", true),
        own("a", "two", false),
        own("b", "two", false),
    ];
    let allowed = |sql: &str| super::allowed(sql, Tables { home: "overskill_data", own: Some(&own) });
    for (given, want) in [
        (
            "SELECT * FROM People",
            "SELECT * FROM (SELECT \"name\", \"Odd \"\"column\"\"\" FROM \"shop\".\"people\") AS People",
        ),
        (
            "SELECT p.name FROM people p",
            "SELECT p.name FROM (SELECT \"name\", \"Odd \"\"column\"\"\" FROM \"shop\".\"people\") p",
        ),
        ("WITH people AS (SELECT 1) SELECT * FROM people", "WITH people AS (SELECT 1) SELECT * FROM people"),
    ] {
        assert_eq!(allowed(given).unwrap(), want, "{given}");
    }
    assert!(allowed("SELECT * FROM \"People\"").unwrap().contains("entity_type = 'People'"));
    for (bad, word) in
        [("both", "rename one"), ("two", "in schema `a` and in `b`"), ("shop.people", "without a schema")]
    {
        let e = allowed(&format!("SELECT * FROM {bad}")).unwrap_err();
        assert!(e.message().contains(word), "{bad}: {e}");
    }
    assert!(allowed("SELECT * FROM \"Odd \"\"Name\"\"\"").is_err());
}

#[test]
fn what_is_run_is_the_tree_written_out_anew() {
    let records = "(SELECT id, owner, data, created_at, updated_at FROM overskill_data.entities \
                   WHERE entity_type = 'Task' AND deleted_at IS NULL)";
    for (given, want) in [
        ("select /* x */ 1 -- y\n;", "SELECT 1".to_owned()),
        ("SELECT * FROM Task", format!("SELECT * FROM {records} AS Task")),
        ("SELECT t.id FROM \"Task\" t", format!("SELECT t.id FROM {records} t")),
        ("WITH Task AS (SELECT 1) SELECT * FROM task", "WITH Task AS (SELECT 1) SELECT * FROM task".to_owned()),
        ("SELECT 'it''s; DROP TABLE x'", "SELECT 'it''s; DROP TABLE x'".to_owned()),
    ] {
        assert_eq!(allowed(given).unwrap(), want, "{given}");
    }
}

#[test]
fn what_is_deep_or_long_is_refused_before_it_needs_the_stack() {
    let reason = |sql: String| allowed(&sql).unwrap_err().message().to_owned();
    assert!(allowed(&format!("SELECT 1{}", " + 1".repeat(150))).is_ok());
    assert!(reason(format!("SELECT 1{}", " + 1".repeat(1_900))).contains("within each other"));
    assert!(reason(format!("SELECT 1{}", " UNION SELECT 1".repeat(1_000))).contains("within each other"));
    assert!(reason(format!("SELECT 1{}", "::int".repeat(1_000))).contains("within each other"));
    assert!(reason(format!("SELECT 1{}", "+1".repeat(20_000))).contains("words and signs"));
    assert!(reason(format!("SELECT {}1{}", "(".repeat(500), ")".repeat(500))).contains("cannot be read"));
    assert!(reason(format!("SELECT {}true", "NOT ".repeat(1_000))).contains("cannot be read"));
    assert!(reason(" ".repeat(MAX_BYTES + 1)).contains("65536 bytes"));
    let doubled = (1..50).map(|n| format!(", t{n} AS (SELECT a.*, b.* FROM t{} a, t{} b)", n - 1, n - 1));
    let doubled = format!("WITH t0 AS (SELECT 1 AS a, 2 AS b){} SELECT * FROM t49", doubled.collect::<String>());
    assert!(reason(doubled).contains("1,664 columns"));
    let many = (1..=500).map(|n| format!("1 AS c{n}")).collect::<Vec<_>>().join(",");
    let often = "+(SELECT 1 FROM t)".repeat(201);
    assert!(
        reason(format!("WITH t AS (SELECT {many}) SELECT ARRAY[{}]", often[1..].replace('+', ","))).contains("100,000")
    );
    for bad in ["", ";", "SELECT", "SELECT 1;; SELECT 2", "SELECT '", "SELECT \0", "EXPLAIN SELECT 1", "SHOW all"] {
        assert!(allowed(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_name_with_its_table_is_a_column_or_nothing() {
    let own = [OwnTable {
        schema: "shop".into(),
        name: "people".into(),
        is_kind: false,
        columns: vec!["name".into(), "Big".into()],
    }];
    let allowed = |sql: &str| super::allowed(sql, Tables { home: "overskill_data", own: Some(&own) });
    for good in [
        "SELECT t.id, T.data->>'x' FROM Task t ORDER BY t.created_at",
        "SELECT p.name, p.\"Big\" FROM people p JOIN Task t ON t.owner = p.name",
        "SELECT q.n, q.lower, q.a, q.id FROM (SELECT 1 AS n, lower('X'), t.id AS a, (t.id)::text FROM Task t) q",
        "SELECT x.a, x.column2 FROM (VALUES (1, 2)) AS x(a)",
        "WITH x(a, b) AS (SELECT 1, 2), y AS (SELECT x.a FROM x) SELECT y.a, z.k FROM y, x AS z(k)",
        "SELECT g.g, h.n, u.a, u.b, e.value, o.key, o.ordinality FROM generate_series(1, 2) g, generate_series(1, 2) h(n), \
         unnest(ARRAY[1], ARRAY[2]) u(a, b), jsonb_array_elements('[]') e, jsonb_each('{}') WITH ORDINALITY o",
        "SELECT generate_series.generate_series FROM generate_series(1, 2)",
        "SELECT j.name, j.id FROM (people p CROSS JOIN Task t) j",
        "SELECT s.id, s.name FROM (SELECT * FROM Task t JOIN people p ON p.name = t.id) s",
        "SELECT s.id, s.owner FROM (SELECT t.* FROM Task t) s",
        "SELECT s.x, s.owner, s.data FROM (SELECT * FROM Task a JOIN Task b USING (id)) AS s(x)",
        "SELECT t.id FROM Task t WHERE EXISTS (SELECT 1 FROM people t WHERE t.name = 'x')",
        "SELECT t.id FROM Task t WHERE EXISTS (SELECT 1 FROM people p WHERE p.name = t.owner)",
        "SELECT e.value FROM Task t, LATERAL (SELECT value FROM jsonb_each(t.data)) e",
        "(SELECT t.id FROM Task t) ORDER BY t.id",
        "SELECT t.id FROM Task t GROUP BY t.id HAVING max(t.owner) > 'a' UNION SELECT p.name FROM people p ORDER BY 1",
    ] {
        assert!(allowed(good).is_ok(), "{good}: {}", allowed(good).unwrap_err());
    }
    for bad in [
        "SELECT g.pg_sleep FROM generate_series(0, 0) g",
        "SELECT \"g\".\"pg_sleep\" FROM generate_series(0, 0) g",
        "SELECT g . pg_sleep FROM generate_series(0, 0) AS g(n)",
        "SELECT g.g FROM generate_series(0, 0) g(n)",
        "SELECT e.e FROM jsonb_array_elements('[]') e",
        "SELECT u.u FROM unnest(ARRAY[1], ARRAY[2]) u",
        "SELECT t.pg_column_size FROM Task t",
        "SELECT t.name FROM Task t",
        "SELECT p.\"big\" FROM people p",
        "SELECT q.b FROM (SELECT 1 AS a) q",
        "SELECT q.a FROM (SELECT 1 AS a) q(b)",
        "SELECT t.id FROM (people p CROSS JOIN Task t) j",
        "SELECT nobody.id FROM Task t",
        "SELECT 1 FROM Task t ORDER BY t.row_to_json",
        "(SELECT t.id FROM Task t) ORDER BY t.row_to_json",
        "SELECT 1 FROM Task t JOIN people p ON t.row_to_json IS NULL",
        "SELECT count(*) FILTER (WHERE t.to_json IS NULL) OVER (ORDER BY t.to_json) FROM Task t",
        "SELECT (g).pg_sleep FROM generate_series(0, 0) g",
        "SELECT (VALUES (1) ORDER BY \"*VALUES*\".pg_typeof) FROM (SELECT 1 AS pg_typeof) AS \"*VALUES*\"",
        // The database does not see the table beside it from within, but the one outside.
        "SELECT (SELECT d.x FROM (SELECT 1 AS pg_sleep) g, (SELECT g.pg_sleep AS x) d) FROM generate_series(0, 0) g",
        "SELECT (SELECT 1 FROM (SELECT 1 AS pg_sleep) g, Task t JOIN Task u ON g.pg_sleep IS NULL) FROM generate_series(0, 0) g",
    ] {
        assert!(allowed(bad).is_err(), "{bad}");
    }
}
