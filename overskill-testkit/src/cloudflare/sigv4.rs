//! Checks AWS Signature Version 4, as R2's S3 API demands it: in the header, for the region `auto`.

use super::state::{Token, hex};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Request;
use overskill_core::Timestamp;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// Of S3: its code and why.
pub(super) type Unsigned = (&'static str, String);

const MAX_SKEW_MILLIS: u64 = 15 * 60 * 1000;

/// The secret access key that belongs to a token: the provider's rule.
pub(super) fn secret_key(token: &Token) -> String {
    hex(&Sha256::digest(token.value.as_bytes()))
}

/// Nothing when a known key signed this request.
pub(super) fn check(request: &Request<Bytes>, tokens: &[Token], now: Timestamp) -> Result<(), Unsigned> {
    let header = |name: &str| request.headers().get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let denied = |why: &str| ("AccessDenied", why.to_owned());
    let authorization = header("authorization");
    let fields = authorization.strip_prefix("AWS4-HMAC-SHA256").ok_or_else(|| denied("the request is not signed"))?;
    let field = |name: &str| fields.split(',').find_map(|it| it.trim().strip_prefix(name)?.strip_prefix('='));
    let missing = || ("AuthorizationHeaderMalformed", "Credential, SignedHeaders and Signature are needed".to_owned());
    let credential = field("Credential").ok_or_else(missing)?;
    let (names, signature) = (field("SignedHeaders").ok_or_else(missing)?, field("Signature").ok_or_else(missing)?);
    let [key, day, region, service, "aws4_request"] = credential.split('/').collect::<Vec<_>>()[..] else {
        return Err(missing());
    };
    if service != "s3" || !["auto", "us-east-1"].contains(&region) {
        let why = format!("the scope must be of region auto and service s3, but was {region} and {service}");
        return Err(("AuthorizationHeaderMalformed", why));
    }
    let token = tokens.iter().find(|it| it.id == key);
    let token = token.ok_or_else(|| ("InvalidAccessKeyId", "the access key id is unknown".to_owned()))?;

    let date = header("x-amz-date");
    let at = unix_millis(date).ok_or_else(|| denied("x-amz-date must be like 20261122T101500Z"))?;
    if at.abs_diff(now.as_unix_millis()) > MAX_SKEW_MILLIS {
        return Err(("RequestTimeTooSkewed", format!("x-amz-date {date} is more than 15 minutes off")));
    }
    if !date.starts_with(day) {
        return Err(denied("the scope's day is not that of x-amz-date"));
    }
    let payload = header("x-amz-content-sha256");
    if payload != "UNSIGNED-PAYLOAD" && payload != hex(&Sha256::digest(request.body())) {
        return Err(("XAmzContentSHA256Mismatch", "x-amz-content-sha256 is not the body's".to_owned()));
    }

    let canonical = canonical(request, names, payload);
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let first = format!("AWS4{}", secret_key(token)).into_bytes();
    let steps = [day, region, service, "aws4_request"];
    let signing_key = steps.iter().fold(first, |key, step| mac(&key, step.as_bytes()));
    if hex(&mac(&signing_key, to_sign.as_bytes())) != signature {
        return Err(("SignatureDoesNotMatch", "the signature is not that of this request and key".to_owned()));
    }
    Ok(())
}

fn canonical(request: &Request<Bytes>, names: &str, payload: &str) -> String {
    let mut query: Vec<String> = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .map(|pair| if pair.is_empty() || pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
        .collect();
    query.sort();
    let mut text = format!("{}\n{}\n{}\n", request.method(), request.uri().path(), query.join("&"));
    for name in names.split(';') {
        let values = request.headers().get_all(name).iter().filter_map(|it| it.to_str().ok());
        let mut value =
            values.map(|it| it.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(",");
        if name == "host" && value.is_empty() {
            value = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        }
        let _ = writeln!(text, "{name}:{value}");
    }
    let _ = write!(text, "\n{names}\n{payload}");
    text
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

/// `20261122T101500Z`
fn unix_millis(date: &str) -> Option<i64> {
    if date.len() != 16 || date.as_bytes()[8] != b'T' || !date.ends_with('Z') {
        return None;
    }
    let number = |from: usize, to: usize| date.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    // Days since the epoch by the civil calendar (Howard Hinnant's formula).
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, year_of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * m + 2) / 5 + day - 1;
    let days = era * 146_097 + day_of_era - 719_468;
    Some((((days * 24 + number(9, 11)?) * 60 + number(11, 13)?) * 60 + number(13, 15)?) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_become_moments() {
        assert_eq!(unix_millis("19700101T000001Z"), Some(1000));
        assert_eq!(unix_millis("20260229T000000Z"), unix_millis("20260301T000000Z"), "lenient, but in order");
        assert_eq!(unix_millis("20261122T101500Z"), Some(1_795_342_500_000));
        assert_eq!(unix_millis("2026-11-22T10:15"), None);
    }
}
