//! Session tokens, and keys that change while tokens are out.

use std::collections::BTreeMap;

use skyflight_proto::{ClusterKeys, KeyStep, SessionClaims, TokenError, claims_to_be_ours};

fn claims() -> SessionClaims {
    SessionClaims {
        since: Some(1),
        sub: "vera".into(),
        iat: 1_000,
        exp: 2_000,
        login: Some(7),
        options: BTreeMap::from([("schema".into(), "dr1".into())]),
    }
}

#[test]
fn a_token_gives_its_claims_back_until_it_expires() {
    let keys = ClusterKeys::generate();
    let token = keys.sign_token(&claims()).unwrap();
    assert!(token.is_ascii() && claims_to_be_ours(&token));
    assert_eq!(keys.verify_token(&token, 1_999), Ok(claims()));
    assert_eq!(keys.verify_token(&token, 2_003), Err(TokenError::Expired { by_s: 3 }));
}

#[test]
fn the_signature_is_what_other_libraries_make() {
    // Made with hmac, hashlib and base64 of Python 3 from the rule in session_token.rs: the secret is
    // HMAC-SHA-256(key, "skyflight session token 1"), the MAC is over the two encoded parts (RFC 7515, 5.1).
    let keys = ClusterKeys::parse(&format!("k-1:{}", "0b".repeat(32))).unwrap();
    let token = keys.sign_token(&claims()).unwrap();
    assert_eq!(token, PYTHON);
}

const PYTHON: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6InNreWZsaWdodCtqd3QiLCJraWQiOiJrLTEifQ.eyJpc3MiOiJza3lmbGlnaHQiLCJzdWIiOiJ2ZXJhIiwiaWF0IjoxMDAwLCJleHAiOjIwMDAsImxvZ2luIjo3LCJzaW5jZSI6MSwib3B0aW9ucyI6eyJzY2hlbWEiOiJkcjEifX0.7USh_eiG6uDKZ38f650mfoZEnEOJ46vSLpRGKNM4nds";

#[test]
fn an_altered_token_is_refused_wherever_it_was_altered_and_still_known_as_ours() {
    let keys = ClusterKeys::generate();
    let token = keys.sign_token(&claims()).unwrap();
    for at in 0..token.len() {
        let mut altered = token.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        let altered = String::from_utf8(altered).unwrap();
        assert!(keys.verify_token(&altered, 1_500).is_err(), "byte {at} of {token}");
        // Without a dot it has not even the form.
        assert!(token.as_bytes()[at] == b'.' || claims_to_be_ours(&altered), "byte {at} of {token}");
    }
    assert_eq!(ClusterKeys::generate().verify_token(&token, 1_500), Err(TokenError::UnknownKey));
    for foreign in ["", ".", "..", "eyJhbGciOi", "eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0.", &"A.".repeat(10_000)] {
        assert_eq!(keys.verify_token(foreign, 1_500), Err(TokenError::Malformed), "{foreign}");
        assert!(!claims_to_be_ours(foreign));
    }
}

#[test]
fn no_token_chooses_its_algorithm() {
    // {"alg":"none","typ":"skyflight+jwt","kid":"k-1"} . {"iss":"skyflight",…} without a signature.
    let keys = ClusterKeys::parse(&format!("k-1:{}", "0b".repeat(32))).unwrap();
    let payload = PYTHON.split('.').nth(1).unwrap();
    let forged = format!("eyJhbGciOiJub25lIiwidHlwIjoic2t5ZmxpZ2h0K2p3dCIsImtpZCI6ImstMSJ9.{payload}.");
    assert_eq!(keys.verify_token(&forged, 1_500), Err(TokenError::Malformed));
}

#[test]
fn a_change_of_keys_refuses_nothing_until_the_old_key_is_retired() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cluster.key");
    let server = ClusterKeys::create_if_missing(&path).unwrap();
    let other = server.clone();
    let old = server.sign_token(&claims()).unwrap();
    let [first] = server.ids().try_into().unwrap();

    let added = ClusterKeys::step_file(&path, KeyStep::Add).unwrap();
    assert_eq!(added.ids()[0], first, "the old key still signs");
    assert!(server.reload(&path).unwrap() && !server.reload(&path).unwrap());
    assert_eq!(other.ids(), added.ids(), "clones follow");

    let promoted = ClusterKeys::step_file(&path, KeyStep::Promote).unwrap();
    let again = ClusterKeys::step_file(&path, KeyStep::Promote).unwrap_err();
    assert!(again.to_string().contains("key add"), "{again}");
    assert_eq!(ClusterKeys::load(&path).unwrap().ids(), promoted.ids(), "twice is not back again");
    let fresh = promoted.sign_token(&claims()).unwrap();
    assert!(other.verify_token(&fresh, 1_500).is_ok(), "the new key was known before it signed");
    server.reload(&path).unwrap();
    assert!(other.verify_token(&old, 1_500).is_ok());

    ClusterKeys::step_file(&path, KeyStep::Retire).unwrap();
    server.reload(&path).unwrap();
    assert_eq!(other.verify_token(&old, 1_500), Err(TokenError::UnknownKey));
    assert!(other.verify_token(&fresh, 1_500).is_ok());

    std::fs::write(&path, "nonsense").unwrap();
    assert!(server.reload(&path).is_err());
    assert!(other.verify_token(&fresh, 1_500).is_ok(), "a broken file changes nothing");
    let modes = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(modes, 1, "no secret is left lying about");
}
