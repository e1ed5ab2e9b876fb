//! The gate's counters, looked up once.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// Handles of the gate's metrics.
pub(crate) struct Metrics {
    /// `paifang_gate_sessions`: sessions, lost ones included.
    pub sessions: Gauge,
    /// `paifang_gate_frames_in_total`: frames from clients.
    pub frames_in: Counter,
    /// `paifang_gate_frames_out_total`: frames put into outboxes.
    pub frames_out: Counter,
    /// `paifang_gate_received_bytes_total`: bytes of frames from clients.
    pub received_bytes: Counter,
    /// `paifang_gate_sent_bytes_total`: bytes written to clients.
    pub sent_bytes: Counter,
    /// `paifang_gate_writes_total`: writes to clients.
    pub writes: Counter,
    /// `paifang_gate_frames_dropped_total`: Frame messages that a slow client did not get, or that a client sent too often.
    pub dropped: Counter,
    /// `paifang_gate_strikes_total`: violations by clients.
    pub strikes: Counter,
    /// `paifang_gate_ticks_gathered_total`: ticks that ended while one before was still being written.
    pub ticks_gathered: Counter,
    /// `paifang_gate_accepts_refused_total`: connections that were refused before their first byte.
    pub accepts_refused: Counter,
    /// `paifang_gate_accepts_total`: connections that were taken.
    pub accepts: Counter,
    /// `paifang_gate_publish_members`: members that a publish reached.
    pub fan_out: Histogram,
    /// `paifang_gate_backend_frames_refused_total`: frames of backends that make no sense.
    pub backend_refused: Counter,
}

impl Metrics {
    /// Looks them up.
    pub(crate) fn new() -> Self {
        Self {
            sessions: gauge!("paifang_gate_sessions"),
            frames_in: counter!("paifang_gate_frames_in_total"),
            frames_out: counter!("paifang_gate_frames_out_total"),
            received_bytes: counter!("paifang_gate_received_bytes_total"),
            sent_bytes: counter!("paifang_gate_sent_bytes_total"),
            writes: counter!("paifang_gate_writes_total"),
            dropped: counter!("paifang_gate_frames_dropped_total"),
            strikes: counter!("paifang_gate_strikes_total"),
            ticks_gathered: counter!("paifang_gate_ticks_gathered_total"),
            accepts_refused: counter!("paifang_gate_accepts_refused_total"),
            accepts: counter!("paifang_gate_accepts_total"),
            fan_out: histogram!("paifang_gate_publish_members"),
            backend_refused: counter!("paifang_gate_backend_frames_refused_total"),
        }
    }
}
