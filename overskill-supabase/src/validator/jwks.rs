//! Published keys, fetched and kept.

use super::keys::{TokenKeys, out_of_reach};
use overskill_core::{Clock, Error, Readiness, Result};
use overskill_http::Client;
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// An issuer's public keys from where it publishes them. Clones share what was fetched.
///
/// - They are fetched again when they are older than [`max_age`](Self::max_age), or a token names a key that is not among
///   them; not more often than once in a [`cooldown`](Self::cooldown), whoever asks: made-up key ids cost the issuer nothing.
/// - One fetch runs at a time, and everybody who needs it waits for it.
/// - When a fetch fails, the last good keys stay in use until they are [`max_stale`](Self::max_stale) old; then, or where
///   there never were any, tokens are refused as undecided.
///
/// ```
/// # use overskill_http::{Client, Request, Response, transport_fn};
/// use overskill_core::SystemClock;
/// use overskill_supabase::Jwks;
/// use std::sync::Arc;
///
/// # let emulator = transport_fn(|_: Request| async { Ok(Response::new(200, "{}")) });
/// let client = Client::builder("supabase-auth", "https://ref.supabase.co")
///     .transport(emulator) // left out, it goes over the network
///     .build()?;
/// let keys = Jwks::new(client, Jwks::SUPABASE_PATH, Arc::new(SystemClock));
/// # Ok::<(), overskill_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Jwks(Arc<Inner>);

struct Inner {
    client: Client,
    path: String,
    clock: Arc<dyn Clock>,
    max_age: Duration,
    max_stale: Duration,
    cooldown: Duration,
    state: Mutex<State>,
    flight: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    good: Option<Good>,
    /// How many fetches have ended, when the last did, and whether it failed.
    ended: u64,
    last: Option<(Duration, bool)>,
}

#[derive(Clone)]
struct Good {
    keys: Arc<TokenKeys>,
    body: bytes::Bytes,
    fetched: Duration,
    generation: u64,
}

/// Keys, and which edition of them; another edition has lost or gained some.
pub(super) type Edition = (Arc<TokenKeys>, u64);

impl Jwks {
    /// Where a Supabase project publishes its keys, below the project's URL.
    pub const SUPABASE_PATH: &'static str = "auth/v1/.well-known/jwks.json";
    /// Largest JWK Set in bytes.
    pub const MAX_BYTES: usize = 256 * 1024;

