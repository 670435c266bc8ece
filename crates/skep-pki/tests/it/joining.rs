use skep_pki::{JoinError, JoinToken, download_root, join, renew};
use skep_types::{Nanos, NodeAvailability, NodeRole};

use crate::ca::TestCa;
use crate::{Swarm, now};

#[tokio::test]
async fn a_node_joins_and_renews() {
    let ca = TestCa::start().await;
    ca.answer_pending(1);
    let managers = [ca.address.clone()];
    let joined = join(&managers, &ca.token, NodeAvailability::Active).await.unwrap();
    assert_eq!(joined.identity().node_id.as_str(), "joined");
    assert_eq!(joined.identity().role, NodeRole::Worker);
    assert!(joined.identity().not_after > now());

    let handle = skep_pki::TlsHandle::new(joined);
    let renewed = renew(&managers, &handle).await.unwrap();
    assert_ne!(renewed.key_pem(), handle.current().key_pem());
    assert_eq!(renewed.identity().node_id.as_str(), "joined");
    assert_eq!(ca.callers(), [None, Some("joined".to_owned())]);
}

#[tokio::test]
async fn another_root_than_the_token_s_is_refused() {
    let ca = TestCa::start().await;
    let token = JoinToken::generate(Swarm::new().trust.pem());
    let error = download_root(std::slice::from_ref(&ca.address), Some(&token)).await.unwrap_err();
    assert!(matches!(error, JoinError::Digest { .. }), "{error:?}");
    assert!(download_root(std::slice::from_ref(&ca.address), None).await.is_ok());
}

#[tokio::test]
async fn a_wrong_secret_is_refused_with_the_manager_s_words() {
    let ca = TestCa::start().await;
    let root = download_root(std::slice::from_ref(&ca.address), None).await.unwrap();
    let token = JoinToken::new(root.pem(), [0; 16]);
    let error = join(std::slice::from_ref(&ca.address), &token, NodeAvailability::Active)
        .await
        .unwrap_err();
    let expected =
        "refused IssueNodeCertificate: A valid join token is necessary to join this cluster";
    assert!(error.to_string().ends_with(expected), "{error}");
}

#[tokio::test]
async fn a_failed_request_says_why() {
    let ca = TestCa::start().await;
    ca.fail_with("the CA is out of ink");
    let error = join(std::slice::from_ref(&ca.address), &ca.token, NodeAvailability::Active)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, JoinError::Failed { reason, .. } if reason.contains("ink")),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_absent_manager_is_tried_for_five_seconds() {
    // Bound and closed again, so that nobody answers there.
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let start = tokio::time::Instant::now();
    let error = download_root(&[address], None).await.unwrap_err();
    assert!(matches!(error, JoinError::Unreachable(_)), "{error:?}");
    let took = start.elapsed().as_secs();
    assert!((4..=6).contains(&took), "{took}");
    assert!(matches!(download_root(&[], None).await.unwrap_err(), JoinError::NoManagers));
}

#[tokio::test]
async fn a_clock_far_off_is_named_as_the_reason() {
    const DAY: i64 = 24 * 3600;
    // From this host's view the manager is in the future, or stopped renewing long ago.
    for days in [10, -200] {
        let made = now() + Nanos::from_secs(days * DAY);
        let ca = TestCa::of(Swarm::made(made)).await;
        let managers = [ca.address.clone()];
        let start = std::time::Instant::now();
        let error = join(&managers, &ca.token, NodeAvailability::Active).await.unwrap_err();
        assert!(matches!(error, JoinError::Clock { .. }), "{error:?}");
        assert!(error.to_string().contains("check the clocks"), "{error}");
        assert!(start.elapsed().as_secs() < 4, "asking again does not help");
    }
}
