//! The agents' listener: threads that share nothing but the address. Each has its own runtime, its own listening socket
//! (the kernel spreads connections over them) and its own connections; a call is served whole on the thread that accepted it.
//!
//! Where it stands: the first step of the journey, **Accept**. It refuses to know what a call means.

use super::accept::{Acceptor, Stage};
use super::caps::Door;
use super::connection::{Link, OwnThread, Protocols, Unread};
use super::rooms::Rooms;
use super::watch::{Order, Registry};
use super::{connection, socket};
use crate::config::Listener;
use crate::gate::Peer;
use crate::io::tls;
use crate::ledger;
use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;
use hyper::{Request, Response};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio::task::spawn_local;

/// How long the last connections have to notice that they are cut.
const CUT_MAX: Duration = Duration::from_secs(2);

/// The agents' address, taken and not yet served.
#[derive(Debug)]
pub struct Bound {
    /// One hand for each thread.
    sockets: Vec<Vec<std::net::TcpListener>>,
    listener: Listener,
    /// With the port that was bound.
    pub address: SocketAddr,
}

/// The running data plane.
#[derive(Debug)]
pub struct DataPlane {
    /// The caps.
    pub door: Arc<Door>,
    threads: Vec<JoinHandle<()>>,
}

/// Takes the address, with a socket for each of `workers` threads.
///
/// # Errors
/// When it can't be had.
pub fn bind(listener: &Listener, workers: usize) -> io::Result<Bound> {
    let workers = workers.max(1);
    Bound::on(
        socket::bind_group(listener.address, workers)?,
        listener,
        workers,
    )
}

impl Bound {
    /// On sockets that listen already, however many: each of `workers` threads gets its share.
    ///
    /// # Errors
    /// When there is none, or the system gives no more descriptors.
    pub fn on(
        sockets: Vec<std::net::TcpListener>,
        listener: &Listener,
        workers: usize,
    ) -> io::Result<Self> {
        let first = sockets.first().ok_or(io::ErrorKind::NotConnected)?;
        Ok(Self {
            address: first.local_addr()?,
            sockets: socket::deal(sockets, workers.max(1))?,
            listener: listener.clone(),
        })
    }

    /// Starts the threads. `equip` runs once on each and gives what answers its calls, so that threads need not contend
    /// for one reference count; `tls` is spoken, if any; `unread` answers what is no HTTP/1.1; `on_refusal` counts connections
    /// over the caps.
    ///
    /// # Errors
    /// When a thread can't be started.
    pub fn serve<E, H, F, B>(
        self,
        stage: &watch::Receiver<Stage>,
        tls: Option<Arc<tls::server::Server>>,
        unread: Unread,
        on_refusal: impl Fn() + Send + Sync + 'static,
        equip: E,
    ) -> io::Result<DataPlane>
    where
        E: Fn() -> H + Send + Sync + 'static,
        H: Fn(Request<Incoming>, Peer) -> F + 'static,
        F: Future<Output = Response<B>> + 'static,
        B: Body<Data = Bytes> + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let door = Door::new(self.listener.caps, on_refusal);
        let equip = Arc::new(equip);
        let mut threads = Vec::with_capacity(self.sockets.len());
        for (number, sockets) in self.sockets.into_iter().enumerate() {
            let worker = Worker {
                sockets,
                door: Arc::clone(&door),
                registry: Registry::new(&self.listener.timeouts),
                stage: stage.clone(),
                protocols: Protocols::new(tls.clone(), Arc::clone(&unread)),
            };
            let equip = Arc::clone(&equip);
            threads.push(
                thread::Builder::new()
                    .name(format!("agents-{number}"))
                    .spawn(move || worker.run(&*equip))?,
            );
        }
        Ok(DataPlane { door, threads })
    }
}

impl DataPlane {
    /// Waits until every thread has finished its connections (see [`Stage`]). Blocks.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a data-plane thread panicked");
            }
        }
    }
}

struct Worker {
    sockets: Vec<std::net::TcpListener>,
    door: Arc<Door>,
    registry: Arc<Registry>,
    stage: watch::Receiver<Stage>,
    protocols: Protocols,
}

impl Worker {
    fn run<E, H, F, B>(self, equip: &E)
    where
        E: Fn() -> H,
        H: Fn(Request<Incoming>, Peer) -> F + 'static,
        F: Future<Output = Response<B>> + 'static,
        B: Body<Data = Bytes> + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        let result = runtime.and_then(|runtime| runtime.block_on(self.work(equip())));
        if let Err(error) = result {
            tracing::error!(%error, "a data-plane thread can't serve");
        }
    }

    async fn work<H, F, B>(self, handle: H) -> io::Result<()>
    where
        H: Fn(Request<Incoming>, Peer) -> F + 'static,
        F: Future<Output = Response<B>> + 'static,
        B: Body<Data = Bytes> + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Worker {
            sockets,
            door,
            registry,
            mut stage,
            protocols,
        } = self;
        let (handle, rooms) = (Rc::new(handle), Rooms::new());
        let protocols = Rc::new(protocols);
        let mut acceptor = Acceptor::new(sockets, door, Arc::clone(&registry))?;
        let serve = |link: Link| {
            let (handle, protocols) = (Rc::clone(&handle), Rc::clone(&protocols));
            let rooms = Arc::clone(&rooms);
            spawn_local(async move {
                connection::serve::<OwnThread, _, _, _>(link, &protocols, &rooms, &*handle).await;
            });
        };
        let sweeping = spawn_local({
            let registry = Arc::clone(&registry);
            async move { registry.sweeping().await }
        });
        let gathering = spawn_local(ledger::gathering());
        loop {
            tokio::select! {
                biased;
                changed = stage.changed() => match (changed, *stage.borrow_and_update()) {
                    (Ok(()), Stage::Serve) => {}
                    (Ok(()), Stage::Announce) => registry.announce(),
                    (Err(_), _) | (_, Stage::Finish | Stage::Cut) => break,
                },
                link = acceptor.next() => serve(link),
            }
        }
        // These came before the listener closed: each gets one answer, which says that it is the last.
        registry.announce();
        for link in acceptor.rest().await {
            serve(link);
        }
        registry.finish().await;
        tokio::select! {
            () = registry.empty() => {}
            _ = stage.wait_for(|stage| *stage == Stage::Cut) => {
                registry.tell_all(Order::Cut);
                let _ = tokio::time::timeout(CUT_MAX, registry.empty()).await;
            }
        }
        sweeping.abort();
        gathering.abort();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
