//! What an agent can put on the wire in HTTP/1.1, byte by byte, against the real binary, before a backend that keeps
//! exactly what reached it.

mod accepted;
mod fields;
mod framing;
mod http2;
mod malformed;
mod scene;
mod served;
mod upgrades;
