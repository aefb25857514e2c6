//! The cases.

use super::{Flaw, KeyForm, TenantValidatorFixture as F, TokenAlgorithm, TokenClaim, TokenWish};
use crate::{
    Broken, Stop, Verdict,
    fixture::unseen,
    suite::{ensure, ensure_eq, shown},
};
use overskill_core::{
    AccessToken, AppId, Around, Claims, Environment, Refusal, Rights, SubjectId, TenantId, TenantValidator, Timestamp,
};
use std::{sync::Arc, time::Duration};

/// A full second, now.
fn now(f: &F) -> Timestamp {
    let millis = f.names().start().as_unix_millis();
    Timestamp::from_unix_millis(millis - millis.rem_euclid(1000))
}

fn ada() -> SubjectId {
    SubjectId::parse("ada-7f3e@example.org").expect("a legal id")
}

fn bob() -> SubjectId {
    SubjectId::parse("bob-7f3e@example.org").expect("a legal id")
}

/// A new app as a whole, and a good token for it.
fn wish(f: &F) -> (TenantId, TokenWish) {
    let tenant = TenantId::of_app(f.names().app());
    (tenant.clone(), TokenWish::new(tenant, ada(), now(f)))
}

/// The claims of a wish without flaw.
fn claims(wish: &TokenWish) -> Result<Claims, overskill_core::Error> {
    let TokenWish { tenant, subject, expires_at, rights, environment, .. } = wish;
    let (tenant, subject, rights) = (tenant.clone(), subject.clone(), rights.parse::<Rights>()?);
    let claims = Claims::new(subject, tenant, rights, *expires_at);
    Ok(environment.iter().copied().fold(claims, Claims::in_environment))
}

type Answer = Result<Claims, Refusal>;

/// What `validator` says of a wish's token; `None` when there is no such token.
async fn ask(
    f: &F,
    validator: &Arc<dyn TenantValidator>,
    wish: &TokenWish,
    tenant: &TenantId,
    at: Timestamp,
) -> Option<Answer> {
    let text = (f.besides().mint)(wish)?;
    Some(match AccessToken::parse(&text) {
        Ok(token) => validator.validate(&token, tenant, at).await,
        // It is refused before anything looks inside.
        Err(_) => Err(Refusal::Malformed("not an access token")),
    })
}

async fn validate(f: &F, wish: &TokenWish, tenant: &TenantId) -> Option<Answer> {
    ask(f, f.store(), wish, tenant, now(f)).await
}

/// The claims of a token that has to be accepted.
fn accepted(answer: Option<Answer>, what: &str) -> Result<Claims, Stop> {
    match answer {
        Some(Ok(claims)) => Ok(claims),
        Some(Err(refusal)) => Err(Broken::new(format!("{what} was refused: {refusal:?}")).into()),
        None => Err(Broken::new(format!("the fixture makes no token for {what}")).into()),
    }
}

/// Breaks the rule unless the token was refused for one of `reasons`; whether there was such a token.
fn refused(answer: Option<Answer>, reasons: &[&str], what: &str) -> Result<bool, Stop> {
    match answer {
        None => Ok(false),
        Some(Err(refusal)) if reasons.contains(&refusal.reason()) => Ok(true),
        Some(Err(refusal)) => {
            Err(Broken::new(format!("{what} was refused as {refusal:?}, wanted one of {reasons:?}")).into())
        }
        Some(Ok(claims)) => Err(Broken::new(format!("{what} was accepted: {}", shown(&claims))).into()),
    }
}

/// Breaks the rule unless every one of these flaws is refused for one of `reasons`.
async fn flaws_are_refused(f: &F, flaws: impl IntoIterator<Item = Flaw>, reasons: &[&str]) -> Verdict {
    let (tenant, wish) = wish(f);
    let mut seen = false;
    for flaw in flaws {
        let answer = validate(f, &wish.clone().flaw(flaw.clone()), &tenant).await;
        seen |= refused(answer, reasons, &format!("a token with the flaw {flaw:?}"))?;
    }
    // A refusal of everything would prove nothing.
    accepted(validate(f, &wish, &tenant).await, "the same token without a flaw")?;
    if seen { Ok(()) } else { Err(Stop::NotApplicable("the fixture has no tokens with such a flaw")) }
}

