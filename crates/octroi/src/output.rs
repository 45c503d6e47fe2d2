//! What the commands print.

use std::fmt;
use std::io::{self, Write as _};

/// Standard output is closed, as behind `octroi demo | head`: the command ends early, and that is no failure.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
pub(crate) struct Unread;

/// Prints text as it is, at once.
///
/// # Errors
/// [`Unread`]; otherwise the system's, such as a full disk behind standard output.
pub(crate) fn print(text: impl fmt::Display) -> anyhow::Result<()> {
    print_to(&mut io::stdout().lock(), &text)
}

/// Prints a line.
///
/// # Errors
/// As [`print`].
pub(crate) fn line(text: impl fmt::Display) -> anyhow::Result<()> {
    print(format_args!("{text}\n"))
}

fn print_to(out: &mut impl io::Write, text: &impl fmt::Display) -> anyhow::Result<()> {
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Unread.into()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to standard output")),
    }
}

/// Prints to standard error why a command failed; where that fails too, the exit code remains.
pub(crate) fn print_error(reason: &anyhow::Error) {
    let _ = writeln!(io::stderr(), "octroi: {reason:#}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_told_from_a_disk_that_is_full() {
        let (reader, mut writer) = io::pipe().unwrap();
        print_to(&mut writer, &"read").unwrap();
        drop(reader);
        let error = print_to(&mut writer, &"unread").unwrap_err();
        assert!(error.is::<Unread>(), "{error:#}");
        let error = print_to(&mut io::Cursor::new([0; 3]), &"too long").unwrap_err();
        assert!(!error.is::<Unread>(), "{error:#}");
    }
}
