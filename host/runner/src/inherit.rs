//! The stream that a parent left open for us.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

/// Standard streams, which a parent chooses.
#[cfg(target_os = "linux")]
const STANDARD: i32 = 3;

/// The Unix stream that the parent put in place of standard input.
///
/// Standard input is the one descriptor that a parent can hand down and a child can take up without
/// `unsafe` on either side: `Command::stdin(OwnedFd::from(stream))` there, this here.
///
/// Nothing else is open afterwards: see [`without_strays`].
///
/// # Errors
///
/// The system's error if standard input is closed, or `InvalidInput` if it is no Unix stream: then the program
/// was started by hand, which is the user's mistake.
pub fn inherited_stream() -> io::Result<UnixStream> {
    without_strays()?;
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    stream.local_addr().map_err(|error| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("standard input is not a stream from a node ({error}); nodes start this program themselves"),
        )
    })?;
    Ok(stream)
}

/// Goes on with no open descriptor but the standard streams and what this program has opened itself.
///
/// What the parent left open besides, because something in it did not mark its descriptors, would be a
/// guest's if it broke out. If there is any, the program executes itself once more without, and so must call
/// this before anything that should not happen twice.
///
/// # Errors
///
/// The system's error if descriptors cannot be listed, or the program not be executed.
pub fn without_strays() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if let Some(stray) = find_stray()? {
        // Something in the program itself opens it, before `main`: another round would not help.
        if std::env::args_os()
            .next()
            .is_some_and(|name| name == SECOND_ROUND)
        {
            let what = std::fs::read_link(format!("/proc/self/fd/{stray}")).unwrap_or_default();
            return Err(io::Error::other(format!(
                "descriptor {stray} ({}) is open and not closed on exec; a preloaded library may have opened it",
                what.display()
            )));
        }
        return Err(execute_without_strays());
    }
    Ok(())
}

/// The name under which a program is executed once more; an environment it must not have.
#[cfg(target_os = "linux")]
const SECOND_ROUND: &str = "hearth-without-strays";

/// A descriptor beyond the standard streams that outlives an `exec`, as only inherited ones do here.
#[cfg(target_os = "linux")]
fn find_stray() -> io::Result<Option<i32>> {
    for entry in std::fs::read_dir("/proc/self/fdinfo")? {
        let entry = entry?;
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(number) = number.filter(|number: &i32| *number >= STANDARD) else {
            continue;
        };
        let info = std::fs::read_to_string(entry.path())?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
        if flags.is_none_or(|flags| flags & libc::O_CLOEXEC == 0) {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

/// Closing what nobody here owns takes `unsafe`; marking it and letting `exec` close it does not. Comes
/// back only with an error.
#[cfg(target_os = "linux")]
fn execute_without_strays() -> io::Error {
    use std::os::unix::process::CommandExt;
    close_fds::set_fds_cloexec(STANDARD, &[]);
    let mut again = std::process::Command::new("/proc/self/exe");
    again
        .arg0(SECOND_ROUND)
        .args(std::env::args_os().skip(1))
        .exec()
}
