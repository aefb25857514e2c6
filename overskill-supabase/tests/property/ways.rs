//! The ways in which a subject acts: transactions of their own SQL, the entity API, the explorer.

use crate::model::{Breach, GROUPS, Held, KINDS, Key, Record, Seen, met, same, wrong};
use crate::worker::{App, Person, Worker};
use overskill_core::{ApiMethod, ApiRequest, ApiResponse, ErrorKind, FilePath, Scope};
use overskill_supabase::{Query, TenantTx, tokio_postgres::SimpleQueryMessage};
use serde_json::{Value, json};
use std::num::NonZeroU32;

/// Statements in one transaction.
const BATCH: u64 = 24;
const COLUMNS: &str =
    "entity_type, id, data ->> 'of', data ->> 'n', data ->> 'k', owner, deleted_at IS NOT NULL, t1, n1";

/// What one statement should give.
enum Want {
    Rows(Vec<Seen>),
    /// A write to this row, which it should meet or not.
    Met(Key, bool),
    /// A new row, unless it is there already.
    Made(Key, bool),
}

impl Worker {
    /// Statements of somebody's own, in one transaction that is kept or not.
    pub async fn in_a_transaction(&mut self, at: usize) -> Held {
        let pool = self.field.pools[self.below(2)].clone();
        let App { name, scope, people, .. } = &self.apps[at];
        let (name, scope) = (name.clone(), scope.clone());
        let person = people[self.below(people.len())].clone();
        let tx = pool.begin(&person.grant, &scope).await.map_err(|e| wrong("begin", e))?;
        let mut model = self.apps[at].model.clone();
        let table = tx.table("entities");
        let (mut statements, mut wants) = (Vec::new(), Vec::new());
        for _ in 0..BATCH {
            let key = self.key();
            let (kind, id) = (key.0, &key.1);
            let here = format!("entity_type = '{kind}' AND id = '{id}'");
            let (n, k) = (self.number(), self.random_below(GROUPS));
            let data = json!({ "of": name, "n": n, "k": k });
            let who = person.name.as_deref();
            let known = model.records.get(&key);
            let can = known.is_some_and(|it| model.may_change(&key, it, who));
            let deleted = known.is_some_and(|it| it.deleted);
            match self.below(12) {
                0..=3 if model.may_make(kind, who) => {
                    statements.push(format!(
                        "INSERT INTO {table} (entity_type, id, data) VALUES ('{kind}', '{id}', '{data}') \
                         ON CONFLICT DO NOTHING RETURNING {COLUMNS}"
                    ));
                    wants.push(Want::Made(key.clone(), known.is_none()));
                    if known.is_none() {
                        let owner = person.subject.clone();
                        model.records.insert(key, Record { owner, n, k, deleted: false, place: self.place() });
                    }
                }
                4 | 5 => {
                    statements.push(format!(
                        "UPDATE {table} SET data = '{data}' WHERE {here} AND deleted_at IS NULL RETURNING {COLUMNS}"
                    ));
                    wants.push(Want::Met(key.clone(), can && !deleted));
                    if can && !deleted {
                        let record = model.records.get_mut(&key).unwrap();
                        (record.n, record.k) = (n, k);
                    }
                }
                it @ (6 | 7) => {
                    let (when, then, should) = if it == 6 {
                        ("IS NULL", "now()", can && !deleted)
                    } else {
                        ("IS NOT NULL", "NULL", can && deleted)
                    };
                    statements.push(format!(
                        "UPDATE {table} SET deleted_at = {then} WHERE {here} AND deleted_at {when} RETURNING {COLUMNS}"
                    ));
                    wants.push(Want::Met(key.clone(), should));
                    if should {
                        model.records.get_mut(&key).unwrap().deleted = it == 6;
                    }
                }
                8 => {
                    statements.push(format!(
                        "SELECT {COLUMNS} FROM {table} WHERE entity_type = '{kind}' AND n1 = {k} AND deleted_at IS NULL ORDER BY id"
                    ));
                    let rows = model.listed(&name, kind, who).into_iter().map(|(_, row)| row);
                    wants.push(Want::Rows(rows.filter(|row| row.k == k).collect()));
                }
                9 => {
                    statements.push(format!(
                        "SELECT {COLUMNS} FROM {table} WHERE entity_type = '{kind}' AND id > '{id}' ORDER BY id LIMIT 5"
                    ));
                    let after = model.seen(&name, who).into_iter().filter(|row| row.kind == kind && row.id > *id);
                    wants.push(Want::Rows(after.take(5).collect()));
                }
                _ => {
                    statements.push(format!("SELECT {COLUMNS} FROM {table} WHERE {here}"));
                    let row = known.filter(|it| model.may_see(&key, it, who));
                    wants.push(Want::Rows(row.map(|it| Seen::of(&name, &key, it)).into_iter().collect()));
                }
            }
        }
        let said = tx.simple(&statements.join("; ")).await.map_err(|e| wrong("statements", e));
        if let Err(breach) = said.and_then(|said| self.compare(&name, wants, &answers(&said)?, &statements)) {
            drop(tx.rollback().await); // the breach is what counts
            return Err(breach);
        }
        self.count("statements", statements.len());
        self.done += statements.len();
        if self.below(8) == 0 {
            tx.rollback().await.map_err(|e| wrong("rollback", e))?;
            self.count("undone", 1);
        } else {
            tx.commit().await.map_err(|e| wrong("commit", e))?;
            self.apps[at].model = model;
        }
        Ok(())
    }

