//! Where the all-in-one's mail goes: to a mail server that it is told of, or else into files that nobody else reads.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use octroi_tests::harness::{BUSINESS, Customer, MailServer, eventually, mailed_password};

use crate::all_in_one::AllInOne;
use crate::stored::converged;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_a_mail_server_or_into_files() {
    let server = MailServer::start().await;
    let mut octroi = AllInOne::install();
    octroi.set("smtp-host", "127.0.0.1");
    octroi.set("smtp-port", &server.port().to_string());
    octroi.set("smtp-tls", "none");
    octroi.set("mail-from", "Shop <shop@shop.test>");
    octroi.restart();
    let directory = octroi.data_dir().join("mail");
    let acme = Customer::paying(octroi.operator(), "acme").await;
    acme.buys("office", &[(BUSINESS, 2)]).await;
    acme.activates_generated("office", 1, "sales").await;
    let email = acme.receives("license-activated", 1).await;
    let password = mailed_password(&email.text_body);
    let letter = eventually("the mail server has it", async || {
        let letters = server.letters();
        letters
            .into_iter()
            .find(|letter| letter.text().contains(&password))
    })
    .await;
    assert_eq!(letter.from, "shop@shop.test");
    assert_eq!(letter.to, ["office@acme.test"]);
    assert_eq!(letter.header("Message-ID"), email.message_id);
    converged(&octroi.sql().await).await;
    assert!(!directory.exists(), "a file beside the mail server's");

    octroi.rest();
    for flag in ["smtp-host", "smtp-port", "smtp-tls", "mail-from"] {
        octroi.forget(flag);
    }
    octroi.restart();
    let sent = server.letters().len();
    let acme = octroi.customer("acme");
    acme.activates_generated("office", 2, "night").await;
    let email = acme.receives("license-activated", 2).await;
    let password = mailed_password(&email.text_body);
    converged(&octroi.sql().await).await;
    assert_eq!(mode(&directory), 0o700);
    let id = email.name.rsplit('/').next().unwrap();
    let files: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files, [directory.join(format!("{id}.eml"))]);
    assert_eq!(mode(&files[0]), 0o600);
    let text = fs::read_to_string(&files[0]).unwrap();
    assert!(text.contains(&password), "{text}");
    assert_eq!(server.letters().len(), sent);
    tokio::task::spawn_blocking(move || octroi.stop())
        .await
        .unwrap();
}
