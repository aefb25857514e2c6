//! R2's S3 API, path style: `/{bucket}/{key}`.

use super::{
    r2::{Bucket, Object, PartialObject},
    sigv4,
    state::State,
    wire::{Call, Reply, reply},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use overskill_core::Timestamp;
use percent_encoding::percent_decode_str;
use std::{collections::BTreeMap, fmt::Write as _};

const KEPT_FIELDS: [&str; 4] = ["cache-control", "content-disposition", "content-encoding", "content-language"];
const MAX_KEY_BYTES: usize = 1024;

type S3 = Result<Reply, S3Error>;

struct S3Error(u16, &'static str, String);

/// The answer to a request that is not for the REST API.
pub(super) fn answer(state: &mut State, request: &Request<Bytes>, now: Timestamp) -> Reply {
    if let Err((code, why)) = sigv4::check(request, &state.tokens, now) {
        return error(&S3Error(403, code, why));
    }
    let path = request.uri().path().trim_start_matches('/');
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
    let call = Call::new(request, now);
    of_bucket(state, &call, bucket, &key).unwrap_or_else(|e| error(&e))
}

fn of_bucket(state: &mut State, call: &Call<'_>, name: &str, key: &str) -> S3 {
    if !state.buckets.contains_key(name) {
        return Err(S3Error(404, "NoSuchBucket", format!("the bucket {name:?} does not exist")));
    }
    if key.len() > MAX_KEY_BYTES {
        let message = format!("a key may have {MAX_KEY_BYTES} bytes, not {}", key.len());
        return Err(S3Error(400, "KeyTooLongError", message));
    }
    let has = |name: &str| call.query(name).is_some();
    match (call.method.as_str(), key.is_empty()) {
        ("GET", true) => Ok(list(&state.buckets[name], call)),
        ("HEAD", true) => Ok(reply(200, "", "")),
        ("POST", true) if has("delete") => Ok(delete_many(state, call, name)),
        ("GET" | "HEAD", false) => get(&state.buckets[name], call, key),
        ("PUT", false) if has("partNumber") => put_part(state, call, name),
        ("PUT", false) => put(state, call, name, key),
        ("DELETE", false) if has("uploadId") => {
            let id = call.query("uploadId").unwrap_or_default();
            bucket_mut(state, name).uploads.remove(id).ok_or_else(no_upload)?;
            Ok(reply(204, "", ""))
        }
        ("DELETE", false) => {
            bucket_mut(state, name).objects.remove(key);
            Ok(reply(204, "", ""))
        }
        ("POST", false) if has("uploads") => Ok(begin(state, call, name, key)),
        ("POST", false) if has("uploadId") => complete(state, call, name),
        (method, _) => Err(S3Error(405, "MethodNotAllowed", format!("{method} is not allowed here"))),
    }
}

fn bucket_mut<'a>(state: &'a mut State, name: &str) -> &'a mut Bucket {
    state.buckets.get_mut(name).expect("the caller looked for it")
}

fn no_key(key: &str) -> S3Error {
    S3Error(404, "NoSuchKey", format!("the key {key:?} does not exist"))
}

fn no_upload() -> S3Error {
    S3Error(404, "NoSuchUpload", "the upload does not exist or has ended".to_owned())
}

/// Whether the conditions of a request hold, by the object's `ETag`; `None` is an object that is not there.
fn holds(headers: &HeaderMap, etag: Option<&str>) -> (bool, bool) {
    let names = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?;
        Some(value.split(',').any(|it| match it.trim() {
            "*" => etag.is_some(),
            quoted => etag.is_some_and(|etag| quoted.trim_start_matches("W/").trim_matches('"') == etag),
        }))
    };
    (names("if-match").unwrap_or(true), !names("if-none-match").unwrap_or(false))
}

fn get(bucket: &Bucket, call: &Call<'_>, key: &str) -> S3 {
    let object = bucket.objects.get(key).ok_or_else(|| no_key(key))?;
    let (matches, is_new) = holds(call.headers, Some(&object.etag));
    if !matches {
        return Err(S3Error(412, "PreconditionFailed", "the object has another ETag".to_owned()));
    }
    let size = object.body.len();
    let mut reply = if !is_new {
        reply(304, "", "")
    } else if let Some(range) = call.headers.get("range").and_then(|it| it.to_str().ok()) {
        let (from, to) = byte_range(range, size)
            .ok_or_else(|| S3Error(416, "InvalidRange", format!("{range:?} is not of {size} bytes")))?;
        let mut part = reply(206, "", object.body.slice(from..to));
        put_header(&mut part, "content-range", &format!("bytes {from}-{}/{size}", to - 1));
        part
    } else {
        reply(200, "", object.body.clone())
    };
    describe(&mut reply, object);
    if call.method == "HEAD" {
        *reply.body_mut() = Bytes::new();
        put_header(&mut reply, "content-length", &size.to_string());
    }
    Ok(reply)
}

