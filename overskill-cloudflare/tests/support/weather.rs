//! What goes wrong on the way between a host and the Workers.

use async_trait::async_trait;
use overskill_core::{Digest, IdsExt as _, Result, SeededIds};
use overskill_http::{Body, Request, Response, Transport, cut_off, not_sent};

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug)]
pub enum Wrong {
    /// It is asked to come back later.
    TooMany,
    /// The Workers are not there.
    Unavailable,
    /// It never leaves.
    NotSent,
    /// It lands, and nothing comes back.
    CutOff,
    /// It lands, and its answer has no body.
    CutBody,
}

impl Wrong {
    /// Whether the request does what it is for.
    pub fn lands(self) -> bool {
        matches!(self, Self::CutOff | Self::CutBody)
    }
}

/// How often what goes wrong, in a thousand requests.
pub type Weather = &'static [(u64, Wrong)];

pub const WELL: Weather = &[];
pub const THROTTLED: Weather = &[(100, Wrong::TooMany), (50, Wrong::Unavailable)];
pub const FAILING: Weather = &[(70, Wrong::NotSent), (80, Wrong::CutOff)];
pub const LOSSY: Weather = &[(150, Wrong::CutBody)];

/// A way on which that happens: the same in each run of a test, and otherwise in each test.
#[derive(Debug)]
pub struct Through<T> {
    inner: T,
    weather: Weather,
    dice: SeededIds,
}

impl<T> Through<T> {
    pub fn new(inner: T, weather: Weather) -> Self {
        let thread = std::thread::current();
        let name = Digest::of(thread.name().unwrap_or_default().as_bytes());
        let seed = name.as_bytes().iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        Self { inner, weather, dice: SeededIds::new(seed) }
    }

    fn wrong(&self) -> Option<Wrong> {
        let mut roll = self.dice.random_u64() % 1_000;
        self.weather.iter().find_map(|(chance, wrong)| {
            let hit = roll < *chance;
            roll = roll.saturating_sub(*chance);
            hit.then_some(*wrong)
        })
    }
}

#[async_trait]
impl<T: Transport> Transport for Through<T> {
    async fn send(&self, request: Request) -> Result<Response<Body>> {
        match self.wrong() {
            None => self.inner.send(request).await,
            Some(Wrong::TooMany) => Ok(Response::new(429, "").with_header("retry-after", "0")?.into()),
            Some(Wrong::Unavailable) => Ok(Response::new(503, "").into()),
            Some(Wrong::NotSent) => Err(not_sent("no way there")),
            Some(Wrong::CutOff) => {
                self.inner.send(request).await?;
                Err(cut_off("no way back"))
            }
            Some(Wrong::CutBody) => {
                let mut answer = self.inner.send(request).await?;
                answer.body = Body::stream(futures::stream::iter([Err(cut_off("no way back for the rest"))]));
                Ok(answer)
            }
        }
    }
}
