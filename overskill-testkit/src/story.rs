//! Whether the record of a deployment tells a whole story.

use overskill_core::{
    AttemptOutcome, BackendName, DeploymentEnd, DeploymentEvent as E, DeploymentRecord, DeploymentState, Doubt,
    Fallback, OperatorChoice,
};
use std::collections::BTreeSet;

/// Panics unless the record of a deployment has a beginning and leaves nothing out that must have happened: whatever
/// crashed, each side effect was announced before it was made.
///
/// # Panics
/// With the rule that is broken, and the story.
pub fn assert_story(record: &DeploymentRecord) {
    if let Err(what) = told(record) {
        panic!("{what}:\n{}", record.timeline());
    }
}

fn told(record: &DeploymentRecord) -> Result<(), String> {
    let events: Vec<_> = record.events().iter().map(|recorded| &recorded.event).collect();
    let rule = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    rule(matches!(events.first(), Some(E::Requested { .. })), "it does not begin with a request")?;
    rule(record.events().iter().zip(1..).all(|(recorded, seq)| recorded.seq == seq), "an event is missing")?;
    for step in record.path().windows(2) {
        rule(DeploymentState::STEPS.contains(&(step[0], step[1])), &format!("{step:?} is no step"))?;
    }
    let cautious = record.strategy().is_some_and(|strategy| strategy.fallback == Some(Fallback::Cautious));
    for (place, event) in events.iter().enumerate() {
        let before = |is: &dyn Fn(&E) -> bool| events[..place].iter().any(|event| is(event));
        let ended = before(&|e| matches!(e, E::Ended { .. }));
        rule(!ended || matches!(event, E::Swept { .. }), "something follows the end")?;
        match event {
            E::Staging { target, .. } => {
                let held = cautious.then(|| in_doubt(&events[..place], target)).flatten();
                rule(held.is_none(), "another target may have had it, and the strategy is cautious")?;
                rule(before(&|e| matches!(e, E::Built { .. })), "it was staged before it was built")?;
                rule(before(&|e| matches!(e, E::Leased { .. })), "it was staged without a lease")?;
            }
            E::Staged { target, .. } => {
                let begun = before(&|e| matches!(e, E::Staging { target: of, .. } if of == target));
                rule(begun, "it was staged without a word before")?;
            }
            E::Activating { target, .. } => {
                let staged = before(&|e| matches!(e, E::Staged { target: of, .. } if of == target));
                rule(staged, "it was activated before it was staged")?;
            }
            E::Activated { target, .. } | E::Observed { target, .. } => {
                let begun = before(&|e| matches!(e, E::Activating { target: of, .. } if of == target));
                rule(begun, "it was activated without a word before")?;
            }
            E::OperatorAnswered { .. } => {
                rule(before(&|e| matches!(e, E::AwaitingOperator { .. })), "somebody answered what nobody asked")?;
            }
            E::Ended { end: DeploymentEnd::Active { target, fence, .. } } => {
                // Somebody may have made it live once more before its end was written.
                let begun = |e: &E| matches!(e, E::Activating { target: of, fence: f } if of == target && f <= fence);
                rule(before(&begun), "it is live without a word of it before")?;
            }
            E::Ended { end: DeploymentEnd::RolledBack { .. } } => {
                let unwell = before(&|e| matches!(e, E::Gated { failure: Some(_), .. }));
                rule(unwell, "it was rolled back, and nothing was wrong with it")?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// A target besides `this` that may serve it, as far as the events tell, and that nobody gave up.
fn in_doubt<'e>(events: &[&'e E], this: &BackendName) -> Option<&'e BackendName> {
    let (mut open, mut held, mut asked) = (None, BTreeSet::new(), None);
    for event in events {
        match event {
            E::Activating { target, .. } => held.extend(open.replace(target)),
            E::AttemptFailed { outcome, operation, .. }
                if *outcome != AttemptOutcome::Unknown && operation == "activate" =>
            {
                open = None;
            }
            E::Activated { target, .. } | E::Unsettled { target } | E::Observed { target, adopted: true } => {
                open = None;
                held.insert(target);
            }
            E::Observed { target, adopted: false } | E::GaveWay { target, .. } => {
                open = None;
                held.remove(target);
            }
            E::AwaitingOperator { about, .. } => asked = Some(about),
            E::OperatorAnswered { choice: OperatorChoice::Approve, .. } => {
                if let Some(Doubt::Unsettled(target)) = asked {
                    held.remove(target);
                }
            }
            _ => {}
        }
    }
    held.into_iter().chain(open).find(|target| *target != this)
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::{DeploymentId, IdsExt as _, RecordedEvent, SeededIds, Timestamp};

    /// A whole story, and each with one of its events left out.
    #[tokio::test]
    async fn a_story_without_one_of_its_events_is_noticed() {
        let test = crate::platform().await;
        let app = test.app("todo42").await;
        app.write([("index.html", "hi")]).await.unwrap();
        let deployment = app.deploy(overskill_core::Environment::Production).await.unwrap();
        test.clock.drive(deployment.outcome()).await.unwrap();
        let whole = deployment.record().await.unwrap();
        assert_eq!(told(&whole), Ok(()));
        let mut noticed = 0;
        for left_out in 0..whole.events().len() {
            let mut events: Vec<RecordedEvent> = whole.events().to_vec();
            let gone = events.remove(left_out).event;
            events.iter_mut().zip(1..).for_each(|(event, seq)| event.seq = seq);
            let id = DeploymentId::from_uuid(SeededIds::new(1).uuid_v7(Timestamp::EPOCH));
            let told = told(&DeploymentRecord::from_events(id, whole.scope().clone(), events));
            // That it was activated, and that the route was set, may die with whoever did it.
            let may_die =
                matches!(gone, E::BuildStarted { .. } | E::Activated { .. } | E::Routing { .. } | E::Ended { .. });
            assert!(told.is_err() || may_die, "{gone:?} was left out, and nobody noticed");
            noticed += u32::from(told.is_err());
        }
        assert!(noticed >= 5, "{noticed} were noticed");
    }
}
