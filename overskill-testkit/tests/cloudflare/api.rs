//! Namespaces, scripts, assets, routes and hostnames over the API.

use crate::support::Api;
use serde_json::{Value, json};

const N: &str = "/accounts/{a}/workers/dispatch/namespaces/apps/scripts/one";
const CODE: &str = "export default { fetch() { return new Response('hi') } }";

async fn api() -> Api {
    let api = Api::in_process();
    api.namespace("apps").await;
    api
}

#[tokio::test]
async fn who_asks_is_checked_first() {
    let api = api().await;
    let ask = async |token: &str, account: &str| {
        let uri = format!("/client/v4/accounts/{account}/workers/dispatch/namespaces");
        let request = overskill_testkit::cloudflare::http::Request::builder().uri(uri);
        let request = if token.is_empty() { request } else { request.header("authorization", token) };
        let (status, body) = api.raw(request.body(bytes::Bytes::new()).unwrap()).await;
        let body: Value = serde_json::from_slice(&body).unwrap();
        (status, body["errors"][0]["code"].as_u64().unwrap_or_default())
    };
    let (mine, good) = (api.cloudflare.account(), format!("Bearer {}", api.cloudflare.token()));
    assert_eq!(ask(&good, &mine).await, (200, 0));
    assert_eq!(ask("", &mine).await, (400, 9106));
    assert_eq!(ask("Basic x", &mine).await, (400, 6003));
    assert_eq!(ask("Bearer wrong", &mine).await, (401, 10_000));
    assert_eq!(ask(&good, "other").await, (403, 10_000));
}

#[tokio::test]
async fn namespaces_are_made_renamed_and_deleted_with_their_scripts() {
    let api = api().await;
    let namespaces = "/accounts/{a}/workers/dispatch/namespaces";
    assert_eq!(api.fails("POST", namespaces, &json!({ "name": "apps" })).await, (409, 100_120));
    assert_eq!(api.fails("POST", namespaces, &json!({ "name": "Apps!" })).await, (400, 10_021));
    api.script(N, CODE, json!([])).await;
    let renamed = api.ok("PUT", &format!("{namespaces}/apps"), &json!({ "name": "new" })).await;
    assert_eq!((&renamed["namespace_name"], &renamed["script_count"]), (&json!("new"), &json!(1)));
    assert_eq!(api.fails("GET", &format!("{namespaces}/apps"), &Value::Null).await, (404, 100_119));
    assert_eq!(api.fails("GET", N, &Value::Null).await, (404, 100_119));
    api.ok("DELETE", &format!("{namespaces}/new"), &Value::Null).await;
    assert_eq!(api.cloudflare.state().namespaces.len(), 0);
}

#[tokio::test]
async fn a_missing_script_has_two_codes() {
    let api = api().await;
    assert_eq!(api.fails("GET", N, &Value::Null).await, (404, 10_092));
    for path in ["/settings", "/bindings", "/secrets", "/tags", "/content"] {
        assert_eq!(api.fails("GET", &format!("{N}{path}"), &Value::Null).await, (404, 10_007), "{path}");
    }
    assert_eq!(api.fails("DELETE", N, &Value::Null).await, (404, 10_007));
}

#[tokio::test]
async fn an_upload_replaces_everything_but_what_it_keeps() {
    let api = api().await;
    let text = |name: &str, kind: &str| json!({ "name": name, "type": kind, "text": name });
    api.script(N, CODE, json!([text("A", "plain_text"), text("S", "secret_text"), text("B", "plain_text")])).await;
    let metadata = json!({
        "main_module": "main.js", "keep_bindings": ["secret_text"], "tags": ["x"],
        "bindings": [{ "type": "inherit", "name": "C", "old_name": "B" }, { "type": "inherit", "name": "missing" }],
    });
    let (status, answer) = api.upload(N, &metadata, &[("main.js", CODE)]).await;
    assert_eq!(status, 200, "{answer}");
    let bindings = api.ok("GET", &format!("{N}/bindings"), &Value::Null).await;
    let wanted = json!([{ "name": "C", "type": "plain_text", "text": "B" }, { "name": "S", "type": "secret_text" }]);
    assert_eq!(bindings, wanted, "the secret's text is not told");
    assert_eq!(api.cloudflare.state().namespaces["apps"]["one"].text("S"), Some("S"));

    let (status, answer) = api.upload(&format!("{N}?bindings_inherit=strict"), &metadata, &[("main.js", CODE)]).await;
    assert_eq!((status, &answer["errors"][0]["code"]), (400, &json!(10_057)));
    let told = api.ok("GET", N, &Value::Null).await;
    assert_eq!((&told["dispatch_namespace"], &told["script"]["tags"]), (&json!("apps"), &json!(["x"])));
}

