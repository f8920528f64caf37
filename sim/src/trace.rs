//! What happened, in order: a hash over everything, and the lines that a person wants to read.

/// The trace of a run.
#[derive(Clone, Debug)]
pub struct Trace {
    hasher: blake3::Hasher,
    events: u64,
    lines: Vec<String>,
    keep: bool,
}

impl Trace {
    /// An empty trace; with `keep` it keeps the lines and not only their hash.
    pub fn new(keep: bool) -> Self {
        Self {
            hasher: blake3::Hasher::new(),
            events: 0,
            lines: Vec::new(),
            keep,
        }
    }

    /// Something happened at a time.
    pub fn note(&mut self, at_ms: u64, what: &str) {
        self.events += 1;
        self.hasher.update(&at_ms.to_le_bytes());
        self.hasher.update(what.as_bytes());
        self.hasher.update(&[0]);
        if self.keep {
            self.lines
                .push(format!("{:>9.3} s  {what}", at_ms as f64 / 1000.0));
        }
    }

    /// Bytes went from one node to another.
    pub fn frame(&mut self, at_ms: u64, from: usize, to: usize, bytes: &[u8]) {
        self.events += 1;
        self.hasher.update(&at_ms.to_le_bytes());
        self.hasher.update(&[from as u8, to as u8]);
        self.hasher.update(blake3::hash(bytes).as_bytes());
    }

    /// Something that nobody wants to read, but that must be the same when the run is repeated.
    pub fn fact(&mut self, at_ms: u64, bytes: &[u8]) {
        self.hasher.update(&at_ms.to_le_bytes());
        self.hasher.update(blake3::hash(bytes).as_bytes());
    }

    /// How many events there were.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The hash of all of them: equal for two runs of one seed.
    pub fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    /// The kept lines.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}
