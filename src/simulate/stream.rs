//! The subjects of the simulation's random numbers: each has its own, so that a new one changes no other.

/// What a stream is for. The numbers are part of what a seed means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Stream {
    Species = 1,
    Balance = 2,
    BoutLength = 3,
    Bouts = 4,
    Course = 5,
    LimbLength = 10,
    Frequency = 11,
    Posture = 12,
    Style = 13,
    CameraPlace = 14,
    CameraNoise = 16,
    Movement = 17,
    Tracking = 18,
    Position = 20,
    Size = 21,
    Gain = 22,
    Mixing = 23,
    Missing = 24,
    Extra = 25,
    Lead = 26,
    Decay = 27,
    Spikes = 28,
    Private = 29,
    Rotation = 40,
    Shift = 41,
    Scale = 42,
    TrialPlace = 43,
    Brightness = 44,
    Expression = 45,
    Illumination = 46,
    Texture = 47,
    Detector = 48,
    Bleaching = 49,
    Motion = 50,
    Neuropil = 51,
    Shot = 52,
}

impl From<Stream> for u64 {
    fn from(stream: Stream) -> Self {
        stream as u64
    }
}
