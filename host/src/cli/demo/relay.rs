//! A relay between volunteers and the coordinator that can be cut: the network of the demo.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::cli::exit::{Context, Failure, Kind};

/// A relay on a loopback port. Dropping it closes everything.
pub(super) struct Relay {
    address: SocketAddr,
    to: watch::Sender<Option<SocketAddr>>,
    cut: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Relay {
    /// Listens on a free port. Connections wait until [`Relay::forward`] says where to pass them.
    pub(super) async fn start() -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .context(Kind::Failed, "listening for the relay")?;
        let address = listener
            .local_addr()
            .context(Kind::Failed, "listening for the relay")?;
        let (cut, is_cut) = watch::channel(false);
        let (to, target) = watch::channel(None);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(stream, target.clone(), is_cut.clone()));
            }
        });
        Ok(Self {
            address,
            to,
            cut,
            task,
        })
    }

    /// Says where connections are passed on to.
    pub(super) fn forward(&self, to: SocketAddr) {
        self.to.send_replace(Some(to));
    }

    /// Where volunteers connect.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts the network: nothing passes any more, and nobody is told.
    pub(super) fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Mends the network: new connections pass again.
    pub(super) fn mend(&self) {
        self.cut.send_replace(false);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Passes bytes both ways until an end closes. From a cut on, bytes vanish while both ends stay
/// open, as with a pulled cable.
async fn pass(
    near: TcpStream,
    mut target: watch::Receiver<Option<SocketAddr>>,
    is_cut: watch::Receiver<bool>,
) {
    let to = match target.wait_for(Option::is_some).await {
        Ok(to) => *to,
        Err(_) => return,
    };
    let Some(to) = to else { return };
    let Ok(far) = TcpStream::connect(to).await else {
        return;
    };
    let _ = near.set_nodelay(true).and_then(|()| far.set_nodelay(true));
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let mut up = std::pin::pin!(one_way(near_read, far_write, is_cut.clone()));
    let mut down = std::pin::pin!(one_way(far_read, near_write, is_cut));
    tokio::select! {
        () = &mut up => {}
        () = &mut down => {}
    }
}

async fn one_way(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    is_cut: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 << 10];
    // A connection that was cut never passes anything again, even after the network is mended.
    let mut cut = *is_cut.borrow();
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 {
            return;
        }
        cut |= *is_cut.borrow();
        if !cut && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
