//! Notices as signed webhooks.

use crate::{TenantUrlClient, Url, classify_status};
use async_trait::async_trait;
use bytes::Bytes;
use overskill_core::{
    Digest, Effect, Error, ErrorKind, Ids, IdsExt as _, Notice, Notifier, ParseError, Readiness, Result, RetryPolicy,
    SystemIds, Timestamp, WebhookSecrets,
};
use serde::Serialize;
use std::{error::Error as _, fmt, num::NonZeroU32, sync::Arc, time::Duration};

/// Tells a URL of what a person should know, as [Standard Webhooks](https://www.standardwebhooks.com) do: a POST of
/// `{"type": …, "data": {…}, "timestamp": …}` (the [`Notice`] as data), signed with every secret there is, so that secrets can be
/// rotated without a gap.
///
/// The URL is called through a [`TenantUrlClient`], so all its rules hold: public addresses only, `https` only, unless the
/// client was made otherwise. Redirects are not followed. Anything but a 2xx is a failure; what may pass (429, 5xx, a
/// broken connection, no answer) is tried again a few times, with the same `webhook-id` and a new time. Notices of
/// deployments have an id that depends on their contents alone, so that a receiver can tell one that comes again after a
/// crash; those about backends have a new one each time.
///
/// ```
/// use overskill_core::{DeploymentStrategy, SystemIds, WebhookSecret, WebhookSecrets};
/// # use overskill_core::{BackendName, memory::MemoryTarget};
/// # let target = MemoryTarget::new(BackendName::parse("edge")?);
/// use overskill_http::{TenantUrlClient, WebhookNotifier};
///
/// let secret = WebhookSecret::generate(&SystemIds); // in service: WebhookSecret::parse(…), from where it is kept
/// let client = TenantUrlClient::builder().build()?;
/// let pager = WebhookNotifier::new(client, "https://pager.example.com/hooks/overskill", WebhookSecrets::new(secret))?;
/// let strategy = DeploymentStrategy::prefer(target).notify(pager);
/// # Ok::<(), overskill_http::Error>(())
/// ```
///
/// # Errors
///
/// They name the host and the number of tries, never the path, the query or a secret. The effect is unknown once one try may
/// have arrived.
#[derive(Clone)]
pub struct WebhookNotifier {
    client: TenantUrlClient,
    url: Url,
    secrets: WebhookSecrets,
    ids: Arc<dyn Ids>,
    tries: NonZeroU32,
    waits: (Duration, Duration),
    try_timeout: Duration,
}

/// How much of an answer's body is read: nobody reads it, but a server may not like to be cut off.
const READ_BYTES: usize = 4 * 1024;

impl WebhookNotifier {
    /// Tells `url`, at most 3 times, with waits below 0.5 s and 1 s and 10 s for each try.
    pub fn new(client: TenantUrlClient, url: &str, secrets: WebhookSecrets) -> Result<Self, ParseError> {
        Ok(Self {
            client,
            url: Url::parse(url)?,
            secrets,
            ids: Arc::new(SystemIds),
            tries: const { NonZeroU32::new(3).expect("not zero") },
            waits: (Duration::from_millis(500), Duration::from_secs(5)),
            try_timeout: Duration::from_secs(10),
        })
    }

    /// Where ids of messages and jitter come from; the system's randomness unless set.
    pub fn ids(mut self, ids: impl Ids) -> Self {
        self.ids = Arc::new(ids);
        self
    }

    /// How often a notice is sent at most. A strategy gives all of them together the time of one call of a target.
    pub fn tries(mut self, tries: NonZeroU32) -> Self {
        self.tries = tries;
        self
    }

    /// The bounds of the waits between tries, as in [`RetryPolicy::waits`].
    pub fn waits(mut self, first: Duration, max: Duration) -> Self {
        self.waits = (first, max);
        self
    }

    /// How long one try may take.
    pub fn try_timeout(mut self, limit: Duration) -> Self {
        self.try_timeout = limit;
        self
    }

