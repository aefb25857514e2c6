//! Whoever has a token and the key that every browser has can pass by the gateway: the database itself has limits, and what
//! it keeps can be read.

use crate::{Field, OURS, Way, scope};
use overskill_core::{ApiMethod, ApiRequest, ApiUpstream as _, FilePath, Right, Rights};
use overskill_supabase::EntityApi;
use serde_json::{Value, json};

impl Field {
    /// A page of the entity API's.
    async fn page(&self, app: &str, cursor: Option<&str>) -> (u16, Value) {
        let token = self.world.token("ada", app, Rights::of([Right::Data]));
        let path = FilePath::parse("entities/Task").unwrap();
        let mut request = ApiRequest::new(scope(app), token, ApiMethod::Get, path);
        if let Some(cursor) = cursor {
            request = request.query("cursor", cursor);
        }
        let answer = EntityApi::new(self.world.pool(Way::Direct)).call(&request).await.unwrap();
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_read_is_not_kept_whoever_writes_it() {
    let field = Field::new().await;
    let (gateway, ada) = (field.run(OURS, "").await, field.token("todo", "ada").await);
    let big = json!({ "x": "x".repeat(400 * 1024) }).to_string();
    let many_small = format!(r#"{{"n":[{}0]}}"#, "0e-16383,".repeat(20_000));
    let refused = [
        (big.as_str(), "54000"),
        (r#"{"n":1e400}"#, "22003"),
        (r#"{"deep":[{"n":[1,-1e309]}]}"#, "22003"),
        (r#"{"n":1.7976931348623157e308}"#, "22003"),
        (r#"{"n":1e-16383}"#, "22003"),
        (many_small.as_str(), "22003"),
    ];
    for (fields, code) in refused {
        let make = json!({ "kind": "Task", "id": "t1", "fields": fields });
        let answer = field.rest("POST", "rpc/make_record", &ada, &make).await;
        assert!(answer.0 == 400 && answer.1.contains(code), "{fields:.40}: {answer:.200?}");
        // As a row, and in place of one that is there.
        let row = format!(r#"{{"entity_type":"Task","id":"t1","data":{fields}}}"#);
        let answer = field.rest_raw("POST", "entities?select=id", &ada, &row).await;
        assert!(answer.0 == 400 && answer.1.contains(code), "{fields:.40}: {answer:.200?}");
        let own = format!(r#"{{"entity_type":"Task","id":"own-{code}","data":{{}}}}"#);
        field.rest_raw("POST", "entities?select=id", &ada, &own).await;
        let change = format!(r#"{{"data":{fields}}}"#);
        let answer = field.rest_raw("PATCH", &format!("entities?id=eq.own-{code}&select=id"), &ada, &change).await;
        assert!(answer.0 == 400 && answer.1.contains(code), "{fields:.40}: {answer:.200?}");
    }
    for (name, time) in
        [("created_at", "infinity"), ("updated_at", "-infinity"), ("created_at", "9999-06-01T00:00:00Z")]
    {
        let row = json!({ "entity_type": "Task", "id": "t1", "data": {}, name: time });
        let answer = field.rest("POST", "entities?select=id", &ada, &row).await;
        assert!(answer.0 == 400 && answer.1.contains("22008"), "{name}: {answer:?}");
    }

    // The largest that the API takes are taken, with the blanks that the database puts in.
    let ones = format!(r#"{{"n":[{}1]}}"#, "1,".repeat(131_067));
    let most =
        json!({ "most": 1.797e308, "least_of_all": -1.797_693_134_862_3e308, "least": 5e-324, "whole": i64::MIN })
            .to_string();
    for (id, fields) in [("ones", ones), ("most", most)] {
        let body = fields.replacen('{', &format!(r#"{{"id":"{id}","#), 1);
        let body = if body.len() > 256 * 1024 { fields } else { body };
        assert_eq!(gateway.call("POST", "/api/entities/Task", &ada, &body).await.0, 201, "{id}");
    }
    let (status, page) = field.page("todo", None).await;
    assert_eq!((status, page["items"].as_array().map(Vec::len)), (200, Some(4)));
    assert_eq!(gateway.call("GET", "/api/entities/Task", &ada, "").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_larger_than_a_page_come_one_by_one() {
    let field = Field::new().await;
    let grant = field.world.grant("ada", "todo").await;
    let insert = "INSERT INTO overskill_data.entities (entity_type, id, data) \
        SELECT 'Task', 't' || n, '{}' FROM generate_series(0, 7) n";
    field
        .world
        .pool(Way::Direct)
        .with_tenant(&grant, &scope("todo"), async |tx| tx.execute(insert, &[]).await)
        .await
        .unwrap();
    // From a time when there was no limit.
    field.world.execute(
        "SET session_replication_role = replica; \
         UPDATE overskill_data.entities SET data = jsonb_build_object('x', repeat('x', 9000000)) WHERE id IN ('t0', 't1', 't5')",
    );
    let (mut seen, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let (status, page) = field.page("todo", cursor.as_deref()).await;
        let items = page["items"].as_array().unwrap();
        assert_eq!(status, 200);
        seen.push(items.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>());
        let Some(next) = page["next"].as_str() else { break };
        cursor = Some(next.to_owned());
    }
    assert_eq!(seen, [vec!["t0"], vec!["t1"], vec!["t2", "t3", "t4"], vec!["t5"], vec!["t6", "t7"]]);
}