fn byte_range(text: &str, size: usize) -> Option<(usize, usize)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (from, to) = match (from.parse::<usize>(), to.parse::<usize>()) {
        (Ok(from), Ok(to)) => (from, to.saturating_add(1).min(size)),
        (Ok(from), Err(_)) => (from, size),
        (Err(_), Ok(last)) => (size.saturating_sub(last), size),
        _ => return None,
    };
    (from < to).then_some((from, to))
}

fn describe(reply: &mut Reply, object: &Object) {
    put_header(reply, "etag", &format!("\"{}\"", object.etag));
    put_header(reply, "last-modified", &http_date(object.modified));
    put_header(reply, "content-type", object.content_type.as_deref().unwrap_or("application/octet-stream"));
    for (name, value) in &object.fields {
        put_header(reply, name, value);
    }
    for (name, value) in &object.custom {
        put_header(reply, &format!("x-amz-meta-{name}"), value);
    }
}

fn put_header(reply: &mut Reply, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
        reply.headers_mut().insert(name, value);
    }
}

fn put(state: &mut State, call: &Call<'_>, name: &str, key: &str) -> S3 {
    let before = state.buckets[name].objects.get(key);
    if let (false, _) | (_, false) = holds(call.headers, before.map(|it| it.etag.as_str())) {
        return Err(S3Error(412, "PreconditionFailed", "the condition on the ETag does not hold".to_owned()));
    }
    let source = call.header("x-amz-copy-source").to_owned();
    let object = if source.is_empty() {
        let mut object = Object::new(state, call.body.clone(), call.now);
        let field = |name: &str| Some(call.header(name).to_owned()).filter(|it| !it.is_empty());
        object.content_type = field("content-type");
        object.fields = KEPT_FIELDS.iter().filter_map(|it| Some(((*it).to_owned(), field(it)?))).collect();
        object.custom = custom(call.headers);
        object
    } else {
        let source = percent_decode_str(source.trim_start_matches('/')).decode_utf8_lossy().into_owned();
        let (from, from_key) = source.split_once('/').unwrap_or_default();
        let found = state.buckets.get(from).and_then(|it| it.objects.get(from_key)).ok_or_else(|| no_key(from_key))?;
        Object { modified: call.now, version: state.hex_id(), ..found.clone() }
    };
    let (etag, modified) = (object.etag.clone(), object.modified);
    bucket_mut(state, name).objects.insert(key.to_owned(), object);
    if !source.is_empty() {
        let result = format!("<ETag>\"{etag}\"</ETag><LastModified>{modified}</LastModified>");
        return Ok(xml(200, &format!("<CopyObjectResult>{result}</CopyObjectResult>")));
    }
    let mut reply = reply(200, "", "");
    put_header(&mut reply, "etag", &format!("\"{etag}\""));
    Ok(reply)
}

fn custom(headers: &HeaderMap) -> BTreeMap<String, String> {
    let fields = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix("x-amz-meta-")?;
        Some((name.to_owned(), value.to_str().ok()?.to_owned()))
    });
    fields.collect()
}

fn list(bucket: &Bucket, call: &Call<'_>) -> Reply {
    let prefix = call.query("prefix").unwrap_or_default();
    let delimiter = call.query("delimiter").unwrap_or_default();
    let after = call.query("continuation-token").or(call.query("start-after")).unwrap_or_default();
    let limit = call.query("max-keys").and_then(|it| it.parse().ok()).unwrap_or(1000).clamp(1, 1000);
    let found = bucket.list(prefix, delimiter, after, limit);
    let mut text = format!(
        "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>{}</Name><Prefix>{}</Prefix>\
         <MaxKeys>{limit}</MaxKeys><KeyCount>{}</KeyCount><IsTruncated>{}</IsTruncated>",
        escape(&bucket.name),
        escape(prefix),
        found.objects.len() + found.prefixes.len(),
        found.next.is_some()
    );
    if let Some(next) = &found.next {
        let _ = write!(text, "<NextContinuationToken>{}</NextContinuationToken>", escape(next));
    }
    for (key, object) in &found.objects {
        let _ = write!(
            text,
            "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>&quot;{}&quot;</ETag><Size>{}</Size>\
             <StorageClass>STANDARD</StorageClass></Contents>",
            escape(key),
            object.modified,
            object.etag,
            object.body.len()
        );
    }
    for prefix in &found.prefixes {
        let _ = write!(text, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escape(prefix));
    }
    text.push_str("</ListBucketResult>");
    xml(200, &text)
}

fn delete_many(state: &mut State, call: &Call<'_>, name: &str) -> Reply {
    let body = String::from_utf8_lossy(call.body).into_owned();
    let mut text = "<DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">".to_owned();
    for key in elements(&body, "Key") {
        bucket_mut(state, name).objects.remove(&key);
        let _ = write!(text, "<Deleted><Key>{}</Key></Deleted>", escape(&key));
    }
    text.push_str("</DeleteResult>");
    xml(200, &text)
}

