//! Who may look after a party's subscriptions in a browser: a link that works once, and the session that it becomes.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::credential::{ApiKey, Reach, Scope, token_hash};
use crate::id::{ApiKeyId, Mode, PartyId};

/// What a session may do. Chosen when its link is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Look on.
    Read,
    /// Make, change and end subscriptions, and have events delivered again.
    Manage,
}

/// What whoever opens a link is granted. Stored under the hash of the link's token, then under that of the session's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Names the session in logs, as that of an API key would.
    pub id: ApiKeyId,
    pub party: PartyId,
    pub mode: Mode,
    pub access: Access,
    /// The owner of the key that asked for the link, or who did so at the command line.
    pub by: String,
    /// The hash of that key's token. What it has granted ends with the key. `None`: an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// That of the party when the link was made. All that was granted ends when it changes, whatever anybody's clock says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub generation: String,
    pub made_at: Timestamp,
    /// From then on the link is of no use.
    pub use_by: Timestamp,
}

/// A link that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub grant: Grant,
    pub began_at: Timestamp,
    /// When it was last used, to the minute or so.
    pub seen_at: Timestamp,
}

/// How long sessions last.
#[derive(Clone, Copy, Debug)]
pub struct Lasts {
    /// From their beginning, however much they are used.
    pub whole: SignedDuration,
    /// Without being used.
    pub idle: SignedDuration,
}

// === impl Access ===

impl Access {
    pub const ALL: [Self; 2] = [Self::Read, Self::Manage];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Manage => "manage",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|access| access.name() == name)
    }

    /// The scope that a key needs to grant it.
    #[must_use]
    pub const fn scope(self) -> Scope {
        match self {
            Self::Read => Scope::WebhooksRead,
            Self::Manage => Scope::WebhooksWrite,
        }
    }
}

// === impl Grant ===

impl Grant {
    /// The key that a session acts as: bound to the party, for subscriptions only. It is stored nowhere, and has no token.
    #[must_use]
    pub fn as_key(&self) -> ApiKey {
        let scopes = match self.access {
            Access::Read => BTreeSet::from([Scope::WebhooksRead]),
            Access::Manage => BTreeSet::from([Scope::WebhooksRead, Scope::WebhooksWrite]),
        };
        ApiKey {
            id: self.id,
            mode: self.mode,
            owner: self.by.clone(),
            reach: Reach::Party(self.party.clone()),
            scopes,
            must_sign: false,
            signing_keys: Vec::new(),
            created_at: self.made_at,
            revoked_at: None,
        }
    }

    /// Whether the link can still be opened.
    #[must_use]
    pub fn is_usable(&self, now: Timestamp) -> bool {
        now < self.use_by
    }

    /// Whether all that the party had been granted was taken back since. `generation`: the present one of the party; empty, as long as nothing ever was.
    #[must_use]
    pub fn is_taken_back(&self, generation: &str) -> bool {
        self.generation != generation
    }

    /// Whether both show the same.
    #[must_use]
    pub fn is_for_whom(&self, other: &Self) -> bool {
        (&self.party, self.mode) == (&other.party, other.mode)
    }
}

// === impl Session ===

impl Session {
    #[must_use]
    pub fn is_live(&self, lasts: Lasts, now: Timestamp) -> bool {
        let within = |from: Timestamp, length| from.saturating_add(length).is_ok_and(|end| now < end);
        within(self.began_at, lasts.whole) && within(self.seen_at, lasts.idle)
    }
}

/// The text of a link's token: 256 random bits.
#[must_use]
pub fn link_token(random: [u8; 32]) -> String {
    format!("link_{}", URL_SAFE_NO_PAD.encode(random))
}

/// The text of a session's token, which only the browser has.
#[must_use]
pub fn session_token(random: [u8; 32]) -> String {
    format!("session_{}", URL_SAFE_NO_PAD.encode(random))
}

/// What every form of a session holds, so that no other page can send one in its name. Follows from the session's token, and says nothing about it.
#[must_use]
pub fn form_token(pepper: &[u8], session_token: &str) -> String {
    token_hash(pepper, &format!("form {session_token}"))
}

/// Whether a form holds the token of its session. Takes as long whichever characters differ.
#[must_use]
pub fn is_form_token(pepper: &[u8], session_token: &str, sent: &str) -> bool {
    form_token(pepper, session_token).as_bytes().ct_eq(sent.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    fn grant(access: Access) -> Grant {
        let party = PartyId::parse("acme").expect("a party");
        let (made_at, use_by) = (at(1_000), at(1_900));
        Grant {
            id: ApiKeyId::new([7; 8]),
            party,
            mode: Mode::Test,
            access,
            by: "ops".to_owned(),
            key: None,
            generation: String::new(),
            made_at,
            use_by,
        }
    }

    #[test]
    fn a_session_ends_by_its_age_and_by_idleness() {
        let lasts = Lasts { whole: SignedDuration::from_secs(100), idle: SignedDuration::from_secs(10) };
        let session = |seen| Session { grant: grant(Access::Read), began_at: at(0), seen_at: at(seen) };
        for (seen, now, live) in [(0, 9, true), (0, 10, false), (50, 59, true), (50, 60, false), (95, 99, true), (95, 100, false)] {
            assert_eq!(session(seen).is_live(lasts, at(now)), live, "seen at {seen}, now {now}");
        }
    }

    #[test]
    fn a_grant_ends_by_its_time_and_is_taken_back_as_a_whole() {
        let grant = grant(Access::Manage);
        assert!(grant.is_usable(at(1_899)) && !grant.is_usable(at(1_900)));
        assert!(!grant.is_taken_back("") && grant.is_taken_back("b"));
        let next = Grant { generation: "b".to_owned(), ..grant };
        assert!(!next.is_taken_back("b") && next.is_taken_back("c") && next.is_taken_back(""));
    }

    #[test]
    fn a_party_is_another_one_in_the_other_mode() {
        let (shop, manages) = (grant(Access::Read), grant(Access::Manage));
        assert!(shop.is_for_whom(&manages));
        assert!(!shop.is_for_whom(&Grant { mode: Mode::Live, ..manages.clone() }));
        assert!(!shop.is_for_whom(&Grant { party: PartyId::parse("cafe").expect("a party"), ..manages }));
    }

    #[test]
    fn it_acts_for_its_party_and_on_subscriptions_only() {
        let may = |access: Access| Scope::ALL.into_iter().filter(|scope| grant(access).as_key().may(*scope)).collect::<Vec<_>>();
        assert_eq!(may(Access::Read), [Scope::WebhooksRead]);
        assert_eq!(may(Access::Manage), [Scope::WebhooksRead, Scope::WebhooksWrite]);
        assert_eq!(grant(Access::Manage).as_key().reach, Reach::Party(PartyId::parse("acme").expect("a party")));
    }

    #[test]
    fn forms_belong_to_their_session() {
        let (one, other) = (session_token([1; 32]), session_token([2; 32]));
        let form = form_token(b"pepper", &one);
        assert!(is_form_token(b"pepper", &one, &form));
        assert!(!is_form_token(b"pepper", &other, &form) && !is_form_token(b"salt", &one, &form) && !is_form_token(b"pepper", &one, ""));
        assert!(!form.contains(&one) && form != token_hash(b"pepper", &one), "not what the session is stored under");
    }
}