const NOT_AUTHENTIC: &[&str] = &["not_authentic"];
const NOT_AUTHENTIC_OR_MALFORMED: &[&str] = &["not_authentic", "malformed"];
const OTHER_TENANT: &[&str] = &["other_tenant", "not_attested"];
const WRONG_CLAIM: &[&str] = &["missing_claim", "malformed", "not_authentic", "other_tenant", "not_attested"];

pub(super) async fn a_valid_token_is_accepted(f: &F) -> Verdict {
    let (tenant, wish) = wish(f);
    let got = accepted(validate(f, &wish, &tenant).await, "a valid token")?;
    ensure_eq!(got, claims(&wish)?, "the claims");
    Ok(())
}

pub(super) async fn accepted_algorithms_are_accepted(f: &F) -> Verdict {
    let (tenant, wish) = wish(f);
    for algorithm in &f.besides().accepts {
        let wish = wish.clone().signed_with(*algorithm);
        let got = accepted(validate(f, &wish, &tenant).await, &format!("a token signed with {algorithm:?}"))?;
        ensure_eq!(got, claims(&wish)?, "the claims of a token signed with {algorithm:?}");
    }
    Ok(())
}

pub(super) async fn other_algorithms_are_refused(f: &F) -> Verdict {
    let (tenant, wish) = wish(f);
    let mut seen = false;
    for algorithm in TokenAlgorithm::ALL.into_iter().filter(|a| !f.besides().accepts.contains(a)) {
        let answer = validate(f, &wish.clone().signed_with(algorithm), &tenant).await;
        seen |= refused(answer, NOT_AUTHENTIC_OR_MALFORMED, &format!("a token signed with {algorithm:?}"))?;
    }
    if seen { Ok(()) } else { Err(Stop::NotApplicable("every algorithm is accepted")) }
}

pub(super) async fn an_expired_token_is_refused(f: &F) -> Verdict {
    let (tenant, wish) = wish(f);
    let until = wish.expires_at;
    let last = ask(f, f.store(), &wish, &tenant, until.minus(Duration::from_millis(1))).await;
    accepted(last, "a token a millisecond before its expiry")?;
    for late in [0, 1, 1_000, 86_400_000] {
        let answer = ask(f, f.store(), &wish, &tenant, until.plus(Duration::from_millis(late))).await;
        refused(answer, &["outside_validity"], &format!("a token {late} ms after its expiry"))?;
    }
    let expired = wish.clone().valid(now(f).minus(Duration::from_mins(5)), now(f).minus(Duration::from_secs(1)));
    refused(validate(f, &expired, &tenant).await, &["outside_validity"], "a token that expired a second ago")?;
    Ok(())
}

pub(super) async fn a_token_of_the_future_is_refused(f: &F) -> Verdict {
    let (tenant, wish) = wish(f);
    let later = now(f).plus(Duration::from_hours(1));
    let future = wish.valid(later, later.plus(Duration::from_mins(5)));
    refused(validate(f, &future, &tenant).await, &["outside_validity"], "a token that is valid in an hour")?;
    accepted(ask(f, f.store(), &future, &tenant, later).await, "the same token an hour later")?;
    Ok(())
}

pub(super) async fn a_forged_signature_is_refused(f: &F) -> Verdict {
    let flaws = [Flaw::ForgedSignature, Flaw::NoSignature, Flaw::AlteredClaims];
    flaws_are_refused(f, flaws, NOT_AUTHENTIC_OR_MALFORMED).await
}

pub(super) async fn a_foreign_key_is_refused(f: &F) -> Verdict {
    flaws_are_refused(f, [Flaw::ForeignKey, Flaw::UnknownKey], NOT_AUTHENTIC).await
}

pub(super) async fn an_unsigned_token_is_refused(f: &F) -> Verdict {
    flaws_are_refused(f, [Flaw::AlgNone], NOT_AUTHENTIC_OR_MALFORMED).await
}

pub(super) async fn a_public_key_is_no_secret(f: &F) -> Verdict {
    flaws_are_refused(f, KeyForm::ALL.map(Flaw::KeyConfusion), NOT_AUTHENTIC).await
}

pub(super) async fn another_issuer_or_audience_is_refused(f: &F) -> Verdict {
    flaws_are_refused(f, [Flaw::WrongIssuer, Flaw::WrongAudience], NOT_AUTHENTIC).await
}

