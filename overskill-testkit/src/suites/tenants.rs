//! The rules of a [`TenantValidator`].

mod cases;
mod wish;

pub use wish::{Flaw, KeyForm, TokenAlgorithm, TokenClaim, TokenWish};

use overskill_core::TenantValidator;
use std::{fmt, sync::Arc};

/// What [`tenant_validator_conformance!`](crate::tenant_validator_conformance) needs: a validator, and how tokens are made
/// for it.
///
/// ```ignore
/// let mint = TokenMint::new("overskill", "overskill"); // feature `tokens`
/// let keys = LocalKeys::from_pkcs8(KeyId::parse(mint.kid(TokenAlgorithm::Es256))?, &mint.es256_pkcs8())?;
/// let validator = Arc::new(LocalTokens::new(keys).validator());
/// TenantValidatorFixture::with(validator, TokenSource::new(move |wish| Some(mint.mint(wish))))
/// ```
pub type TenantValidatorFixture = crate::Fixture<dyn TenantValidator, TokenSource>;

type Mint = dyn Fn(&TokenWish) -> Option<String> + Send + Sync;

/// How tokens are made for a [`TenantValidator`].
pub struct TokenSource {
    mint: Box<Mint>,
    accepts: Vec<TokenAlgorithm>,
    undecided: Option<Arc<dyn TenantValidator>>,
}

impl TokenSource {
    /// `mint` makes the token that a case wishes for; `None` when there can be no such token for this validator, such as
    /// one without an audience where no audience is used, or for one environment where tokens name none. The validator
    /// accepts ES256 alone.
    pub fn new(mint: impl Fn(&TokenWish) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { mint: Box::new(mint), accepts: vec![TokenAlgorithm::Es256], undecided: None }
    }

    /// Says which algorithms the validator accepts.
    pub fn accepts(mut self, algorithms: impl IntoIterator<Item = TokenAlgorithm>) -> Self {
        self.accepts = algorithms.into_iter().collect();
        self
    }

    /// Adds the same validator with a source of keys, or of memberships, that is out of reach. Without it, nobody sees that
    /// it fails closed: a validator that asks nobody excepts `what_cannot_be_decided_is_refused` with that reason.
    pub fn undecided(mut self, validator: Arc<dyn TenantValidator>) -> Self {
        self.undecided = Some(validator);
        self
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource")
            .field("accepts", &self.accepts)
            .field("undecided", &self.undecided.is_some())
            .finish_non_exhaustive()
    }
}

suite! {
    $
    /// Tests of every rule of a [`TenantValidator`](overskill_core::TenantValidator):
    /// `tenant_validator_conformance!(v1, fixture())`, where the fixture is a
    /// [`TenantValidatorFixture`](crate::TenantValidatorFixture).
    macro tenant_validator_conformance = tenants, tenant_validator_v1;
    const V1 = "tenant_validator", v1;
    fixture TenantValidatorFixture;
    in cases {
        a_valid_token_is_accepted: "a valid token is accepted, and the claims are exactly what it says";
        accepted_algorithms_are_accepted: "a token signed with an algorithm that the validator declares is accepted";
        other_algorithms_are_refused: "a token signed with another algorithm, however well, is not authentic";
        an_expired_token_is_refused: "a token is valid until its expiry and not at that moment: then it is outside its validity";
        a_token_of_the_future_is_refused: "a token is outside its validity before it begins";
        a_forged_signature_is_refused: "a token whose signature is wrong, missing or of another text is not authentic";
        a_foreign_key_is_refused: "a token signed with a key that the validator does not know is not authentic";
        an_unsigned_token_is_refused: "a token with the algorithm none is refused";
        a_public_key_is_no_secret: "a token whose signature takes the public key for a shared secret is not authentic";
        another_issuer_or_audience_is_refused: "a token of another issuer or for another audience is not authentic";
        missing_claims_are_refused: "a token without one of its claims is refused, and the refusal names the claim";
        ambiguous_claims_are_refused: "a token that says a claim twice is refused";
        a_header_that_is_not_understood_is_refused: "a token whose header names a critical extension that is not understood is refused";
        text_that_is_no_token_is_refused: "text that is no token is malformed, and nothing panics";
        an_oversized_token_is_refused: "a token that is too large is malformed";
        a_token_of_another_app_is_refused: "a token for another app is for another tenant, however alike their names are";
        a_token_of_another_user_is_refused: "where a user's part is asked for, a token of another user is refused";
        a_user_is_served_in_their_own_part: "where a user's part is asked for, that user's token is accepted, and the claims are theirs";
        a_users_token_is_not_widened: "a token for a user's part never speaks for the whole app, nor for another user";
        tenants_are_compared_whole: "a tenant that only looks like one is refused";
        an_environment_passes_as_it_is: "a token for one environment has claims for that one alone";
        rights_pass_as_they_are: "the claims have the rights of the token, none more and none fewer";
        unknown_rights_are_refused: "a token that names a right that does not exist is refused";
        what_cannot_be_decided_is_refused: "while keys or memberships are out of reach, every token is refused as undecided";
        refusals_show_nothing_of_the_token: "neither the validator nor a refusal shows any part of a token";
        answers_do_not_depend_on_what_came_before: "the same token gets the same answer every time, after whatever other tokens";
        pointers_and_wrappers_answer_alike: "a wrapped validator answers as the validator itself";
        it_is_ready: "check answers that nothing is missing, and names the backend";
    }
}
