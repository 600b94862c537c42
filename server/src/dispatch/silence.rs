//! How long to wait for a worker that says nothing.
//!
//! Workers send nothing while they compute, and nothing while a task waits for a slot. So silence
//! alone proves little: at the end of the first timeout the worker is pinged. One that answers, and
//! whose counts have moved since a ping half-way, is at work on something and gets more time. One
//! that answers but stands still gets `stall_timeout`; one that does not answer gets none.

use std::time::{Duration, Instant};

use arrow_flight::Action;
use arrow_flight::flight_service_client::FlightServiceClient;
use bytes::Bytes;
use skyflight_proto::wire::ACTION_PING;
use skyflight_proto::{Message, WorkerStatus};
use tonic::transport::Channel;

use super::config::DispatchConfig;

/// One wait for one message.
pub(super) struct Silence<'a> {
    config: &'a DispatchConfig,
    begun: Instant,
    /// When the worker was last known to move.
    moved: Instant,
    pulse: Option<WorkerStatus>,
}

impl<'a> Silence<'a> {
    pub(super) fn new(config: &'a DispatchConfig) -> Self {
        let now = Instant::now();
        Silence { config, begun: now, moved: now, pulse: None }
    }

    /// How long to listen before the next [`Silence::judge`].
    pub(super) fn step(&self) -> Duration {
        (self.config.silence_timeout / 2).max(Duration::from_millis(1))
    }

    /// To be called when nothing has come for another step; an error says that the worker failed.
    pub(super) async fn judge(&mut self, client: &mut FlightServiceClient<Channel>) -> Result<(), String> {
        let patience = self.config.connect_timeout.min(self.step());
        let pulse = tokio::time::timeout(patience, ping(client)).await.ok().flatten();
        let before = self.pulse.take();
        self.pulse = pulse;
        if let (Some(before), Some(pulse)) = (&before, &self.pulse)
            && (before.chunks_done, before.rows_sent) != (pulse.chunks_done, pulse.rows_sent)
        {
            self.moved = Instant::now();
        }
        let still = self.moved.elapsed();
        let limit = match &self.pulse {
            Some(pulse) if pulse.running_tasks > 0 => self.config.stall_timeout,
            _ => self.config.silence_timeout,
        };
        if still < limit.mul_f32(0.99) {
            return Ok(());
        }
        let answers = if self.pulse.is_some() { "it answers pings" } else { "it does not answer pings" };
        Err(format!("sent nothing for {:.1} s ({answers})", self.begun.elapsed().as_secs_f32()))
    }
}

/// What the worker says it is doing; `None` where it says nothing.
pub(super) async fn ping(client: &mut FlightServiceClient<Channel>) -> Option<WorkerStatus> {
    let action = Action { r#type: ACTION_PING.to_owned(), body: Bytes::new() };
    let mut answer = client.do_action(action).await.ok()?.into_inner();
    let result = answer.message().await.ok()??;
    WorkerStatus::decode(result.body).ok()
}
