//! Figures: samples in rounds that alternate with the peer's, their medians, and their ratio.

use std::time::Duration;

use serde_json::json;

/// What was measured of one thing.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    name: String,
    unit: &'static str,
    samples: usize,
    p50: f64,
    p90: f64,
    p99: f64,
    ratio: Option<f64>,
    note: String,
}

impl Figure {
    /// Times of one thing, by round.
    pub(crate) fn times(name: &str, rounds: &[Vec<Duration>]) -> Self {
        let mut all: Vec<f64> = rounds.iter().flatten().map(milliseconds).collect();
        all.sort_by(f64::total_cmp);
        Self {
            name: name.to_owned(),
            unit: "ms",
            samples: all.len(),
            p50: quantile(&all, 0.5),
            p90: quantile(&all, 0.9),
            p99: quantile(&all, 0.99),
            ratio: None,
            note: String::new(),
        }
    }

    /// One number for each round, such as a rate.
    pub(crate) fn numbers(name: &str, unit: &'static str, rounds: &[f64]) -> Self {
        let mut all = rounds.to_vec();
        all.sort_by(f64::total_cmp);
        Self {
            name: name.to_owned(),
            unit,
            samples: all.len(),
            p50: quantile(&all, 0.5),
            p90: quantile(&all, 0.9),
            p99: quantile(&all, 0.99),
            ratio: None,
            note: String::new(),
        }
    }

    /// Beside a peer's rounds: the median over the rounds of own median by peer's median.
    pub(crate) fn beside(mut self, own: &[f64], peer: &[f64], peer_name: &str) -> Self {
        let mut ratios: Vec<f64> = own.iter().zip(peer).map(|(own, peer)| own / peer).collect();
        ratios.sort_by(f64::total_cmp);
        self.ratio = Some(quantile(&ratios, 0.5));
        self.note = format!("x {peer_name}");
        self
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        let ratio = self
            .ratio
            .map_or_else(String::new, |ratio| format!("{ratio:7.2} "));
        format!(
            "{:38} n {:6}  p50 {:9.2}  p90 {:9.2}  p99 {:9.2} {:6} {ratio}{}",
            self.name, self.samples, self.p50, self.p90, self.p99, self.unit, self.note
        )
    }

    /// One object for machines.
    pub(crate) fn json(&self) -> String {
        json!({
            "name": self.name, "unit": self.unit, "n": self.samples, "p50": self.p50,
            "p90": self.p90, "p99": self.p99, "ratio": self.ratio, "note": self.note,
        })
        .to_string()
    }
}

/// The median of each round, milliseconds.
pub(crate) fn medians(rounds: &[Vec<Duration>]) -> Vec<f64> {
    let median = |round: &Vec<Duration>| {
        let mut all: Vec<f64> = round.iter().map(milliseconds).collect();
        all.sort_by(f64::total_cmp);
        quantile(&all, 0.5)
    };
    rounds.iter().map(median).collect()
}

/// So many a second.
#[expect(clippy::cast_precision_loss, reason = "counts are small")]
pub(crate) fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

fn milliseconds(time: &Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The nearest rank; 0 of nothing.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank is a small count"
    )]
    let rank = ((sorted.len() as f64 * q).ceil() as usize).max(1) - 1;
    sorted.get(rank).copied().unwrap_or(0.0)
}
