//! The queue and device times of overlapping requests, as parts of the time that passed.
//!
//! If their sums are more than the time that passed, the time from the first submission to
//! the last completion counts, divided in proportion to the two sums.

/// Parts of `span_ns` for the wait and the service, at most as long as they
/// were: together the lesser of their sum and the span.
#[inline(always)]
pub const fn divide(queue_ns: u64, device_ns: u64, span_ns: u64) -> (u64, u64) {
    let sum = queue_ns.saturating_add(device_ns);
    if sum <= span_ns {
        return (queue_ns, device_ns);
    }
    // So that the product fits: from four seconds on, in units of 65 us. The
    // remainder is the device's, so that nothing is lost.
    let shift = if sum >> 32 == 0 { 0 } else { 16 };
    let most = (1 << 32) - 1;
    let queue = least(queue_ns >> shift, most);
    let span = least(span_ns >> shift, most);
    let of = least(sum >> shift, most);
    // It is never 0, which is more than the compiler sees.
    let queued = match (queue * span).checked_div(of) {
        Some(part) => part,
        None => 0,
    };
    let part = least(queued << shift, span_ns);
    (part, span_ns - part)
}

#[inline(always)]
const fn least(a: u64, b: u64) -> u64 {
    if a < b { a } else { b }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_did_not_overlap_counts_whole() {
        assert_eq!(divide(3, 7, 10), (3, 7));
        assert_eq!(divide(3, 7, 20), (3, 7));
        assert_eq!(divide(0, 0, 5), (0, 0));
    }

    #[test]
    fn what_overlapped_shares_the_span_in_proportion() {
        assert_eq!(divide(25, 75, 10), (2, 8));
        let second = 1_000_000_000;
        let (queue, device) = divide(100 * second, 300 * second, 10 * second);
        assert!(queue.abs_diff(5 * second / 2) < second / 1000, "{queue}");
        assert_eq!(queue + device, 10 * second);
    }

    proptest! {
        #[test]
        fn the_parts_are_the_sum_or_the_span(
            queue in any::<u64>(), device in any::<u64>(), span in any::<u64>(),
        ) {
            let (a, b) = divide(queue, device, span);
            prop_assert_eq!(a.saturating_add(b), queue.saturating_add(device).min(span));
        }
    }
}
