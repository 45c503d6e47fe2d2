//! Licensing's settings. Each is documented once, here or in the shell's.

/// What licensing is configured with.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// Those of every service.
    #[command(flatten)]
    pub platform: octroi_server::Settings,
    /// Domain under which activation e-mails lie: `<group>.<account>.<this>`. Lower case; it must not change once
    /// licences are activated.
    #[arg(
        long,
        env = "OCTROI_ACTIVATION_DOMAIN",
        default_value = "users.octroi.example",
        value_parser = domain
    )]
    pub activation_domain: String,
    /// Where the installers lie; the portal shows users one link per platform under it.
    #[arg(
        long,
        env = "OCTROI_DOWNLOAD_URL",
        default_value = "https://downloads.octroi.example",
        value_parser = url
    )]
    pub download_url: String,
}

fn domain(text: &str) -> Result<String, &'static str> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    // A login, a group and an account have up to 64 characters each, and an address may have 254 in all.
    if text.len() <= 60 && text.contains('.') && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err("must be a domain in lower case of at most 60 characters, such as users.example.com")
    }
}

fn url(text: &str) -> Result<String, &'static str> {
    if text.starts_with("https://") && text.len() > "https://".len() {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err("must begin with https://")
    }
}
