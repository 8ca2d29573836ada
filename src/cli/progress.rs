//! What is said while an image comes: bars on a terminal, a line for each layer elsewhere.

use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::say;
use crate::image::{Event, Layer};

/// Times a second that bars change: more would only cost time.
const CHANGES: u8 = 10;
/// A bar of one layer, and the one of all.
const OF_LAYER: &str = "{prefix:>12} {bar:30} {bytes:>11} of {total_bytes:>11} {msg}";
const OF_ALL: &str = "{prefix:>12} {bar:30} {bytes:>11} of {total_bytes:>11} {bytes_per_sec}, {eta} left";

/// Shows one pull.
pub(super) struct Progress {
    /// The image.
    name: String,
    said: Said,
    layers: Vec<Coming>,
}

/// How progress is shown.
enum Said {
    /// Not at all.
    Quiet,
    /// A line when a layer is there.
    Lines,
    Bars {
        bars: MultiProgress,
        all: Option<ProgressBar>,
    },
}

/// One layer.
struct Coming {
    layer: Layer,
    /// Bytes that have come.
    bytes: u64,
    /// Shown from its first byte to its end.
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Bars when standard error is a terminal; nothing when `quiet`.
    pub(super) fn new(name: String, quiet: bool) -> Progress {
        let said = match quiet {
            true => Said::Quiet,
            false if std::io::stderr().is_terminal() => Said::Bars {
                bars: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(CHANGES)),
                all: None,
            },
            false => Said::Lines,
        };
        Progress {
            name,
            said,
            layers: Vec::new(),
        }
    }

    /// Shows what happened.
    pub(super) fn show(&mut self, event: &Event) {
        match event {
            Event::Resolved { layers, .. } => {
                let coming = |layer: &Layer| Coming {
                    layer: *layer,
                    bytes: 0,
                    bar: None,
                };
                self.layers = layers.iter().map(coming).collect();
            }
            Event::Progress { layer, bytes } => self.come(*layer, *bytes),
            Event::Done { layer, fetched } => self.done(*layer, *fetched),
        }
    }

    /// Takes the bars away.
    pub(super) fn end(self) {
        if let Said::Bars { bars, .. } = self.said {
            // A terminal that has gone shows nothing more.
            bars.clear().ok();
        }
    }

    fn come(&mut self, place: usize, bytes: u64) {
        let Some(coming) = self.layers.get_mut(place) else {
            return;
        };
        coming.bytes = bytes;
        if let Said::Bars { bars, .. } = &self.said {
            let bar = coming.bar.get_or_insert_with(|| {
                let bar = bar(coming.layer.size, OF_LAYER).with_prefix(coming.layer.digest.short());
                bars.insert(0, bar)
            });
            bar.set_position(bytes);
            if bytes == coming.layer.size {
                bar.set_message("unpacking");
            }
        }
        self.all();
    }

    fn done(&mut self, place: usize, fetched: bool) {
        let count = self.layers.len();
        let Some(coming) = self.layers.get_mut(place) else {
            return;
        };
        coming.bytes = coming.layer.size;
        if let Some(bar) = coming.bar.take() {
            bar.finish_and_clear();
        }
        match &self.said {
            Said::Lines if fetched => say(&format!(
                "{}: layer {} of {count}, {} bytes",
                self.name,
                place + 1,
                coming.layer.size
            )),
            _ => self.all(),
        }
    }

    /// The bar of all layers: those that were there count as come, once one had to be fetched.
    fn all(&mut self) {
        let Said::Bars { bars, all } = &mut self.said else {
            return;
        };
        let bytes = self.layers.iter().map(|coming| coming.bytes).sum();
        if all.is_none() && self.layers.iter().all(|coming| coming.bar.is_none()) {
            return;
        }
        let whole = self.layers.iter().map(|coming| coming.layer.size).sum();
        let all = all.get_or_insert_with(|| bars.add(bar(whole, OF_ALL).with_prefix("all layers")));
        all.set_position(bytes);
    }
}

fn bar(size: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::hidden()).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_templates_are_valid() {
        for template in [OF_LAYER, OF_ALL] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
