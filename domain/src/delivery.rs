//! One event for one subscription: what was tried, and what follows from how it went.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::id::DeliveryId;
use crate::wait::Retry;

/// The longest tail of attempts that is kept. Older ones are only counted.
const KEPT_ATTEMPTS: usize = 20;

/// The record of a delivery. It exists from the first attempt on; before that, the open delivery is an entry of its lane. Its id is where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    pub status: Status,
    /// All attempts ever, also those no longer listed.
    pub attempt_count: u32,
    /// The latest attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// What was sent, and where to: an entry with the number of the try, from 1, where that was another than at the try before. `None`: nothing. Nothing is known of tries before the first entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sent: Vec<(u32, Option<Sent>)>,
    /// How often it was asked for once more after it had ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replays: u32,
}

/// How a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Status {
    Pending {
        next_at: Timestamp,
    },
    Delivered {
        at: Timestamp,
    },
    /// Given up; listed, so that somebody can replay it.
    Abandoned {
        at: Timestamp,
    },
}

/// How a delivery looks to whoever lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// To be made: for the first time, or once more after it was.
    Pending,
    /// Tried in vain, and to be tried again.
    Failing,
    Delivered,
    Abandoned,
}

/// One try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub at: Timestamp,
    pub latency_ms: u32,
    pub result: Attempted,
    /// What the subscriber said beside a status that is no 2xx.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<Heard>,
}

/// What a try has sent, and where to; also where nobody was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sent {
    /// Of the subscription's URL without its query, so that whoever shows a URL to others need not show what is secret in it.
    pub to: Digest,
    /// Of the body, where that is not the one that the event is kept with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Digest>,
}

/// A SHA-256. Kept as base64, shown in hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

/// What came with an answer, cut. Foreign text: for whoever owns the subscription, not for logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The beginning of the body, without control characters. Empty: there was none, or it is kept no longer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub excerpt: String,
    /// The subscriber's own name for the call: its `X-Request-Id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// How one try went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Attempted {
    /// Any 2xx.
    Acknowledged { status: u16 },
    /// Any other status. `retry_after_ms` is what the subscriber asked for, a year at most.
    Answered {
        status: u16,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    /// No answer: a short code such as `connect`, `timeout`, `address_refused`, `tls`.
    Unreachable { why: String },
    /// The subscription had been disabled or deleted.
    Unwanted,
}

/// What follows from a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Delivered,
    RetryAt(Timestamp),
    Abandon,
}

// === impl Progress ===

impl Progress {
    pub const ALL: [Self; 4] = [Self::Pending, Self::Failing, Self::Delivered, Self::Abandoned];

    /// The word in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Failing => "failing",
            Self::Delivered => "delivered",
            Self::Abandoned => "abandoned",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|progress| progress.name() == name)
    }

    /// That of a delivery, which has no record before it was tried.
    #[must_use]
    pub fn of(delivery: Option<&Delivery>) -> Self {
        let Some(delivery) = delivery else { return Self::Pending };
        let last = delivery.attempts.last().map(|attempt| &attempt.result);
        match delivery.status {
            Status::Delivered { .. } => Self::Delivered,
            Status::Abandoned { .. } => Self::Abandoned,
            Status::Pending { .. } if matches!(last, None | Some(Attempted::Acknowledged { .. })) => Self::Pending,
            Status::Pending { .. } => Self::Failing,
        }
    }
}

// === impl Sent, Digest ===

impl Sent {
    /// What [`to`](Self::to) is for this URL.
    #[must_use]
    pub fn place(url: &str) -> Digest {
        Digest::of(url.split(['?', '#']).next().unwrap_or_default().as_bytes())
    }
}

impl Digest {
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&const_hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let bytes = URL_SAFE_NO_PAD.decode(String::deserialize(input)?).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("it is no SHA-256"))
    }
}

// === impl Attempt, Delivery ===

impl Attempt {
    /// What is said of it when nobody keeps what the subscriber answered beside its status and its own name for the call.
    pub fn forget_excerpt(&mut self) {
        let request_id = self.heard.take().and_then(|heard| heard.request_id);
        self.heard = request_id.map(|id| Heard { excerpt: String::new(), request_id: Some(id) });
    }
}