pub(super) async fn missing_claims_are_refused(f: &F) -> Verdict {
    for claim in [TokenClaim::Expiry, TokenClaim::Subject, TokenClaim::Tenant] {
        match flaws_are_refused(f, [Flaw::Missing(claim)], &["missing_claim"]).await {
            Err(Stop::NotApplicable(_)) | Ok(()) => {}
            broken => return broken,
        }
    }
    let reasons = ["missing_claim", "not_authentic"];
    flaws_are_refused(f, [TokenClaim::Issuer, TokenClaim::Audience].map(Flaw::Missing), &reasons).await
}

pub(super) async fn ambiguous_claims_are_refused(f: &F) -> Verdict {
    flaws_are_refused(f, [Flaw::DuplicateClaim(bob())], WRONG_CLAIM).await
}

pub(super) async fn a_header_that_is_not_understood_is_refused(f: &F) -> Verdict {
    flaws_are_refused(f, [Flaw::UnknownCritical, Flaw::WrongType], NOT_AUTHENTIC_OR_MALFORMED).await
}

pub(super) async fn text_that_is_no_token_is_refused(f: &F) -> Verdict {
    let (tenant, wish) = wish(f);
    flaws_are_refused(f, [Flaw::NotJson], &["malformed"]).await?;
    let good = (f.besides().mint)(&wish).ok_or_else(|| Broken::new("the fixture makes no valid token"))?;
    let parts: Vec<_> = good.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        return Err(Broken::new("the fixture's token has not three parts").into());
    };
    let texts = [
        "x".to_owned(),
        ".".into(),
        "..".into(),
        "...".into(),
        header.into(),
        format!("{header}."),
        format!("{header}.{payload}"),
        format!("{header}.{payload}.{signature}.{signature}"),
        format!("{header}.{payload}.!!!"),
        format!("{header}.!!!.{signature}"),
        format!("!!!.{payload}.{signature}"),
        format!("{header}..{signature}"),
        format!(".{payload}.{signature}"),
        format!("{payload}.{header}.{signature}"),
        format!("Bearer:{good}"),
        "e30.e30.e30".into(),
        "W10.W10.W10".into(),
        "bnVsbA.bnVsbA.bnVsbA".into(),
    ];
    for text in texts {
        let token = AccessToken::parse(&text)?;
        let answer = f.store().validate(&token, &tenant, now(f)).await;
        refused(Some(answer), NOT_AUTHENTIC_OR_MALFORMED, &format!("the text {text:?}"))?;
    }
    // Cut anywhere, it is no token: nothing panics and nothing is accepted.
    for length in (1..good.len()).step_by(7) {
        let token = AccessToken::parse(&good[..length])?;
        let answer = f.store().validate(&token, &tenant, now(f)).await;
        refused(Some(answer), NOT_AUTHENTIC_OR_MALFORMED, &format!("a token cut after {length} bytes"))?;
    }
    Ok(())
}

pub(super) async fn an_oversized_token_is_refused(f: &F) -> Verdict {
    flaws_are_refused(f, [Flaw::Oversized], &["malformed"]).await?;
    let (tenant, _) = wish(f);
    let largest = AccessToken::parse(&"x".repeat(AccessToken::MAX_BYTES))?;
    refused(Some(f.store().validate(&largest, &tenant, now(f)).await), &["malformed"], "the largest text")?;
    Ok(())
}

pub(super) async fn a_token_of_another_app_is_refused(f: &F) -> Verdict {
    let (tenant, wish) = wish(f);
    let longer = AppId::parse(&format!("{}x", tenant.app()))?;
    let shorter = AppId::parse(&tenant.app().as_str()[1..])?;
    for app in [f.names().app(), longer, shorter] {
        for other in [TenantId::of_app(app.clone()), TenantId::of_user(app.clone(), ada())] {
            let answer = validate(f, &wish, &other).await;
            refused(answer, OTHER_TENANT, &format!("a token for {tenant}, shown for {other},"))?;
        }
    }
    accepted(validate(f, &wish, &tenant).await, "the same token, shown for its own app,")?;
    Ok(())
}

pub(super) async fn a_token_of_another_user_is_refused(f: &F) -> Verdict {
    let (tenant, wish) = wish(f);
    let bobs = TenantId::of_user(tenant.app().clone(), bob());
    refused(validate(f, &wish, &bobs).await, OTHER_TENANT, "ada's token for the app, shown for bob's part,")?;
    let prefix = TenantId::of_user(tenant.app().clone(), SubjectId::parse("ada-7f3e@example.or")?);
    refused(validate(f, &wish, &prefix).await, OTHER_TENANT, "ada's token, shown for a name that hers begins with,")?;
    Ok(())
}

