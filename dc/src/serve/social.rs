//! Calls of center about people: who is this, and how do they stand to each other.

use std::sync::Arc;

use proto::{
    internal::{PlayerProfile, ProfileFind, RelationList, RelationSet, Relations},
    names,
};

use super::Desk;
use crate::{
    refusal::Refusal,
    store::{Command, LIST_MAX, SanctionsWanted},
};

impl Desk {
    /// By number if there is one, otherwise by name in any case; as it is now.
    pub(super) async fn profile_find(self: Arc<Self>, call: ProfileFind) -> Result<PlayerProfile, Refusal> {
        let player = match call.player {
            0 => {
                let name_key = names::player_key(&call.name);
                self.read(move |reader| reader.player_named(&name_key)).await?.ok_or(Refusal::NotFound("player"))?
            }
            player => player,
        };
        let hot = self.with_records(&[player], |state| state.ledger.read(player).cloned()).await?;
        self.shared.publisher().missed_hot(&hot);
        let account = hot.record.account;
        let wanted = SanctionsWanted { kind: None, against: Some((account, String::new())), now_ms: crate::now_ms(), limit: LIST_MAX };
        let (account, sanctions) = self.read(move |reader| Ok((reader.account(account)?, reader.sanctions(&wanted)?))).await?;
        Ok(PlayerProfile {
            player,
            name: hot.record.name.clone(),
            account: hot.record.account,
            account_name: account.map(|account| account.name).unwrap_or_default(),
            record: Some((*hot.record).clone()),
            owner: hot.owner.to_string(),
            epoch: hot.epoch,
            version: hot.version,
            sanctions,
        })
    }

    pub(super) async fn relation_set(self: Arc<Self>, call: RelationSet) -> Result<Relations, Refusal> {
        if call.player == call.other {
            return Err(Refusal::invalid("nobody is a friend of oneself"));
        }
        let relation = call.relation.try_into().map_err(|_| Refusal::invalid(format!("no relation has the number {}", call.relation)))?;
        let command = Command::RelationSet { player: call.player, other: call.other, relation, relations_max: call.relations_max };
        self.shared.command(command).await?;
        self.relations(call.player).await
    }

    pub(super) async fn relation_list(self: Arc<Self>, call: RelationList) -> Result<Relations, Refusal> {
        self.relations(call.player).await
    }

    async fn relations(&self, player: u64) -> Result<Relations, Refusal> {
        let of = self.read(move |reader| reader.relations(player)).await?;
        Ok(Relations { outgoing: of.outgoing, befriended_by: of.befriended_by, blocked_by: of.blocked_by })
    }
}