    fn compare(&mut self, name: &str, wants: Vec<Want>, answers: &[Vec<Seen>], statements: &[String]) -> Held {
        assert_eq!(answers.len(), wants.len());
        for ((want, got), statement) in wants.into_iter().zip(answers).zip(statements) {
            match want {
                Want::Rows(rows) => {
                    self.count("seen", rows.len());
                    same(statement, name, &rows, got)?;
                }
                Want::Met(key, should) => {
                    self.count(if should { "changed" } else { "untouched" }, 1);
                    met(statement, name, &key, should, !got.is_empty())?;
                    only(name, &key, got)?;
                }
                // That it was made means that nothing was there; that it was not, that something was.
                Want::Made(key, should) => {
                    self.count(if should { "made" } else { "taken" }, 1);
                    met(statement, name, &key, !should, got.is_empty())?;
                    only(name, &key, got)?;
                }
            }
        }
        Ok(())
    }

    /// A call of an app's API.
    pub async fn through_the_api(&mut self, at: usize) -> Held {
        let App { name, people, model, .. } = &self.apps[at];
        let person = people[self.below(people.len())].clone();
        let (name, who) = (name.clone(), person.name.as_deref());
        let key = self.key();
        let (n, k) = (self.number(), self.random_below(GROUPS));
        let known = model.records.get(&key).cloned();
        let seen = known.as_ref().is_some_and(|it| !it.deleted && model.may_see(&key, it, who));
        let can = known.as_ref().is_some_and(|it| !it.deleted && model.may_change(&key, it, who));
        let (may, what) = (model.may_make(key.0, who), self.below(8));
        let mut body = json!({ "of": name, "n": n, "k": k });
        self.done += 1;
        self.count("calls", 1);
        match what {
            0 | 1 => {
                body["id"] = json!(key.1);
                let answer = self.call(at, &person, ApiMethod::Post, key.0.to_owned(), &[], Some(&body)).await?;
                match (answer.status, known.is_none()) {
                    (403, _) if !may => Ok(()),
                    (201, true) if may => {
                        let record =
                            Record { owner: person.subject.clone(), n, k, deleted: false, place: self.place() };
                        let want = Seen::of(&name, &key, &record).without_owner();
                        self.apps[at].model.records.insert(key.clone(), record);
                        same("POST", &name, &[want], &[shown(key.0, &parsed(&answer)?)])
                    }
                    (409, false) if may => Ok(()),
                    (201, false) => met("POST", &name, &key, true, false),
                    (409, true) => met("POST", &name, &key, false, true),
                    (status, _) => Err(wrong("POST", status)),
                }
            }
            2 | 3 => {
                let answer = self.call(at, &person, ApiMethod::Get, format!("{}/{}", key.0, key.1), &[], None).await?;
                let rows = if answer.status == 200 { vec![shown(key.0, &parsed(&answer)?)] } else { Vec::new() };
                let want = known.filter(|_| seen).map(|it| Seen::of(&name, &key, &it).without_owner());
                same("GET", &name, &want.into_iter().collect::<Vec<_>>(), &rows)
            }
            4 | 5 => {
                let method = if what == 4 { ApiMethod::Put } else { ApiMethod::Patch };
                let answer = self.call(at, &person, method, format!("{}/{}", key.0, key.1), &[], Some(&body)).await?;
                met("PUT", &name, &key, can, answer.status == 200)?;
                if can {
                    let record = self.apps[at].model.records.get_mut(&key).unwrap();
                    (record.n, record.k) = (n, k);
                    let want = Seen::of(&name, &key, record).without_owner();
                    return same("PUT", &name, &[want], &[shown(key.0, &parsed(&answer)?)]);
                }
                Ok(())
            }
            6 => {
                let answer =
                    self.call(at, &person, ApiMethod::Delete, format!("{}/{}", key.0, key.1), &[], None).await?;
                met("DELETE", &name, &key, can, answer.status == 204)?;
                if can {
                    self.apps[at].model.records.get_mut(&key).unwrap().deleted = true;
                }
                Ok(())
            }
            _ => self.lists(at, &person, key.0).await,
        }
    }

