//! `database/query` on a real server.

use super::Answer;
use bytes::{BufMut as _, BytesMut};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::error::Error;
use tokio_postgres::{
    Client, NoTls, SimpleQueryMessage,
    types::{Format, IsNull, ToSql, Type},
};

#[derive(Deserialize)]
struct Query {
    #[serde(rename = "query")]
    text: String,
    #[serde(default)]
    parameters: Vec<Value>,
    #[serde(default)]
    read_only: bool,
}

pub(super) async fn answer(url: &str, body: &[u8]) -> Answer {
    let Ok(query) = serde_json::from_slice::<Query>(body) else {
        return Answer::refusal(400, "query: Invalid input: expected string");
    };
    match run(url, &query).await {
        Ok(rows) => Answer::json(201, &Value::Array(rows)),
        Err(e) => {
            let said =
                e.as_db_error().map_or_else(|| e.to_string(), |db| format!("{}: {}", db.code().code(), db.message()));
            Answer::refusal(400, format_args!("Failed to run sql query: ERROR:  {said}"))
        }
    }
}

async fn run(url: &str, query: &Query) -> Result<Vec<Value>, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let driver = tokio::spawn(connection);
    let begin = if query.read_only { "BEGIN READ ONLY" } else { "BEGIN" };
    client.batch_execute(begin).await?;
    let rows = rows(&client, query).await;
    client.batch_execute(if rows.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    drop(client);
    let _ = driver.await; // it ends with the client
    rows
}

async fn rows(client: &Client, query: &Query) -> Result<Vec<Value>, tokio_postgres::Error> {
    let text = query.text.trim().trim_end_matches(';');
    let first = text.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    if ["select", "with", "values", "table"].contains(&first.as_str()) {
        let parameters: Vec<_> = query.parameters.iter().map(|it| Text(it.clone())).collect();
        let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|it| it as &(dyn ToSql + Sync)).collect();
        // One row each, as the server itself writes JSON.
        let wrapped = format!("SELECT to_jsonb(it) FROM ({text}) it");
        let found = client.query(&wrapped, &parameters).await?;
        return Ok(found.iter().map(|row| row.get(0)).collect());
    }
    let mut rows = Vec::new();
    for message in client.simple_query(&query.text).await? {
        match message {
            SimpleQueryMessage::RowDescription(_) => rows.clear(),
            SimpleQueryMessage::Row(row) => {
                let fields = row.columns().iter().enumerate();
                let fields =
                    fields.map(|(n, column)| (column.name().to_owned(), row.get(n).map_or(Value::Null, Value::from)));
                rows.push(Value::Object(fields.collect::<Map<_, _>>()));
            }
            _ => {}
        }
    }
    Ok(rows)
}

/// A parameter as text, for whatever type the server wants.
#[derive(Debug)]
struct Text(Value);

impl ToSql for Text {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match &self.0 {
            Value::Null => return Ok(IsNull::Yes),
            Value::String(text) => out.put_slice(text.as_bytes()),
            other => out.put_slice(other.to_string().as_bytes()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    tokio_postgres::types::to_sql_checked!();
}
