//! Calls of center about people: who is this, and how do they stand to each other.

use std::sync::Arc;

use proto::{
    internal::{Durability, PlayerProfile, ProfileFind, Relation, RelationList, RelationSet, Relations},
    names,
};

use super::{Desk, Pending};
use crate::{
    ledger::{known::Whose, sanctions::Wanted},
    refusal::Refusal,
    store::{LIST_MAX, RelationsOf},
};

/// Why a person is not told about.
const WHO: &str = "nobody can be asked about now who was not seen lately";
/// How often relations are read that are forgotten again before they are changed.
const RELATE_TRIES: usize = 3;

impl Desk {
    /// By number if there is one, otherwise by name in any case; as it is now.
    pub(super) async fn profile_find(self: Arc<Self>, call: ProfileFind) -> Result<PlayerProfile, Refusal> {
        self.profile(call).await.map_err(|refusal| refusal.for_want_of_the_store(WHO))
    }

    async fn profile(&self, call: ProfileFind) -> Result<PlayerProfile, Refusal> {
        let player = match call.player {
            0 => self.named(names::player_key(&call.name)).await?.ok_or(Refusal::NotFound("player"))?,
            player => player,
        };
        let hot = self.with_records(&[player], |state| state.ledger.read(player).cloned()).await?;
        self.shared.publisher().missed_hot(&hot);
        let number = hot.record.account;
        let account = self.account(Whose::Number(number)).await?;
        let wanted = Wanted { kind: None, against: Some((number, String::new())), now_ms: crate::now_ms(), limit: LIST_MAX };
        Ok(PlayerProfile {
            player,
            name: hot.record.name.clone(),
            account: number,
            account_name: account.map(|account| account.name).unwrap_or_default(),
            record: Some((*hot.record).clone()),
            owner: hot.owner.to_string(),
            epoch: hot.epoch,
            version: hot.version,
            sanctions: self.shared.look(|state| state.ledger.sanctions(&wanted)),
        })
    }

    /// Who has a name, in memory or in the store.
    pub(super) async fn named(&self, name_key: String) -> Result<Option<u64>, Refusal> {
        match self.shared.look(|state| state.ledger.named(&name_key)) {
            Some(player) => Ok(Some(player)),
            None => self.read(move |reader| reader.player_named(&name_key)).await,
        }
    }

    pub(crate) async fn relation_set(self: Arc<Self>, call: RelationSet) -> Result<Relations, Refusal> {
        if call.player == call.other {
            return Err(Refusal::invalid("nobody is a friend of oneself"));
        }
        if Relation::try_from(call.relation).is_err() {
            return Err(Refusal::invalid(format!("no relation has the number {}", call.relation)));
        }
        self.relate(&call).await.map_err(|refusal| refusal.for_want_of_the_store(WHO))
    }

    async fn relate(&self, call: &RelationSet) -> Result<Relations, Refusal> {
        let both = [call.player, call.other];
        // Who ends a relation need not know the other any more.
        let needed = if call.relation() == Relation::Unspecified { &both[..1] } else { &both[..] };
        for _ in 0..RELATE_TRIES {
            self.relations(call.player).await?;
            let related = self.with_records(needed, |state| {
                state.admit(Durability::D2)?;
                if state.ledger.known.relations(call.player).is_none() {
                    return Ok(None);
                }
                let lsn = state.ledger.relate(call.player, call.other, call.relation(), call.relations_max, crate::now_ms())?;
                let answer = state.ledger.known.relations(call.player).map(wire).unwrap_or_default();
                Ok(Some(Pending { answer, durable: state.journal.wait(lsn, Durability::D2) }))
            });
            if let Some(pending) = related.await? {
                return pending.finish().await;
            }
        }
        Err(Refusal::Unavailable("dc has too little room for relations (cache_bytes_max); try again later".into()))
    }

    pub(super) async fn relation_list(self: Arc<Self>, call: RelationList) -> Result<Relations, Refusal> {
        self.relations(call.player).await.map_err(|refusal| refusal.for_want_of_the_store(WHO))
    }

    async fn relations(&self, player: u64) -> Result<Relations, Refusal> {
        if let Some(known) = self.shared.look_mut(|state| state.ledger.known.relations(player).map(wire)) {
            return Ok(known);
        }
        self.read_over(move |reader| reader.relations(player), |ledger, stored| wire(ledger.know_relations(player, stored))).await
    }
}

fn wire(of: &RelationsOf) -> Relations {
    let RelationsOf { outgoing, befriended_by, blocked_by } = of.clone();
    Relations { outgoing, befriended_by, blocked_by }
}