    /// All pages of a list, with a filter or without, in one of its orders.
    async fn lists(&mut self, at: usize, person: &Person, kind: &'static str) -> Held {
        let (sorts, k) = (["created_at", "id", "n", "k"], self.random_below(GROUPS));
        let (sort, descending) = (sorts[self.below(4)], self.below(2) == 1);
        let (filtered, by_offset) = (self.below(3) == 0, self.below(3) == 0);
        let App { name, model, .. } = &self.apps[at];
        let name = name.clone();
        let mut want = model.listed(&name, kind, person.name.as_deref());
        want.retain(|(_, row)| !filtered || row.k == k);
        match sort {
            "created_at" => want.sort_by_key(|(place, _)| *place),
            "n" => want.sort_by_key(|(_, row)| row.n),
            "k" => want.sort_by_key(|(place, row)| (row.k, *place)),
            _ => {}
        }
        if descending {
            want.reverse();
        }
        let want: Vec<_> = want.into_iter().map(|(_, row)| row.without_owner()).collect();
        // Few pages, whatever there is.
        let limit = want.len() / 3 + 1;
        let mut fixed =
            vec![("limit", limit.to_string()), ("sort", format!("{}{sort}", if descending { "-" } else { "" }))];
        if filtered {
            fixed.push(("k", k.to_string()));
        }
        let (mut got, mut from) = (Vec::new(), None);
        loop {
            let mut query = fixed.clone();
            query.extend(from.take());
            let answer = self.call(at, person, ApiMethod::Get, kind.to_owned(), &query, None).await?;
            let page = parsed(&answer)?;
            let items = page["items"].as_array().ok_or_else(|| wrong("a list", &page))?;
            got.extend(items.iter().map(|it| shown(kind, it)));
            self.count("pages", 1);
            self.done += 1;
            let Some(next) = page["next"].as_str() else { break };
            from = Some(if by_offset { ("offset", got.len().to_string()) } else { ("cursor", next.to_owned()) });
            if got.len() > want.len() + 2 * limit {
                break; // it does not end, and is wrong already
            }
        }
        self.done -= 1; // the first page is the call
        same(&format!("a list by {fixed:?}"), &name, &want, &got)
    }

