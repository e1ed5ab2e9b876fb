//! The start: reads back what the last run left.
//!
//! Closed segments that the index knows are trusted if their length is right; all others are read whole. In the newest segment a bad
//! record with nothing good after it is a torn tail, which a crash leaves: nothing of it was acknowledged, and it is cut off. A bad
//! record anywhere else is damage, and the process refuses to start: it would be silent about events that it had acknowledged.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use service::fs;

use crate::{
    catalog::SegmentFacts,
    producers::Producers,
    segment::{self, HEADER_BYTES, ReadError, Reader},
};

/// What is known of closed segments, so that a start does not read them all: `DATA/logsvc-1/index.json`. It can be deleted at any time.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Index {
    pub(crate) segments: Vec<SegmentFacts>,
    /// As of the end of the last of `segments`.
    pub(crate) producers: Producers,
}

/// What a start has to know.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// By rising number.
    pub(crate) segments: Vec<SegmentFacts>,
    pub(crate) producers: Producers,
}

impl Index {
    const FILE: &str = "index.json";

    /// Replaces the index in a process' folder.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn write(&self, process: &Path) -> std::io::Result<()> {
        let json = serde_json::to_vec(self).expect("the index has string keys only");
        fs::replace(&process.join(Self::FILE), &json, 0o640)
    }

    /// Reads it; one that is not there or can't be read costs only time.
    fn read(process: &Path) -> Self {
        let read = fs::read(&process.join(Self::FILE)).map_err(|err| (err.kind() != std::io::ErrorKind::NotFound, err.to_string()));
        let parsed = read.and_then(|json| serde_json::from_slice(&json).map_err(|err| (true, format!("parse {}: {err}", Self::FILE))));
        parsed.unwrap_or_else(|(worth_a_word, err)| {
            if worth_a_word {
                tracing::warn!("reading all segments: {err}");
            }
            Self::default()
        })
    }
}

/// Reads back a process' folder.
///
/// # Errors
/// When a segment is missing or damaged; the error names file, place and what to do.
pub(crate) fn recover(process: &Path) -> anyhow::Result<Recovered> {
    let folder = segment::folder(process);
    fs::make_folder(&folder)?;
    let numbers = segment::numbers(&folder)?;
    for pair in numbers.windows(2) {
        ensure!(pair[0] + 1 == pair[1], "{} is missing; put it back", segment::path(&folder, pair[0] + 1).display());
    }
    let index = Index::read(process);
    let mut recovered = Recovered { segments: Vec::new(), producers: index.producers };
    for &number in &numbers {
        let newest = Some(&number) == numbers.last();
        let facts = match index.segments.iter().find(|known| known.number == number) {
            Some(known) if !newest => Some(check_length(&folder, known)?),
            _ => read_segment(&folder, number, newest, &mut recovered.producers)
                .context("trust the segments; restore the file, or move it and all earlier ones away")?,
        };
        recovered.segments.extend(facts);
    }
    Ok(recovered)
}

fn check_length(folder: &Path, known: &SegmentFacts) -> anyhow::Result<SegmentFacts> {
    let length = length(folder, known.number)?;
    ensure!(
        length == known.bytes,
        "{} has {length} bytes and had {} when it was closed; put the whole file back",
        segment::path(folder, known.number).display(),
        known.bytes
    );
    Ok(known.clone())
}

fn length(folder: &Path, number: u32) -> anyhow::Result<u64> {
    let path = segment::path(folder, number);
    fs::open(&path)?.metadata().map(|facts| facts.len()).with_context(|| format!("ask for the length of {}", path.display()))
}

/// `None`: a crash left a segment without a header, which is removed.
fn read_segment(folder: &Path, number: u32, newest: bool, producers: &mut Producers) -> anyhow::Result<Option<SegmentFacts>> {
    let end = length(folder, number)?;
    if newest && end < HEADER_BYTES as u64 {
        let path = segment::path(folder, number);
        tracing::warn!(file = %path.display(), bytes = end, "removed a segment without a header");
        fs::remove(&path)?;
        return Ok(None);
    }
    let mut facts = SegmentFacts::new(number);
    let mut reader = Reader::open(folder, number, end)?;
    loop {
        match reader.next() {
            Ok(Some(batch)) => {
                facts.count(&batch.events);
                producers.read(&batch, number);
            }
            Ok(None) => break,
            Err(bad @ ReadError::Bad { .. }) if newest => {
                let (torn, rest) = (reader.offset(), reader.rest()?);
                // From its second byte: at its first there is no good record.
                if let Some(good) = segment::find_record(rest.get(1..).unwrap_or_default()) {
                    bail!("{bad}, and a good record follows at byte {}", torn + 1 + good as u64);
                }
                cut(folder, number, torn, end)?;
                facts.bytes = torn;
                return Ok(Some(facts));
            }
            Err(err) => return Err(err.into()),
        }
    }
    facts.bytes = reader.offset();
    Ok(Some(facts))
}

/// Cuts off a torn tail, durably.
fn cut(folder: &Path, number: u32, offset: u64, end: u64) -> anyhow::Result<()> {
    let path = segment::path(folder, number);
    tracing::warn!(file = %path.display(), offset, bytes = end - offset, "cut off a torn tail");
    let file = fs::append(&path)?;
    file.set_len(offset).and_then(|()| file.sync_all()).with_context(|| format!("cut {} at byte {offset}", path.display()))
}
