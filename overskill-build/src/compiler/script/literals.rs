//! What can be read off an expression that is written out.

use crate::compiler::Glob;
use oxc::{
    ast::ast::{
        Argument, ExportSpecifier, Expression, NewExpression, ObjectPropertyKind, PropertyKey, TemplateLiteral,
    },
    str::Str,
};

pub(super) fn pairs(specifiers: &[ExportSpecifier<'_>]) -> Vec<(String, String)> {
    specifiers.iter().map(|it| (it.local.name().as_str().to_owned(), it.exported.name().as_str().to_owned())).collect()
}

/// Whether it is `import.meta.name`.
pub(super) fn is_meta(expression: &Expression<'_>, name: &str) -> bool {
    matches!(expression, Expression::StaticMemberExpression(member)
        if member.property.name == name && matches!(member.object, Expression::ImportMeta(_)))
}

/// Whether it is `new Worker(new URL(…, import.meta.url), …)` without `type: 'module'`.
pub(super) fn is_classic_worker(new: &NewExpression<'_>) -> bool {
    let Some(Expression::NewExpression(url)) = new.arguments.first().and_then(Argument::as_expression) else {
        return false;
    };
    let own = url.arguments.get(1).and_then(Argument::as_expression).is_some_and(|base| is_meta(base, "url"));
    let module = match new.arguments.get(1).and_then(Argument::as_expression) {
        None => false,
        Some(Expression::ObjectExpression(options)) => options.properties.iter().any(|property| match property {
            ObjectPropertyKind::ObjectProperty(it) => it.key.static_name().is_some_and(|name| name == "type"),
            ObjectPropertyKind::SpreadProperty(_) => true,
        }),
        Some(_) => true,
    };
    own && !module
}

/// A string that is written out.
pub(super) fn literal(expression: &Expression<'_>) -> Option<String> {
    match expression {
        Expression::StringLiteral(text) => Some(text.value.as_str().to_owned()),
        Expression::TemplateLiteral(template) if template.expressions.is_empty() => {
            template.quasis.first()?.value.cooked.as_ref().map(|text| text.as_str().to_owned())
        }
        _ => None,
    }
}

/// The glob of a template that begins with a folder and ends with an extension, as Vite reads it.
pub(super) fn pattern(template: &TemplateLiteral<'_>) -> Option<String> {
    let parts: Option<Vec<&str>> =
        template.quasis.iter().map(|quasi| quasi.value.cooked.as_ref().map(Str::as_str)).collect();
    let parts = parts?;
    let (first, last) = (*parts.first()?, *parts.last()?);
    let folder = first.starts_with("./") || first.starts_with("../") || first.starts_with('/');
    let extension = last.rsplit_once('.').is_some_and(|(_, extension)| {
        !extension.is_empty() && extension.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    let plain = !parts.iter().any(|part| part.contains(['*', '?', '{', '[', '(', '!']));
    (folder && extension && plain).then(|| parts.join("*"))
}

pub(super) fn is_glob_path(pattern: &str) -> bool {
    !pattern.is_empty() && !pattern.contains("://") && !pattern.contains('\\')
}

pub(super) fn glob_option(property: &ObjectPropertyKind<'_>, glob: &mut Glob) -> Result<(), String> {
    let ObjectPropertyKind::ObjectProperty(property) = property else {
        return Err("the options of `import.meta.glob` are spread from elsewhere".to_owned());
    };
    let name = match &property.key {
        PropertyKey::StaticIdentifier(name) => name.name.to_string(),
        PropertyKey::StringLiteral(name) => name.value.to_string(),
        _ => return Err("an option of `import.meta.glob` has a computed name".to_owned()),
    };
    let text = literal(&property.value);
    match (&*name, &property.value) {
        ("eager", Expression::BooleanLiteral(eager)) => glob.eager = eager.value,
        ("exhaustive" | "caseSensitive", Expression::BooleanLiteral(_)) => {}
        ("import", _) if text.is_some() => glob.import = text,
        ("query", Expression::ObjectExpression(_)) => {
            return Err("`query` of `import.meta.glob` as an object is not supported; write it as `'?name'`".to_owned());
        }
        ("query", _) if text.is_some() => {
            let text = text.unwrap_or_default();
            glob.query = (!text.is_empty()).then(|| if text.starts_with('?') { text } else { format!("?{text}") });
        }
        // What it was called before Vite 5.
        ("as", _) if text.as_deref() == Some("raw") || text.as_deref() == Some("url") => {
            glob.query = text.map(|text| format!("?{text}"));
            glob.import.get_or_insert_with(|| "default".to_owned());
        }
        _ => return Err(format!("the option `{name}` of `import.meta.glob` is not supported or not a literal")),
    }
    Ok(())
}

/// The helpers of `experimentalDecorators`, as TypeScript writes them.
pub(super) fn helper(name: &str) -> Option<&'static str> {
    Some(match name {
        "decorate" => {
            "function(decorators, target, key, desc) { \
             const c = arguments.length; \
             let r = c < 3 ? target : desc === null ? desc = Object.getOwnPropertyDescriptor(target, key) : desc; \
             for (let i = decorators.length - 1; i >= 0; i--) { const d = decorators[i]; \
             if (d) r = (c < 3 ? d(r) : c > 3 ? d(target, key, r) : d(target, key)) || r; } \
             if (c > 3 && r) Object.defineProperty(target, key, r); return r; }"
        }
        "decorateMetadata" => {
            "(key, value) => typeof Reflect === \"object\" && typeof Reflect.metadata === \"function\" \
             ? Reflect.metadata(key, value) : undefined"
        }
        "decorateParam" => "(index, decorator) => (target, key) => decorator(target, key, index)",
        _ => return None,
    })
}
