//! Tickets: altered by one bit, expired, of another cluster, of another kind.

use std::time::Duration;

use arrow_flight::Ticket;
use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
use bytes::Bytes;
use prost::Message;
use skyflight_proto::ticket::Body;
use skyflight_proto::{TaskTicket, Ticket as OurTicket};
use tonic::Code;

use super::coordinator::{TestCoordinator, fetch, prepare, status, ticket};

#[tokio::test(flavor = "multi_thread")]
async fn one_altered_bit_makes_a_ticket_worthless_wherever_it_is() {
    let coordinator = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    let info = client.execute("SELECT 42 AS answer".into(), None).await.unwrap();
    let good = ticket(&info).ticket;
    for at in 0..good.len() {
        let mut altered = good.to_vec();
        altered[at] ^= 1 << (at % 8);
        let refused = client.do_get(Ticket::new(altered)).await.unwrap_err();
        let (code, message) = status(&refused);
        assert_eq!(code, Code::Unauthenticated, "byte {at}: {message}");
    }
    // Nothing of this has harmed the ticket itself.
    fetch(&mut client, info).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_ticket_says_so() {
    let coordinator = TestCoordinator::start_with(|config| config.ticket_ttl = Duration::from_millis(50)).await;
    let mut client = coordinator.client().await;
    let info = client.execute("SELECT 42".into(), None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (code, message) = status(&client.do_get(ticket(&info)).await.unwrap_err());
    assert_eq!(code, Code::Unauthenticated);
    assert!(message.contains("expired"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_of_others_and_of_other_kinds_are_refused() {
    let coordinator = TestCoordinator::start().await;
    let stranger = TestCoordinator::start().await;
    let mut client = coordinator.client().await;
    let info = stranger.client().await.execute("SELECT 42".into(), None).await.unwrap();
    assert_eq!(status(&client.do_get(ticket(&info)).await.unwrap_err()).0, Code::Unauthenticated);

    // A genuine ticket, but for a worker; a handle, but not a ticket.
    let task = coordinator.keys.sign(&OurTicket {
        expires_unix_ms: i64::MAX,
        user: "local".into(),
        query_id: Bytes::from(vec![7; 16]),
        body: Some(Body::Task(TaskTicket::default())),
    });
    let handle = prepare(&mut client, "SELECT 42").await.0.prepared_statement_handle;
    for statement_handle in [task, handle, Bytes::new()] {
        let forged = TicketStatementQuery { statement_handle }.as_any().encode_to_vec();
        assert_eq!(status(&client.do_get(Ticket::new(forged)).await.unwrap_err()).0, Code::Unauthenticated);
    }
}