    async fn call(
        &self,
        at: usize,
        person: &Person,
        method: ApiMethod,
        path: String,
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> Held<ApiResponse> {
        let path = FilePath::parse(&format!("entities/{path}")).unwrap();
        let mut request = ApiRequest::new(self.apps[at].scope.clone(), person.token.clone(), method, path);
        for (name, value) in query {
            request = request.query(*name, value);
        }
        if let Some(body) = body {
            request = request.body("application/json", body.to_string());
        }
        let api = &self.field.apis[self.below(2)];
        let answer = overskill_core::ApiUpstream::call(api, &request).await.map_err(|e| wrong("a call", e))?;
        if ![200, 201, 204, 403, 404, 409].contains(&answer.status) {
            return Err(wrong("a call", format!("{answer:?}")));
        }
        Ok(answer)
    }

    /// A developer's query: all that the app's users have, whoever they are, and nobody else's.
    pub async fn explored(&mut self, at: usize) -> Held {
        let (kind, k, what) = (KINDS[self.below(3)], self.random_below(GROUPS), self.below(3));
        let explorer = &self.field.explorers[self.below(2)];
        let App { name, scope, model, developer, .. } = &self.apps[at];
        let mut want: Vec<_> = model.records.iter().filter(|(key, it)| key.0 == kind && !it.deleted).collect();
        let fields = "id, data ->> 'of' AS app, data ->> 'n' AS n, data ->> 'k' AS k, owner";
        let query = match what {
            0 => Query::new(format!("SELECT {fields} FROM {kind} ORDER BY id")),
            1 => {
                want.retain(|(_, it)| it.k == k);
                Query::new(format!("SELECT {fields} FROM {kind} WHERE data ->> 'k' = '{k}' ORDER BY id"))
            }
            _ => {
                want.truncate(7);
                Query::new(format!("SELECT {fields} FROM {kind}")).page(["id"], NonZeroU32::new(7).unwrap())
            }
        };
        let found = explorer.table(developer, scope, &query).await.map_err(|e| wrong("a query", e))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let number = |value: &Value| value.as_str().and_then(|it| it.parse().ok()).unwrap_or(u64::MAX);
        let got = found.rows.iter().map(|row| Seen {
            kind: kind.to_owned(),
            id: text(&row[0]),
            app: text(&row[1]),
            n: number(&row[2]),
            k: number(&row[3]),
            owner: Some(text(&row[4])),
            deleted: Some(false),
        });
        let want: Vec<_> = want.into_iter().map(|(key, it)| Seen::of(name, key, it)).collect();
        same("a query", name, &want, &got.collect::<Vec<_>>())?;
        self.count("explored", 1);
        self.done += 1;
        Ok(())
    }

    /// What nobody may: another app with this one's grant or token, a visitor's own record, a user's query.
    pub async fn refused(&mut self, at: usize) -> Held {
        let other = self.apps[(at + 1) % self.apps.len()].scope.clone();
        let App { people, scope, .. } = &self.apps[at];
        let (person, pool) = (people[self.below(people.len())].clone(), self.field.pools[self.below(2)].clone());
        let denied = |what: &str, kind: Option<ErrorKind>| match kind {
            Some(ErrorKind::Denied) => Ok(()),
            it => Err(Breach::Wrong(format!("{what}: {it:?}"))),
        };
        let kind_of = |done: overskill_core::Result<TenantTx>| done.err().map(|e| e.kind());
        denied("another app's transaction", kind_of(pool.begin(&person.grant, &other).await))?;
        let query = Query::new("SELECT id FROM Shared");
        let explored = self.field.explorers[0].table(&person.grant, scope, &query).await;
        denied("a user's query", explored.err().map(|e| e.kind()))?;
        let elsewhere = |scope: Scope| {
            let path = FilePath::parse("entities/Shared").unwrap();
            ApiRequest::new(scope, person.token.clone(), ApiMethod::Get, path)
        };
        let answer = overskill_core::ApiUpstream::call(&self.field.apis[0], &elsewhere(other)).await;
        let answer = answer.map_err(|e| wrong("another app's API", e))?;
        if answer.status != 401 {
            return Err(Breach::Foreign(format!("another app's API: {answer:?}")));
        }
        self.count("refused", 3);
        self.done += 3;
        Ok(())
    }

    /// Everything as everybody sees it.
    pub async fn look_at_all(&mut self) -> Held {
        for at in 0..self.apps.len() {
            for person in self.apps[at].people.clone() {
                let App { name, scope, model, .. } = &self.apps[at];
                let pool = &self.field.pools[1];
                let tx = pool.begin_read_only(&person.grant, scope).await.map_err(|e| wrong("begin", e))?;
                let all = format!("SELECT {COLUMNS} FROM {} ORDER BY entity_type, id", tx.table("entities"));
                let said = tx.simple(&all).await.map_err(|e| wrong("all", e))?;
                tx.rollback().await.map_err(|e| wrong("rollback", e))?;
                same("everything", name, &model.seen(name, person.name.as_deref()), &answers(&said)?[0])?;
                for kind in KINDS {
                    self.lists(at, &person, kind).await?;
                }
            }
            self.explored(at).await?;
        }
        Ok(())
    }
}

/// The rows of each statement.
fn answers(said: &[SimpleQueryMessage]) -> Held<Vec<Vec<Seen>>> {
    let (mut all, mut rows) = (Vec::new(), Vec::new());
    for message in said {
        match message {
            SimpleQueryMessage::Row(row) => {
                let text = |at: usize| row.get(at).unwrap_or_default().to_owned();
                let number = |at: usize| text(at).parse().unwrap_or(u64::MAX);
                let seen = Seen {
                    kind: text(0),
                    id: text(1),
                    app: text(2),
                    n: number(3),
                    k: number(4),
                    owner: Some(text(5)),
                    deleted: Some(text(6) == "t"),
                };
                if (text(7), number(8)) != (seen.app.clone(), seen.k) {
                    return Err(wrong("columns of their own", format!("{row:?}")));
                }
                rows.push(seen);
            }
            SimpleQueryMessage::CommandComplete(_) => all.push(std::mem::take(&mut rows)),
            _ => {}
        }
    }
    Ok(all)
}

/// What a write gives back is this app's.
fn only(app: &str, key: &Key, got: &[Seen]) -> Held {
    match got.iter().find(|it| it.app != app) {
        Some(row) => Err(Breach::Foreign(format!("a write to {key:?} in {app} met {row:?}"))),
        None => Ok(()),
    }
}

fn parsed(answer: &ApiResponse) -> Held<Value> {
    serde_json::from_slice(&answer.body).map_err(|e| wrong("an answer", e))
}

fn shown(kind: &str, record: &Value) -> Seen {
    let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
    let number = |name: &str| record[name].as_u64().unwrap_or(u64::MAX);
    Seen {
        kind: kind.to_owned(),
        id: text("id"),
        app: text("of"),
        n: number("n"),
        k: number("k"),
        owner: None,
        deleted: None,
    }
}
