//! From what recovery found to a writer that goes on: the side files are opened, a log without a checkpoint gets its first,
//! one without a segment its first, and what was cut off is said in a record.

use super::LedgerError;
use super::encode::{Encoder, Particulars};
use super::flush::Flusher;
use super::line::Template;
use super::queue::Queue;
use super::recover::{Cut, Recovered};
use super::seal::{Newest, Sealer, Synced};
use super::storage::Storage;
use super::writer::{Bounds, Clock, Sealed, Tail, Writer};
use crate::config::LedgerSettings;
use crate::policy::time::Timestamp;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

impl Writer {
    /// Ready to run.
    pub(super) fn begin(
        recovered: Recovered,
        mut storage: Box<dyn Storage>,
        settings: &LedgerSettings,
        queue: Arc<Queue>,
        newest: Arc<Newest>,
        clock: Clock,
    ) -> Result<Writer, LedgerError> {
        let fault = |error: io::Error| LedgerError::io(&settings.directory, &error);
        let Recovered {
            end: log,
            name,
            file,
            bytes,
            since,
            cuts,
            mut roots,
            begins,
            seals,
            key,
        } = recovered;
        let now = clock();
        let encoder = Encoder {
            instance: storage.instance().into(),
            intent: settings.intent,
        };
        let sealed = seals.last.as_ref().map(|(last, _)| Sealed {
            size: last.size,
            // When it was made does not matter: one is due within a minute of the start.
            time: now,
        });
        if let Some((last, note)) = &seals.last {
            newest.show(note, last.size);
        }
        let last = seals.last.map(|(last, _)| last);
        let mut sealer = Sealer::new(key, storage.instance(), last, seals.bytes, newest);
        sealer.mend(storage.as_mut()).map_err(fault)?;
        if sealer.is_first() {
            // What there is was synced when its segment was opened, or long ago.
            let synced = Synced {
                size: log.size(),
                root: log.tree.root(),
                time: now,
            };
            sealer.seal(synced, None).map_err(fault)?;
        }
        for (name, begins) in &begins {
            roots.begin(name, begins, now).map_err(fault)?;
        }
        let mut tail = Tail::new(name, now);
        (tail.file, tail.bytes, tail.since) = (file, bytes, since);
        // Opening synced it.
        (tail.synced, tail.flushing) = (bytes, bytes);
        let mut writer = Writer {
            queue,
            storage,
            encoder,
            bounds: Bounds {
                bytes_max: settings.segment_bytes_max,
                age_max: settings.segment_age_max,
                retain: settings.retain,
            },
            sealed: sealed.unwrap_or(Sealed {
                size: log.size(),
                time: now,
            }),
            log,
            tail,
            roots,
            seen: now,
            clock,
            buffer: Vec::new(),
            kept: Vec::new(),
            flusher: Flusher::start().map_err(|error| LedgerError::Thread(error.to_string()))?,
            sealer: Arc::new(Mutex::new(sealer)),
            trimming: false,
            rolled: true,
        };
        if writer.tail.file.is_none() {
            let name = writer.tail.name.clone();
            writer.tail.file = Some(writer.begin_segment(&name).map_err(fault)?);
        }
        for cut in &cuts {
            let line = of_cut(&writer.encoder, cut, now);
            let io = |error| LedgerError::io(&settings.directory.join(&cut.name), &error);
            writer.put(std::iter::once(&line), true).map_err(io)?;
            writer.queue.records.fetch_add(1, Ordering::Relaxed);
        }
        Ok(writer)
    }
}

fn of_cut(encoder: &Encoder, cut: &Cut, now: Timestamp) -> Template {
    let detail = format!("{} bytes of a torn tail were cut off", cut.bytes);
    let particulars = Particulars {
        kept: Some((&cut.name, cut.kept)),
        cut: Some((cut.bytes, cut.sha256)),
        ..Particulars::default()
    };
    let version = env!("CARGO_PKG_VERSION");
    encoder.gate("recovered", version, &detail, &particulars, now)
}
