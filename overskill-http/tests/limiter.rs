//! The limiter on a clock that stands still: quota, fairness, reserve, pauses, and waits that are given up.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use overskill_core::{Clock, ErrorKind, Retry, TestClock};
use overskill_http::{Effect, FairKey, Limiter, Priority, Quota};
use proptest::prelude::*;
use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

const ONE: NonZeroU32 = NonZeroU32::MIN;

fn n(calls: u32) -> NonZeroU32 {
    NonZeroU32::new(calls).unwrap()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn limiter(quota: Quota) -> (Limiter, TestClock) {
    let clock = TestClock::new();
    (Limiter::new("test", quota, Arc::new(clock.clone())).unwrap(), clock)
}

/// Who got a permit when, with everybody asking at once.
async fn order(limiter: &Limiter, clock: &TestClock, asks: &[(&str, Priority)]) -> Vec<(String, Duration)> {
    let seen = Mutex::new(Vec::new());
    let mut asking: FuturesUnordered<_> = asks
        .iter()
        .map(|(app, priority)| {
            let seen = &seen;
            async move {
                let permit = limiter.acquire(FairKey::from(*app), *priority, ONE).await.unwrap();
                seen.lock().unwrap().push(((*app).to_owned(), clock.monotonic()));
                permit
            }
        })
        .collect();
    clock.drive(async { while asking.next().await.is_some() {} }).await;
    drop(asking);
    seen.into_inner().unwrap()
}

#[tokio::test]
async fn a_thousand_calls_of_one_app_do_not_starve_another() {
    let (limiter, clock) = limiter(Quota::new(n(60), secs(60)).burst(ONE));
    let mut asks = vec![("greedy", Priority::Normal); 1000];
    asks.push(("modest", Priority::Normal));
    asks.push(("modest", Priority::Normal));
    let seen = order(&limiter, &clock, &asks).await;
    assert_eq!(seen.len(), 1002);
    let at: Vec<_> = seen.iter().enumerate().filter(|(_, (app, _))| app == "modest").collect();
    assert!(at.iter().all(|(place, _)| *place <= 5), "{at:?}");
    assert_eq!(limiter.queue_length(), 0);
}

#[tokio::test]
async fn no_window_holds_more_than_the_quota_and_a_long_run_uses_it() {
    let (limiter, clock) = limiter(Quota::new(n(1200), secs(300)));
    let seen = order(&limiter, &clock, &vec![("a", Priority::Normal); 5000]).await;
    for (i, (_, start)) in seen.iter().enumerate() {
        let within = seen[i..].iter().take_while(|(_, at)| at.saturating_sub(*start) < secs(300)).count();
        assert!(within <= 1200, "{within}");
    }
    let (_, end) = seen.last().unwrap();
    assert!(*end < secs(300 * 5000 / 1080), "{end:?}");
}

#[tokio::test]
async fn urgent_calls_go_first_and_may_use_the_reserve() {
    let (limiter, clock) = limiter(Quota::new(n(100), secs(100)).burst(n(10)).reserve(4));
    let mut asks = vec![("a", Priority::Normal); 8];
    asks.extend([("u", Priority::Urgent); 5]);
    let seen = order(&limiter, &clock, &asks).await;
    let at_once: String = seen.iter().filter(|(_, at)| at.is_zero()).map(|(app, _)| app.as_str()).collect();
    assert_eq!(at_once, "aaaaaauuuu"); // 6 without the reserve, then the 4 of the reserve
    assert_eq!(seen[10].0, "u"); // the next that comes free is urgent's too
}

#[tokio::test]
async fn an_urgent_call_that_comes_late_does_not_wait_for_the_reserve_to_fill() {
    let (limiter, clock) = limiter(Quota::new(n(100), secs(100)).burst(n(10)).reserve(9));
    for _ in 0..10 {
        drop(limiter.acquire("u".into(), Priority::Urgent, ONE).await.unwrap());
    }
    // The first sleeps until all ten have flowed back; the second must not sleep that long.
    let seen = order(&limiter, &clock, &[("a", Priority::Normal), ("u", Priority::Urgent)]).await;
    assert_eq!((seen[0].0.as_str(), seen[1].0.as_str()), ("u", "a"));
    assert!(seen[0].1 < secs(2) && seen[1].1 > secs(9), "{seen:?}");
}

#[tokio::test]
async fn a_permit_that_nobody_took_is_given_back() {
    let (limiter, clock) = limiter(Quota::new(n(60), secs(60)).burst(ONE));
    let ask = || Box::pin(limiter.acquire("a".into(), Priority::Normal, ONE));
    drop(ask().now_or_never().unwrap().unwrap());
    let (mut gives_up, mut stays) = (ask(), ask());
    assert!(gives_up.as_mut().now_or_never().is_none());
    assert!(stays.as_mut().now_or_never().is_none());
    clock.advance(secs(1));
    limiter.pause(Duration::ZERO);
    let mut late = ask(); // its coming hands the permit to the first
    assert!(late.as_mut().now_or_never().is_none());
    assert_eq!(limiter.queue_length(), 2);
    drop(gives_up);
    assert!(stays.as_mut().now_or_never().is_some(), "the next one has it");
}

#[tokio::test]
async fn a_pause_holds_everybody_and_then_one_goes_first() {
    let (limiter, clock) = limiter(Quota::new(n(60), secs(60)).burst(n(10)));
    limiter.pause(secs(120));
    limiter.pause(secs(5)); // ends earlier: changes nothing
    let seen = order(&limiter, &clock, &[("a", Priority::Normal); 5]).await;
    let times: Vec<_> = seen.iter().map(|(_, at)| at.as_secs()).collect();
    assert_eq!(times[0], 120);
    assert!(seen[1].1 > secs(120), "{seen:?}");
}

#[tokio::test]
async fn a_pause_also_holds_those_who_already_wait() {
    let (limiter, clock) = limiter(Quota::new(n(60), secs(60)).burst(ONE));
    drop(limiter.acquire("a".into(), Priority::Normal, ONE).await.unwrap());
    let asking = limiter.acquire("a".into(), Priority::Normal, ONE);
    let pausing = async {
        clock.next_sleeper().await;
        limiter.pause(secs(30));
    };
    let (permit, ()) = clock.drive(async { tokio::join!(asking, pausing) }).await;
    assert_eq!(permit.unwrap().waited(), secs(30));
}

#[tokio::test]
async fn calls_under_way_are_bounded() {
    let (limiter, clock) = limiter(Quota::new(n(1000), secs(1)).max_in_flight(n(2)));
    let now = || limiter.acquire("a".into(), Priority::Normal, ONE).now_or_never();
    let (first, second) = (now().unwrap().unwrap(), now().unwrap().unwrap());
    let mut third = Box::pin(limiter.acquire("a".into(), Priority::Normal, ONE));
    assert!(third.as_mut().now_or_never().is_none());
    assert!(!clock.advance_to_next_sleeper(), "time does not help here");
    drop(first);
    assert!(third.as_mut().now_or_never().is_some());
    drop(second);
    assert!(now().is_some());
}

#[tokio::test]
async fn the_queue_is_bounded_and_says_when_to_come_back() {
    let (limiter, _clock) = limiter(Quota::new(n(60), secs(60)).burst(ONE).max_queued(2));
    let ask = || Box::pin(limiter.acquire("a".into(), Priority::Normal, ONE));
    drop(ask().now_or_never().unwrap().unwrap());
    let (mut a, mut b) = (ask(), ask());
    assert!(a.as_mut().now_or_never().is_none() && b.as_mut().now_or_never().is_none());
    assert_eq!(limiter.queue_length(), 2);
    let e = ask().now_or_never().unwrap().unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::RateLimited, Effect::None));
    assert_eq!(e.retry(), Retry::After(secs(2)));
    drop(a);
    assert!(ask().now_or_never().is_none(), "there is room again");
}