    /// One try.
    async fn deliver(&self, id: &str, body: &Bytes) -> Result<()> {
        let now = self.client.clock().now();
        let signed = self.secrets.sign(id, now, body)?;
        let response = self
            .client
            .post(self.url.expose())
            .header("webhook-id", &signed.id)
            .header("webhook-timestamp", &signed.timestamp)
            .header("webhook-signature", &signed.signature)
            .body("application/json", body.clone())
            .max_redirects(0)
            .first_body_bytes(READ_BYTES)
            .deadline(self.try_timeout)
            .send()
            .await?;
        match classify_status(&response, now) {
            Some(e) => Err(e),
            None if response.is_success() => Ok(()),
            None => {
                let message = format!("receiver must answer 2xx itself, but answered {}", response.status);
                Err(Error::invalid(message).public("The receiver of notices must answer 2xx itself."))
            }
        }
    }

    /// The error that is told: of the host alone.
    fn failed(&self, e: &Error, effect: Effect, tries: u32) -> Error {
        let told = Error::new(e.kind(), e.message().to_owned())
            .public(e.public_message().to_owned())
            .retry_as(e.retry())
            .effect_as(effect)
            .at("webhook", "notify")
            .with("host", self.url.host())
            .with("tries", tries);
        let mut cause = e.source();
        while let Some(deeper) = cause.and_then(|cause| cause.source()) {
            cause = Some(deeper);
        }
        // The innermost is the system's word, such as "connection refused"; what lies around it may repeat the URL.
        match cause.and_then(|cause| cause.downcast_ref::<std::io::Error>()) {
            Some(cause) => told.with("cause", cause.kind()),
            None => told,
        }
    }

    fn id_of(&self, notice: &Notice, data: &[u8], now: Timestamp) -> String {
        if notice.about().is_some() {
            let digest = Digest::of(data).to_string();
            return format!("msg_{}", &digest[..32]);
        }
        format!("msg_{}", self.ids.uuid_v7(now).simple())
    }
}

#[async_trait]
impl Notifier for WebhookNotifier {
    /// Whether the URL may be called. A name that cannot be resolved just now may be again when there is something to tell.
    async fn check(&self) -> Result<Readiness> {
        let ready = Readiness::ready("webhook");
        match self.client.check(self.url.expose()).await {
            Err(e) if e.kind() == ErrorKind::Invalid => {
                let host = self.url.host();
                Ok(ready.lacks(format!("{host} may not be called: {}", e.message()), "give a URL that may be called"))
            }
            Ok(()) | Err(_) => Ok(ready),
        }
    }

    async fn notify(&self, notice: &Notice) -> Result<()> {
        let clock = self.client.clock();
        let now = clock.now();
        let not_json = |e| Error::unexpected("the notice cannot be JSON", e).effect_as(Effect::None);
        let data = serde_json::to_vec(notice).map_err(not_json)?;
        let event = Event { notice, timestamp: now.to_string() };
        let body = Bytes::from(serde_json::to_vec(&event).map_err(not_json)?);
        let id = self.id_of(notice, &data, now);
        let policy = RetryPolicy::new(Arc::clone(clock), Arc::clone(&self.ids))
            .tries(self.tries)
            .waits(self.waits.0, self.waits.1)
            .longest_asked(Duration::from_secs(20));
        let mut effect = Effect::None;
        for tried in 1.. {
            let Err(e) = self.deliver(&id, &body).await else { return Ok(()) };
            if e.effect() == Effect::Unknown {
                effect = Effect::Unknown;
            }
            // The id makes it safe to send again what may have arrived.
            match policy.wait(tried, &e) {
                Some(wait) => clock.sleep(wait).await,
                None => return Err(self.failed(&e, effect, tried)),
            }
        }
        unreachable!("tries end below u32::MAX")
    }
}

/// What a receiver gets.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(flatten)]
    notice: &'a Notice,
    /// When it happened, which is not when it was sent.
    timestamp: String,
}

impl fmt::Debug for WebhookNotifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookNotifier").field("host", &self.url.host()).finish_non_exhaustive()
    }
}