    /// The keys at `path` below the base URL of `client`.
    pub fn new(client: Client, path: impl Into<String>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            client,
            path: path.into(),
            clock,
            max_age: Duration::from_mins(10),
            max_stale: Duration::from_hours(24),
            cooldown: Duration::from_secs(30),
            state: Mutex::default(),
            flight: tokio::sync::Mutex::new(()),
        }))
    }

    /// Sets after how long keys are fetched again; 10 minutes otherwise. A key that was withdrawn is trusted for so long.
    pub fn max_age(self, age: Duration) -> Self {
        self.with(|it| it.max_age = age)
    }

    /// Sets how old keys may get while they cannot be fetched; a day otherwise.
    pub fn max_stale(self, age: Duration) -> Self {
        self.with(|it| it.max_stale = age)
    }

    /// Sets how long nothing is fetched after a fetch; 30 seconds otherwise.
    pub fn cooldown(self, time: Duration) -> Self {
        self.with(|it| it.cooldown = time)
    }

    fn with(self, change: impl FnOnce(&mut Inner)) -> Self {
        let Inner { client, path, clock, max_age, max_stale, cooldown, .. } = &*self.0;
        let mut inner = Inner {
            client: client.clone(),
            path: path.clone(),
            clock: clock.clone(),
            max_age: *max_age,
            max_stale: *max_stale,
            cooldown: *cooldown,
            state: Mutex::default(),
            flight: tokio::sync::Mutex::new(()),
        };
        change(&mut inner);
        Self(Arc::new(inner))
    }

    /// The edition that is in use, unless it is due for a fetch.
    pub(super) fn fresh(&self) -> Option<Edition> {
        let now = self.0.clock.monotonic();
        let state = self.lock();
        let good = state.good.as_ref().filter(|it| now.saturating_sub(it.fetched) < self.0.max_age)?;
        Some((good.keys.clone(), good.generation))
    }

    /// The keys to look for `kid` in.
    pub(super) async fn keys_for(&self, kid: &str) -> Result<Edition> {
        if let Some(edition) = self.fresh().filter(|(keys, _)| keys.has(Some(kid))) {
            return Ok(edition);
        }
        self.fetch_if_due().await;
        let now = self.0.clock.monotonic();
        let state = self.lock();
        let usable = state.good.as_ref().filter(|it| now.saturating_sub(it.fetched) < self.0.max_stale);
        let good = usable.ok_or_else(|| out_of_reach("the issuer's keys are out of reach").at("jwks", "fetch"))?;
        let failed = state.last.is_some_and(|(_, failed)| failed);
        // Perhaps it is new, and only the fetch would tell.
        if failed && !good.keys.has(Some(kid)) {
            let why = "the key is not among the last good ones, and newer ones are out of reach";
            return Err(out_of_reach(why).at("jwks", "fetch"));
        }
        Ok((good.keys.clone(), good.generation))
    }

    pub(super) async fn check(&self, readiness: Readiness) -> Readiness {
        if self.fresh().is_none() {
            self.fetch_if_due().await;
        }
        match self.fresh() {
            Some(_) => readiness,
            None => readiness.lacks(
                format!("the keys at {} could not be fetched", self.0.path),
                "look whether the issuer's URL is right and can be reached",
            ),
        }
    }

    async fn fetch_if_due(&self) {
        let before = self.lock().ended;
        let _one_at_a_time = self.0.flight.lock().await;
        let now = self.0.clock.monotonic();
        {
            let state = self.lock();
            let cooling = state.last.is_some_and(|(at, _)| now.saturating_sub(at) < self.0.cooldown);
            if state.ended != before || cooling {
                return;
            }
        }
        let fetched = self.fetch().await;
        let mut state = self.lock();
        state.ended += 1;
        state.last = Some((self.0.clock.monotonic(), fetched.is_err()));
        match fetched {
            Ok((body, keys)) => {
                let last = state.good.take();
                let (keys, generation) = match last {
                    Some(last) if last.body == body => (last.keys, last.generation),
                    last => (Arc::new(keys), last.map_or(1, |it| it.generation + 1)),
                };
                state.good = Some(Good { keys, body, fetched: self.0.clock.monotonic(), generation });
            }
            Err(e) => tracing::warn!(error = %e, path = self.0.path, "the issuer's keys could not be fetched"),
        }
    }

    async fn fetch(&self) -> Result<(bytes::Bytes, TokenKeys), Error> {
        let call = self.0.client.get(self.0.path.as_str()).operation("jwks").max_body_bytes(Self::MAX_BYTES);
        let answer = call.deadline(Duration::from_secs(10)).send().await?;
        let keys = TokenKeys::from_jwks(&answer.body)?;
        Ok((answer.body, keys))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("nothing panics while it is held")
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jwks({}{})", self.0.client.base_url(), self.0.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::{Retry, TestClock};
    use overskill_http::{Request, Response, transport_fn};
    use overskill_testkit::{TokenAlgorithm, tokens::TokenMint};
    use std::{
        num::NonZeroU32,
        sync::atomic::{AtomicUsize, Ordering},
    };

    struct Server {
        body: Mutex<Option<String>>,
        asked: AtomicUsize,
    }

    fn server() -> (Arc<Server>, TestClock, Jwks) {
        let jwks = TokenMint::new("i", "a").jwks_of(&[TokenAlgorithm::Es256]).to_string();
        let server = Arc::new(Server { body: Mutex::new(Some(jwks)), asked: AtomicUsize::new(0) });
        let its = server.clone();
        let transport = transport_fn(move |_: Request| {
            let its = its.clone();
            async move {
                its.asked.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                let body = its.body.lock().unwrap().clone();
                Ok(body.map_or_else(|| Response::new(503, "down"), |it| Response::new(200, it)))
            }
        });
        let clock = TestClock::new();
        let client = Client::builder("jwks", "https://ref.supabase.co").transport(transport);
        let client = client.max_tries(NonZeroU32::MIN).build().unwrap();
        let jwks = Jwks::new(client, Jwks::SUPABASE_PATH, Arc::new(clock.clone()));
        (server, clock, jwks)
    }

    #[tokio::test]
    async fn one_fetch_serves_all_who_wait() {
        let (server, _, jwks) = server();
        let all = futures::future::join_all((0..50).map(|_| jwks.keys_for("es256-1"))).await;
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(server.asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn unknown_keys_are_asked_for_once_in_a_cooldown() {
        let (server, clock, jwks) = server();
        for n in 0..100 {
            let (keys, _) = jwks.keys_for(&format!("made-up-{n}")).await.unwrap();
            assert!(!keys.has(Some("made-up-0")));
        }
        assert_eq!(server.asked.load(Ordering::SeqCst), 1);
        clock.advance(Duration::from_secs(30));
        jwks.keys_for("made-up").await.unwrap();
        assert_eq!(server.asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn the_last_good_keys_serve_until_they_are_stale() {
        let (server, clock, jwks) = server();
        let (_, first) = jwks.keys_for("es256-1").await.unwrap();
        *server.body.lock().unwrap() = None;
        clock.advance(Duration::from_hours(1));
        assert_eq!(jwks.keys_for("es256-1").await.unwrap().1, first);
        // A key that nobody knows may be new: that cannot be decided now.
        let e = jwks.keys_for("made-up").await.unwrap_err();
        assert!(e.retry() == Retry::Backoff && e.message().contains("out of reach"), "{e}");
        clock.advance(Duration::from_hours(23));
        assert!(jwks.keys_for("es256-1").await.is_err());
    }

    #[tokio::test]
    async fn another_set_is_another_edition_and_rubbish_is_none() {
        let (server, clock, jwks) = server();
        let (_, first) = jwks.keys_for("es256-1").await.unwrap();
        clock.advance(Duration::from_mins(10));
        assert!(jwks.fresh().is_none());
        assert_eq!(jwks.keys_for("es256-1").await.unwrap().1, first);
        *server.body.lock().unwrap() = Some("<html>".into());
        clock.advance(Duration::from_mins(10));
        assert_eq!(jwks.keys_for("es256-1").await.unwrap().1, first);
        let other = TokenMint::new("i", "a").jwks_of(&[TokenAlgorithm::EdDsa]).to_string();
        *server.body.lock().unwrap() = Some(other);
        clock.advance(Duration::from_mins(10));
        let (keys, second) = jwks.keys_for("es256-1").await.unwrap();
        assert!(second != first && !keys.has(Some("es256-1")));
    }
}
