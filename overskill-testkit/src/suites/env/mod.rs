//! The rules of an [`EnvStore`].

mod changing;
mod limits;
mod sealing;

use crate::{Stop, TestKeys};
use overskill_core::{EnvChanges, EnvKey, EnvSnapshot, EnvStore, EnvValue};

/// What [`env_store_conformance!`](crate::env_store_conformance) needs: an env store that seals under the fixture's
/// [`TestKeys`].
///
/// ```
/// use overskill_core::{Sealer, SystemIds, memory::MemoryEnv};
/// use overskill_testkit::{EnvStoreFixture, TestKeys};
/// use std::sync::Arc;
///
/// let keys = TestKeys::new();
/// let sealer = Sealer::new(Arc::new(keys.clone()), Arc::new(SystemIds));
/// let fixture = EnvStoreFixture::with(Arc::new(MemoryEnv::with(&SystemIds, sealer)), keys);
/// # drop(fixture);
/// ```
pub type EnvStoreFixture = crate::Fixture<dyn EnvStore, TestKeys>;

suite! {
    $
    /// Tests of every rule of an [`EnvStore`](overskill_core::EnvStore): `env_store_conformance!(v1, fixture())`, where the
    /// fixture is an [`EnvStoreFixture`](crate::EnvStoreFixture).
    macro env_store_conformance = env, env_store_v1;
    const V1 = "env_store", v1;
    fixture EnvStoreFixture;
    in changing {
        an_untouched_scope_has_an_empty_revision: "a scope that nothing was set in has a revision with seq 0 that stays the same, and no variables";
        what_was_set_is_read: "get answers every variable that was set, plain or sealed, with its value";
        set_and_unset_change_what_they_name: "set replaces, unset removes, and neither touches another variable";
        every_put_adds_exactly_one: "each put that succeeds adds exactly 1 to the revision, whatever it changes";
        revisions_never_change: "a revision answers the same values for ever, whatever is put later";
        entries_tell_names_and_origins: "entries answers the names in order, whether each is sealed, the revision that gave it its value, and the key it is sealed under";
        the_expected_revision_lets_it_pass: "put with the current revision as expected succeeds, from the start on";
        another_expected_revision_is_refused: "put with any other expected revision is a conflict and changes nothing";
        a_revision_that_never_was_is_not_found: "get and entries of a revision that never was are not found";
        scopes_know_nothing_of_each_other: "variables and revisions are seen in their own scope alone";
        of_concurrent_conditional_puts_one_wins: "of concurrent puts that expect the same revision exactly one succeeds, and the others are conflicts";
        concurrent_puts_all_land: "concurrent puts without condition all succeed, at revisions without gap or repetition";
        a_dropped_put_leaves_all_or_nothing: "a put whose future is dropped happened whole or not at all, and the store goes on working";
        revisions_survive_a_restart: "variables and revisions are durable";
        pointers_and_wrappers_answer_alike: "a wrapped store answers as the store itself";
        it_is_ready: "check answers that nothing is missing, and names the backend";
    }
    in limits {
        values_are_read_as_they_were_set: "a value of any text is read as it was set, plain or sealed";
        names_that_look_alike_are_different: "every name is a variable of its own";
        no_changes_are_refused: "put of no changes is invalid and adds no revision";
        the_largest_value_is_taken_and_a_larger_refused: "a value of 32 KiB is taken; a larger one exceeds the limit, and nothing of the put happens";
        the_most_variables_are_taken_and_more_refused: "512 variables are taken; one more exceeds the limit, and nothing of the put happens";
    }
    in sealing {
        nothing_shows_a_sealed_value: "no Debug, entry or error shows a sealed value";
        old_values_open_after_a_rotation: "when the provider has a new current key, values under older keys still open, and new values are sealed under the new key";
        reseal_moves_every_value_to_the_current_key: "reseal seals every value of every revision under the current key, changes no revision, and is safe to repeat";
        an_interrupted_reseal_harms_nothing: "a reseal whose future is dropped loses no value, and the next one completes it";
        reseal_stays_in_its_scope: "reseal touches its own scope alone";
        a_retired_key_fails_closed: "a value whose key was retired is an error, never a missing or a raw value; names are still told";
        a_lost_value_can_be_replaced: "a variable whose key was retired can be set anew";
    }
}

type F = EnvStoreFixture;

fn key(name: &str) -> EnvKey {
    EnvKey::parse(name).expect("the kit's names are legal")
}

fn set(name: &str, value: EnvValue) -> EnvChanges {
    EnvChanges::new().set(key(name), value)
}

/// The variables with their values, and whether each is sealed, for comparing.
fn values(snapshot: &EnvSnapshot) -> Vec<(&str, &str, bool)> {
    snapshot.values.iter().map(|(key, value)| (key.as_str(), value.expose(), value.is_sealed())).collect()
}

/// The newest variables of a scope.
async fn newest(f: &F, scope: &overskill_core::Scope) -> Result<EnvSnapshot, Stop> {
    let revision = f.store().current(scope).await?;
    Ok(f.store().get(scope, revision).await?)
}