pub(super) async fn a_user_is_served_in_their_own_part(f: &F) -> Verdict {
    let (tenant, wish) = wish(f);
    let adas = TenantId::of_user(tenant.app().clone(), ada());
    for wish in [wish.clone(), TokenWish { tenant: adas.clone(), ..wish }] {
        let what = format!("ada's token for {}, shown for her own part,", wish.tenant);
        let got = accepted(validate(f, &wish, &adas).await, &what)?;
        ensure_eq!(got.subject, ada(), "the subject of {what}");
        ensure_eq!(got.app(), tenant.app(), "the app of {what}");
        ensure!(got.tenant == wish.tenant || got.tenant == adas, "{what} has the tenant {}", got.tenant);
    }
    Ok(())
}

pub(super) async fn a_users_token_is_not_widened(f: &F) -> Verdict {
    let (tenant, wish) = wish(f);
    let part = |subject| TenantId::of_user(tenant.app().clone(), subject);
    let adas = TokenWish { tenant: part(ada()), ..wish.clone() };
    refused(validate(f, &adas, &part(bob())).await, OTHER_TENANT, "ada's token, shown for bob's part,")?;
    // Shown for the whole app it may be accepted, but only as what it is.
    if let Some(Ok(got)) = validate(f, &adas, &tenant).await {
        ensure_eq!((got.tenant, got.subject), (part(ada()), ada()), "the tenant and subject of a user's token");
    }
    let stolen = TokenWish { tenant: part(bob()), ..wish };
    for shown in [part(bob()), part(ada()), tenant.clone()] {
        let what = format!("a token of ada for bob's part, shown for {shown},");
        refused(validate(f, &stolen, &shown).await, &["other_tenant", "not_attested", "missing_claim"], &what)?;
    }
    Ok(())
}

pub(super) async fn tenants_are_compared_whole(f: &F) -> Verdict {
    let (tenant, wish) = wish(f);
    let app = tenant.app();
    let upper = app.as_str().to_uppercase();
    let texts = [
        format!("evil_app_{app}_tenant"),
        format!("app_{app}_tenant_"),
        format!(" app_{app}_tenant"),
        format!("app_{app}_tenant\n"),
        format!("app_{app}_tenantx"),
        format!("app_{upper}_tenant"),
        format!("APP_{app}_TENANT"),
        format!("app_{app}_user_"),
        format!("app_{app}"),
        app.to_string(),
        "app__tenant".into(),
        "*".into(),
        String::new(),
    ];
    let mut seen = false;
    for text in texts {
        let what = format!("a token for the tenant {text:?}");
        seen |= refused(validate(f, &wish.clone().flaw(Flaw::TenantText(text)), &tenant).await, WRONG_CLAIM, &what)?;
    }
    if seen { Ok(()) } else { Err(Stop::NotApplicable("the fixture's tokens name no tenant")) }
}

pub(super) async fn an_environment_passes_as_it_is(f: &F) -> Verdict {
    let (tenant, wish) = wish(f);
    let mut seen = false;
    for environment in Environment::ALL {
        let wish = wish.clone().in_environment(environment);
        let Some(answer) = validate(f, &wish, &tenant).await else { continue };
        let got = accepted(Some(answer), &format!("a token for {environment}"))?;
        ensure_eq!(got, claims(&wish)?, "the claims of a token for {environment}");
        seen = true;
    }
    let got = accepted(validate(f, &wish, &tenant).await, "a token for every environment")?;
    ensure_eq!(got.environment, None, "the environment of a token that names none");
    if seen { Ok(()) } else { Err(Stop::NotApplicable("the validator's tokens name no environment")) }
}

pub(super) async fn rights_pass_as_they_are(f: &F) -> Verdict {
    let (tenant, wish) = wish(f);
    let all = ["data", "develop", "operate", "data develop", "data operate", "develop operate", "data develop operate"];
    for rights in all {
        let got = accepted(validate(f, &wish.clone().rights(rights), &tenant).await, "a valid token")?;
        ensure_eq!(got.rights, rights.parse::<Rights>()?, "the rights of a token with `{rights}`");
    }
    Ok(())
}

pub(super) async fn unknown_rights_are_refused(f: &F) -> Verdict {
    let (tenant, wish) = wish(f);
    for rights in ["data root", "DATA", "data,operate", "*"] {
        let answer = validate(f, &wish.clone().rights(rights), &tenant).await;
        refused(answer, &["missing_claim", "malformed"], &format!("a token with the rights `{rights}`"))?;
    }
    Ok(())
}