#[tokio::test]
async fn a_full_queue_makes_room_at_the_cost_of_who_waits_most() {
    let (limiter, clock) = limiter(Quota::new(n(60), secs(60)).burst(ONE).max_queued(10));
    let ask = |app: &str| Box::pin(limiter.acquire(app.into(), Priority::Normal, ONE));
    drop(ask("a").now_or_never().unwrap().unwrap());
    let mut greedy: Vec<_> = std::iter::repeat_with(|| ask("a")).take(10).collect();
    assert!(greedy.iter_mut().all(|call| call.now_or_never().is_none()));

    let mut modest = ask("b");
    assert!(modest.as_mut().now_or_never().is_none(), "it waits, and is not refused");
    assert_eq!(limiter.queue_length(), 10);
    let last = greedy.pop().unwrap();
    let e = clock.drive(last).await.unwrap_err();
    assert_eq!((e.kind(), e.effect(), e.retry()), (ErrorKind::RateLimited, Effect::None, Retry::After(secs(10))));
    assert_eq!((e.backend(), e.operation()), ("test", "queue"));
    assert!(ask("a").now_or_never().unwrap().is_err(), "who waits most is refused");
    assert!(greedy.iter_mut().all(|call| call.now_or_never().is_none()), "and nobody else");

    // Once the shares are even, newcomers of either are refused: nobody is driven out for their like.
    let more: Vec<_> = std::iter::repeat_with(|| ask("b")).take(9).collect();
    let outcomes: Vec<_> = more.into_iter().map(|mut call| (call.as_mut().now_or_never().is_some(), call)).collect();
    assert_eq!(outcomes.iter().filter(|(over, _)| !over).count(), 4);
    assert!(ask("a").now_or_never().unwrap().is_err());
    let waiting = greedy.iter_mut().filter_map(|call| call.now_or_never().is_none().then_some(())).count();
    assert_eq!((waiting, limiter.queue_length()), (5, 10));
    drop((greedy, outcomes));
    assert!(clock.drive(modest).await.is_ok());
    assert_eq!(limiter.queue_length(), 0);
}

