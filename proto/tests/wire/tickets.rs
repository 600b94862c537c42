//! Only what this cluster signed, unaltered and in time, is a ticket.

use bytes::Bytes;
use proptest::prelude::*;
use skyflight_proto::{
    ClusterKeys, DropTransactionTicket, FailureKind, KeyError, Message, SignedTicket, Ticket, TicketError, ticket,
};
use tonic::Code;

use crate::strategies as any_of;

const EXPIRY: i64 = 1_800_000_000_000;

fn keys(ids: &[(&str, u8)]) -> ClusterKeys {
    let line = |(id, byte): &(&str, u8)| format!("{id}:{}\n", hex::encode([*byte; 32]));
    ClusterKeys::parse(&ids.iter().map(line).collect::<String>()).unwrap()
}

fn drop_transaction() -> Ticket {
    Ticket {
        expires_unix_ms: EXPIRY,
        user: "ada".into(),
        query_id: Bytes::new(),
        body: Some(ticket::Body::DropTransaction(DropTransactionTicket { transaction: 42 })),
    }
}

#[test]
fn a_signed_ticket_is_these_bytes() {
    // Made with hmac and hashlib of Python 3 from the rule that `ClusterKeys::sign` documents:
    // another rule would be another protocol.
    let secret: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
    let keys = ClusterKeys::parse(&format!("k-1:{secret}")).unwrap();
    assert_eq!(
        hex::encode(keys.sign(&drop_transaction())),
        "0a100880a0f1c2b13412036164616a02082a12036b2d31\
         1a2091a15418fcb814cce782f22ee3295ee4fe9d5f8f6210bcfe880e5ab32e6b9ba0"
    );
}

#[test]
fn every_single_bit_flip_is_refused() {
    let keys = keys(&[("a", 1), ("c", 2), ("b", 3)]);
    let signed = keys.sign(&drop_transaction());
    assert_eq!(keys.verify(&signed, 0).unwrap(), drop_transaction());
    let mut refusals = Vec::new();
    for bit in 0..signed.len() * 8 {
        let mut altered = signed.to_vec();
        altered[bit / 8] ^= 1 << (bit % 8);
        let error = keys.verify(&altered, 0).unwrap_err();
        assert_eq!(tonic::Status::from(error).code(), Code::Unauthenticated, "bit {bit}");
        refusals.push(error);
    }
    // The flips reached every check there is: the last bits of `a` make it `c`, and other ids.
    for error in [TicketError::Malformed, TicketError::UnknownKey, TicketError::BadSignature] {
        assert!(refusals.contains(&error), "no flip gave {error:?}");
    }
}

#[test]
fn a_key_of_two_names_signs_under_one() {
    // The ids differ in one bit and the secrets not at all.
    let keys = keys(&[("a", 1), ("c", 1)]);
    let mut signed = SignedTicket::decode(keys.sign(&drop_transaction())).unwrap();
    signed.key_id = "c".into();
    assert_eq!(keys.verify(&signed.encode_to_vec(), 0), Err(TicketError::BadSignature));
}

#[test]
fn a_ticket_expires_at_its_moment() {
    let keys = ClusterKeys::generate();
    let signed = keys.sign(&drop_transaction());
    assert!(keys.verify(&signed, EXPIRY - 1).is_ok());
    let expired = |by_ms| Err(TicketError::Expired { by_ms });
    assert_eq!(keys.verify(&signed, EXPIRY), expired(0));
    assert_eq!(keys.verify(&signed, EXPIRY + 1_500), expired(1_500));

    let oldest = Ticket { expires_unix_ms: i64::MIN, ..drop_transaction() };
    assert_eq!(keys.verify(&keys.sign(&oldest), i64::MAX), expired(u64::MAX));
}

#[test]
fn an_altered_expiry_is_a_wrong_signature_not_a_longer_life() {
    let keys = ClusterKeys::generate();
    let mut signed = SignedTicket::decode(keys.sign(&drop_transaction())).unwrap();
    let longer = Ticket { expires_unix_ms: EXPIRY * 2, ..drop_transaction() };
    signed.payload = longer.encode_to_vec().into();
    let bytes = signed.encode_to_vec();
    assert_eq!(keys.verify(&bytes, EXPIRY + 1), Err(TicketError::BadSignature));
}

