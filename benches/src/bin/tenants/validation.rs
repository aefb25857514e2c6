//! What a look at a token costs: one that is known, and one that is not.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use overskill_benches::{Bench, Figure, Goal, Outcome, Reading, interleave, nanos_each};
use overskill_core::{AccessToken, AppId, Clock as _, Secret, SubjectId, SystemClock, TenantId, TenantValidator as _};
use overskill_supabase::{SupabaseValidator, TokenKeys, TrustedIssuer};
use overskill_testkit::{TokenAlgorithm, TokenWish, tokens::TokenMint};
use std::time::Instant;

const CASE: &str = "validation";
const CACHED: Figure = Figure::shown(CASE, "a token that is known", "us", "limit").goal(Goal::AtMost(1.0));
const HS256: Figure = Figure::shown(CASE, "a new token, HS256", "us", "limit").goal(Goal::AtMost(1.0));
const ES256: Figure = Figure::shown(CASE, "a new token, ES256", "us", "raw verify").goal(Goal::AtMost(1.1));
pub(crate) const ALL: [Figure; 3] = [CACHED, HS256, ES256];

const ISSUER: &str = "https://issuer.example";
/// So many that none is known any more when its turn comes again.
const TOKENS: u32 = 64;

pub(crate) async fn measure(bench: &mut Bench) -> Outcome<()> {
    let mint = TokenMint::new(ISSUER, "authenticated");
    let validator = |keys: TokenKeys, cached: usize| {
        SupabaseValidator::builder().trust(TrustedIssuer::apps(ISSUER, keys)).max_cached(cached).build()
    };
    let published = || TokenKeys::from_jwks(mint.jwks().to_string().as_bytes());
    let secret = Secret::new(String::from_utf8(mint.shared_secret())?);
    let legacy = TokenKeys::none().legacy_secret(Some(mint.kid(TokenAlgorithm::Hs256)), &secret)?;
    let (known, new, shared) = (validator(published()?, 1_000)?, validator(published()?, 1)?, validator(legacy, 1)?);

    let now = SystemClock.now();
    let tenant = TenantId::of_app(AppId::parse("todo42")?);
    let tokens = |algorithm| -> Outcome<Vec<AccessToken>> {
        let wish = |n: u32| -> Outcome<TokenWish> {
            let wish = TokenWish::new(tenant.clone(), SubjectId::parse(&format!("user{n}"))?, now);
            Ok(wish.signed_with(algorithm))
        };
        (0..TOKENS).map(|n| wish(n).map(|wish| mint.access_token(&wish))).collect()
    };
    let (es256, hs256) = (tokens(TokenAlgorithm::Es256)?, tokens(TokenAlgorithm::Hs256)?);

    let point = mint.jwks();
    let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(point["keys"][0][name].as_str().unwrap_or_default());
    let key = [vec![4], coordinate("x")?, coordinate("y")?].concat();
    let raw = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key);
    let parts = es256.iter().map(|token| -> Outcome<(Vec<u8>, Vec<u8>)> {
        let (signed, signature) = token.expose().rsplit_once('.').ok_or("no token")?;
        Ok((signed.as_bytes().to_vec(), URL_SAFE_NO_PAD.decode(signature)?))
    });
    let parts: Vec<(Vec<u8>, Vec<u8>)> = parts.collect::<Outcome<_>>()?;

    // All are looked at in one run: a slow second is a slow second for each.
    let times = bench.size(10, 1);
    let turns = interleave::<4>(bench.size(400, 10), async |who| {
        let rounds = if who == 0 { times * 20 } else { times };
        let since = Instant::now();
        for _ in 0..rounds {
            for n in 0..TOKENS as usize {
                match who {
                    0 => drop(known.validate(&es256[n], &tenant, now).await.map_err(|e| e.reason())?),
                    1 => drop(shared.validate(&hs256[n], &tenant, now).await.map_err(|e| e.reason())?),
                    2 => drop(new.validate(&es256[n], &tenant, now).await.map_err(|e| e.reason())?),
                    _ => raw.verify(&parts[n].0, &parts[n].1).map_err(|_| "raw verify failed")?,
                }
            }
        }
        Ok(nanos_each(since.elapsed(), rounds * TOKENS) / 1e3)
    })
    .await?;
    bench.show(&CACHED, Reading::limited(turns.quantile_of(0, 0.5), 1.5));
    bench.show(&HS256, Reading::limited(turns.quantile_of(1, 0.5), 5.0));
    bench.show(&ES256, turns.compare(2, 3));
    Ok(())
}
