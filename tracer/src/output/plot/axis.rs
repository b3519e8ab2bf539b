//! The lines and the labels of an axis.

/// Steps between two labels of time, and lengths of columns, in seconds. A minute, an hour or a
/// day is a whole number of each.
const STEPS: [f64; 18] = [
    1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0,
    10_800.0, 21_600.0, 43_200.0, 86_400.0,
];

/// The shortest of these steps of which at most `most` cover a length of time, in seconds.
pub fn step(length: f64, most: usize) -> f64 {
    let least = length / most.max(1) as f64;
    STEPS.into_iter().find(|step| *step >= least).unwrap_or(least)
}

/// Round times of day within a span, about `most` at most.
pub fn moments([from, to]: [f64; 2], most: usize) -> Vec<f64> {
    let step = step(to - from, most);
    let first = (from / step).ceil();
    (0..=most).map(|n| (first + n as f64) * step).take_while(|at| *at <= to).collect()
}

/// The powers of ten just below and just above all values greater than zero; the second is at
/// least ten times the first.
pub fn decades(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let (least, most) = values
        .filter(|value| *value > 0.0)
        .fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
    if most == 0.0 {
        return [1e-3, 1e-2];
    }
    // A nanosecond is the shortest time that is recorded.
    let low = least.max(1e-9).log10().floor();
    let high = most.max(1e-9).log10().ceil().max(low + 1.0);
    [10_f64.powf(low), 10_f64.powf(high)]
}

/// Up to four round values above zero, up to `top`.
pub fn levels(top: f64) -> Vec<f64> {
    let power = 10_f64.powf(top.log10().floor());
    let step = [0.2, 0.5, 1.0, 2.0, 5.0].map(|part| part * power);
    let step = step.into_iter().find(|step| top / step <= 4.5).unwrap_or(top);
    (1..=4).map(|n| f64::from(n) * step).take_while(|value| *value <= top).collect()
}
