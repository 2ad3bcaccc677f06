//! Backends, agents and strangers that keep to nothing: what they send is written byte by byte, to the real binary.

mod answers;
mod crossed;
mod crowd;
mod descriptors;
mod floods;
mod frames;
mod heads;
mod library;
mod raw;
mod slow;
mod strangers;
mod streams;