impl Delivery {
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        Self { status: Status::Pending { next_at: now }, attempt_count: 0, attempts: Vec::new(), sent: Vec::new(), replays: 0 }
    }

    /// The same once more, from now on. It goes by what is left of its schedule: a replay that fails does not begin another three days.
    #[must_use]
    pub fn replayed(mut self, now: Timestamp) -> Self {
        self.status = Status::Pending { next_at: now };
        self.replays = self.replays.saturating_add(1);
        self
    }

    /// Notes what the try that is recorded next has sent. The same as before costs nothing.
    pub fn sends(&mut self, sent: Option<Sent>) {
        if self.sent.last().and_then(|(_, before)| *before) != sent {
            self.sent.push((self.attempt_count.saturating_add(1), sent));
        }
    }

    /// What a try that is listed has sent, by its place in [`attempts`](Self::attempts); `None` if nothing, or nothing is known of it.
    #[must_use]
    pub fn sent(&self, place: usize) -> Option<Sent> {
        let number = self.first_listed().saturating_add(u32::try_from(place).unwrap_or(u32::MAX));
        self.sent.iter().rev().find(|(from, _)| *from <= number).and_then(|(_, sent)| *sent)
    }

    /// The number of the first try that is listed, from 1.
    fn first_listed(&self) -> u32 {
        self.attempt_count.saturating_sub(u32::try_from(self.attempts.len()).unwrap_or(u32::MAX)).saturating_add(1)
    }

    /// Records a try and decides what follows: done, again later by the schedule (never before the subscriber's `Retry-After`, of which at most
    /// `retry_after_cap` is honoured), or given up.
    pub fn record(&mut self, id: DeliveryId, attempt: Attempt, retry: &Retry, retry_after_cap: SignedDuration, now: Timestamp) -> Decision {
        self.attempt_count = self.attempt_count.saturating_add(1);
        let decision = match &attempt.result {
            Attempted::Acknowledged { .. } => Decision::Delivered,
            Attempted::Unwanted => Decision::Abandon,
            Attempted::Answered { status: 410, .. } => Decision::Abandon,
            Attempted::Answered { retry_after_ms, .. } => self.again(id, retry, *retry_after_ms, retry_after_cap, now),
            Attempted::Unreachable { .. } => self.again(id, retry, None, retry_after_cap, now),
        };
        if self.attempts.len() >= KEPT_ATTEMPTS {
            self.attempts.remove(0);
        }
        self.attempts.push(attempt);
        let first = self.first_listed();
        while self.sent.get(1).is_some_and(|(from, _)| *from <= first) {
            self.sent.remove(0);
        }
        self.status = match decision {
            Decision::Delivered => Status::Delivered { at: now },
            Decision::RetryAt(next_at) => Status::Pending { next_at },
            Decision::Abandon => Status::Abandoned { at: now },
        };
        decision
    }

    /// Forgets what subscribers answered before a time, but for their own names for the calls. Gives the time of the first answer that is still kept.
    pub fn forget_excerpts(&mut self, before: Timestamp) -> Option<Timestamp> {
        for attempt in self.attempts.iter_mut().filter(|attempt| attempt.at < before) {
            attempt.forget_excerpt();
        }
        let kept = |attempt: &&Attempt| attempt.heard.as_ref().is_some_and(|heard| !heard.excerpt.is_empty());
        self.attempts.iter().find(kept).map(|attempt| attempt.at)
    }

    fn again(&self, id: DeliveryId, retry: &Retry, asked_ms: Option<u64>, cap: SignedDuration, now: Timestamp) -> Decision {
        let Some(wait) = retry.wait(self.attempt_count, &id.seed()) else { return Decision::Abandon };
        let asked = SignedDuration::from_millis(asked_ms.map_or(0, |ms| i64::try_from(ms).unwrap_or(i64::MAX))).min(cap);
        Decision::RetryAt(now.saturating_add(wait.max(asked)).unwrap_or(Timestamp::MAX))
    }
}

impl Heard {
    const EXCERPT_CHARS: usize = 256;
    const REQUEST_ID_CHARS: usize = 64;