#[tokio::test]
async fn urgent_calls_have_places_of_their_own() {
    let (limiter, clock) = limiter(Quota::new(n(60), secs(60)).burst(ONE).max_queued(3));
    let ask = |app: &str, priority| Box::pin(limiter.acquire(app.into(), priority, ONE));
    drop(ask("a", Priority::Normal).now_or_never().unwrap().unwrap());
    let mut normal: Vec<_> = std::iter::repeat_with(|| ask("a", Priority::Normal)).take(3).collect();
    assert!(normal.iter_mut().all(|call| call.now_or_never().is_none()));
    let mut urgent: Vec<_> = std::iter::repeat_with(|| ask("a", Priority::Urgent)).take(1_000).collect();
    assert!(urgent.iter_mut().all(|call| call.now_or_never().is_none()));
    assert!(ask("a", Priority::Urgent).now_or_never().unwrap().is_err(), "these are bounded as well");
    let mut operator = ask("operator", Priority::Urgent);
    assert!(operator.as_mut().now_or_never().is_none());
    assert!(urgent.pop().unwrap().now_or_never().unwrap().is_err());
    assert!(normal.iter_mut().all(|call| call.now_or_never().is_none()), "nobody else pays for it");
    drop(urgent);
    let (operator, normal) = clock.drive(async { tokio::join!(operator, futures::future::join_all(normal)) }).await;
    assert_eq!(operator.unwrap().waited(), secs(1), "and it goes first");
    assert!(normal.iter().all(Result::is_ok));
}

