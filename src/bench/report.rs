//! The numbers of all rounds, for people and as JSON.

use std::collections::BTreeMap;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::figures::{FIGURES, Figure, Figures, Floor, quantile};
use super::load::{BODY, CONNECTIONS};
use super::machine::Machine;

/// The setting that the floors are for: the one that live mode demands.
const JUDGED: &str = "always";

/// What was measured.
pub(super) struct Report {
    machine: Machine,
    rounds: u32,
    /// Name and version of the server.
    pub(super) store: String,
    /// By the store's setting: what each round found.
    measured: BTreeMap<&'static str, Vec<Figures>>,
}

#[derive(Clone, Copy, Serialize)]
struct Summary {
    median: f64,
    min: f64,
    max: f64,
}

#[derive(Serialize)]
struct Written<'a> {
    version: &'static str,
    machine: &'a Machine,
    store: &'a str,
    rounds: u32,
    connections: usize,
    body_bytes: usize,
    always: BTreeMap<&'static str, Summary>,
    everysec: BTreeMap<&'static str, Summary>,
    /// With `appendfsync always`.
    floors: Vec<Judged>,
}

#[derive(Serialize)]
struct Judged {
    name: &'static str,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_least: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_most: Option<f64>,
    ok: bool,
}

impl Report {
    pub(super) fn new(machine: Machine, rounds: u32) -> Self {
        Self { machine, rounds, store: String::new(), measured: BTreeMap::new() }
    }

    /// Adds a round.
    pub(super) fn add(&mut self, setting: &'static str, figures: Figures) {
        self.measured.entry(setting).or_default().push(figures);
    }

    fn summary(&self, setting: &str, name: &str) -> Option<Summary> {
        let mut values: Vec<f64> = self.measured.get(setting)?.iter().filter_map(|figures| figures.get(name).copied()).collect();
        let of = |values: &mut Vec<f64>, part| quantile(values, part);
        (!values.is_empty()).then(|| Summary { median: of(&mut values, 0.5), min: of(&mut values, 0.0), max: of(&mut values, 1.0) })
    }

    fn summaries(&self, setting: &str) -> BTreeMap<&'static str, Summary> {
        FIGURES.iter().filter_map(|figure| Some((figure.name, self.summary(setting, figure.name)?))).collect()
    }

    fn judged(&self) -> Vec<Judged> {
        let judge = |figure: &Figure| {
            let (floor, Summary { median: value, .. }) = (figure.floor?, self.summary(JUDGED, figure.name)?);
            let (at_least, at_most) = match floor {
                Floor::AtLeast(least) => (Some(least), None),
                Floor::AtMost(most) => (None, Some(most)),
            };
            Some(Judged { name: figure.name, value, at_least, at_most, ok: floor.is_met(value) })
        };
        FIGURES.iter().filter_map(judge).collect()
    }

    /// The names of the figures that miss their floors.
    pub(super) fn below(&self) -> Vec<&'static str> {
        self.judged().into_iter().filter(|judged| !judged.ok).map(|judged| judged.name).collect()
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["", "always", "everysec", "floor", "", "what it is"]);
        let below = self.below();
        // Where a part was measured alone, there is nothing to say of the rest.
        let is_measured = |figure: &&Figure| ["always", "everysec"].iter().any(|setting| self.summary(setting, figure.name).is_some());
        for figure in FIGURES.iter().filter(is_measured) {
            let shown =
                |setting| self.summary(setting, figure.name).map_or("–".to_owned(), |summary| format!("{:.*}", figure.decimals, summary.median));
            let (floor, word) = match figure.floor {
                None => (String::new(), ""),
                Some(floor) => {
                    let text = match floor {
                        Floor::AtLeast(least) => format!("≥ {least:.2}"),
                        Floor::AtMost(most) => format!("≤ {most}"),
                    };
                    (text, if below.contains(&figure.name) { "below" } else { "ok" })
                }
            };
            table.add_row([figure.name.to_owned(), shown("always"), shown("everysec"), floor, word.to_owned(), figure.about.to_owned()]);
        }
        for index in [1, 2, 3] {
            if let Some(column) = table.column_mut(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let medians = if self.rounds == 1 { "one round".to_owned() } else { format!("medians of {} rounds", self.rounds) };
        format!("{}\n{}, {medians}; floors are for appendfsync always\n{table}", self.machine.line(), self.store)
    }

    /// For programs.
    pub(super) fn json(&self) -> serde_json::Result<String> {
        let written = Written {
            version: env!("CARGO_PKG_VERSION"),
            machine: &self.machine,
            store: &self.store,
            rounds: self.rounds,
            connections: CONNECTIONS,
            body_bytes: BODY,
            always: self.summaries("always"),
            everysec: self.summaries("everysec"),
            floors: self.judged(),
        };
        Ok(serde_json::to_string_pretty(&written)? + "\n")
    }
}
