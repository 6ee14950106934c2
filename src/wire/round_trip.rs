//! Decisions and acknowledgements as they are published and recorded, for who measures the time between them.

use serde::Deserialize;
use serde_json::Value;

use super::decision::What;
use crate::frame::{Decided, RoundTrips};

/// What is read of a decision.
#[derive(Deserialize)]
struct Decision {
    seq: u64,
    what: What,
    t_recv_ns: u64,
    t_decided_ns: u64,
    t_pub_ns: u64,
    age_us: Option<f64>,
    train: Train,
}

#[derive(Deserialize)]
struct Train {
    delay_ms: f64,
}

/// What is read of an acknowledgement: the event `inlet`.
#[derive(Deserialize)]
struct Acknowledgement {
    decision: u64,
    t_ns: u64,
    t_recv_ns: u64,
    timestamp_ns: Option<i64>,
}

/// Takes a header of the topic `decision`; whatever is no output is left out.
pub fn take_decision(header: &Value, trips: &mut RoundTrips) {
    let Ok(decision) = Decision::deserialize(header) else { return };
    if decision.what != What::Output {
        return;
    }
    let age_ns = decision.age_us.map(|us| (us * 1e3) as u64);
    trips.decided(Decided {
        seq: decision.seq,
        frame_ns: age_ns.map_or(decision.t_recv_ns, |age_ns| decision.t_pub_ns.saturating_sub(age_ns)),
        decided_ns: decision.t_decided_ns,
        published_ns: decision.t_pub_ns,
        delay_ns: (decision.train.delay_ms * 1e6) as u64,
    });
}

/// Takes a header of the event `inlet`; a mark that acknowledges nothing is left out.
pub fn take_event(header: &Value, trips: &mut RoundTrips) {
    if header["event"] != "inlet" {
        return;
    }
    if let Ok(ack) = Acknowledgement::deserialize(header) {
        trips.acknowledged(ack.decision, ack.timestamp_ns.map(|_| ack.t_ns), ack.t_recv_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_output_and_its_acknowledgement_become_a_round_trip_and_nothing_else_does() {
        let mut trips = RoundTrips::default();
        let output = json!({ "seq": 7, "what": "output", "t_recv_ns": 900, "t_decided_ns": 2_000, "t_pub_ns": 3_000, "age_us": 2.5,
                             "train": { "delay_ms": 0.001 } });
        let mut withheld = output.clone();
        (withheld["seq"], withheld["what"]) = (8.into(), "withheld".into());
        [&output, &withheld, &json!({ "seq": 9 })].into_iter().for_each(|header| take_decision(header, &mut trips));
        for header in [
            json!({ "event": "inlet", "name": "flash", "t_ns": 1, "t_recv_ns": 2 }),
            json!({ "event": "mark", "decision": 7, "t_ns": 1, "t_recv_ns": 2 }),
            json!({ "event": "inlet", "decision": 7, "t_ns": 5_000, "t_recv_ns": 6_000, "timestamp_ns": 5_000 }),
        ] {
            take_event(&header, &mut trips);
        }
        let decided = Decided { seq: 7, frame_ns: 500, decided_ns: 2_000, published_ns: 3_000, delay_ns: 1_000 };
        assert_eq!((trips.unanswered(), trips.strays, trips.done.len()), (0, 0, 1));
        assert_eq!((trips.done[0].decided, trips.done[0].pulse_ns), (decided, Some(5_000)));
    }
}
