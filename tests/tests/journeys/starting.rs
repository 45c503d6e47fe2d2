//! Starting: bad settings are refused with each of them named, and health says when a service is ready.

use std::path::PathBuf;

use octroi_server::StartError;
use octroi_tests::harness::{Answer as _, Installation, ServiceName};
use tokio_util::sync::CancellationToken;
use tonic::Code;

#[tokio::test]
async fn not_with_bad_settings() {
    let octroi = Installation::start().await;
    for service in ServiceName::ALL {
        let mut platform = octroi.plan().settings(service, None);
        platform.jwks_file = PathBuf::from("/nowhere/jwks.json");
        platform.signing_key_file = octroi.plan().keys.jwks();
        platform.fingerprint_key_file = octroi.plan().keys.jwks();
        let flags = [
            "--jwks-file",
            "--signing-key-file",
            "--fingerprint-key-file",
        ];
        refuses(service, platform, &flags).await;
        // A database keeps the clock that it was born with.
        let mut platform = octroi.plan().settings(service, None);
        platform.test_clock = false;
        refuses(service, platform, &["--test-clock"]).await;
    }
    for service in [ServiceName::Licensing, ServiceName::Notification] {
        let mut platform = octroi.plan().settings(service, None);
        platform.sealing_keys_file = None;
        refuses(service, platform, &["--sealing-keys-file"]).await;
    }
    octroi.finish().await;
}

async fn refuses(service: ServiceName, platform: octroi_server::Settings, flags: &[&str]) {
    let shutdown = CancellationToken::new();
    let started = match service {
        ServiceName::Licensing => {
            let settings = octroi_licensing::Settings {
                platform,
                activation_domain: "users.octroi.example".to_owned(),
                download_url: "https://download.octroi.example".to_owned(),
            };
            octroi_licensing::start(settings, shutdown).await
        }
        ServiceName::Billing => {
            let settings = octroi_billing::Settings {
                platform,
                seller_file: None,
                specimen_seller: true,
            };
            octroi_billing::start(settings, shutdown).await
        }
        ServiceName::Notification => {
            let mail = octroi_notification::MailSettings {
                portal_url: Some("https://portal.test".to_owned()),
                mail_from: Some("no-reply@octroi.test".parse().unwrap()),
                smtp_host: Some("127.0.0.1".to_owned()),
                smtp_tls: octroi_notification::SmtpTls::None,
                ..octroi_notification::MailSettings::default()
            };
            octroi_notification::start(octroi_notification::Settings { platform, mail }, shutdown)
                .await
        }
    };
    let Err(refused @ StartError::Settings(_)) = started else {
        panic!(
            "{service} started, or refused for another reason: {:?}",
            started.err()
        );
    };
    assert_eq!(refused.exit_code(), 64);
    for flag in flags {
        assert!(
            refused.to_string().contains(flag),
            "{service} {flag}: {refused}"
        );
    }
}

/// Health needs no token, and has an entry for every service that is served.
#[tokio::test]
async fn and_then_it_serves() {
    let mut octroi = Installation::start().await;
    let stranger = octroi.stranger();
    let check = |name: &str| {
        // HealthCheckRequest: its one field is the service's name.
        let mut message = vec![0x0a, u8::try_from(name.len()).unwrap()];
        message.extend_from_slice(name.as_bytes());
        message
    };
    let path = "/grpc.health.v1.Health/Check";
    let served = [
        (ServiceName::Licensing, "octroi.licensing.v1.OrderService"),
        (ServiceName::Billing, "octroi.billing.v1.InvoiceService"),
        (
            ServiceName::Notification,
            "octroi.notification.v1.EmailService",
        ),
    ];
    for (service, name) in served {
        for name in ["", name, "octroi.event.v1.EventService"] {
            let answer = stranger.call(service, path, check(name)).await.got();
            assert_eq!(answer, [0x08, 0x01], "{service} {name:?} is SERVING");
        }
        let unknown = stranger.call(service, path, check("octroi.Nothing")).await;
        assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
    }
    octroi.stop(ServiceName::Billing).await;
    let gone = stranger.call(ServiceName::Billing, path, check("")).await;
    assert_eq!(gone.unwrap_err().code(), Code::Unavailable);
    octroi.restart(ServiceName::Billing).await;
    octroi.finish().await;
}
