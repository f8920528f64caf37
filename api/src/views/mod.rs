//! What people and programs see: one file a noun. Plain JSON: ids are hexadecimal text, times are
//! milliseconds since 1970, numbers that a JavaScript reader could not hold are text.
//!
//! The server makes these of a `Cloud` and of what is live; the client reads the same types back.

pub mod accounts;
pub mod acts;
pub mod agents;
pub mod builds;
pub mod commands;
pub mod credits;
pub mod domains;
pub mod events;
pub mod instances;
pub mod keys;
pub mod ledger;
pub mod nodes;
pub mod ops;
pub mod status;
pub mod uploads;

use ::ledger::command::instances::Shape;
use ::ledger::id::AccountId;
use projections::cloud::{Cloud, Position};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Items of one page, at most.
pub const PAGE_MAX: usize = 1000;

/// Items of a page when nobody says.
pub const PAGE_DEFAULT: usize = 100;

/// How much of the log an answer has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PositionView {
    /// Ops folded.
    pub ops: u64,
    /// The greatest clock among them: milliseconds since 1970, a dot, a counter.
    pub hlc: String,
    /// Its milliseconds.
    pub at_ms: u64,
}

impl From<Position> for PositionView {
    fn from(position: Position) -> Self {
        Self {
            ops: position.ops,
            hlc: position.hlc.to_string(),
            at_ms: position.hlc.ms(),
        }
    }
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items, in the order of their ids unless the list says otherwise.
    pub items: Vec<T>,
    /// Ask for the next part with this as `after`; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// What the list was read at.
    pub position: PositionView,
}

/// One thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct One<T> {
    /// The thing.
    pub item: T,
    /// What it was read at.
    pub position: PositionView,
}

/// Credits, in the smallest unit: a number that fits into 64 bits, as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Credits(#[serde(with = "text")] pub u64);

impl std::fmt::Display for Credits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The machine that an instance wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShapeView {
    /// Virtual processors.
    pub vcpus: u8,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Writable disk in GiB.
    pub disk_gib: u16,
}

impl From<Shape> for ShapeView {
    fn from(shape: Shape) -> Self {
        Self {
            vcpus: shape.vcpus,
            memory_mib: shape.memory_mib,
            disk_gib: shape.disk_gib,
        }
    }
}

/// What people call an account.
pub(crate) fn account_name(cloud: &Cloud, id: AccountId) -> Option<String> {
    cloud.accounts.get(&id).map(|account| account.name.clone())
}

/// Values that travel as their text.
pub(crate) mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// A 64-bit value that is no quantity: sixteen hexadecimal digits.
pub(crate) fn hex64(value: u64) -> String {
    format!("{value:016x}")
}