fn begin(state: &mut State, call: &Call<'_>, name: &str, key: &str) -> Reply {
    let id = state.hex_id();
    let content_type = Some(call.header("content-type").to_owned()).filter(|it| !it.is_empty());
    let upload =
        PartialObject { key: key.to_owned(), content_type, custom: custom(call.headers), parts: BTreeMap::new() };
    bucket_mut(state, name).uploads.insert(id.clone(), upload);
    let (name, key) = (escape(name), escape(key));
    xml(
        200,
        &format!(
            "<InitiateMultipartUploadResult><Bucket>{name}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId>\
             </InitiateMultipartUploadResult>"
        ),
    )
}

fn put_part(state: &mut State, call: &Call<'_>, name: &str) -> S3 {
    let number = call.query("partNumber").and_then(|it| it.parse().ok()).filter(|it| (1..=10_000).contains(it));
    let number = number.ok_or_else(|| S3Error(400, "InvalidArgument", "partNumber must be 1 to 10000".to_owned()))?;
    let etag = Object::new(state, call.body.clone(), call.now).etag;
    let id = call.query("uploadId").unwrap_or_default();
    let upload = bucket_mut(state, name).uploads.get_mut(id).ok_or_else(no_upload)?;
    upload.parts.insert(number, call.body.clone());
    let mut reply = reply(200, "", "");
    put_header(&mut reply, "etag", &format!("\"{etag}\""));
    Ok(reply)
}

fn complete(state: &mut State, call: &Call<'_>, name: &str) -> S3 {
    let id = call.query("uploadId").unwrap_or_default();
    let wanted: Vec<u32> =
        elements(&String::from_utf8_lossy(call.body), "PartNumber").iter().filter_map(|it| it.parse().ok()).collect();
    let upload = state.buckets[name].uploads.get(id).ok_or_else(no_upload)?;
    let mut body = BytesMut::new();
    for number in &wanted {
        let part = upload.parts.get(number);
        let part = part.ok_or_else(|| S3Error(400, "InvalidPart", format!("part {number} was not uploaded")))?;
        body.extend_from_slice(part);
    }
    if wanted.is_empty() {
        return Err(S3Error(400, "MalformedXML", "no part is named".to_owned()));
    }
    let mut object = Object::new(state, body.freeze(), call.now);
    object.etag = format!("{}-{}", object.etag, wanted.len());
    let upload = bucket_mut(state, name).uploads.remove(id).ok_or_else(no_upload)?;
    (object.content_type, object.custom) = (upload.content_type, upload.custom);
    let text = format!(
        "<CompleteMultipartUploadResult><Bucket>{}</Bucket><Key>{}</Key><ETag>&quot;{}&quot;</ETag>\
         </CompleteMultipartUploadResult>",
        escape(name),
        escape(&upload.key),
        object.etag
    );
    bucket_mut(state, name).objects.insert(upload.key, object);
    Ok(xml(200, &text))
}

/// The texts of all elements of that name; enough for the two bodies that clients send.
fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let texts = xml.split(&open).skip(1).filter_map(|it| it.split(&close).next());
    texts.map(unescape).collect()
}

fn unescape(text: &str) -> String {
    let pairs = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn escape(text: &str) -> String {
    let pairs = [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&quot;")];
    pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn xml(status: u16, element: &str) -> Reply {
    reply(status, "application/xml", format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{element}"))
}

fn error(S3Error(status, code, message): &S3Error) -> Reply {
    xml(*status, &format!("<Error><Code>{code}</Code><Message>{}</Message></Error>", escape(message)))
}

/// `Sun, 22 Nov 2026 10:15:00 GMT`, from RFC 3339.
fn http_date(at: Timestamp) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = at.to_string();
    let weekday = usize::try_from(at.as_unix_millis().div_euclid(86_400_000).rem_euclid(7)).unwrap_or_default();
    let month = text[5..7].parse::<usize>().map_or("Jan", |it| MONTHS[(it - 1) % 12]);
    format!("{}, {} {month} {} {} GMT", DAYS[weekday], &text[8..10], &text[..4], &text[11..19])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_http() {
        assert_eq!(http_date(Timestamp::from_unix_millis(1_795_342_500_000)), "Sun, 22 Nov 2026 10:15:00 GMT");
        assert_eq!(http_date(Timestamp::EPOCH), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn ranges_end_at_the_end() {
        assert_eq!(byte_range("bytes=1-2", 5), Some((1, 3)));
        assert_eq!(byte_range("bytes=3-99", 5), Some((3, 5)));
        assert_eq!(byte_range("bytes=-2", 5), Some((3, 5)));
        assert_eq!(byte_range("bytes=5-", 5), None);
    }

    #[test]
    fn names_survive_xml() {
        let name = "a & <b> \"c\"";
        assert_eq!(elements(&format!("<Key>{}</Key>", escape(name)), "Key"), [name]);
    }
}
