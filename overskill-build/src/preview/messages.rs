//! The messages to a page: Vite's, with the position that they bring it to.

use super::HotMessage;
use crate::Problem;
use overskill_core::StreamPosition;
use serde_json::{Value, json};

/// One module that takes an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acceptor {
    /// The module that accepts.
    pub(super) path: String,
    /// What it accepts: itself, or a dependency.
    pub(super) accepted: String,
    /// A style sheet that a page links to.
    pub(super) linked: bool,
    /// Its import has to say `?import`.
    pub(super) explicit: bool,
    /// It is part of a circle that the update goes through.
    pub(super) circular: bool,
    /// The module whose refusal led here.
    pub(super) invalidated_by: Option<String>,
}

pub(super) fn update(acceptors: &[Acceptor], stamp: u64) -> Value {
    let updates: Vec<Value> = acceptors
        .iter()
        .map(|it| {
            let mut update = json!({
                "type": if it.linked { "css-update" } else { "js-update" },
                "timestamp": stamp,
                "path": it.path,
                "acceptedPath": it.accepted,
                "explicitImportRequired": it.explicit,
                "isWithinCircularImport": it.circular,
            });
            if let Some(by) = &it.invalidated_by {
                update["firstInvalidatedBy"] = by.as_str().into();
            }
            update
        })
        .collect();
    json!({ "type": "update", "updates": updates })
}

/// `path` is `*`, or the page that changed.
pub(super) fn full_reload(path: &str, triggered_by: Option<&str>) -> Value {
    let mut message = json!({ "type": "full-reload", "path": path });
    if let Some(file) = triggered_by {
        message["triggeredBy"] = format!("/{file}").into();
    }
    message
}

pub(super) fn prune(paths: &[String]) -> Value {
    json!({ "type": "prune", "paths": paths })
}

/// The first of the problems, as Vite shows errors; `problem` has it as it is, and `more` counts the others.
pub(super) fn error(problem: &Problem, more: usize) -> Value {
    let mut err = json!({
        "message": problem.message,
        "stack": "",
        "plugin": "overskill",
    });
    if let Some(help) = &problem.help {
        err["help"] = help.as_str().into();
    }
    if let Some(file) = &problem.file {
        err["id"] = format!("/{file}").into();
        if let Some(at) = problem.at {
            err["loc"] = json!({ "file": format!("/{file}"), "line": at.line, "column": at.column });
        }
    }
    if let Some(frame) = &problem.frame {
        err["frame"] = frame.as_str().into();
    }
    json!({ "type": "error", "err": err, "problem": problem, "more": more })
}

pub(super) fn position(position: StreamPosition) -> Value {
    json!({ "incarnation": format!("{:x}", position.incarnation.as_u64()), "seq": position.seq })
}

/// Messages that go together: the last one bears the position, so that whoever has not got them all is not there yet.
pub(super) fn together(messages: Vec<Value>, to: Option<StreamPosition>) -> Vec<HotMessage> {
    let last = messages.len().saturating_sub(1);
    let stamped = |(index, mut message): (usize, Value)| {
        let to = to.filter(|_| index == last);
        if let Some(to) = to {
            message["position"] = position(to);
        }
        HotMessage { position: to, text: message.to_string() }
    };
    messages.into_iter().enumerate().map(stamped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProblemKind;
    use overskill_core::{FilePath, Incarnation};

    #[test]
    fn an_error_has_what_vites_overlay_reads() {
        let problem = Problem::new(ProblemKind::Syntax, "`<b>` is <not> closed")
            .help("close it")
            .in_file(FilePath::parse("src/a.tsx").unwrap())
            .at_offset("let a\n  <b>", 8);
        let message = error(&problem, 2);
        assert_eq!(message["err"]["message"], "`<b>` is <not> closed");
        assert_eq!(message["err"]["help"], "close it");
        assert_eq!(message["err"]["loc"], json!({ "file": "/src/a.tsx", "line": 2, "column": 3 }));
        assert_eq!((message["err"]["id"].as_str(), message["more"].as_u64()), (Some("/src/a.tsx"), Some(2)));
        assert_eq!(message["problem"]["at"]["column"], 3);
        assert!(message["err"]["frame"].as_str().unwrap().contains('^'));
    }

    #[test]
    fn only_the_last_message_moves_who_gets_it() {
        let to = StreamPosition::new(Incarnation::from_u64(31), 4);
        let sent = together(vec![json!({ "type": "a" }), json!({ "type": "b" })], Some(to));
        assert_eq!((sent[0].position, sent[1].position), (None, Some(to)));
        assert!(
            !sent[0].text.contains("position") && sent[1].text.contains(r#""position":{"incarnation":"1f","seq":4}"#)
        );
    }
}
