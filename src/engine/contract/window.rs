//! Windows: times of day, in a time zone, at which tables may be swapped. Pure.
//!
//! A schedule says when a window opens, in the zone's own wall-clock time; how long it stays open is counted in elapsed time. Where clocks are
//! changed: a time that is skipped opens the window at the moment of the change, a time that comes twice opens it once, the first time. The
//! schedule is therefore walked in wall-clock time and each match is turned into an instant here, whatever the schedule's library makes of
//! such days.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// The shortest window: a schedule has whole minutes.
pub const SHORTEST: Duration = Duration::from_secs(60);
/// The longest: a week, after which a schedule repeats itself in practice.
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// A window that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWindow {
    /// The schedule is not five fields of cron.
    #[error(
        "schedule {0:?} is not a cron expression: write five fields (minute, hour, day of month, month, day of week), such as 0 2 * * *"
    )]
    Schedule(String),
    /// The schedule names no time that there is.
    #[error("schedule {0:?} never matches any time")]
    Never(String),
    /// The time zone database has no such zone.
    #[error("timeZone {0:?} is unknown: use a name from the IANA time zone database, such as Europe/Berlin or UTC")]
    TimeZone(String),
    /// Too short or too long.
    #[error("duration must be between 1m and 168h")]
    Duration,
}

/// `cutOver.windows[]`, understood.
#[derive(Debug, Clone)]
pub struct Window {
    schedule: String,
    crontab: cronexpr::Crontab,
    zone: TimeZone,
    duration: Duration,
}

impl PartialEq for Window {
    fn eq(&self, other: &Self) -> bool {
        (&self.schedule, &self.zone, self.duration) == (&other.schedule, &other.zone, other.duration)
    }
}

/// Whether a window is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// One is, or there are none at all.
    Open,
    /// None is.
    Closed {
        /// When the next one opens.
        opens: Option<Timestamp>,
    },
}

impl Window {
    /// Understands a window: five fields of cron, a name of the time zone database, 1 minute to 168 hours.
    ///
    /// # Errors
    /// One of them is not valid.
    pub fn parse(schedule: &str, zone: &str, duration: Duration) -> Result<Self, InvalidWindow> {
        let short = |text: &str| text.chars().take(128).collect::<String>();
        let fields: Vec<&str> = schedule.split_whitespace().collect();
        let invalid = || InvalidWindow::Schedule(short(schedule));
        if fields.len() != 5 {
            return Err(invalid());
        }
        let schedule_text = fields.join(" ");
        // In UTC every wall-clock time comes exactly once.
        let crontab = cronexpr::parse_crontab(&format!("{schedule_text} UTC")).map_err(|_| invalid())?;
        // Four years from here hold a leap day.
        if crontab.find_next(cronexpr::MakeTimestamp(Timestamp::UNIX_EPOCH)).is_err() {
            return Err(InvalidWindow::Never(short(schedule)));
        }
        // The machine's database may be newer than the one compiled in, or not be there.
        let zone = TimeZone::get(zone)
            .or_else(|_| TimeZoneDatabase::bundled().get(zone))
            .ok()
            .filter(|zone| !zone.is_unknown())
            .ok_or_else(|| InvalidWindow::TimeZone(short(zone)))?;
        if !(SHORTEST..=LONGEST).contains(&duration) {
            return Err(InvalidWindow::Duration);
        }
        Ok(Self { schedule: schedule_text, crontab, zone, duration })
    }

    /// The first opening after a time; `None` if there is none in the four years after it.
    fn opening_after(&self, after: Timestamp) -> Option<Timestamp> {
        let mut wall = self.zone.to_datetime(after);
        loop {
            let cursor = Offset::UTC.to_timestamp(wall).ok()?;
            wall = self.crontab.find_next(cronexpr::MakeTimestamp(cursor)).ok()?.datetime();
            let opening = self.instant(wall)?;
            // In the second pass of an hour that comes twice, its times have been.
            if opening > after {
                return Some(opening);
            }
        }
    }

    /// The instant of a wall-clock time. Never goes back when the wall-clock time goes forward.
    fn instant(&self, wall: DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(wall);
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok(),
            AmbiguousOffset::Gap { .. } => {
                let behind = ambiguous.later().ok()?.checked_add(SignedDuration::from_secs(1)).ok()?;
                self.zone.preceding(behind).next().map(|change| change.timestamp())
            }
        }
    }

    fn verdict_at(&self, now: Timestamp) -> Verdict {
        let length = SignedDuration::try_from(self.duration).unwrap_or(SignedDuration::ZERO);
        // An opening that is not over began after this; if the first one is not in the future, it is open.
        let opening = now.checked_sub(length).ok().and_then(|since| self.opening_after(since));
        match opening {
            Some(opening) if opening <= now => Verdict::Open,
            opens => Verdict::Closed { opens },
        }
    }
}