#[test]
fn keys_rotate_without_refusing_a_ticket_that_is_out() {
    let (old, new) = (("old", 1), ("new", 2));
    let before = keys(&[old]);
    let added = keys(&[old, new]);
    let moved = keys(&[new, old]);
    let after = keys(&[new]);

    let signed_by = |keys: &ClusterKeys| {
        let signed = keys.sign(&drop_transaction());
        let id = SignedTicket::decode(signed.clone()).unwrap().key_id;
        (signed, id)
    };
    let (by_old, id) = signed_by(&added);
    assert_eq!(id, "old", "the first key signs");
    let (by_new, id) = signed_by(&moved);
    assert_eq!(id, "new", "the first key signs");

    // At each step neighbours in the rotation understand each other both ways.
    for keys in [&before, &added, &moved] {
        assert_eq!(keys.verify(&by_old, 0).unwrap(), drop_transaction());
    }
    for keys in [&added, &moved, &after] {
        assert_eq!(keys.verify(&by_new, 0).unwrap(), drop_transaction());
    }
    assert_eq!(before.verify(&by_new, 0), Err(TicketError::UnknownKey));
    assert_eq!(after.verify(&by_old, 0), Err(TicketError::UnknownKey));
}

#[test]
fn a_cluster_does_not_believe_another() {
    let signed = keys(&[("k", 1)]).sign(&drop_transaction());
    assert_eq!(keys(&[("k", 2)]).verify(&signed, 0), Err(TicketError::BadSignature));
    assert_eq!(ClusterKeys::generate().verify(&signed, 0), Err(TicketError::UnknownKey));
}

#[test]
fn a_signature_cut_short_or_left_out_is_wrong() {
    let keys = keys(&[("k", 1)]);
    let signed = SignedTicket::decode(keys.sign(&drop_transaction())).unwrap();
    for length in 0..32 {
        let mut cut = signed.clone();
        cut.mac = cut.mac.slice(..length);
        assert_eq!(
            keys.verify(&cut.encode_to_vec(), 0),
            Err(TicketError::BadSignature),
            "{length} bytes of a signature"
        );
    }
}

#[test]
fn a_ticket_has_one_spelling() {
    let keys = keys(&[("k", 1)]);
    let signed = keys.sign(&drop_transaction());
    // A field this version does not know, and the key id once more: both fine protobuf.
    for more in [&[0x7A, 0x00][..], &[0x12, 1, b'k']] {
        let longer = [&signed[..], more].concat();
        assert!(SignedTicket::decode(longer.as_slice()).is_ok());
        assert_eq!(keys.verify(&longer, 0), Err(TicketError::Malformed));
    }
}

#[test]
fn a_genuine_ticket_that_asks_for_nothing_is_refused() {
    let keys = ClusterKeys::generate();
    let empty = Ticket { body: None, ..drop_transaction() };
    assert_eq!(keys.verify(&keys.sign(&empty), 0), Err(TicketError::Malformed));
}

#[test]
fn nothing_printed_redeems_or_forges_a_ticket() {
    let keys = keys(&[("k", 0xA7), ("l", 0xA8)]);
    let signed = SignedTicket::decode(keys.sign(&drop_transaction())).unwrap();
    let printed = format!("{keys:?} {keys:#?} {signed:?} {signed:#?}");
    assert!(printed.contains("\"k\"") && printed.contains("\"l\""));
    let mac: Vec<String> = signed.mac.iter().take(3).map(u8::to_string).collect();
    for secret in ["a7a7", "A7A7", "167, 167", "168, 168", &mac.join(", ")] {
        assert!(!printed.contains(secret), "{printed} has {secret}");
    }
}

#[test]
fn keys_are_read_as_they_are_written() {
    let keys = ClusterKeys::generate();
    let again = ClusterKeys::parse(&keys.to_text()).unwrap();
    assert_eq!(again.to_text(), keys.to_text());
    assert!(again.verify(&keys.sign(&drop_transaction()), 0).is_ok());
    assert_ne!(ClusterKeys::generate().to_text(), keys.to_text());

    let secret = "0123456789abcdefABCDEF".repeat(3)[..64].to_owned();
    let commented = format!("# ours\n\n  a:{secret}\r\n# theirs\nb:{secret}\n");
    assert_eq!(ClusterKeys::parse(&commented).unwrap().to_text(), format!("a:{0}\nb:{0}\n", secret.to_lowercase()));
}

