//! Whatever fails, restarts, is paused or asked for again: what a receiver makes of what it is told is what is true.

use domain::subscription::Ordering as Order;
use proptest::prelude::*;

use super::*;

/// What happens beside the deliveries, in any order.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Open,
    /// The next event of a payout.
    Cancel(u8),
    /// From now on the receiver answers so.
    Answers(u16),
    ComesBackIn(u8),
    Later(u16),
    Pause,
    Resume,
    /// An event of a payout is asked for again.
    Again(u8, u8),
    /// A worker takes deliveries and is never heard of again.
    WorkerDies,
    /// A worker has sent what it took and dies before it is on record.
    SentNotRecorded,
    Works,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => Just(Happening::Open),
        4 => any::<u8>().prop_map(Happening::Cancel),
        3 => prop_oneof![Just(200), Just(204), Just(500), Just(302), Just(404)].prop_map(Happening::Answers),
        1 => any::<u8>().prop_map(Happening::ComesBackIn),
        4 => (1_u16..1_000).prop_map(Happening::Later),
        1 => Just(Happening::Pause),
        2 => Just(Happening::Resume),
        2 => (any::<u8>(), 1_u8..3).prop_map(|(payout, sequence)| Happening::Again(payout, sequence)),
        1 => Just(Happening::WorkerDies),
        1 => Just(Happening::SentNotRecorded),
        6 => Just(Happening::Works),
    ]
}

/// A receiver, and what it believes of each payout.
#[derive(Default)]
struct Books {
    last_arrived: BTreeMap<String, (u64, String)>,
    highest: BTreeMap<String, (u64, String)>,
    /// Arrivals of events for the first time that came before an earlier one of their payout.
    early: usize,
    seen: std::collections::BTreeSet<String>,
}

impl Books {
    fn take(&mut self, messages: Vec<(Received, bool)>) {
        for (message, accepted) in messages {
            if !accepted {
                continue;
            }
            let data = message.json()["data"].clone();
            let (payout, sequence) = (data["payout_id"].as_str().unwrap().to_owned(), data["sequence"].as_u64().unwrap());
            let entry = (sequence, data["status"].as_str().unwrap().to_owned());
            let first = self.seen.insert(message.header("webhook-id").to_owned());
            let highest = self.highest.get(&payout).map_or(0, |(sequence, _)| *sequence);
            if first && sequence != highest + 1 {
                self.early += 1;
            }
            // By arrival counts what is neither a repeat nor a replay.
            if first {
                self.last_arrived.insert(payout.clone(), entry.clone());
            }
            if sequence > highest {
                self.highest.insert(payout, entry);
            }
        }
    }
}

struct Story {
    at: Installation,
    payouts: Vec<Payout>,
    truth: BTreeMap<String, (u64, String)>,
    books: Books,
    answers: u16,
}

impl Story {
    async fn begin(ordering: Order) -> Self {
        let patient = RelaySettings { circuit_failures: 4, disable_after_hours: 8_760, waits_s: Some(vec![60; 200]), ..RelaySettings::default() };
        let at = installation_with(patient).await;
        at.change(|subscription, _| subscription.ordering = ordering).await;
        Self { at, payouts: Vec::new(), truth: BTreeMap::new(), books: Books::default(), answers: 200 }
    }

    fn hears(&mut self) {
        let accepted = (200..300).contains(&self.answers);
        let came = self.at.receiver.take().into_iter().map(|message| (message, accepted)).collect();
        self.books.take(came);
    }

    async fn sets(&self, status: Status) {
        let (mut subscription, _) = self.at.store.subscription(self.at.subscription).await.unwrap().unwrap();
        (subscription.status, subscription.version) = (status, subscription.version + 1);
        self.at.store.begin_afresh(&subscription, None).await.unwrap();
    }

    async fn goes_on(&mut self, happening: Happening) {
        let chosen = |number: u8| self.payouts.get(usize::from(number) % self.payouts.len().max(1)).cloned();
        match happening {
            Happening::Open => {
                let payout = self.at.open(&self.payouts.len().to_string()).await;
                self.truth.insert(payout.id.to_string(), (1, "requested".to_owned()));
                self.payouts.push(payout);
            }
            Happening::Cancel(number) => {
                let Some(payout) = chosen(number).filter(|payout| self.truth[&payout.id.to_string()].0 == 1) else { return };
                self.at.cancel(&payout).await;
                self.truth.insert(payout.id.to_string(), (2, "canceled".to_owned()));
            }
            Happening::Answers(status) => {
                self.at.receiver.mood(Mood::Status(status));
                self.answers = status;
            }
            Happening::ComesBackIn(seconds) => {
                self.at.receiver.mood(Mood::ComeBackIn(503, seconds.into()));
                self.answers = 503;
            }
            Happening::Later(seconds) => self.at.later(seconds.into()).await,
            Happening::Pause => self.sets(Status::Paused { at: self.at.store.clock().now() }).await,
            Happening::Resume => self.sets(Status::Enabled).await,
            Happening::Again(number, sequence) => {
                let Some(payout) = chosen(number) else { return };
                let event = domain::id::EventId::new(payout.id, sequence.into());
                let timeline = self.at.store.timeline(payout.id).await.unwrap().unwrap();
                let listed = timeline.deliveries.into_iter().find(|listed| listed.sequence == u32::from(sequence));
                // What was never tried is on its way; what is, may be asked for too.
                let Some(seen) = listed.and_then(|listed| listed.delivery) else { return };
                self.at.store.redeliver((&party(), Mode::Test), self.at.subscription, event, Some(&seen)).await.unwrap();
            }
            Happening::WorkerDies => drop(self.at.lanes.lease(3).await.unwrap()),
            Happening::SentNotRecorded => {
                for (work, _) in self.at.lanes.lease(2).await.unwrap().items {
                    let message = Received {
                        path: String::new(),
                        headers: [(http::HeaderName::from_static("webhook-id"), work.event.id.to_string().parse().unwrap())].into_iter().collect(),
                        body: work.event.body.into(),
                    };
                    let accepted = (200..300).contains(&self.answers);
                    self.books.take(vec![(message, accepted)]);
                }
            }
            Happening::Works => {
                self.at.crank().await;
            }
        }
        self.hears();
    }

    /// All is well again, and time goes by.
    async fn ends(&mut self) {
        self.goes_on(Happening::Answers(200)).await;
        self.goes_on(Happening::Resume).await;
        for _ in 0..60 {
            self.goes_on(Happening::Later(400)).await;
            self.goes_on(Happening::Works).await;
            if self.books.highest == self.truth {
                break;
            }
        }
    }
}

fn told(ordering: Order, happenings: Vec<Happening>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut story = Story::begin(ordering).await;
        for happening in happenings {
            story.goes_on(happening).await;
        }
        story.ends().await;
        prop_assert_eq!(&story.books.highest, &story.truth, "by sequence");
        if ordering == Order::Strict {
            prop_assert_eq!(&story.books.last_arrived, &story.truth, "by arrival");
            prop_assert_eq!(story.books.early, 0, "an event came before an earlier one");
        }
        Ok(())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn what_arrives_in_order_is_the_truth(happenings in prop::collection::vec(happening(), 5..40)) {
        told(Order::Strict, happenings)?;
    }

    #[test]
    fn what_arrives_in_any_order_is_the_truth_by_sequence(happenings in prop::collection::vec(happening(), 5..40)) {
        told(Order::None, happenings)?;
    }
}
