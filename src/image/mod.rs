//! Images: references, the registry client, the store and unpacking. Knows nothing of sandboxes.

mod accounts;
mod ahead;
mod beneath;
mod child;
mod config;
mod describe;
mod digest;
mod export;
mod flatten;
#[cfg(any(fuzzing, test))]
pub mod fuzz;
mod import;
mod layer;
mod layers;
mod local;
mod manifest;
mod merged;
mod origin;
mod platform;
mod pull;
mod reference;
mod registries;
mod registry;
mod source;
mod store;
mod stream;
mod unpack;

use serde::{Deserialize, Serialize};

pub use self::accounts::{Accounts, Group, User};
pub use self::child::{
    export_in_child, import_in_child, look_into_in_child, pull_in_child, resolve_in_child, sweep_in_child,
    verify_in_child,
};
pub use self::config::ImageConfig;
pub use self::describe::{Resolved, ResolvedImage};
pub use self::digest::{Digest, DigestError};
pub use self::export::{Export, Exported};
pub(crate) use self::flatten::{Renumber, flatten};
pub use self::import::Import;
pub use self::local::LocalError;
pub use self::origin::OriginError;
pub use self::platform::Platform;
pub use self::pull::{Event, PullError, Report, Request};
pub use self::reference::{Reference, ReferenceError};
pub use self::registries::{Address, AddressError, Registries, Registry};
pub use self::registry::{CredentialError, Credentials, RegistryError};
pub use self::source::{Source, SourceError};
pub use self::store::{Damage, Held, Inventory, Lease, Lost, Ownership, Policy, Store, StoreError, Swept};

/// An image of the store, as far as a plan may know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Image {
    /// The reference by which it was found, in full.
    pub reference: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// What it runs on.
    pub platform: Platform,
    /// Its six settings.
    pub config: ImageConfig,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// Its users and groups.
    pub accounts: Accounts,
}

/// A layer of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Layer {
    /// The digest of its compressed form.
    pub digest: Digest,
    /// The digest of its archive, unpacked: its name in the store.
    pub diff_id: Digest,
    /// Bytes of its compressed form.
    pub size: u64,
}

/// A text of an image, a registry or a user that may be shown on a terminal: escaped, and cut after `most` characters.
pub(crate) fn printable(text: &str, most: usize) -> String {
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == most {
            shown.push('…');
            break;
        }
        // Backslashes and quotes stay as they are; only what a terminal would act upon is escaped.
        match character {
            c if c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}'..='\u{200f}') =>
            {
                shown.extend(c.escape_unicode());
            }
            c => shown.push(c),
        }
    }
    shown
}
