//! Accounts at the sandboxes of all providers, as configuration: for the installation that uses them, and for the sandboxes that know them.

use domain::fact::Provider;
use providers::jws::{Algorithm, SigningKey};
use providers::sandbox::all::path;
use secrecy::ExposeSecret as _;

use super::random_text;

const CLIENT: &str = "local-client";
const KID: &str = "5f0ee2a3-3c55-4f6c-9a0e-6f6c1b0d6a01";

/// Fresh secrets, one set for all accounts of an installation.
pub(crate) struct Accounts {
    key: SigningKey,
    /// Client secret, password and signing secrets at once: each is only ever shown to its own sandbox, and all of them are on this machine.
    secret: String,
}

impl Accounts {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { key: SigningKey::generate(KID, Algorithm::Es512)?, secret: random_text()? })
    }

    /// The accounts of an installation, for test mode, at sandboxes below that address. Dotted keys: they can stand before any section.
    pub(crate) fn of(&self, providers: &[Provider], base: &str) -> anyhow::Result<String> {
        let mut text = String::new();
        for provider in providers {
            let account = format!("providers.{}_test", provider.name().replace('-', "_"));
            for line in self.account(*provider, &format!("{base}{}", path(*provider)))? {
                text.push_str(&format!("{account}.{line}\n"));
            }
        }
        Ok(text)
    }

    fn account(&self, provider: Provider, url: &str) -> anyhow::Result<Vec<String>> {
        let secret = &self.secret;
        Ok(match provider {
            Provider::Truelayer | Provider::TruelayerV3 => {
                let mut lines = vec![
                    format!("base_url = \"{url}\""),
                    format!("auth_url = \"{url}\""),
                    format!("client_id = \"{CLIENT}\""),
                    format!("client_secret = \"{secret}\""),
                    format!("kid = \"{KID}\""),
                    format!("private_key_pem = \"\"\"\n{}\"\"\"", self.key.to_pem()?.expose_secret()),
                    format!("jku = [\"{url}/.well-known/jwks\"]"),
                ];
                if provider == Provider::Truelayer {
                    lines.push("profile.currencies = [\"EUR\", \"GBP\"]".to_owned());
                } else {
                    lines.push("merchant_accounts = { GBP = \"sandbox-pounds\", EUR = \"sandbox-euros\" }".to_owned());
                }
                lines
            }
            Provider::WorldpayAccount | Provider::WorldpayCard => vec![
                "entity = \"SNDBOX\"".to_owned(),
                format!("access.base_url = \"{url}\""),
                format!("access.username = \"{CLIENT}\""),
                format!("access.password = \"{secret}\""),
            ],
            Provider::Mollie => vec![
                format!("base_url = \"{url}\""),
                format!("api_key = \"test_{secret}\""),
                "balances = { EUR = \"bal_sandboxEuros\", GBP = \"bal_sandboxPounds\" }".to_owned(),
                format!("webhook_secrets = [\"{secret}\"]"),
            ],
        })
    }

    /// The sandboxes at that address, which know these accounts and tell the installation at `notices`.
    pub(crate) fn sandboxes(&self, address: &str, notices: Option<&str>) -> anyhow::Result<String> {
        let (secret, public) = (&self.secret, self.key.verifying_key()?.to_pem()?);
        let mut text = format!("sandbox.address = \"{address}\"\n");
        if let Some(notices) = notices {
            text.push_str(&format!("sandbox.notices = \"{notices}\"\n"));
        }
        for name in ["truelayer", "truelayer_v3"] {
            text.push_str(&format!(
                "sandbox.{name}.client_id = \"{CLIENT}\"\nsandbox.{name}.client_secret = \"{secret}\"\n\
                 sandbox.{name}.client_keys = [{{ kid = \"{KID}\", public_key_pem = \"\"\"\n{public}\"\"\" }}]\n"
            ));
        }
        text.push_str(&format!(
            "sandbox.worldpay.entity = \"SNDBOX\"\nsandbox.worldpay.username = \"{CLIENT}\"\nsandbox.worldpay.password = \"{secret}\"\n\
             sandbox.mollie.api_key = \"test_{secret}\"\nsandbox.mollie.notice_secrets = [\"{secret}\"]\n"
        ));
        Ok(text)
    }
}