#[tokio::test]
async fn secrets_and_settings_change_without_an_upload() {
    let api = api().await;
    api.script(N, CODE, json!([{ "name": "A", "type": "plain_text", "text": "a" }])).await;
    let version = || api.cloudflare.state().namespaces["apps"]["one"].version.clone();
    let first = version();
    api.ok("PUT", &format!("{N}/secrets"), &json!({ "name": "S", "text": "1", "type": "secret_text" })).await;
    let second = version();
    let patch = json!({ "secrets": { "S": null, "T": { "type": "secret_text", "name": "T", "text": "2" } } });
    let secrets = api.ok("PATCH", &format!("{N}/secrets-bulk"), &patch).await;
    assert_eq!(secrets, json!([{ "name": "T", "type": "secret_text" }]));
    assert!(first != second && second != version(), "each change is a version");
    assert_eq!(api.fails("GET", &format!("{N}/secrets/S"), &Value::Null).await.0, 404);
    let taken = json!({ "name": "A", "text": "1", "type": "secret_text" });
    assert_eq!(api.fails("PUT", &format!("{N}/secrets"), &taken).await, (400, 10_053));

    let settings =
        json!({ "bindings": [{ "type": "inherit", "name": "T" }], "tags": ["a", "b"], "limits": { "cpu_ms": 9 } });
    let body = format!(
        "--edge\r\nContent-Disposition: form-data; name=\"settings\"\r\nContent-Type: application/json\r\n\r\n{settings}\r\n--edge--\r\n"
    );
    let request = api.request("PATCH", &format!("{N}/settings"));
    let request = request.header("content-type", "multipart/form-data; boundary=edge").body(body.into()).unwrap();
    assert_eq!(api.raw(request).await.0, 200);
    let told = api.ok("GET", &format!("{N}/settings"), &Value::Null).await;
    assert_eq!(told["bindings"], json!([{ "name": "T", "type": "secret_text" }]), "a list replaces the whole list");
    assert_eq!((&told["tags"], &told["limits"]["cpu_ms"]), (&json!(["a", "b"]), &json!(9)));
}

#[tokio::test]
async fn scripts_are_listed_and_deleted_by_tag() {
    let api = api().await;
    let scripts = "/accounts/{a}/workers/dispatch/namespaces/apps/scripts";
    for (name, tags) in [("one", json!(["c1", "old"])), ("two", json!(["c1"])), ("three", json!(["c2"]))] {
        api.script(&format!("{scripts}/{name}"), CODE, json!([])).await;
        api.ok("PUT", &format!("{scripts}/{name}/tags"), &tags).await;
    }
    let listed = async |query: &str| {
        let list = api.ok("GET", &format!("{scripts}?{query}"), &Value::Null).await;
        list.as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed("tags=c1:yes").await, ["one", "two"]);
    assert_eq!(listed("tags=c1:yes,old:no").await, ["two"]);
    assert_eq!(listed("limit=2").await, ["one", "three"]);
    let (_, page) = api.call("GET", &format!("{scripts}?limit=2"), &Value::Null).await;
    assert_eq!(listed(&format!("limit=2&cursor={}", page["result_info"]["cursor"].as_str().unwrap())).await, ["two"]);
    assert_eq!(api.fails("DELETE", scripts, &Value::Null).await, (400, 10_021), "never all of them");
    api.ok("DELETE", &format!("{scripts}?tags=c1:yes"), &Value::Null).await;
    assert_eq!(listed("").await, ["three"]);
    let nine: Vec<_> = (0..9).map(|it| it.to_string()).collect();
    assert_eq!(api.fails("PUT", &format!("{scripts}/three/tags"), &json!(nine)).await, (400, 10_021));
    api.ok("PUT", &format!("{scripts}/three/tags/x"), &Value::Null).await;
    api.ok("DELETE", &format!("{scripts}/three/tags/c2"), &Value::Null).await;
    assert_eq!(api.ok("GET", &format!("{scripts}/three/tags"), &Value::Null).await, json!(["x"]));
}