#[tokio::test]
async fn who_sleeps_for_all_may_be_refused() {
    let (limiter, clock) = limiter(Quota::new(n(60), secs(60)).burst(ONE).max_queued(4));
    let ask = |app: &str| {
        let mut call = Box::pin(limiter.acquire(app.into(), Priority::Normal, ONE));
        (call.as_mut().now_or_never(), call)
    };
    drop(ask("a"));
    let (sleeper, second, third, fourth) = (ask("a").1, ask("b").1, ask("a").1, ask("a").1);
    drop(sleeper);
    let sleeper = ask("a").1; // it came before the next in turn woke up, and sleeps in its place
    let fifth = ask("c").1;
    let all = async { tokio::join!(second, third, fourth, fifth) };
    let (second, third, fourth, fifth) = clock.drive(all).await;
    assert!([second, third, fourth, fifth].iter().all(Result::is_ok));
    assert_eq!(sleeper.await.unwrap_err().kind(), ErrorKind::RateLimited);
}

#[tokio::test]
async fn where_nobody_may_wait_calls_go_through_as_long_as_the_quota_lasts() {
    let (limiter, _clock) = limiter(Quota::new(n(60), secs(60)).burst(n(2)).max_queued(0));
    let ask = || limiter.acquire("a".into(), Priority::Normal, ONE).now_or_never().unwrap();
    assert!(ask().is_ok() && ask().is_ok());
    assert_eq!(ask().unwrap_err().kind(), ErrorKind::RateLimited);
    assert_eq!(limiter.queue_length(), 0);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let new = |quota| Limiter::new("test", quota, Arc::new(TestClock::new()));
    let quota = Quota::new(n(10), secs(1));
    for (bad, field) in [
        (Quota::new(n(10), Duration::ZERO), "window"),
        (quota.clone().burst(n(11)), "burst"),
        (quota.clone().burst(n(2)).reserve(2), "reserve"),
    ] {
        let e = new(bad).unwrap_err();
        assert!(e.message().contains(field), "{e}");
    }
    let limiter = new(quota.burst(n(3)).reserve(1)).unwrap();
    let e = limiter.acquire("a".into(), Priority::Normal, n(3)).now_or_never().unwrap().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Invalid);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever gives up or is refused, at whatever moment: all others get their permits, and what was given up costs
    /// nothing.
    #[test]
    fn who_gives_up_leaves_no_hole(
        calls in prop::collection::vec((0_usize..4, any::<bool>(), 1_u32..4, prop::option::of(0_u64..40)), 1..60),
        in_flight in prop::option::of(1_u32..4),
        max_queued in prop::option::of(0_usize..9),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut quota = Quota::new(n(20), secs(20)).burst(n(5)).reserve(1);
        if let Some(most) = in_flight {
            quota = quota.max_in_flight(n(most));
        }
        if let Some(most) = max_queued {
            quota = quota.max_queued(most);
        }
        let (limiter, clock) = limiter(quota);
        let spent = Mutex::new(0_u32);
        let work = calls.iter().map(|(app, urgent, cost, patience)| {
            let (limiter, clock, spent) = (&limiter, &clock, &spent);
            async move {
                let priority = if *urgent { Priority::Urgent } else { Priority::Normal };
                let app = FairKey::from(["a", "b", "c", "d"][*app]);
                let permit = limiter.acquire(app, priority, n(*cost));
                let patience = async {
                    match patience {
                        Some(patience) => clock.sleep(secs(*patience)).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    permit = permit => {
                        let _permit = match permit {
                            Err(e) if max_queued.is_some() && e.kind() == ErrorKind::RateLimited => return,
                            permit => permit.unwrap(),
                        };
                        *spent.lock().unwrap() += cost;
                        clock.sleep(Duration::from_millis(100)).await;
                    }
                    () = patience => {}
                }
            }
        });
        let mut work: FuturesUnordered<_> = work.collect();
        let all = clock.drive(async { while work.next().await.is_some() {} });
        let ended = runtime.block_on(async { tokio::time::timeout(secs(20), all).await });
        prop_assert!(ended.is_ok(), "somebody waits for ever: {} queued", limiter.queue_length());
        drop(work);
        prop_assert_eq!(limiter.queue_length(), 0);
        // Steady flow is about 0.8 a second, so this is the longest all of it may take.
        let most = u64::from(*spent.lock().unwrap()) * 4 + 120;
        prop_assert!(clock.monotonic() < secs(most), "{:?}", clock.monotonic());
    }
}
