//! Timing two things in turn, and the table that comes of it.

use std::future::Future;
use std::time::{Duration, Instant};

/// Rounds of each measurement; ours and the peer's alternate, so that a slow spell of the machine meets both.
const ROUNDS: usize = 7;

/// One line of the report.
pub struct Line {
    pub name: &'static str,
    pub ours_ns: f64,
    pub peer: Option<(&'static str, f64)>,
    /// "at most ×ratio of the peer" or "at most ns".
    pub target: Target,
}

/// What the figure is held against.
pub enum Target {
    /// ours / peer at most.
    Ratio(f64),
    /// Nanoseconds at most.
    Nanoseconds(f64),
    /// The figure is of bytes; so many at most.
    Bytes(f64),
    /// No bound: what a guarantee costs beside doing without it.
    Price,
}

impl Line {
    fn measured(&self) -> (f64, f64) {
        let ratio = || self.ours_ns / self.peer.map_or(f64::NAN, |peer| peer.1);
        match self.target {
            Target::Ratio(bound) => (ratio(), bound),
            Target::Price => (ratio(), f64::INFINITY),
            Target::Nanoseconds(bound) | Target::Bytes(bound) => (self.ours_ns, bound),
        }
    }

    /// The line for people.
    pub fn show(&self) -> String {
        let (value, bound) = self.measured();
        let verdict = match self.target {
            Target::Price => "published",
            _ if value <= bound => "met",
            _ => "missed",
        };
        let (peer, ratio) = match self.peer {
            Some((name, figure)) => {
                let shown =
                    if matches!(self.target, Target::Bytes(_)) { bytes(figure) } else { time(figure) };
                (format!("{name} {shown}"), format!("×{:.2}", self.ours_ns / figure))
            }
            None => (String::new(), String::new()),
        };
        let bound = match self.target {
            Target::Ratio(bound) => format!("≤ ×{bound:.2}"),
            Target::Nanoseconds(bound) => format!("≤ {}", time(bound)),
            Target::Bytes(bound) => format!("≤ {}", bytes(bound)),
            Target::Price => String::new(),
        };
        let ours = match self.target {
            Target::Bytes(_) => bytes(self.ours_ns),
            _ => time(self.ours_ns),
        };
        format!("{:<38} {:>10}  {:<34} {:>7}  {:>10}  {verdict}", self.name, ours, peer, ratio, bound)
    }

    /// The line for programs.
    pub fn json(&self) -> serde_json::Value {
        let (value, bound) = self.measured();
        serde_json::json!({
            "name": self.name,
            "ours_ns": self.ours_ns,
            "peer": self.peer.map(|peer| peer.0),
            "peer_ns": self.peer.map(|peer| peer.1),
            "measured": value,
            "target": bound.is_finite().then_some(bound),
            "unit": match self.target {
                Target::Ratio(_) | Target::Price => "ratio",
                Target::Nanoseconds(_) => "ns",
                Target::Bytes(_) => "bytes",
            },
        })
    }
}

fn time(ns: f64) -> String {
    match ns {
        ns if ns < 1_000.0 => format!("{ns:.1} ns"),
        ns if ns < 1_000_000.0 => format!("{:.2} µs", ns / 1e3),
        ns => format!("{:.2} ms", ns / 1e6),
    }
}

fn bytes(figure: f64) -> String {
    format!("{figure:.1} B")
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Nanoseconds per call of a synchronous function, median over rounds of `calls`.
pub fn sync(calls: u32, mut work: impl FnMut(u32)) -> f64 {
    let round = |work: &mut dyn FnMut(u32)| {
        let began = Instant::now();
        (0..calls).for_each(&mut *work);
        began.elapsed().as_nanos() as f64 / f64::from(calls)
    };
    round(&mut work);
    median((0..ROUNDS).map(|_| round(&mut work)).collect())
}

/// As [`sync`] for two functions in turn.
pub fn sync_pair(calls: u32, mut ours: impl FnMut(u32), mut peer: impl FnMut(u32)) -> (f64, f64) {
    let mut samples = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let began = Instant::now();
        (0..calls).for_each(&mut ours);
        let middle = Instant::now();
        (0..calls).for_each(&mut peer);
        let end = Instant::now();
        // The first round warms up.
        if round > 0 {
            samples.0.push((middle - began).as_nanos() as f64 / f64::from(calls));
            samples.1.push((end - middle).as_nanos() as f64 / f64::from(calls));
        }
    }
    (median(samples.0), median(samples.1))
}

/// Nanoseconds per call of an asynchronous batch, which does `calls` calls.
pub async fn asynchronous<A: Future<Output = ()>>(calls: u32, mut work: impl FnMut() -> A) -> f64 {
    let mut samples = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        work().await;
        samples.push(began.elapsed().as_nanos() as f64 / f64::from(calls));
    }
    median(samples)
}

/// Nanoseconds per call of two asynchronous batches in turn; a batch does `calls` calls.
pub async fn async_pair<A: Future<Output = ()>, B: Future<Output = ()>>(
    calls: u32,
    mut ours: impl FnMut() -> A,
    mut peer: impl FnMut() -> B,
) -> (f64, f64) {
    let mut samples = (Vec::new(), Vec::new());
    let per_call = |elapsed: Duration| elapsed.as_nanos() as f64 / f64::from(calls);
    for round in 0..=ROUNDS {
        let began = Instant::now();
        ours().await;
        let middle = Instant::now();
        peer().await;
        let end = Instant::now();
        if round > 0 {
            samples.0.push(per_call(middle - began));
            samples.1.push(per_call(end - middle));
        }
    }
    (median(samples.0), median(samples.1))
}
