//! Minutes, hours, days and months of UTC.

use serde::{Deserialize, Serialize};

const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 60 * MINUTE_S;
const DAY_S: u64 = 24 * HOUR_S;

/// How long a quota counts before it begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Period {
    Minute,
    Hour,
    Day,
    Month,
}

/// One of them, in seconds of Unix time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Window {
    pub(crate) start_s: u64,
    /// The first second that is no longer in it.
    pub(crate) end_s: u64,
}

impl Period {
    /// The one that a moment is in.
    pub(crate) fn window(self, now_ms: u64) -> Window {
        let now_s = now_ms / 1000;
        let of = |length_s: u64| {
            let start_s = now_s - now_s % length_s;
            Window { start_s, end_s: start_s + length_s }
        };
        match self {
            Self::Minute => of(MINUTE_S),
            Self::Hour => of(HOUR_S),
            Self::Day => of(DAY_S),
            Self::Month => {
                let (year, month) = month_of(now_s / DAY_S);
                let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
                Window { start_s: first_day(year, month) * DAY_S, end_s: first_day(next_year, next_month) * DAY_S }
            }
        }
    }
}

impl Window {
    pub(crate) fn contains(self, now_ms: u64) -> bool {
        (self.start_s..self.end_s).contains(&(now_ms / 1000))
    }

    /// Whole seconds until it is over, at least one.
    pub(crate) fn left_s(self, now_ms: u64) -> u64 {
        self.end_s.saturating_sub(now_ms / 1000).max(1)
    }
}

/// Year and month of a day since 1970-01-01 (Howard Hinnant, `civil_from_days`).
fn month_of(day: u64) -> (u64, u64) {
    let day = day + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month)
}

/// The first day of a month, since 1970-01-01 (`days_from_civil`).
fn first_day(year: u64, month: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let (era, year_of_era) = (year / 400, year % 400);
    let of_year = (153 * from_march + 2) / 5;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn windows_begin_where_the_calendar_says() {
        // 2024-02-29 12:34:56 UTC
        let now_ms = 1_709_210_096_789;
        let window = |period: Period| period.window(now_ms);
        assert_eq!(window(Period::Minute), Window { start_s: 1_709_210_040, end_s: 1_709_210_100 });
        assert_eq!(window(Period::Hour), Window { start_s: 1_709_208_000, end_s: 1_709_211_600 });
        assert_eq!(window(Period::Day), Window { start_s: 1_709_164_800, end_s: 1_709_251_200 });
        assert_eq!(window(Period::Month), Window { start_s: 1_706_745_600, end_s: 1_709_251_200 });
        assert_eq!(window(Period::Minute).left_s(now_ms), 4);
        // 2023-12-31 23:59:59
        assert_eq!(Period::Month.window(1_704_067_199_999), Window { start_s: 1_701_388_800, end_s: 1_704_067_200 });
        assert_eq!(Period::Month.window(0), Window { start_s: 0, end_s: 31 * DAY_S });
    }

    proptest! {
        #[test]
        fn every_moment_is_in_its_window_and_windows_meet(now_ms in 0..10_000_000_000_000_u64) {
            for period in [Period::Minute, Period::Hour, Period::Day, Period::Month] {
                let window = period.window(now_ms);
                prop_assert!(window.contains(now_ms), "{period:?}");
                prop_assert_eq!(period.window(window.end_s * 1000).start_s, window.end_s);
                prop_assert_eq!(period.window(window.end_s * 1000 - 1), window);
            }
        }
    }
}
