//! How the sender's clock lay to the daemon's, as a table over time.

use rust_hdf5::{H5Group, Result};

use super::h5::{Column, Nwb, TABLE};
use super::timeline::Timeline;
use crate::frame::SenderClock;
use crate::session::messages::ClockRecord;
use crate::session::rows::Recorded;

/// Writes `sender_clock`; nothing where no clock was measured.
pub(super) fn write(nwb: &Nwb, acquisition: &H5Group, recorded: &Recorded, timeline: Timeline) -> Result<()> {
    let clocks = &recorded.clocks;
    if clocks.is_empty() {
        return Ok(());
    }
    let numbers =
        |of: fn(&SenderClock) -> f64| Column::Number(clocks.iter().map(|record| of(&record.sender_clock)).collect());
    let times = clocks.iter().map(|record| timeline.seconds(record.t_pub_ns)).collect();
    // Seconds in 64 bits would be exact to a microsecond only for a clock that counts from 1970: whole nanoseconds are kept.
    let offsets = clocks.iter().map(|record| record.sender_clock.offset_ns).collect();
    let zero = |record: &ClockRecord| timeline.zero_ns() - i128::from(record.sender_clock.offset_ns);
    let zeros = clocks.iter().map(|record| zero(record) as i64).collect();
    let names = clocks.iter().map(|record| format!("{:?}", record.sender_clock.clock).to_lowercase()).collect();
    let unknown = |value: Option<f32>| value.map_or(f64::NAN, f64::from);
    let error = numbers(|clock| f64::from(clock.offset_error_us) * 1e-6);
    let drift_error =
        Column::Number(clocks.iter().map(|record| unknown(record.sender_clock.drift_error_ppm)).collect());
    let drift = Column::Number(clocks.iter().map(|record| unknown(record.sender_clock.drift_ppm)).collect());
    let columns = [
        ("timestamp", "When this was measured, seconds after the session's start.", Column::Number(times)),
        ("clock", "The sender's clock.", Column::Text(names)),
        ("offset_ns", "Added to the sender's time, gives the daemon's monotonic time in ns.", Column::Count(offsets)),
        ("session_start_ns", "The session's start on the sender's clock, ns.", Column::Count(zeros)),
        ("offset_error", "How far the fastest messages typically lie above the line that tells the offset, s.", error),
        ("drift_ppm", "How much faster than the daemon's the sender's clock runs.", drift),
        ("drift_error_ppm", "Twice the error of the offset over the time that was looked at.", drift_error),
        ("span", "Time that was looked at, s.", numbers(|clock| f64::from(clock.span_s))),
        ("steps", "Times that the clock was set or began anew.", numbers(|clock| f64::from(clock.steps))),
    ];
    let description = "Offset and drift between the clock of the sender's time stamps and the daemon's, by the smallest differences of \
                       receipt and time stamp; the smallest delay on the way is part of the offset.";
    nwb.table(acquisition, "sender_clock", TABLE, description, &columns)
}
