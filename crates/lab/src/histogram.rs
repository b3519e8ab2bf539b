//! A histogram in Prometheus' text format, such as etcd's own of its WAL's fsyncs.
//! This is pure.

/// Cumulative buckets, as they are exposed: `(le, count of values <= le)`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    pub buckets: Vec<(f64, u64)>,
    pub sum: f64,
    pub count: u64,
}

/// Finds the histogram called `name`; `None` if it is absent or incomplete. If several
/// have that name with different labels, the first is used.
pub fn histogram(metrics: &str, name: &str) -> Option<Histogram> {
    let mut buckets = Vec::new();
    let (mut sum, mut count) = (None, None);
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix(name) else { continue };
        if let Some(rest) = rest.strip_prefix("_bucket{") {
            let (labels, value) = rest.rsplit_once('}')?;
            let le = labels.split(',').find_map(|label| label.trim().strip_prefix("le=\""))?;
            buckets.push((parse_le(le.trim_end_matches('"'))?, value.trim().parse().ok()?));
        } else if let Some(rest) = rest.strip_prefix("_sum") {
            sum = Some(rest.rsplit(' ').next()?.parse().ok()?);
        } else if let Some(rest) = rest.strip_prefix("_count") {
            count = Some(rest.rsplit(' ').next()?.parse().ok()?);
        }
        if let (Some(sum), Some(count)) = (sum, count) {
            return Some(Histogram { buckets, sum, count });
        }
    }
    None
}

impl Histogram {
    /// The observations since `earlier`; `None` if that is not an earlier state of the same
    /// histogram (it is another etcd's, or etcd was restarted).
    pub fn since(&self, earlier: &Histogram) -> Option<Histogram> {
        if self.buckets.len() != earlier.buckets.len() {
            return None;
        }
        let buckets = self
            .buckets
            .iter()
            .zip(&earlier.buckets)
            .map(|(now, then)| (now.0 == then.0).then_some((now.0, now.1.checked_sub(then.1)?)))
            .collect::<Option<Vec<_>>>()?;
        let count = self.count.checked_sub(earlier.count)?;
        Some(Histogram { buckets, sum: self.sum - earlier.sum, count })
    }

    /// The quantile, as PromQL's `histogram_quantile` computes it: linear within a bucket, and
    /// the last finite bound for values above it.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * self.count as f64;
        let (mut bound, mut below) = (0.0, 0);
        for &(le, count) in &self.buckets {
            if count as f64 >= rank && count > below {
                if le.is_infinite() {
                    return Some(bound);
                }
                let share = (rank - below as f64) / (count - below) as f64;
                return Some(bound + (le - bound) * share.max(0.0));
            }
            if le.is_finite() {
                bound = le;
            }
            below = count;
        }
        Some(bound)
    }

    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

fn parse_le(text: &str) -> Option<f64> {
    if text == "+Inf" { Some(f64::INFINITY) } else { text.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::{Histogram, histogram};

    const METRICS: &str = r#"# HELP etcd_disk_wal_fsync_duration_seconds The latency distributions of fsync called by WAL.
# TYPE etcd_disk_wal_fsync_duration_seconds histogram
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.001"} 90
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.002"} 98
etcd_disk_wal_fsync_duration_seconds_bucket{le="0.004"} 99
etcd_disk_wal_fsync_duration_seconds_bucket{le="+Inf"} 100
etcd_disk_wal_fsync_duration_seconds_sum 0.125
etcd_disk_wal_fsync_duration_seconds_count 100
# TYPE grpc_seconds histogram
grpc_seconds_bucket{grpc_method="Put",le="1e-05",kind="a b"} 1
grpc_seconds_bucket{grpc_method="Put",le="+Inf",kind="a b"} 1
grpc_seconds_sum{grpc_method="Put"} 5e-06
grpc_seconds_count{grpc_method="Put"} 1
"#;

    fn wal() -> Histogram {
        histogram(METRICS, "etcd_disk_wal_fsync_duration_seconds").unwrap()
    }

    #[test]
    fn buckets_sum_and_count_are_read() {
        let wal = wal();
        assert_eq!(wal.buckets, [(0.001, 90), (0.002, 98), (0.004, 99), (f64::INFINITY, 100)]);
        assert_eq!((wal.sum, wal.count), (0.125, 100));
    }

    #[test]
    fn le_may_stand_among_other_labels() {
        let grpc = histogram(METRICS, "grpc_seconds").unwrap();
        assert_eq!(grpc.buckets, [(1e-5, 1), (f64::INFINITY, 1)]);
        assert_eq!(grpc.sum, 5e-6);
    }

    #[test]
    fn a_prefix_of_a_name_is_not_the_name() {
        assert_eq!(histogram(METRICS, "etcd_disk_wal_fsync"), None);
        assert_eq!(histogram("", "grpc_seconds"), None);
        assert_eq!(histogram("x_bucket{le=\"many\"} 1\nx_sum 1\nx_count 1\n", "x"), None);
    }

    #[test]
    fn quantiles_are_interpolated_and_end_at_the_last_bound() {
        let wal = wal();
        assert_eq!(wal.quantile(0.45), Some(0.0005));
        assert_eq!(wal.quantile(0.94), Some(0.0015));
        assert_eq!(wal.quantile(1.0), Some(0.004));
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn a_difference_holds_only_what_is_new() {
        let mut later = wal();
        later.buckets[3].1 += 5;
        later.count += 5;
        later.sum += 0.5;
        let new = later.since(&wal()).unwrap();
        assert_eq!(new.buckets, [(0.001, 0), (0.002, 0), (0.004, 0), (f64::INFINITY, 5)]);
        assert_eq!((new.count, new.mean()), (5, Some(0.1)));
        assert_eq!(wal().since(&later), None);
    }
}
