//! One HTTP/1.1 connection: one exchange at a time.

use super::dial::DialFault;
use super::sockets::Ticket;
use super::strict::{Asked, HEAD_BYTES_MAX};
use super::wire::{Socket, Tally, Wire};
use super::{Answer, ExchangeFault, Interim, Outgoing, Unanswered};
use http::header::UPGRADE;
use http::{Method, Request, Response};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::task::AbortHandle;

/// An open connection and the task that drives it.
pub(super) struct Connection {
    place: u32,
    sender: SendRequest<Outgoing>,
    task: AbortHandle,
    tally: Arc<Tally>,
}

/// Largest chunk read or written at once, in bytes. What a stream costs in memory.
const BUFFER_BYTES_MAX: usize = HEAD_BYTES_MAX;

impl Connection {
    pub(super) async fn open(
        place: u32,
        socket: Socket,
        ticket: Ticket,
    ) -> Result<Self, DialFault> {
        let (wire, tally) = Wire::http1(socket, ticket);
        let (sender, driver) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(BUFFER_BYTES_MAX)
            .handshake::<_, Outgoing>(TokioIo::new(wire))
            .await
            .map_err(|_| DialFault::Unreachable)?;
        let task = tokio::spawn(async move {
            // Whoever waits for an answer or a body is told by hyper; this is for the one who reads the log.
            if let Err(error) = driver.with_upgrades().await {
                tracing::debug!(%error, "a connection to a backend ended");
            }
        });
        Ok(Self {
            place,
            sender,
            task: task.abort_handle(),
            tally,
        })
    }

    pub(super) fn place(&self) -> u32 {
        self.place
    }

    /// Open, idle on both sides, and with nothing unasked for in its buffer: hyper asks for the next request only then.
    pub(super) fn is_fit(&self) -> bool {
        self.sender.is_ready() && !self.tally.is_write_broken()
    }

    /// The task whose abortion closes the connection.
    pub(super) fn task(&self) -> &AbortHandle {
        &self.task
    }

    pub(super) fn close(&self) {
        self.task.abort();
    }

    pub(super) async fn exchange(
        &mut self,
        mut request: Request<Outgoing>,
        interim: Option<Interim>,
    ) -> Result<Response<Answer>, Unanswered> {
        if let Some(interim) = interim {
            hyper::ext::on_informational(&mut request, move |answer| {
                interim(answer.status(), answer.headers());
            });
        }
        self.tally.ask(if *request.method() == Method::HEAD {
            Asked::Head
        } else if request.headers().contains_key(UPGRADE) {
            Asked::Switch
        } else {
            Asked::Answer
        });
        let before = self.tally.received();
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok(response.map(Answer::Http1)),
            Err(mut error) => Err(match error.take_message() {
                Some(request) => Unanswered::Unsent(request.into_body()),
                None => {
                    let fault = ExchangeFault::of(&error.into_error());
                    if self.tally.received() == before {
                        Unanswered::Silent(fault)
                    } else {
                        Unanswered::Broken(fault)
                    }
                }
            }),
        }
    }
}
