//! Rows as text: CSV, JSON and NDJSON.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use std::fmt;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// RFC 4180, with a header. A text that a spreadsheet would take for a formula begins with an apostrophe.
    Csv,
    /// One array of objects.
    Json,
    /// An object on each line.
    Ndjson,
}

impl Format {
    /// Its media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    pub(super) fn begin(self, columns: &[String]) -> String {
        match self {
            Self::Csv => csv_line(columns.iter().map(|it| csv_text(it))),
            Self::Json => "[".to_owned(),
            Self::Ndjson => String::new(),
        }
    }

    pub(super) fn row(self, columns: &[String], row: &[Value], first: bool, out: &mut String) {
        match self {
            Self::Csv => out.push_str(&csv_line(row.iter().map(csv_field))),
            Self::Json => {
                out.push_str(if first { "\n" } else { ",\n" });
                object(columns, row, out);
            }
            Self::Ndjson => {
                object(columns, row, out);
                out.push('\n');
            }
        }
    }

    pub(super) const fn end(self) -> &'static str {
        match self {
            Self::Csv | Self::Ndjson => "",
            Self::Json => "\n]\n",
        }
    }
}

fn object(columns: &[String], row: &[Value], out: &mut String) {
    out.push('{');
    for (n, (name, value)) in columns.iter().zip(row).enumerate() {
        out.push_str(if n == 0 { "" } else { "," });
        out.push_str(&Value::from(name.as_str()).to_string());
        out.push(':');
        out.push_str(&value.to_string());
    }
    out.push('}');
}

fn csv_line(fields: impl Iterator<Item = String>) -> String {
    let mut line = fields.collect::<Vec<_>>().join(",");
    line.push_str("\r\n");
    line
}

fn csv_field(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        // A number is no formula, though it may begin with a minus.
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => csv_text(text),
        Value::Array(_) | Value::Object(_) => csv_text(&value.to_string()),
    }
}

fn csv_text(text: &str) -> String {
    // Spreadsheets skip spaces before what they calculate, and some take the wide forms for the narrow ones.
    let bare = text.trim_start_matches([' ', '\u{a0}', '\u{feff}']);
    let formula = bare.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '|', '＝', '＋', '－', '＠']);
    let guard = if formula { "'" } else { "" };
    let quoted = formula || text.is_empty() || text.contains(['"', ',', '\r', '\n']) || text.trim() != text;
    if quoted { format!("\"{guard}{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// The members of a JSON object in their order, even those of one name.
pub(super) struct Members(pub(super) Vec<Value>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ordered;

        impl<'de> Visitor<'de> for Ordered {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut values = Vec::new();
                while let Some((_, value)) = map.next_entry::<serde::de::IgnoredAny, Value>()? {
                    values.push(value);
                }
                Ok(Members(values))
            }
        }

        deserializer.deserialize_map(Ordered)
    }
}

/// Names that are each used once: `a`, `a_2`, `a_3`.
pub(super) fn distinct(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in names {
        let numbered = (2..).map(|n| format!("{name}_{n}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|it| !all.contains(it));
        all.extend(free);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn written(format: Format, columns: &[&str], rows: &[Vec<Value>]) -> String {
        let columns: Vec<_> = columns.iter().map(|it| (*it).to_owned()).collect();
        let mut out = format.begin(&columns);
        for (n, row) in rows.iter().enumerate() {
            format.row(&columns, row, n == 0, &mut out);
        }
        out + format.end()
    }

    #[test]
    fn csv_is_rfc_4180_and_no_field_is_a_formula() {
        let rows = [
            vec![json!("a,b"), json!("say \"hi\""), json!("two\r\nlines")],
            vec![json!(null), json!(""), json!(-5)],
            vec![json!("=cmd|' /C calc'!A0"), json!(" @SUM(A1)"), json!("-1+1")],
            vec![json!({ "=x": 1 }), json!(["=y"]), json!("＝1")],
        ];
        let want = "x,\"'=HYPERLINK(1)\",z\r\n\"a,b\",\"say \"\"hi\"\"\",\"two\r\nlines\"\r\n,\"\",-5\r\n\
                    \"'=cmd|' /C calc'!A0\",\"' @SUM(A1)\",\"'-1+1\"\r\n\"{\"\"=x\"\":1}\",\"[\"\"=y\"\"]\",\"'＝1\"\r\n";
        assert_eq!(written(Format::Csv, &["x", "=HYPERLINK(1)", "z"], &rows), want);
    }

    #[test]
    fn json_and_ndjson_keep_every_column() {
        let columns = distinct(["a", "a", "a_2", "b"].map(str::to_owned));
        assert_eq!(columns, ["a", "a_2", "a_2_2", "b"]);
        let Members(row) = serde_json::from_str(r#"{"a":1,"a":2,"a_2":null,"b":{"c":"d"}}"#).unwrap();
        let columns: Vec<_> = columns.iter().map(String::as_str).collect();
        let line = "{\"a\":1,\"a_2\":2,\"a_2_2\":null,\"b\":{\"c\":\"d\"}}";
        let rows = [row.clone(), row];
        assert_eq!(written(Format::Ndjson, &columns, &rows), format!("{line}\n{line}\n"));
        assert_eq!(written(Format::Json, &columns, &rows), format!("[\n{line},\n{line}\n]\n"));
        assert_eq!(written(Format::Json, &columns, &[]), "[\n]\n");
    }
}
