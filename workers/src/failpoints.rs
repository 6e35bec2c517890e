//! Trouble on request, for tests of what survives it: the variable [`VARIABLE`] names points of the code and what is to happen there.
//!
//! `intent-before-socket=abort@3` ends the process as a power cut would when it comes to that point for the third time; several are separated by `;`.
//! The points are always compiled in and do nothing unless the process was started with the variable, which live mode refuses.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail};

/// The variable of the environment.
pub const VARIABLE: &str = "FAILPOINTS";

/// Every point, in the order in which a payout passes them; those of batches and schedules stand apart.
pub const POINTS: [&str; 19] = [
    "fixed-before-intent",
    "before-intent",
    "intent-before-socket",
    HALF_WRITTEN,
    "answer-not-recorded",
    "recorded-not-acknowledged",
    "resend-before-socket",
    "notice-not-settled",
    "relay-before-post",
    "delivered-not-marked",
    "fanned-out-page",
    "batch-item-opened",
    "batch-page-not-recorded",
    "group-joined",
    "group-before-socket",
    "group-not-recorded",
    "group-rejoined",
    "schedule-not-opened",
    "schedule-opened",
];

/// In the midst of a request to a provider. The client has to halve the request for that, so nothing but an abort is possible there.
const HALF_WRITTEN: &str = "half-written";

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// The process ends at once.
    Abort,
    /// The handler panics.
    Panic,
    /// The process stands still until somebody sends it `SIGCONT`.
    Stop,
}

/// Arms the points of `text`, each once: `point=deed@pass`, where a deed is `abort`, `panic` or `stop`, and `@1` can be left out.
///
/// # Errors
/// A point, a deed or a number that there is not.
pub fn arm(text: &str) -> anyhow::Result<()> {
    for one in text.split(';').map(str::trim).filter(|one| !one.is_empty()) {
        let (point, deed, pass) = read(one).with_context(|| format!("{VARIABLE}: `{one}`"))?;
        let armed = if point == HALF_WRITTEN {
            fail::cfg(point, &format!("{}*off->1*return", pass - 1))
        } else {
            let passes = AtomicU64::new(0);
            fail::cfg_callback(point, move || {
                if passes.fetch_add(1, Ordering::Relaxed) + 1 == pass {
                    deed.happens(point);
                }
            })
        };
        armed.map_err(anyhow::Error::msg)?;
        tracing::warn!(point, ?deed, pass, "a failpoint is armed");
    }
    Ok(())
}

fn read(one: &str) -> anyhow::Result<(&'static str, Deed, u64)> {
    let (name, rest) = one.split_once('=').context("must be point=deed@pass")?;
    let (deed, pass) = rest.split_once('@').unwrap_or((rest, "1"));
    let point = POINTS.into_iter().find(|point| *point == name).with_context(|| format!("there is no point `{name}`, but {}", POINTS.join(", ")))?;
    let deed = match deed {
        "abort" => Deed::Abort,
        "panic" if point != HALF_WRITTEN => Deed::Panic,
        "stop" if point != HALF_WRITTEN => Deed::Stop,
        _ => bail!("`{deed}` cannot be done there"),
    };
    let pass = pass.parse().ok().filter(|pass| *pass > 0).with_context(|| format!("`{pass}` is not the number of a pass"))?;
    Ok((point, deed, pass))
}

impl Deed {
    fn happens(self, point: &str) {
        match self {
            Self::Abort => std::process::abort(),
            Self::Panic => panic!("the failpoint {point}"),
            Self::Stop => {
                // To this thread: after a signal to the process another thread may stop first, and this one come past the point meanwhile.
                let stopped = signal_hook::low_level::raise(signal_hook::consts::SIGSTOP);
                tracing::warn!(point, ?stopped, "going on after a failpoint");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failpoints_are_read_strictly() {
        assert_eq!(read("before-intent=abort").unwrap(), ("before-intent", Deed::Abort, 1));
        assert_eq!(read("relay-before-post=stop@12").unwrap(), ("relay-before-post", Deed::Stop, 12));
        assert_eq!(read("half-written=abort@2").unwrap(), ("half-written", Deed::Abort, 2));
        for wrong in
            ["before-intent", "before=abort", "before-intent=explode", "before-intent=abort@0", "before-intent=abort@x", "half-written=panic"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_point_acts_at_its_pass_and_at_no_other() {
        arm(" resend-before-socket=panic@2; ").unwrap();
        let pass = || std::panic::catch_unwind(|| fail::fail_point!("resend-before-socket"));
        assert_eq!([pass().is_ok(), pass().is_ok(), pass().is_ok()], [true, false, true]);
    }
}
