//! Links into the portal: made by the platform or an operator, opened once.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::credential::token_hash;
use domain::id::{ApiKeyId, Mode, PartyId};
use domain::portal::{Access, Grant, link_token};
use jiff::{SignedDuration, Timestamp};
use workers::store::{Store, StoreError};

use super::Settings;

/// Who gets a link, and from whom.
#[derive(Debug)]
pub struct Wish {
    pub party: PartyId,
    pub mode: Mode,
    pub access: Access,
    /// Who is asking, for people.
    pub by: String,
    /// The hash of the token of the API key that is asking, if one is.
    pub key: Option<String>,
}

/// A link that was made. What it is made of is known to whoever asked only.
pub struct Link {
    /// The token stands behind `#`, which browsers send to nobody: it is in no log and no `Referer`.
    pub url: String,
    pub use_by: Timestamp,
}

/// Makes a link below `base` (scheme, host and port). `None` if the party was given as many as it can have lately.
///
/// # Errors
/// Trouble with the store. A repeat makes another link.
pub async fn make(store: &Store, pepper: &[u8], settings: &Settings, base: &str, wish: Wish) -> Result<Option<Link>, StoreError> {
    let life = Duration::from_secs(60 * u64::from(settings.link_minutes));
    let now = store.clock().now();
    let use_by = now.saturating_add(SignedDuration::from_mins(settings.link_minutes.into())).unwrap_or(Timestamp::MAX);
    let Wish { party, mode, access, by, key } = wish;
    let generation = store.portal_generation(&party, mode).await?;
    let grant = Grant { id: ApiKeyId::new(rand::random()), party, mode, access, by, key, generation, made_at: now, use_by };
    let token = link_token(random());
    let kept = store.put_link(&token_hash(pepper, &token), &grant, life, settings.links_max).await?;
    Ok(kept.then(|| Link { url: format!("{base}/portal/enter#{token}"), use_by }))
}

/// Takes back all links and sessions that a party has. Those that are made afterwards count.
///
/// # Errors
/// Trouble with the store. Repeatable.
pub async fn take_back(store: &Store, party: &PartyId, mode: Mode) -> Result<(), StoreError> {
    store.take_back_portal(party, mode, &URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>())).await
}

pub(super) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system's random source works");
    bytes
}