pub(super) async fn what_cannot_be_decided_is_refused(f: &F) -> Verdict {
    let Some(validator) = &f.besides().undecided else {
        return Err(unseen("the fixture has no validator whose sources are out of reach; give one with `undecided`"));
    };
    let (tenant, wish) = wish(f);
    for _ in 0..2 {
        let answer = ask(f, validator, &wish, &tenant, now(f)).await;
        refused(answer, &["undecided"], "a valid token, while it cannot be checked,")?;
    }
    let forged = ask(f, validator, &wish.flaw(Flaw::ForgedSignature), &tenant, now(f)).await;
    let reasons = ["undecided", "not_authentic", "malformed"];
    refused(forged, &reasons, "a forged token, while it cannot be checked,")?;
    Ok(())
}

pub(super) async fn refusals_show_nothing_of_the_token(f: &F) -> Verdict {
    let (tenant, wish) = wish(f);
    let expired = wish.clone().valid(now(f).minus(Duration::from_mins(5)), now(f).minus(Duration::from_secs(1)));
    let flaws = [Flaw::ForgedSignature, Flaw::AlgNone, Flaw::WrongIssuer, Flaw::NotJson, Flaw::DuplicateClaim(bob())];
    let flawed = flaws.map(|flaw| wish.clone().flaw(flaw));
    for wish in flawed.into_iter().chain([expired, wish]) {
        let Some(text) = (f.besides().mint)(&wish) else { continue };
        let token = AccessToken::parse(&text)?;
        let mut said = format!("{:?}", f.store());
        if let Err(refusal) = f.store().validate(&token, &tenant, now(f)).await {
            said = format!("{said} {refusal} {refusal:?}");
        }
        for part in text.split('.').filter(|part| part.len() > 8) {
            ensure!(!said.contains(part), "a part of the token shows in: {said}");
        }
        ensure!(!said.contains(ada().as_str()), "the subject of a token shows in: {said}");
    }
    Ok(())
}

pub(super) async fn answers_do_not_depend_on_what_came_before(f: &F) -> Verdict {
    let (tenant, wish) = wish(f);
    let other = TenantId::of_app(f.names().app());
    // Minted once: another token would have another signature.
    let [Some(good), Some(forged)] =
        [wish.clone(), wish.clone().flaw(Flaw::ForgedSignature)].map(|wish| (f.besides().mint)(&wish))
    else {
        return Err(Broken::new("the fixture makes no valid token, or none that is forged").into());
    };
    let [good, forged] = [AccessToken::parse(&good)?, AccessToken::parse(&forged)?];
    for _ in 0..3 {
        let got = accepted(Some(f.store().validate(&good, &tenant, now(f)).await), "a valid token")?;
        ensure_eq!(got, claims(&wish)?, "the claims");
        let answer = f.store().validate(&forged, &tenant, now(f)).await;
        refused(Some(answer), NOT_AUTHENTIC_OR_MALFORMED, "a forged token")?;
        let answer = f.store().validate(&good, &other, now(f)).await;
        refused(Some(answer), OTHER_TENANT, "a token for another app")?;
        let answer = f.store().validate(&good, &tenant, wish.expires_at).await;
        refused(Some(answer), &["outside_validity"], "an expired token that was valid before")?;
    }
    Ok(())
}

pub(super) async fn pointers_and_wrappers_answer_alike(f: &F) -> Verdict {
    let boxed: Box<dyn TenantValidator> = Box::new(f.store().clone());
    let wrapped: Arc<dyn TenantValidator> = Arc::new(Around::with_policy(boxed, crate::PassThrough));
    let (tenant, wish) = wish(f);
    let got = accepted(ask(f, &wrapped, &wish, &tenant, now(f)).await, "a valid token, through a wrapper,")?;
    ensure_eq!(got, claims(&wish)?, "the claims through a wrapper");
    let forged = ask(f, &wrapped, &wish.flaw(Flaw::ForgedSignature), &tenant, now(f)).await;
    refused(forged, NOT_AUTHENTIC_OR_MALFORMED, "a forged token, through a wrapper,")?;
    Ok(())
}

pub(super) async fn it_is_ready(f: &F) -> Verdict {
    let readiness = f.store().check().await?;
    ensure!(readiness.is_ready(), "it lacks {:?}", readiness.problems());
    ensure!(!readiness.backend().is_empty(), "the backend has no name");
    Ok(())
}
