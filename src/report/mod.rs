//! What a run has to say: the record between its processes, the verdict and the receipt.

pub(crate) mod channel;
pub(crate) mod receipt;
pub(crate) mod record;
pub(crate) mod verdict;