#[tokio::test]
async fn what_a_script_may_not_be_is_refused_and_changes_nothing() {
    let api = api().await;
    api.script(N, CODE, json!([])).await;
    let before = api.cloudflare.state().namespaces["apps"]["one"].version.clone();
    let binding = |it: Value| json!({ "main_module": "main.js", "bindings": [it] });
    let long = "x".repeat(5 * 1024 + 1);
    for (metadata, code) in [
        (json!({ "main_module": "other.js" }), 10_021),
        (json!({}), 10_021),
        (json!({ "main_module": "main.js", "tags": ["1", "2", "3", "4", "5", "6", "7", "8", "9"] }), 10_021),
        (binding(json!({ "name": "A", "type": "nonsense" })), 10_021),
        (binding(json!({ "name": "A", "type": "plain_text", "text": long })), 10_021),
        (binding(json!({ "name": "A", "type": "kv_namespace", "namespace_id": "none" })), 10_041),
        (binding(json!({ "name": "A", "type": "r2_bucket", "bucket_name": "none" })), 10_085),
        (binding(json!({ "name": "A", "type": "durable_object_namespace", "class_name": "None" })), 10_061),
        (binding(json!({ "name": "A", "type": "service", "service": "none" })), 10_144),
        (binding(json!({ "name": "A", "type": "dispatch_namespace", "namespace": "none" })), 100_119),
        (binding(json!({ "name": "A", "type": "d1", "id": "none" })), 10_181),
        (json!({ "main_module": "main.js", "assets": { "jwt": "nonsense" } }), 10_000),
    ] {
        let (_, answer) = api.upload(N, &metadata, &[("main.js", CODE)]).await;
        assert_eq!(answer["errors"][0]["code"], code, "{metadata}: {answer}");
    }
    assert_eq!(api.cloudflare.state().namespaces["apps"]["one"].version, before);
}

#[tokio::test]
async fn classes_of_durable_objects_come_by_migrations() {
    let api = api().await;
    let upload = async |migrations: Value| {
        let room = json!({ "name": "ROOM", "type": "durable_object_namespace", "class_name": "Room" });
        let metadata = json!({ "main_module": "main.js", "bindings": [room], "migrations": migrations });
        let (status, answer) = api.upload(N, &metadata, &[("main.js", CODE)]).await;
        (status, answer["errors"][0]["code"].as_u64().unwrap_or_default())
    };
    assert_eq!(upload(json!(null)).await, (400, 10_061));
    assert_eq!(upload(json!({ "new_tag": "v1", "steps": [{ "new_sqlite_classes": ["Room"] }] })).await, (200, 0));
    assert_eq!(upload(json!(null)).await, (200, 0), "the class is there now");
    assert_eq!(upload(json!({ "old_tag": "v0", "new_tag": "v2", "steps": [] })).await, (412, 10_079));
    let again = json!({ "old_tag": "v1", "new_tag": "v2", "steps": [{ "new_sqlite_classes": ["Room"] }] });
    assert_eq!(upload(again).await, (400, 10_074));
    let told = api.ok("GET", N, &Value::Null).await;
    assert_eq!(told["script"]["migration_tag"], "v1");
}

