//! The rules of a [`BundleStore`].

mod collection;
mod holding;

use overskill_core::{Artifact, BundleStore, DeploymentId, Scope};
use std::time::Duration;

/// What [`bundle_store_conformance!`](crate::bundle_store_conformance) needs: a bundle store of its own.
pub type BundleStoreFixture = crate::Fixture<dyn BundleStore>;

suite! {
    $
    /// Tests of every rule of a [`BundleStore`](overskill_core::BundleStore): `bundle_store_conformance!(v1, fixture())`,
    /// where the fixture is a [`BundleStoreFixture`](crate::BundleStoreFixture).
    ///
    /// A collection removes what nobody holds, of all apps: so each fixture needs a store of its own (a new directory, a
    /// new database), which nobody else uses at the time.
    macro bundle_store_conformance = bundles, bundle_store_v1;
    const V1 = "bundle_store", v1;
    fixture BundleStoreFixture;
    in holding {
        put_answers_the_digest: "put answers the artifact's digest, and alike whether or not it was there";
        an_artifact_is_read_as_it_was_put: "get answers an equal artifact: assets, server module, Wasm and configuration";
        get_answers_only_holders: "get answers only in a scope that holds the artifact, whoever else has it";
        what_was_never_put_cannot_be_held: "hold of an artifact that was never put is not found";
        a_hold_is_one_hold: "a deployment holds an artifact once, however often it says so";
        holding_says_who_holds_something: "holding names those deployments, of all that it is asked about, that hold something";
        release_of_nothing_is_fine: "release succeeds when the deployment holds nothing, and takes no other's hold";
        one_of_two_holds_keeps: "an artifact stays readable in a scope while one of several deployments there holds it";
        release_lets_go_of_everything: "release lets go of every artifact that the deployment held";
        holds_survive_a_restart: "artifacts and holds are durable";
        a_dropped_put_can_be_repeated: "a put whose future is dropped can be made again, and the artifact is whole";
        pointers_and_wrappers_answer_alike: "a wrapped store answers as the store itself";
        it_is_ready: "check answers that nothing is missing, and names the backend";
    }
    in collection {
        what_nobody_holds_is_collected: "collect removes artifacts that nobody holds and that are old enough, and counts them";
        what_is_held_is_not_collected: "collect never removes an artifact that is held";
        what_is_young_is_not_collected: "collect leaves artifacts that were put no longer than min_age ago";
        a_put_makes_it_new_again: "an artifact that is put again counts as new";
        a_release_makes_it_new_again: "an artifact counts as new from its release on";
        shared_contents_survive: "collecting one artifact leaves whole what others share with it";
        what_was_collected_can_be_put_again: "an artifact that was collected is not found, and can be put again";
        puts_and_collections_do_not_race: "an artifact that is put and held while a collection runs is whole afterwards";
    }
}

type F = BundleStoreFixture;

/// How old an artifact must be in these cases to be collected.
const MIN_AGE: Duration = Duration::from_hours(1);

/// Puts and holds an artifact `seconds` after the start of the case.
async fn keep(f: &F, scope: &Scope, artifact: &Artifact, seconds: u64) -> Result<DeploymentId, crate::Stop> {
    let deployment = f.names().deployment();
    let digest = f.store().put(artifact, f.names().after(seconds)).await?;
    f.store().hold(scope, digest, deployment).await?;
    Ok(deployment)
}

/// Whether the artifact is there at all: whether a deployment could hold it.
async fn is_there(f: &F, artifact: &Artifact) -> Result<bool, crate::Stop> {
    match f.store().hold(&f.names().scope(), artifact.digest(), f.names().deployment()).await {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == overskill_core::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e.into()),
    }
}