/// Whether any window is open; without windows it always is.
pub fn verdict(windows: &[Window], now: Timestamp) -> Verdict {
    if windows.is_empty() {
        return Verdict::Open;
    }
    let mut next: Option<Timestamp> = None;
    for window in windows {
        match window.verdict_at(now) {
            Verdict::Open => return Verdict::Open,
            Verdict::Closed { opens } => next = next.into_iter().chain(opens).min(),
        }
    }
    Verdict::Closed { opens: next }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60;
    const HOUR: u64 = 3600;

    fn window(schedule: &str, zone: &str, seconds: u64) -> Window {
        Window::parse(schedule, zone, Duration::from_secs(seconds)).expect("a window")
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    /// `open`, or when the next one opens.
    fn said(windows: &[Window], now: &str) -> String {
        match verdict(windows, at(now)) {
            Verdict::Open => "open".into(),
            Verdict::Closed { opens } => opens.map_or_else(|| "never".into(), |t| t.to_string()),
        }
    }

    #[test]
    fn a_window_is_open_from_its_time_for_its_duration() {
        let nightly = [window("0 2 * * *", "Europe/Berlin", 2 * HOUR)];
        for (now, expected) in [
            // Summer: two hours ahead of UTC.
            ("2026-07-01T23:59:59Z", "2026-07-02T00:00:00Z"),
            ("2026-07-02T00:00:00Z", "open"),
            ("2026-07-02T01:59:59.999Z", "open"),
            ("2026-07-02T02:00:00Z", "2026-07-03T00:00:00Z"),
            // Winter: one hour.
            ("2026-01-15T00:59:59Z", "2026-01-15T01:00:00Z"),
            ("2026-01-15T01:00:30Z", "open"),
            ("2026-01-15T03:00:00Z", "2026-01-16T01:00:00Z"),
        ] {
            assert_eq!(said(&nightly, now), expected, "{now}");
        }
    }

    /// Berlin, 2026-03-29: at 02:00 (01:00 UTC) clocks go to 03:00. 2026-10-25: at 03:00 (01:00 UTC) they go back to 02:00.
    #[test]
    fn days_on_which_clocks_are_changed() {
        let half_past_two = [window("30 2 * * *", "Europe/Berlin", 30 * MINUTE)];
        for (now, expected) in [
            // 02:30 does not exist: it opens at the change, not a day later.
            ("2026-03-28T02:00:00Z", "2026-03-29T01:00:00Z"),
            ("2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z"),
            ("2026-03-29T01:00:00Z", "open"),
            ("2026-03-29T01:29:59Z", "open"),
            ("2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"),
            // 02:30 comes twice: it opens the first time only.
            ("2026-10-24T02:00:00Z", "2026-10-25T00:30:00Z"),
            ("2026-10-25T00:30:00Z", "open"),
            ("2026-10-25T00:59:59Z", "open"),
            ("2026-10-25T01:00:00Z", "2026-10-26T01:30:00Z"),
            ("2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"),
            ("2026-10-25T01:45:00Z", "2026-10-26T01:30:00Z"),
        ] {
            assert_eq!(said(&half_past_two, now), expected, "{now}");
        }
        // Windows that span the change last as long as ever.
        let night = [window("0 1 * * *", "Europe/Berlin", 3 * HOUR)];
        for (now, expected) in [
            ("2026-03-29T00:00:00Z", "open"),
            ("2026-03-29T02:59:59Z", "open"),
            ("2026-03-29T03:00:00Z", "2026-03-29T23:00:00Z"),
            ("2026-10-24T23:00:00Z", "open"),
            ("2026-10-25T01:59:59Z", "open"),
            ("2026-10-25T02:00:00Z", "2026-10-26T00:00:00Z"),
        ] {
            assert_eq!(said(&night, now), expected, "{now}");
        }
        // Each minute, all through both changes: never closed.
        let always = [window("* * * * *", "Europe/Berlin", HOUR + MINUTE)];
        for start in ["2026-03-29T00:00:30Z", "2026-10-24T23:00:30Z"] {
            for minutes in 0..240 {
                let now = at(start) + SignedDuration::from_mins(minutes);
                assert_eq!(verdict(&always, now), Verdict::Open, "{now}");
            }
        }
        // Half an hour's change, and a zone behind UTC.
        assert_eq!(said(&[window("15 2 * * *", "Australia/Lord_Howe", HOUR)], "2026-10-03T15:00:00Z"), "2026-10-03T15:30:00Z");
        assert_eq!(said(&[window("30 2 * * *", "America/New_York", HOUR)], "2026-03-08T06:00:00Z"), "2026-03-08T07:00:00Z");
    }

    #[test]
    fn several_windows_are_one_or_the_other() {
        assert_eq!(verdict(&[], at("2026-01-01T00:00:00Z")), Verdict::Open);
        let both = [window("0 2 * * MON-FRI", "UTC", HOUR), window("0 0 * * SAT", "UTC", 48 * HOUR)];
        for (now, expected) in [
            ("2026-05-01T02:30:00Z", "open"),                 // Friday
            ("2026-05-01T03:00:00Z", "2026-05-02T00:00:00Z"), // Saturday comes first
            ("2026-05-02T00:00:00Z", "open"),
            ("2026-05-03T23:59:59Z", "open"),
            ("2026-05-04T00:00:00Z", "2026-05-04T02:00:00Z"), // Monday
        ] {
            assert_eq!(said(&both, now), expected, "{now}");
        }
        // Openings that overlap: open without a break.
        let dense = [window("*/10 * * * *", "UTC", 15 * MINUTE)];
        assert_eq!(said(&dense, "2026-05-01T00:09:59Z"), "open");
        assert_eq!(said(&dense, "2026-05-01T00:10:00Z"), "open");
        // A leap day is waited for.
        assert_eq!(said(&[window("0 0 29 2 *", "UTC", HOUR)], "2026-05-01T00:00:00Z"), "2028-02-29T00:00:00Z");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let hour = Duration::from_secs(HOUR);
        for schedule in
            ["", "0 2 * *", "0 2 * * * *", "60 2 * * *", "0 24 * * *", "a b c d e", "0 2 * * * Europe/Berlin", "@daily", "H 2 * * *"]
        {
            assert_eq!(Window::parse(schedule, "UTC", hour), Err(InvalidWindow::Schedule(schedule.into())), "{schedule:?}");
        }
        assert_eq!(Window::parse("0 0 30 2 *", "UTC", hour), Err(InvalidWindow::Never("0 0 30 2 *".into())));
        for zone in ["", "Europe/Nowhere", "Etc/Unknown", "../etc/passwd", "CET-1CEST"] {
            assert_eq!(Window::parse("0 2 * * *", zone, hour), Err(InvalidWindow::TimeZone(zone.into())), "{zone:?}");
        }
        for seconds in [0, 59, 168 * HOUR + 1] {
            assert_eq!(Window::parse("0 2 * * *", "UTC", Duration::from_secs(seconds)), Err(InvalidWindow::Duration), "{seconds}");
        }
        assert!(Window::parse("  0   2 * * sun ", "utc", Duration::from_secs(60)).is_ok());
        assert!(Window::parse("0 2 * * *", "UTC", LONGEST).is_ok());
    }

    proptest::proptest! {
        /// Minute by minute: a window is open if an opening is not longer ago than its duration, where an opening is a minute at which the
        /// wall clock shows a time of the schedule for the first time, or jumps over one.
        #[test]
        fn it_is_what_looking_at_the_wall_clock_each_minute_gives(
            zone in proptest::sample::select(vec!["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/St_Johns"]),
            change in proptest::sample::select(vec!["2026-03-08T07:00:00Z", "2026-03-29T01:00:00Z", "2026-04-04T15:00:00Z", "2026-10-03T15:30:00Z", "2026-10-25T01:00:00Z", "2026-11-01T06:00:00Z"]),
            offset in -400_i64..400, minute in 0_u8..60, hour in 0_u8..6, length in 1_u64..300,
        ) {
            let window = window(&format!("{minute} {hour} * * *"), zone, length * MINUTE);
            let tz = TimeZone::get(zone).expect("a zone");
            let now = at(change) + SignedDuration::from_mins(offset);
            let shows = |t: Timestamp| tz.to_datetime(t);
            let opens_at = |t: Timestamp| {
                let (before, wall) = (shows(t - SignedDuration::from_mins(1)), shows(t));
                // The wall-clock minutes that come up with this one: one, none that is new (after a step back), or all that are jumped over.
                let mut upcoming = before.saturating_add(jiff::Span::new().minutes(1));
                let mut named = false;
                while upcoming <= wall {
                    named |= (upcoming.hour(), upcoming.minute()) == (i8::try_from(hour).unwrap_or(0), i8::try_from(minute).unwrap_or(0));
                    upcoming = upcoming.saturating_add(jiff::Span::new().minutes(1));
                }
                let seen_before = (1..=120).any(|ago| shows(t - SignedDuration::from_mins(ago)) == wall);
                named && !seen_before
            };
            let open = (0..i64::try_from(length).unwrap_or(0)).any(|ago| opens_at(now - SignedDuration::from_mins(ago)));
            proptest::prop_assert_eq!(window.verdict_at(now) == Verdict::Open, open, "{} {}", window.schedule, now);
        }
    }

    /// A container may have no /usr/share/zoneinfo.
    #[test]
    fn the_time_zone_database_is_compiled_in() {
        assert!(TimeZoneDatabase::bundled().get("Europe/Berlin").is_ok());
    }
}
