//! `/parties/{partyId}/payoutInstruments`: where a party can be paid out to.
//!
//! Who is paid and where is written and never shown: answers hold as much of it as a person needs who knows it already. Keys that must sign sign the whole
//! request, because the path says whose instrument it is.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use domain::credential::Scope;
use domain::destination::BeneficiaryName;
use domain::fingerprint::fingerprint;
use domain::id::{Mode, PartyId};
use domain::instrument::{Instrument, InstrumentReference, Payee};
use domain::money::Currency;
use domain::revision::Revision;
use jiff::Timestamp;
use serde::Serialize;
use workers::store::StoreError;
use workers::store::parties::Written;

use super::balances::platform;
use super::intake::Duty;
use super::json::{self, Fields};
use super::order::{checked, read_destination};
use super::parties::{Zoned, changed, made, missing, within_reach};
use super::problem::{Errors, Kind, Problem};
use super::revision::{Revised, stale};
use super::view::answer;
use super::{DECISIONS_MAX, Ingress};

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new()
        .route("/parties/{partyId}/payoutInstruments", get(list).post(create))
        .route("/parties/{partyId}/payoutInstruments/{payoutInstrumentReference}", get(one).put(update))
}

/// A payout instrument as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InstrumentView<'a> {
    payout_instrument_reference: &'a InstrumentReference,
    currency: Currency,
    destination_type: &'static str,
    destination_masked: String,
    beneficiary_name_masked: String,
    version: u64,
    date_time_created: Zoned,
    date_time_updated: Zoned,
}

/// The fields of an instrument that are written once.
const LASTING: [&str; 3] = ["payoutInstrumentReference", "currency", "dateTimeCreated"];
/// Those that only the service writes, with each version.
const CHANGING: [&str; 4] = ["destinationType", "destinationMasked", "beneficiaryNameMasked", "dateTimeUpdated"];

impl<'a> InstrumentView<'a> {
    pub(super) fn new(instrument: &'a Instrument) -> Self {
        let Payee { name, destination } = &instrument.payee;
        Self {
            payout_instrument_reference: &instrument.reference,
            currency: instrument.currency,
            destination_type: destination.kind(),
            destination_masked: destination.masked(),
            beneficiary_name_masked: name.masked(),
            version: instrument.version,
            date_time_created: Zoned(instrument.created_at),
            date_time_updated: Zoned(instrument.updated_at),
        }
    }
}

/// A payout instrument that is asked for, read. Serialised, it is what the fingerprint is made of: the order of the fields is fixed for ever.
#[derive(Serialize)]
pub(super) struct Asked {
    pub(super) reference: InstrumentReference,
    pub(super) currency: Currency,
    payee: Payee,
}

impl Asked {
    fn read(mut fields: Fields, errors: &mut Errors) -> Option<Self> {
        let at = fields.pointer("payoutInstrumentReference");
        let reference = fields.text("payoutInstrumentReference", errors).and_then(|text| reference(&at, &text, errors));
        let at = fields.pointer("currency");
        let currency = fields.text("currency", errors).and_then(|text| checked(errors, &at, Currency::parse(&text)));
        let at = fields.pointer("beneficiaryName");
        let name = fields.text("beneficiaryName", errors).and_then(|text| checked(errors, &at, beneficiary_name(&text)));
        let at = fields.pointer("destination");
        let object = fields.optional_object("destination", errors);
        if object.is_none() {
            errors.field(at, "missing", "is required");
        }
        let destination = object.and_then(|object| read_destination(object, currency, errors));
        fields.finish(errors);
        Some(Self { reference: reference?, currency: currency?, payee: Payee { name: name?, destination: destination? } })
    }

    /// The instrument that it asks for, at version 1, on the word of the owner of a credential.
    pub(super) fn instrument(self, party: &PartyId, mode: Mode, by: &str, pepper: &[u8], now: Timestamp) -> Instrument {
        let canonical = serde_json::to_vec(&self).expect("a request has string keys only, so it is always JSON");
        let Self { reference, currency, payee } = self;
        Instrument {
            party: party.clone(),
            mode,
            reference,
            currency,
            payee,
            name_by: Some(by.to_owned()),
            destination_by: Some(by.to_owned()),
            fingerprint: fingerprint(pepper, "instrument 1", [canonical]),
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }
}

/// The name of an instrument, in a body.
pub(super) fn reference(at: &str, text: &str, errors: &mut Errors) -> Option<InstrumentReference> {
    InstrumentReference::parse(text).map_err(|error| errors.field(at, "invalid", format_args!("must be {}", error.expected))).ok()
}

fn beneficiary_name(text: &str) -> Result<BeneficiaryName, domain::destination::TextError> {
    BeneficiaryName::parse(text, BeneficiaryName::MAX_CHARS)
}

/// The `payoutInstruments` of a party that is asked for. Those that are wrong are in `errors` and left out.
pub(super) fn read_list(fields: &mut Fields, max: usize, errors: &mut Errors) -> Vec<Asked> {
    let objects = fields.optional_objects("payoutInstruments", max, errors);
    let mut references = HashSet::new();
    let mut asked = Vec::with_capacity(objects.len());
    for object in objects {
        let at = object.pointer("payoutInstrumentReference");
        let Some(one) = Asked::read(object, errors) else { continue };
        if !references.insert(one.reference.to_string()) {
            errors.field(at, "duplicate", "is that of another payout instrument of this request");
        }
        asked.push(one);
    }
    asked
}

async fn create(State(ingress): State<Arc<Ingress>>, Path(party): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::PartiesWrite, Duty::Request).await?;
    let party = within_reach(&caller, &party)?;
    platform(&caller)?;
    json::check_media_type(&parts.headers)?;
    let mut errors = Errors::default();
    let fields = json::read(&body, &mut errors)?;
    let asked = Asked::read(fields, &mut errors);
    let (Some(asked), true) = (asked, errors.is_empty()) else { return Err(errors.into_problem()) };
    let (mode, max, store) = (caller.mode(), ingress.settings.instruments_max, &ingress.recorder.store);
    let asked = asked.instrument(&party, mode, &caller.key().owner, &ingress.pepper, store.clock().now());
    let (instrument, replayed) = match store.write_instrument(&asked, max).await? {
        Written::Done => (asked, false),
        Written::Stale => {
            let held = store.instrument(&party, mode, &asked.reference).await?.filter(|held| held.fingerprint == asked.fingerprint);
            let conflict = "The payoutInstrumentReference is that of another payout instrument of the party. Nothing was changed.";
            (held.ok_or_else(|| Problem::new(Kind::ReferenceConflict, conflict))?, true)
        }
        Written::Missing | Written::Busy => return Err(missing()),
        Written::Full => return Err(full(max)),
    };
    let location = format!("/parties/{party}/payoutInstruments/{}", instrument.reference.as_str().replace(' ', "%20"));
    Ok(made(&InstrumentView::new(&instrument), &location, replayed))
}

