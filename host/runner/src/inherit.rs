//! The stream that a parent left open for us.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

/// The Unix stream that the parent put in place of standard input.
///
/// Standard input is the one descriptor that a parent can hand down and a child can take up without
/// `unsafe` on either side: `Command::stdin(OwnedFd::from(stream))` there, this here.
///
/// # Errors
///
/// The system's error if standard input is closed, or `InvalidInput` if it is no Unix stream: then the program
/// was started by hand, which is the user's mistake.
pub fn inherited_stream() -> io::Result<UnixStream> {
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    stream.local_addr().map_err(|error| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("standard input is not a stream from a node ({error}); nodes start this program themselves"),
        )
    })?;
    Ok(stream)
}
