//! Columns as the corners of lines and of areas.

use super::Column;

/// The indices of columns that follow one another without a gap, one list for each run.
pub fn runs(columns: &[Column], is_there: impl Fn(usize) -> bool) -> Vec<Vec<usize>> {
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for at in (0..columns.len()).filter(|at| is_there(*at)) {
        let goes_on = |run: &&mut Vec<usize>| {
            let last = run.last().copied().unwrap_or_default();
            last + 1 == at && columns[at].from - columns[last].to < 0.5
        };
        match runs.last_mut().filter(goes_on) {
            Some(run) => run.push(at),
            None => runs.push(vec![at]),
        }
    }
    runs
}

/// A line with a step at each column's edge.
pub fn line(columns: &[Column], run: &[usize], value: impl Fn(usize) -> f64) -> Vec<(f64, f64)> {
    let corners = |at: &usize| {
        let (Column { from, to, .. }, y) = (columns[*at], value(*at));
        [(from, y), (to, y)]
    };
    run.iter().flat_map(corners).collect()
}

/// The area between two such lines.
pub fn area(
    columns: &[Column],
    run: &[usize],
    low: impl Fn(usize) -> f64,
    high: impl Fn(usize) -> f64,
) -> Vec<(f64, f64)> {
    let mut corners = line(columns, run, high);
    let mut back = line(columns, run, low);
    back.reverse();
    corners.extend(back);
    corners
}