/// One instrument more than a party can have.
pub(super) fn full(max: usize) -> Problem {
    Problem::new(Kind::InstrumentsFull, format!("A party can have {max}. Change one instead."))
}

async fn list(State(ingress): State<Arc<Ingress>>, Path(party): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct List<'a> {
        payout_instruments: Vec<InstrumentView<'a>>,
    }
    let caller = ingress.admit(&headers, Scope::PartiesRead).await?;
    let party = within_reach(&caller, &party)?;
    let instruments = ingress.recorder.store.instruments(&party, caller.mode()).await?.ok_or_else(missing)?;
    Ok(answer(StatusCode::OK, &List { payout_instruments: instruments.iter().map(InstrumentView::new).collect() }))
}

async fn one(State(ingress): State<Arc<Ingress>>, Path((party, reference)): Path<(String, String)>, headers: HeaderMap) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::PartiesRead).await?;
    let party = within_reach(&caller, &party)?;
    let instrument = ingress.found_instrument(&party, caller.mode(), &reference).await?;
    Ok(answer(StatusCode::OK, &InstrumentView::new(&instrument)))
}

/// `PUT …/payoutInstruments/{payoutInstrumentReference}` with the `version` that it was decided on. `destination` and `beneficiaryName` are shown to nobody, so
/// one that is left out stays as it is.
async fn update(
    State(ingress): State<Arc<Ingress>>,
    Path((party, reference)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::PartiesWrite, Duty::Request).await?;
    let party = within_reach(&caller, &party)?;
    platform(&caller)?;
    json::check_media_type(&parts.headers)?;
    let mut errors = Errors::default();
    let mut fields = json::read(&body, &mut errors)?;
    let store = &ingress.recorder.store;
    let mut instrument = ingress.found_instrument(&party, caller.mode(), &reference).await?;
    let revised = Revised::take(&mut fields, &LASTING, &CHANGING, &mut errors);
    let name = fields.optional_text("beneficiaryName", &mut errors);
    let name = name.and_then(|text| checked(&mut errors, "/beneficiaryName", beneficiary_name(&text)));
    // Its currency never changes, so any version of it will do.
    let object = fields.optional_object("destination", &mut errors);
    let destination = object.and_then(|object| read_destination(object, Some(instrument.currency), &mut errors));
    fields.finish(&mut errors);
    let (Some(revised), true) = (revised, errors.is_empty()) else { return Err(errors.into_problem()) };
    for _ in 0..DECISIONS_MAX {
        let Payee { name: held_name, destination: held } = instrument.payee.clone();
        let payee = Payee { name: name.clone().unwrap_or(held_name), destination: destination.clone().unwrap_or(held) };
        match instrument.revise(payee, revised.version, &caller.key().owner, store.clock().now()) {
            Revision::Stale => return Err(stale(instrument.version)),
            Revision::Repeated => {
                revised.check_repeated(&InstrumentView::new(&instrument))?;
                return Ok(changed(&InstrumentView::new(&instrument), true));
            }
            Revision::Same => {
                revised.check(&InstrumentView::new(&instrument))?;
                return Ok(changed(&InstrumentView::new(&instrument), false));
            }
            Revision::Changed(next) => {
                revised.check(&InstrumentView::new(&instrument))?;
                if store.write_instrument(&next, 0).await? == Written::Done {
                    return Ok(changed(&InstrumentView::new(&next), false));
                }
            }
        }
        instrument = ingress.found_instrument(&party, caller.mode(), &reference).await?;
    }
    Err(StoreError::Unavailable(None).into())
}

impl Ingress {
    async fn found_instrument(&self, party: &PartyId, mode: Mode, reference: &str) -> Result<Instrument, Problem> {
        let missing = || Problem::not_found("payout instrument");
        let reference = InstrumentReference::parse(reference).map_err(|_| missing())?;
        self.recorder.store.instrument(party, mode, &reference).await?.ok_or_else(missing)
    }
}