#[tokio::test]
async fn assets_are_uploaded_once_and_sessions_end() {
    let api = api().await;
    let (index, other) = ("a".repeat(32), "b".repeat(32));
    let files = [("/index.html", index.as_str(), "<p>hi"), ("/b.txt", other.as_str(), "b")];
    let jwt = api.assets(N, &files).await;
    let metadata = json!({ "assets": { "jwt": jwt } });
    assert_eq!(api.upload(N, &metadata, &[]).await.0, 200, "a script may be assets alone");
    assert_eq!(api.cloudflare.state().namespaces["apps"]["one"].assets["/b.txt"], other);

    let manifest = json!({ "manifest": { "/c.txt": { "hash": other, "size": 1 } } });
    let session = api.ok("POST", &format!("{N}/assets-upload-session"), &manifest).await;
    assert_eq!(session["buckets"], json!([]), "nothing is missing");
    api.cloudflare.expire_asset_sessions();
    let (status, answer) = api.upload(N, &json!({ "assets": { "jwt": session["jwt"] } }), &[]).await;
    assert_eq!((status, &answer["errors"][0]["code"]), (401, &json!(10_000)));

    let elsewhere = N.replace("one", "two");
    let jwt = api.assets(N, &files).await;
    let (status, _) = api.upload(&elsewhere, &json!({ "assets": { "jwt": jwt } }), &[]).await;
    assert_eq!(status, 400, "a session is one script's");
    let short = json!({ "manifest": { "/c.txt": { "hash": "abc", "size": 1 } } });
    assert_eq!(api.fails("POST", &format!("{N}/assets-upload-session"), &short).await, (400, 10_021));
    let large = json!({ "manifest": { "/c.txt": { "hash": other, "size": 26 << 20 } } });
    assert_eq!(api.fails("POST", &format!("{N}/assets-upload-session"), &large).await, (400, 10_021));
}

#[tokio::test]
async fn an_accounts_script_has_routes_and_schedules() {
    let api = api().await;
    let script = "/accounts/{a}/workers/scripts/front";
    assert_eq!(api.fails("PUT", &format!("{script}/schedules"), &json!([])).await, (404, 10_007));
    api.script(script, CODE, json!([{ "name": "APPS", "type": "dispatch_namespace", "namespace": "apps" }])).await;
    let crons = json!([{ "cron": "* * * * *" }]);
    api.ok("PUT", &format!("{script}/schedules"), &crons).await;
    assert_eq!(api.fails("PUT", &format!("{script}/schedules"), &json!([{ "cron": "soon" }])).await, (400, 10_100));

    let zone = format!("/zones/{}", api.cloudflare.zone_id("example.com").unwrap());
    let routes = format!("{zone}/workers/routes");
    let route = json!({ "pattern": "*.example.com/*", "script": "front" });
    let id = api.ok("POST", &routes, &route).await["id"].clone();
    assert_eq!(api.fails("POST", &routes, &route).await, (409, 10_020));
    assert_eq!(api.fails("POST", &routes, &json!({ "pattern": "a.com/*", "script": "front" })).await, (400, 10_022));
    assert_eq!(api.fails("POST", &routes, &json!({ "pattern": "example.com/*", "script": "no" })).await, (404, 10_007));
    assert_eq!(api.ok("GET", &routes, &Value::Null).await[0]["id"], id);
    api.ok("DELETE", script, &Value::Null).await;
    assert_eq!(api.cloudflare.state().routes.len(), 0, "its routes go with it");
}

#[tokio::test]
async fn custom_hostnames_wait_to_become_active() {
    let api = api().await;
    let hostnames = format!("/zones/{}/custom_hostnames", api.cloudflare.zone_id("example.com").unwrap());
    let wanted = json!({ "hostname": "shop.customer.net", "ssl": { "method": "txt", "type": "dv" } });
    let made = api.ok("POST", &hostnames, &wanted).await;
    assert_eq!((&made["status"], &made["ssl"]["status"]), (&json!("pending"), &json!("initializing")));
    assert_eq!(api.fails("POST", &hostnames, &wanted).await, (409, 1406));
    assert_eq!(api.fails("POST", &hostnames, &json!({ "hostname": "a.example.com" })).await, (400, 1407));
    assert_eq!(api.fails("POST", &hostnames, &json!({ "hostname": "a.customer.example" })).await, (400, 1409));
    assert_eq!(api.fails("POST", &hostnames, &json!({ "hostname": "a.example.org" })).await, (400, 1411));
    api.cloudflare.set_hostname("shop.customer.net", "active", "active").await.unwrap();
    let one = format!("{hostnames}/{}", made["id"].as_str().unwrap());
    assert_eq!(api.ok("GET", &one, &Value::Null).await["status"], "active");
    api.ok("DELETE", &one, &Value::Null).await;
    assert_eq!(api.fails("GET", &one, &Value::Null).await, (404, 1436));
    assert!(api.cloudflare.set_hostname("shop.customer.net", "active", "active").await.is_err());
}