    /// `None` if nothing was said.
    #[must_use]
    pub fn of(body: &str, request_id: Option<&str>) -> Option<Self> {
        let cut = |text: &str, most| text.trim().chars().take(most).map(|read| if read.is_control() { ' ' } else { read }).collect::<String>();
        let excerpt = cut(body, Self::EXCERPT_CHARS);
        let request_id = request_id.map(|id| cut(id, Self::REQUEST_ID_CHARS)).filter(|id| !id.is_empty());
        (!excerpt.is_empty() || request_id.is_some()).then_some(Self { excerpt, request_id })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::{EventId, Mode, PartyId, PayoutId, Shard, Shards, SubscriptionId};

    const CAP: SignedDuration = SignedDuration::from_hours(24);

    fn now() -> Timestamp {
        "2026-03-02T09:00:00Z".parse().expect("a time")
    }

    fn delivery(key: &str) -> (DeliveryId, Delivery) {
        let party = PartyId::parse("acme").expect("a party");
        let event = EventId::new(PayoutId::derive(&party, Mode::Test, key, Shards::ONE), 1);
        (DeliveryId::new(event, SubscriptionId::new(Shard::new(0), [7; 11])), Delivery::new(now()))
    }

    fn answered(status: u16, retry_after_ms: Option<u64>) -> Attempted {
        Attempted::Answered { status, retry_after_ms }
    }

    fn tried((id, delivery): &mut (DeliveryId, Delivery), result: Attempted, now: Timestamp) -> Decision {
        delivery.record(*id, Attempt { at: now, latency_ms: 12, result, heard: None }, &Retry::three_days(), CAP, now)
    }

    /// How the decision and the record of it agree.
    fn agrees((_, delivery): &(DeliveryId, Delivery), decision: Decision, at: Timestamp) -> bool {
        delivery.status
            == match decision {
                Decision::Delivered => Status::Delivered { at },
                Decision::RetryAt(next_at) => Status::Pending { next_at },
                Decision::Abandon => Status::Abandoned { at },
            }
    }

    #[test]
    fn given_up_after_exactly_the_listed_waits() {
        let (mut delivery, mut at, mut waits) = (delivery("order-1"), now(), 0);
        let listed = Retry::three_days().waits;
        loop {
            let result = if waits % 2 == 0 { answered(500, None) } else { Attempted::Unreachable { why: "timeout".to_owned() } };
            let decision = tried(&mut delivery, result, at);
            assert!(agrees(&delivery, decision, at));
            let Decision::RetryAt(next) = decision else { break };
            let (wait, listed) = (next.duration_since(at), listed[waits]);
            assert!(wait >= listed && wait <= listed + listed / 10, "wait {waits}: {wait}");
            (at, waits) = (next, waits + 1);
        }
        assert_eq!(delivery.1.status, Status::Abandoned { at });
        assert_eq!((waits, delivery.1.attempt_count), (17, 18));
        assert!(at.duration_since(now()) >= SignedDuration::from_hours(72) && at.duration_since(now()) <= SignedDuration::from_mins(4752));
        // A replay that fails does not start another three days.
        assert_eq!(tried(&mut delivery, answered(500, Some(1_000)), at), Decision::Abandon);
    }

    /// The first listed wait is 5 to 5.5 seconds; who asks for more gets more, up to the cap.
    #[test]
    fn retry_after_is_honoured_and_capped() {
        for (asked_ms, from, to) in [
            (None, 5_000, 5_500),
            (Some(0), 5_000, 5_500),
            (Some(1_000), 5_000, 5_500),
            (Some(60_000), 60_000, 60_000),
            (Some(86_400_000), 86_400_000, 86_400_000),
            (Some(86_400_001), 86_400_000, 86_400_000),
            (Some(u64::MAX), 86_400_000, 86_400_000),
        ] {
            for status in [429, 502, 503] {
                let mut delivery = delivery("order-1");
                let decision = tried(&mut delivery, answered(status, asked_ms), now());
                let Decision::RetryAt(at) = decision else { panic!("{asked_ms:?}: {decision:?}") };
                let wait = at.duration_since(now()).as_millis();
                assert!((from..=to).contains(&wait), "{asked_ms:?}: {wait}");
                assert!(agrees(&delivery, decision, now()));
            }
        }
    }

    #[test]
    fn what_follows_from_a_try() {
        for (result, expected) in [
            (Attempted::Acknowledged { status: 200 }, Decision::Delivered),
            (Attempted::Acknowledged { status: 204 }, Decision::Delivered),
            (answered(410, None), Decision::Abandon),
            (answered(410, Some(60_000)), Decision::Abandon),
            (Attempted::Unwanted, Decision::Abandon),
        ] {
            let mut delivery = delivery("order-1");
            let decision = tried(&mut delivery, result.clone(), now());
            assert_eq!(decision, expected, "{result:?}");
            assert!(agrees(&delivery, decision, now()));
        }
        for result in [answered(400, None), answered(404, None), answered(302, None), Attempted::Unreachable { why: "tls".to_owned() }] {
            assert!(matches!(tried(&mut delivery("order-1"), result.clone(), now()), Decision::RetryAt(_)), "{result:?}");
        }
    }

    /// Deliveries that fail together do not come back together.
    #[test]
    fn waits_differ_between_deliveries() {
        let waits: std::collections::BTreeSet<_> = (0..100)
            .map(|number| {
                let mut delivery = delivery(&number.to_string());
                tried(&mut delivery, answered(503, None), now());
                serde_json::to_string(&delivery.1.status).expect("serialises")
            })
            .collect();
        assert!(waits.len() > 50, "{}", waits.len());
    }

    #[test]
    fn what_was_heard_is_forgotten_by_its_time_but_for_the_name_of_the_call() {
        let mut delivery = delivery("order-1");
        let at = |hours| now() + SignedDuration::from_hours(hours);
        for (hours, heard) in
            [(0, Heard::of("Ann Example", Some("r1"))), (1, Heard::of("Bob Example", None)), (2, None), (3, Heard::of("later", None))]
        {
            let attempt = Attempt { at: at(hours), latency_ms: 12, result: answered(500, None), heard };
            delivery.1.record(delivery.0, attempt, &Retry::three_days(), CAP, at(hours));
        }
        let untouched = delivery.1.clone();
        assert_eq!(delivery.1.forget_excerpts(at(0)), Some(at(0)));
        assert_eq!(delivery.1, untouched);
        assert_eq!(delivery.1.forget_excerpts(at(3)), Some(at(3)), "what is younger is kept");
        let heard: Vec<_> = delivery.1.attempts.iter().map(|attempt| attempt.heard.clone()).collect();
        let named = Heard { excerpt: String::new(), request_id: Some("r1".to_owned()) };
        assert_eq!(heard, [Some(named), None, None, Heard::of("later", None)]);
        assert_eq!(delivery.1.attempts.iter().map(|attempt| &attempt.result).collect::<Vec<_>>(), [&answered(500, None); 4]);
        assert_eq!(delivery.1.forget_excerpts(at(4)), None);
    }

    /// What was sent is noted where it changes, and is known of each try that is listed: not of those before, and not of what sent nothing.
    #[test]
    fn what_was_sent_is_known_of_each_try() {
        let sent = |url, body: Option<&[u8]>| Some(Sent { to: Sent::place(url), body: body.map(Digest::of) });
        let (thin, full) = (sent("https://a.example/hooks?key=1", None), sent("https://a.example/hooks", Some(b"{}")));
        let mut delivery = delivery("order-1");
        let mut expected = Vec::new();
        tried(&mut delivery, answered(500, None), now());
        expected.push(None);
        for (what, times) in [(thin, 2), (full, 1), (None, 2), (full, 12), (thin, 9)] {
            for _ in 0..times {
                delivery.1.sends(what);
                tried(&mut delivery, answered(500, None), now());
                expected.push(what);
                let listed: Vec<_> = (0..delivery.1.attempts.len()).map(|place| delivery.1.sent(place)).collect();
                assert_eq!(listed, expected[expected.len().saturating_sub(KEPT_ATTEMPTS)..]);
                assert!(delivery.1.sent.get(1).is_none_or(|(from, _)| *from > delivery.1.first_listed()), "what is not listed any more is forgotten");
                assert_eq!(serde_json::from_str::<Delivery>(&serde_json::to_string(&delivery.1).expect("JSON")).expect("reads"), delivery.1);
            }
        }
        assert_eq!(delivery.1.sent, [(7, full), (19, thin)], "once for all that sent the same");
        let empty = Digest::of(b"");
        assert_eq!(empty.to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(serde_json::to_string(&empty).expect("JSON"), r#""47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU""#);
        for wrong in [r#""""#, r#""47DEQpj8""#, r#""?""#] {
            assert!(serde_json::from_str::<Digest>(wrong).is_err(), "{wrong}");
        }
    }

    fn attempted() -> impl Strategy<Value = Attempted> {
        prop_oneof![
            1 => Just(Attempted::Acknowledged { status: 200 }),
            8 => (100_u16..600, any::<Option<u64>>()).prop_map(|(status, retry_after_ms)| answered(status, retry_after_ms)),
            8 => Just(Attempted::Unreachable { why: "timeout".to_owned() }),
            1 => Just(Attempted::Unwanted),
        ]
    }

    proptest! {
        /// The record stays small, counts all, keeps the latest, and comes back from JSON as it was.
        #[test]
        fn the_record_stays_small(results in prop::collection::vec(attempted(), 1..60)) {
            let mut delivery = delivery("order-1");
            for (number, result) in (1_u32..).zip(&results) {
                let at = now() + SignedDuration::from_hours(number.into());
                let decision = tried(&mut delivery, result.clone(), at);
                prop_assert!(agrees(&delivery, decision, at));
                if let Decision::RetryAt(next) = decision {
                    prop_assert!(next > at && next <= at + CAP);
                }
                prop_assert_eq!(delivery.1.attempt_count, number);
                prop_assert_eq!(delivery.1.attempts.last().map(|attempt| &attempt.result), Some(result));
                prop_assert_eq!(delivery.1.attempts.len(), KEPT_ATTEMPTS.min(number as usize));
                let json = serde_json::to_string(&delivery.1).expect("serialises");
                prop_assert_eq!(&serde_json::from_str::<Delivery>(&json).expect("reads"), &delivery.1);
            }
        }
    }
}
