//! The rules of an [`ApiUpstream`] that speaks the protocol of [`overskill_core::entities`].

mod cases;

use overskill_core::{AccessToken, ApiUpstream, Claims};
use std::fmt;

/// What [`entity_api_conformance!`](crate::entity_api_conformance) needs: the upstream, and tokens that it takes.
pub type EntityApiFixture = crate::Fixture<dyn ApiUpstream, EntityTokens>;

type Mint = dyn Fn(&Claims) -> AccessToken + Send + Sync;

/// How tokens are made for an upstream.
pub struct EntityTokens {
    mint: Box<Mint>,
}

impl EntityTokens {
    /// `mint` makes the token that says this and that the upstream takes for true, such as one of
    /// [`LocalTokens`](overskill_core::TenantValidator).
    pub fn new(mint: impl Fn(&Claims) -> AccessToken + Send + Sync + 'static) -> Self {
        Self { mint: Box::new(mint) }
    }
}

impl fmt::Debug for EntityTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntityTokens").finish_non_exhaustive()
    }
}

suite! {
    $
    /// Tests of every rule of an entity API: `entity_api_conformance!(v1, fixture())`, where the fixture is an
    /// [`EntityApiFixture`](crate::EntityApiFixture).
    macro entity_api_conformance = entities, entity_api_v1;
    const V1 = "entity_api", v1;
    fixture EntityApiFixture;
    in cases {
        a_record_is_made_read_changed_and_deleted: "a record is answered as it was written, whole or in part, until it is deleted; its id stays taken";
        values_come_back_as_they_were: "every JSON value comes back as it was written";
        lists_are_filtered: "a filter finds text, numbers of whatever form, booleans and null, and nothing else";
        lists_are_sorted_and_paged: "lists are in the order of sort, oldest first without one, and pages join to the whole";
        text_numbers_and_nothing_are_sorted_alike: "records without the field come first, then numbers, then text, byte by byte";
        a_list_has_a_hundred_records_unless_asked: "a list has 100 records, or as many as limit says";
        bad_input_names_the_field_and_the_limit: "what is wrong with a request is answered with its status and named";
        one_app_never_sees_anothers_records: "records of another app or environment are not there, and their ids are free";
        tokens_of_others_are_refused: "a token of another app, environment or right, or an expired one, opens nothing";
        records_survive_a_restart: "records are durable";
        concurrent_changes_are_all_there: "changes of one record at the same time are all there";
        pages_neither_skip_nor_repeat: "pages neither skip nor repeat while records come and go, whatever the sort";
        a_cursor_tells_nothing_of_others: "a cursor of another app's list shows nothing of it";
        whole_numbers_are_found_exactly: "whole numbers are compared exactly, beyond 2^53 too";
        a_page_of_large_records_ends_early: "a page of large records ends early, and says where the next begins";
        pointers_and_wrappers_answer_alike: "a wrapped upstream answers as the upstream itself";
        it_is_ready: "check answers that nothing is missing, and names the backend";
    }
}
