//! A row of the table.

use serde_json::{Value, json};

/// What is to be reached, and of what.
#[derive(Clone, Copy)]
pub(crate) enum Reach {
    /// The ratio of ours to the reference, at least.
    Ratio(f64),
    /// Our figure, at least.
    Least(f64),
    /// Our figure, at most.
    Most(f64),
}

/// A figure, what it is held against, and what is to be reached.
pub(crate) struct Row {
    pub(crate) measure: String,
    pub(crate) unit: &'static str,
    pub(crate) ours: Option<f64>,
    pub(crate) reference: Option<f64>,
    pub(crate) reach: Reach,
    /// What the reference is, how it was measured, or why it was not.
    pub(crate) why: String,
}

impl Row {
    pub(crate) fn new(measure: impl Into<String>, unit: &'static str, ours: f64, reach: Reach) -> Self {
        Self {
            measure: measure.into(),
            unit,
            ours: Some(ours),
            reference: None,
            reach,
            why: String::new(),
        }
    }

    /// One that this command does not measure.
    pub(crate) fn unmeasured(measure: &str, unit: &'static str, reach: Reach, why: &str) -> Self {
        Self {
            measure: measure.into(),
            unit,
            ours: None,
            reference: None,
            reach,
            why: why.into(),
        }
    }

    pub(crate) fn against(self, reference: f64) -> Self {
        let reference = Some(reference);
        Self { reference, ..self }
    }

    pub(crate) fn why(self, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { why, ..self }
    }

    fn ratio(&self) -> Option<f64> {
        Some(self.ours? / self.reference?)
    }

    fn met(&self) -> bool {
        match self.reach {
            Reach::Ratio(least) => self.ratio().is_some_and(|ratio| ratio >= least),
            Reach::Least(least) => self.ours.is_some_and(|ours| ours >= least),
            Reach::Most(most) => self.ours.is_some_and(|ours| ours <= most),
        }
    }

    pub(crate) fn json(&self) -> Value {
        let (reach, reach_is) = match self.reach {
            Reach::Ratio(least) => (least, "ratio at least"),
            Reach::Least(least) => (least, "ours at least"),
            Reach::Most(most) => (most, "ours at most"),
        };
        json!({
            "measure": self.measure, "unit": self.unit,
            "ours": self.ours.map(rounded), "reference": self.reference.map(rounded),
            "ratio": self.ratio().map(rounded),
            "reach": reach, "reach_is": reach_is, "met": self.met(), "why": self.why,
        })
    }
}

/// To three digits, or whole.
fn rounded(number: f64) -> f64 {
    if number.abs() >= 100.0 {
        return number.round();
    }
    (number * 1000.0).round() / 1000.0
}

/// Prints rows, ours and those that others measured, for people.
pub(crate) fn print(rows: &[Value]) {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let number = |row: &Value, name: &str| row[name].as_f64().map_or("-".to_owned(), |it| it.to_string());
    let cells = |row: &Value| {
        let sign = match row["reach_is"].as_str() {
            Some("ratio at least") => "ratio >= ",
            Some("ours at least") => ">= ",
            _ => "<= ",
        };
        let reach = format!("{sign}{}", number(row, "reach"));
        let met = if row["met"].as_bool().unwrap_or_default() {
            "yes"
        } else if row["ours"].is_null() {
            "not measured"
        } else {
            "NO"
        };
        [
            text(row, "measure"),
            number(row, "ours"),
            number(row, "reference"),
            text(row, "unit"),
            number(row, "ratio"),
            reach,
            met.to_owned(),
            text(row, "why"),
        ]
    };
    let head = [
        "measure",
        "ours",
        "reference",
        "unit",
        "ratio",
        "reach",
        "met",
        "how",
    ]
    .map(str::to_owned);
    let lines: Vec<[String; 8]> = [head].into_iter().chain(rows.iter().map(cells)).collect();
    let width = |at: usize| {
        lines
            .iter()
            .map(|line| line[at].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; 8] = std::array::from_fn(width);
    for line in &lines {
        let [measure, ours, reference, unit, ratio, reach, met, how] = line;
        let [w0, w1, w2, w3, w4, w5, w6, _] = widths;
        println!(
            "{measure:<w0$}  {ours:>w1$}  {reference:>w2$}  {unit:<w3$}  {ratio:>w4$}  {reach:<w5$}  {met:<w6$}  {how}"
        );
    }
}