#[test]
fn wrong_keys_are_refused_by_line_and_never_repeated() {
    let secret = "5e".repeat(32);
    let check = |text: &str, expect: &str| {
        let message = ClusterKeys::parse(text).unwrap_err().to_string();
        assert_eq!(message, expect, "for {text:?}");
        assert!(!message.contains("5e5e"));
    };
    let empty = "there is no key: a cluster key file has lines of the form id:secret";
    check("", empty);
    check("\n # nothing\n", empty);
    let form = "line 2 of the cluster key is wrong: it is not of the form id:secret";
    check(&format!("\n{secret}"), form);
    let id = "line 1 of the cluster key is wrong: an id has 1 to 64 ASCII letters, digits, - or _";
    for name in ["", "a b", "é", &"i".repeat(65)] {
        check(&format!("{name}:{secret}"), id);
    }
    let digits = "line 1 of the cluster key is wrong: a secret has exactly 64 hexadecimal digits";
    for tail in ["", "5e5e", &format!("{secret}5e"), &"g".repeat(64)] {
        check(&format!("a:{tail}"), digits);
    }
    check(
        &format!("a:{secret}\nb:{secret}\na:{secret}"),
        "line 3 of the cluster key is wrong: its id is that of a line above; give each key its own",
    );
    assert!(matches!(ClusterKeys::parse(""), Err(KeyError::Empty)));
}

#[test]
fn refusals_have_their_code_and_say_what_to_do() {
    for error in
        [TicketError::Malformed, TicketError::UnknownKey, TicketError::BadSignature, TicketError::Expired { by_ms: 7 }]
    {
        assert_eq!(FailureKind::from(&error), FailureKind::Unauthenticated);
        let status = tonic::Status::from(error);
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(!skyflight_proto::retryable(status.code()));
        assert_eq!(status.message(), error.to_string());
    }
    assert!(TicketError::Expired { by_ms: 7 }.to_string().contains("7 ms ago; run the query again"));
}

proptest! {
    #[test]
    fn any_ticket_with_a_body_verifies_as_it_was_signed(ticket in any_of::ticket()) {
        let keys = keys(&[("k", 1), ("l", 2)]);
        let got = keys.verify(&keys.sign(&ticket), 0);
        if ticket.expires_unix_ms <= 0 {
            let by_ms = ticket.expires_unix_ms.unsigned_abs();
            prop_assert_eq!(got, Err(TicketError::Expired { by_ms }));
        } else if ticket.body.is_none() {
            prop_assert_eq!(got, Err(TicketError::Malformed));
        } else {
            prop_assert_eq!(got, Ok(ticket));
        }
    }

    #[test]
    fn any_alteration_of_any_ticket_is_refused(
        body in any_of::ticket_body(),
        at: proptest::sample::Index,
        bits in 1_u8..,
        cut: proptest::sample::Index,
    ) {
        let keys = keys(&[("k", 1), ("l", 1)]);
        let ticket = Ticket { body: Some(body), ..drop_transaction() };
        let signed = keys.sign(&ticket);
        let mut altered = signed.to_vec();
        altered[at.index(signed.len())] ^= bits;
        prop_assert!(keys.verify(&altered, 0).is_err());
        prop_assert!(keys.verify(&signed[..cut.index(signed.len())], 0).is_err());
    }

    #[test]
    fn garbage_is_refused(bytes: Vec<u8>, payload: Vec<u8>) {
        let keys = keys(&[("k", 1)]);
        prop_assert!(keys.verify(&bytes, 0).is_err());
        // Garbage that is a signed ticket in form.
        let signed = SignedTicket { payload: payload.into(), key_id: "k".into(), mac: bytes.into() };
        prop_assert_eq!(keys.verify(&signed.encode_to_vec(), 0), Err(TicketError::BadSignature));
    }

    #[test]
    fn text_that_is_no_key_never_panics(text: String) {
        let _ = ClusterKeys::parse(&text);
    }
}
