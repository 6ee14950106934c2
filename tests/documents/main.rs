//! What the documents say, held against the code: the commands of the README, the wire format, the rooms and who may use whom.

mod commands;
mod dependencies;
mod layers;
mod links;
mod protocol;
