//! What may be rehearsed: how a daemon speaks when something is wrong.

/// What is rehearsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// Everything as it should be.
    Ok,
    /// Decoding takes longer than the deadline.
    Late,
    /// Frames had waited for longer than the deadline when they came.
    Stale,
    /// No frame comes.
    Silent,
    /// The correlation peak is too low to be believed.
    Degraded,
    /// Another model takes over.
    Swapped,
    /// The animal is unlike those of training.
    Novel,
    /// A stage fails and the daemon ends.
    Faulty,
    /// The daemon is killed and started again.
    Restarted,
}

impl Scene {
    /// All of them, in the order in which they are played.
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::Late,
        Self::Stale,
        Self::Silent,
        Self::Degraded,
        Self::Swapped,
        Self::Novel,
        Self::Faulty,
        Self::Restarted,
    ];

    /// Novelty of an animal unlike all of training.
    pub const STRANGE: f32 = 0.999;
    /// In a scene of a restart, this part of it is silence, and as much is the warm-up after it.
    pub const RESTART_PARTS: u32 = 3;

    /// The scene of this word.
    pub fn of_name(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scene| scene.name() == word)
    }

    /// The word in headers and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Late => "late",
            Self::Stale => "stale",
            Self::Silent => "silent",
            Self::Degraded => "degraded",
            Self::Swapped => "swapped",
            Self::Novel => "novel",
            Self::Faulty => "faulty",
            Self::Restarted => "restarted",
        }
    }

    /// What a controller must do.
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Ok => "acts on actions, gives the outputs of decisions",
            Self::Late | Self::Stale => "does the neutral action, ends every output at once",
            Self::Silent => "does the neutral action, ends every output at once, and again after the last heartbeat",
            Self::Degraded => "acts or not, as its author decided",
            Self::Swapped => "goes on with the actions of another model",
            Self::Novel => "goes on, unless its author looks at the novelty",
            Self::Faulty => "does the neutral action, ends every output, and stays so while nothing is heard",
            Self::Restarted => {
                "does the neutral action during silence and warm-up, and follows numbers that begin anew"
            }
        }
    }
}
