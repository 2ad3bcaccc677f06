//! The backend behind every proxy of the side-by-side run, and the clients that wrk and h2load are not.
//!
//! `load backend|rate|idle|mint|streams --NAME VALUE ...`; each prints one line of JSON. `benches/peers/run` starts them.

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "a load generator reads the clock"
)]

mod backend;
mod clients;
mod http;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::str::FromStr;

/// Whatever goes wrong ends the program with its words.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// `--name value` pairs.
struct Options(HashMap<String, String>);

impl Options {
    fn read(words: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut found = HashMap::new();
        let mut words = words;
        while let Some(word) = words.next() {
            let name = word
                .strip_prefix("--")
                .ok_or(format!("{word}: options are --NAME VALUE"))?;
            found.insert(
                name.to_owned(),
                words.next().ok_or(format!("--{name} has no value"))?,
            );
        }
        Ok(Self(found))
    }

    fn text(&self, name: &str) -> Outcome<&str> {
        Ok(self.0.get(name).ok_or(format!("--{name} is missing"))?)
    }

    fn number<T: FromStr>(&self, name: &str, otherwise: T) -> Outcome<T>
    where
        T::Err: std::error::Error + 'static,
    {
        self.0
            .get(name)
            .map_or(Ok(otherwise), |text| Ok(text.parse()?))
    }

    fn address(&self, name: &str) -> Outcome<SocketAddr> {
        Ok(self.text(name)?.parse()?)
    }

    /// One token a line.
    fn tokens(&self) -> Outcome<Vec<String>> {
        let text = std::fs::read_to_string(self.text("tokens")?)?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

fn main() -> Outcome {
    let mut words = std::env::args().skip(1);
    let what = words.next().unwrap_or_default();
    let options = Options::read(words)?;
    match what.as_str() {
        "backend" => backend::serve(&options),
        "rate" => clients::rate(&options),
        "idle" => clients::idle(&options),
        "mint" => clients::mint(&options),
        "streams" => clients::streams(&options),
        _ => Err("load backend|rate|idle|mint|streams --NAME VALUE ...".into()),
    }
}
