//! A schema as types of TypeScript.

use super::info::{AppSchema, ColumnInfo, TableInfo};
use crate::editor::ColumnType;
use std::fmt::Write as _;

const HEAD: &str =
    "export type Json = string | number | boolean | null | { [key: string]: Json | undefined } | Json[];\n";

/// The types that do not depend on tables.
const TAIL: &str = "    Views: { [_ in never]: never };
    Functions: { [_ in never]: never };
    Enums: { [_ in never]: never };
    CompositeTypes: { [_ in never]: never };
  };
};
";

pub(super) fn database(schema: &AppSchema) -> String {
    let name = schema.schema.as_deref().unwrap_or("entities");
    let mut out = format!("{HEAD}\nexport type Database = {{\n  {}: {{\n    Tables: {{", key(name));
    if schema.tables.is_empty() {
        out.push_str(" [_ in never]: never };\n");
    } else {
        out.push('\n');
        schema.tables.iter().for_each(|table| push_table(&mut out, table));
        out.push_str("    };\n");
    }
    out.push_str(TAIL);
    let all = format!("Database[{}][\"Tables\"]", json(&name));
    for (kind, of) in [("Tables", "Row"), ("TablesInsert", "Insert"), ("TablesUpdate", "Update")] {
        write!(out, "\nexport type {kind}<T extends keyof {all}> = {all}[T][\"{of}\"];\n").expect("a string takes all");
    }
    out
}

fn push_table(out: &mut String, table: &TableInfo) {
    writeln!(out, "      {}: {{", key(&table.name)).expect("a string takes all");
    for (of, optional) in [
        ("Row", (|_| false) as fn(&ColumnInfo) -> bool),
        ("Insert", |column| column.nullable || column.default.is_some()),
        ("Update", |_| true),
    ] {
        writeln!(out, "        {of}: {{").expect("a string takes all");
        for column in &table.columns {
            let mark = if optional(column) { "?" } else { "" };
            let null = if column.nullable { " | null" } else { "" };
            let kind = column.kind.map_or("unknown", ColumnType::typescript);
            writeln!(out, "          {}{mark}: {kind}{null};", key(&column.name)).expect("a string takes all");
        }
        out.push_str("        };\n");
    }
    out.push_str("        Relationships: [");
    for (at, foreign) in table.foreign_keys.iter().enumerate() {
        let one = table.primary_key == foreign.columns || table.unique.iter().any(|it| it.columns == foreign.columns);
        let comma = if at == 0 { "" } else { "," };
        write!(
            out,
            "{comma}\n          {{ foreignKeyName: {}; columns: {}; isOneToOne: {one}; referencedRelation: {}; \
             referencedColumns: {} }}",
            json(&foreign.name),
            json(&foreign.columns),
            json(&foreign.to),
            json(&foreign.to_columns)
        )
        .expect("a string takes all");
    }
    out.push_str(if table.foreign_keys.is_empty() { "];\n      };\n" } else { "\n        ];\n      };\n" });
}

/// The name of a member: as it is, or quoted.
fn key(name: &str) -> String {
    let plain = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain { name.to_owned() } else { serde_json::Value::from(name).to_string() }
}

/// Names, as literals.
fn json(names: &impl serde::Serialize) -> String {
    serde_json::to_string(names).expect("text can be written")
}
