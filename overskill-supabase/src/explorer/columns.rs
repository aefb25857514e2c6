//! Which columns the tables of a query have. Where `t` has no column `f`, the database takes `t.f` for a call of the function
//! `f`, whichever that is: so `t.f` is allowed where the query itself says that `t` has a column `f`.

use super::{
    allow::{no, refused},
    parts::folded,
};
use overskill_core::Result;
use sqlparser::ast::{Expr, Ident, ObjectNamePart, TableAlias, TableAliasColumnDef};

/// As many as the database gives.
const MAX_COLUMNS: usize = 1_664;

/// Columns of a table, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns {
    /// `None` is one whose name only the database makes up.
    names: Vec<Option<String>>,
    /// It is not known yet which there are.
    open: bool,
}

/// The tables in the FROM of one SELECT.
#[derive(Debug, Default)]
pub(super) struct Level {
    /// By their names as the database compares them.
    pub(super) relations: Vec<(String, Columns)>,
    /// Its FROM has been read. Before, what stands in it is seen from within it in some places, and not in others.
    pub(super) whole: bool,
}

impl Columns {
    pub(super) fn of(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { names: names.into_iter().map(|it| Some(it.into())).collect(), open: false }
    }

    /// Any, until it is known which.
    pub(super) fn open() -> Self {
        Self { names: Vec::new(), open: true }
    }

    pub(super) fn push(&mut self, name: Option<String>) {
        self.names.push(name);
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// `x.*, x.*`, again and again, is soon more than any memory holds.
    pub(super) fn append(&mut self, more: Self) -> Result<()> {
        self.names.extend(more.names);
        self.open |= more.open;
        no(self.names.len() > MAX_COLUMNS, "more than 1,664 columns at a time")
    }

    /// The first of them have the names of `alias`.
    pub(super) fn renamed(mut self, alias: Option<&TableAlias>) -> Self {
        let given = alias.map_or(&[][..], |it| &it.columns);
        for (name, given) in self.names.iter_mut().zip(given) {
            *name = Some(folded(&given.name));
        }
        self
    }

    fn has(&self, name: &str) -> bool {
        self.open || self.names.iter().any(|it| it.as_deref() == Some(name))
    }

    /// Names that both have.
    pub(super) fn shared_with(&self, other: &Self) -> Vec<String> {
        self.names.iter().flatten().filter(|it| other.names.iter().flatten().any(|its| its == *it)).cloned().collect()
    }

    /// Joined by those that both have, which come first and once.
    pub(super) fn merged(self, right: Self, both: Vec<String>) -> Result<Self> {
        let open = self.open || right.open;
        let rest = self.names.into_iter().chain(right.names);
        let rest: Vec<_> = rest.filter(|it| it.as_ref().is_none_or(|it| !both.contains(it))).collect();
        let mut all = Self { names: both.into_iter().map(Some).collect(), open };
        all.append(Self { names: rest, open })?;
        Ok(all)
    }
}

/// `Ok` when `relation.name` can be nothing but a column, whichever table of that name the database will take.
pub(super) fn column_of(levels: &[Level], relation: &Ident, name: &Ident) -> Result<()> {
    let (relation, name) = (folded(relation), folded(name));
    let mut found = false;
    for level in levels.iter().rev() {
        let mut here = level.relations.iter().filter(|it| it.0 == relation).peekable();
        let last = here.peek().is_some() && level.whole;
        for (_, columns) in here {
            if !columns.has(&name) {
                return Err(refused(format!(
                    "names `{relation}.{name}`, but `{relation}` has no column `{name}`: give it that name by AS"
                )));
            }
            found = true;
        }
        if last {
            break;
        }
    }
    if found {
        Ok(())
    } else {
        Err(refused(format!("names `{relation}.{name}`, but there is no `{relation}` in FROM")))
    }
}

/// What `relation.*` stands for, in a SELECT whose FROM has been read.
pub(super) fn columns_of<'a>(levels: &'a [Level], relation: &Ident) -> Result<&'a Columns> {
    let name = folded(relation);
    let mut all = levels.iter().rev().flat_map(|level| &level.relations);
    let found = all.find(|it| it.0 == name).map(|(_, columns)| columns);
    found.ok_or_else(|| refused(format!("names `{name}.*`, but there is no `{name}` in FROM")))
}

/// The name that the database gives to a column without one, where the query itself says it.
pub(super) fn named(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(folded(name)),
        Expr::CompoundIdentifier(names) => names.last().map(folded),
        Expr::Nested(it) | Expr::Cast { expr: it, .. } | Expr::CompoundFieldAccess { root: it, .. } => named(it),
        Expr::Function(call) => match call.name.0.last() {
            Some(ObjectNamePart::Identifier(name)) => Some(folded(name)),
            _ => None,
        },
        _ => None,
    }
}

/// The columns of a function in FROM. They are written into `alias`: what is a column here is one for the database, too.
pub(super) fn given_by(
    function: &Ident,
    arguments: usize,
    with_ordinality: bool,
    alias: &mut Option<TableAlias>,
) -> Columns {
    let alias = alias.get_or_insert_with(|| TableAlias {
        explicit: true,
        name: function.clone(),
        columns: Vec::new(),
        at: None,
    });
    if alias.columns.iter().any(|it| it.data_type.is_some()) {
        return Columns::of(alias.columns.iter().map(|it| folded(&it.name))); // these are all that it can have
    }
    let function = folded(function);
    let mut names = match function.as_str() {
        "jsonb_array_elements" | "jsonb_array_elements_text" => vec!["value".to_owned()],
        "jsonb_each" | "jsonb_each_text" => vec!["key".to_owned(), "value".to_owned()],
        "unnest" if arguments > 1 => vec![function; arguments],
        _ => vec![folded(&alias.name)],
    };
    if with_ordinality {
        names.push("ordinality".to_owned());
    }
    let columns = Columns::of(names).renamed(Some(alias));
    let written = columns.names.iter().flatten().skip(alias.columns.len());
    let written: Vec<_> = written.map(|it| Ident::with_quote('"', it.as_str())).collect();
    alias.columns.extend(written.into_iter().map(|name| TableAliasColumnDef { name, data_type: None }));
    columns
}
