//! The agents' listener: threads that share nothing but the address. Each has its own runtime, its own listening socket
//! (the kernel spreads connections over them) and its own connections; a call is served whole on the thread that accepted it.
//!
//! Where it stands: the first step of the journey, **Accept**. It refuses to know what a call means.

use super::accept::{Acceptor, Stage};
use super::caps::Door;
use super::connection::{Link, OwnThread, Protocols};
use super::rooms::Rooms;
use super::watch::{Order, Registry};
use super::{connection, socket};
use crate::config::Listener;
use crate::gate::Peer;
use crate::io::tls;
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
    /// for one reference count; `tls` is spoken, if any; `on_refusal` counts connections over the caps.
    ///
    /// # Errors
    /// When a thread can't be started.
    pub fn serve<E, H, F, B>(
        self,
        stage: &watch::Receiver<Stage>,
        tls: Option<Arc<tls::server::Server>>,
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
                protocols: Protocols::new(tls.clone()),
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
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Caps, Timeouts};
    use crate::serve::watch::SWEEP_EVERY;
    use http_body_util::{BodyExt as _, Full};
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    /// Longest a test waits for what must come.
    const PATIENCE: Duration = Duration::from_secs(20);

    struct Scene {
        address: SocketAddr,
        stage: watch::Sender<Stage>,
        plane: DataPlane,
        refused: Arc<AtomicU32>,
        /// Calls to `/held` wait for as many permits.
        permits: Arc<tokio::sync::Semaphore>,
        /// One for each call to `/held` that has begun.
        held: mpsc::Receiver<()>,
    }

    fn scene(timeouts: Timeouts, caps: Caps) -> Scene {
        let listener = Listener {
            address: "127.0.0.1:0".parse().unwrap(),
            trusted_proxies: Vec::new(),
            timeouts,
            caps,
            tls: None,
        };
        let bound = bind(&listener, 2).unwrap();
        let address = bound.address;
        let (stage, stages) = watch::channel(Stage::Serve);
        let (refused, permits) = (
            Arc::new(AtomicU32::new(0)),
            Arc::new(tokio::sync::Semaphore::new(0)),
        );
        let (begun, held) = mpsc::channel();
        let counted = Arc::clone(&refused);
        let gate = Arc::clone(&permits);
        let plane = bound
            .serve(
                &stages,
                None,
                move || {
                    counted.fetch_add(1, Ordering::SeqCst);
                },
                move || {
                    let (gate, begun) = (Arc::clone(&gate), begun.clone());
                    move |request, _| answer(request, Arc::clone(&gate), begun.clone())
                },
            )
            .unwrap();
        Scene {
            address,
            stage,
            plane,
            refused,
            permits,
            held,
        }
    }

    async fn answer(
        request: Request<Incoming>,
        permits: Arc<tokio::sync::Semaphore>,
        begun: mpsc::Sender<()>,
    ) -> Response<Full<Bytes>> {
        match request.uri().path() {
            "/panic" => panic!("a fault of this test's handler"),
            "/held" => {
                begun.send(()).unwrap();
                permits.acquire().await.unwrap().forget();
            }
            "/read" => {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                return Response::new(Full::new(body));
            }
            _ => {}
        }
        Response::new(Full::new(Bytes::from_static(b"done")))
    }

    fn patient() -> Timeouts {
        Timeouts {
            tls: PATIENCE,
            head: PATIENCE,
            body_idle: PATIENCE,
            idle: PATIENCE,
        }
    }

    fn roomy() -> Caps {
        Caps {
            connections: 100,
            per_address: 100,
        }
    }

    fn connect(scene: &Scene) -> TcpStream {
        let stream = TcpStream::connect(scene.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn send(stream: &mut TcpStream, text: &str) {
        stream.write_all(text.as_bytes()).unwrap();
    }

    /// Until the gate closes. A reset fails the test.
    fn rest(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// Until `end` stands at the end of what came.
    fn until(stream: &mut TcpStream, end: &str) -> String {
        let mut text = String::new();
        let mut byte = [0];
        while !text.ends_with(end) {
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "closed after {text:?}");
            text.push(char::from(byte[0]));
        }
        text
    }

    fn finish(scene: Scene) {
        scene.stage.send_replace(Stage::Cut);
        scene.plane.join();
    }

    const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    #[test]
    fn calls_follow_each_other_on_one_connection() {
        let scene = scene(patient(), roomy());
        let mut stream = connect(&scene);
        for _ in 0..3 {
            send(&mut stream, GET);
            assert!(until(&mut stream, "done").starts_with("HTTP/1.1 200 OK\r\n"));
        }
        drop(stream);
        finish(scene);
    }

    #[test]
    fn a_panic_is_answered_with_500_and_takes_nothing_else_down() {
        let scene = scene(patient(), roomy());
        let mut other = connect(&scene);
        send(&mut other, GET);
        until(&mut other, "done");
        for _ in 0..4 {
            let mut stream = connect(&scene);
            send(&mut stream, "GET /panic HTTP/1.1\r\nhost: a\r\n\r\n");
            let answer = rest(&mut stream);
            assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
            assert!(answer.contains("application/problem+json"), "{answer}");
        }
        send(&mut other, GET);
        until(&mut other, "done");
        finish(scene);
    }

    #[test]
    fn a_head_that_does_not_end_is_answered_with_408_and_cut() {
        let mut timeouts = patient();
        timeouts.head = SWEEP_EVERY;
        let scene = scene(timeouts, roomy());
        let (mut silent, mut slow) = (connect(&scene), connect(&scene));
        send(&mut slow, "GET / HTTP/1.1\r\nhost:");
        for stream in [&mut silent, &mut slow] {
            let answer = rest(stream);
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("content-length: {}", body.len())));
            assert!(body.contains("\"reason\":\"request_malformed\""));
        }
        finish(scene);
    }

    #[test]
    fn a_second_head_is_timed_too_and_an_idle_connection_is_closed_in_silence() {
        let mut timeouts = patient();
        timeouts.head = SWEEP_EVERY;
        timeouts.idle = SWEEP_EVERY * 2;
        let scene = scene(timeouts, roomy());
        let (mut idle, mut slow) = (connect(&scene), connect(&scene));
        for stream in [&mut idle, &mut slow] {
            send(stream, GET);
            until(stream, "done");
        }
        send(&mut slow, "GET / HTTP/1.1\r\n");
        assert!(rest(&mut slow).starts_with("HTTP/1.1 408 "));
        // Closed or reset: nothing was under way.
        let mut nothing = Vec::new();
        let _ = idle.read_to_end(&mut nothing);
        assert!(nothing.is_empty());
        finish(scene);
    }

    #[test]
    fn a_call_in_progress_outlives_head_and_idle_timeouts() {
        let mut timeouts = patient();
        timeouts.head = SWEEP_EVERY;
        timeouts.idle = SWEEP_EVERY;
        let scene = scene(timeouts, roomy());
        let (mut held, mut idle) = (connect(&scene), connect(&scene));
        send(&mut held, "GET /held HTTP/1.1\r\nhost: a\r\n\r\n");
        send(&mut idle, GET);
        until(&mut idle, "done");
        let _ = idle.read_to_end(&mut Vec::new());
        // By now a connection that idled was cut; the held call was there before it.
        scene.permits.add_permits(1);
        until(&mut held, "done");
        finish(scene);
    }

    #[test]
    fn what_hyper_can_t_parse_is_answered_and_closed() {
        let scene = scene(patient(), roomy());
        let (target, field) = ("x".repeat(70 * 1024), "x".repeat(100 * 1024));
        let cases = [
            ("nonsense\r\n\r\n".to_owned(), "400"),
            ("GET / HTTP/1.1\r\nbad header\r\n\r\n".to_owned(), "400"),
            (
                "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"
                    .to_owned(),
                "400",
            ),
            (
                format!("GET / HTTP/1.1\r\nhost: a\r\nlong: {field}\r\n\r\n"),
                "431",
            ),
            (format!("GET /{target} HTTP/1.1\r\nhost: a\r\n\r\n"), "414"),
        ];
        for (request, status) in cases {
            let mut stream = connect(&scene);
            send(&mut stream, &request);
            let answer = rest(&mut stream);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{status}: {answer}"
            );
        }
        finish(scene);
    }

    #[test]
    fn an_answer_given_before_the_body_was_read_reaches_the_agent() {
        let scene = scene(patient(), roomy());
        for _ in 0..8 {
            let mut stream = connect(&scene);
            let body = 512 * 1024;
            send(
                &mut stream,
                &format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {body}\r\n\r\n"),
            );
            send(&mut stream, &"x".repeat(body));
            assert!(rest(&mut stream).ends_with("done"));
        }
        finish(scene);
    }

    #[test]
    fn connections_over_the_cap_are_closed_and_counted() {
        let scene = scene(
            patient(),
            Caps {
                connections: 100,
                per_address: 1,
            },
        );
        let mut first = connect(&scene);
        send(&mut first, GET);
        until(&mut first, "done");
        let mut second = connect(&scene);
        let mut nothing = Vec::new();
        let _ = second.read_to_end(&mut nothing);
        assert!(nothing.is_empty());
        assert_eq!(scene.refused.load(Ordering::SeqCst), 1);
        send(&mut first, GET);
        until(&mut first, "done");
        finish(scene);
    }

    #[test]
    fn a_drain_finishes_calls_in_flight_closes_idle_connections_and_takes_no_more() {
        let scene = scene(patient(), roomy());
        let (mut idle, mut held) = (connect(&scene), connect(&scene));
        send(&mut idle, GET);
        until(&mut idle, "done");
        send(&mut held, "GET /held HTTP/1.1\r\nhost: a\r\n\r\n");
        scene.held.recv_timeout(PATIENCE).unwrap();
        scene.stage.send_replace(Stage::Finish);
        assert_eq!(rest(&mut idle), "");
        while TcpStream::connect(scene.address).is_ok() {
            thread::yield_now();
        }
        scene.permits.add_permits(1);
        let answer = rest(&mut held);
        assert!(answer.ends_with("done"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        scene.plane.join();
    }

    #[test]
    fn a_cut_ends_what_does_not_finish() {
        let scene = scene(patient(), roomy());
        let mut held = connect(&scene);
        send(&mut held, "GET /held HTTP/1.1\r\nhost: a\r\n\r\n");
        scene.held.recv_timeout(PATIENCE).unwrap();
        scene.stage.send_replace(Stage::Finish);
        scene.stage.send_replace(Stage::Cut);
        scene.plane.join();
        let _ = held.read_to_end(&mut Vec::new());
    }
}
