//! Friends and blocks: durable in dc, told to the player with who of them is online.

use std::sync::Arc;

use proto::{
    client::{Fault, FaultCode, Friend, Friends},
    event::{FriendChanged, event::Body},
    ids::PlayerId,
    internal::{CallFaultCode, ProfileFind, Relation, RelationSet, Relations},
    names,
};

use crate::{
    center::{Center, subject},
    client::dc_fault,
    presence::Speaker,
    relations::{is_blocked, to},
};

/// Names in one `Friends` at most: with the longest names they fit its kind. What dc has beyond is not shown.
const SHOWN_MAX: usize = 700;

/// What a player asks to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Friend,
    Unfriend,
    Block,
    Unblock,
}

impl Change {
    fn name(self) -> &'static str {
        match self {
            Change::Friend => "friend",
            Change::Unfriend => "unfriend",
            Change::Block => "block",
            Change::Unblock => "unblock",
        }
    }

    /// What dc has to write, if anything; a fault where the change makes no sense.
    fn of(self, relations: &Relations, other: PlayerId, name: &str) -> Result<Option<Relation>, Fault> {
        let now = to(relations, other);
        match (self, now) {
            (Change::Friend, Relation::Friend) | (Change::Block, Relation::Block) => Ok(None),
            (Change::Friend, Relation::Block) => Err(Fault::new(FaultCode::Blocked, format!("you block {name}; unblock first"))),
            (Change::Friend, _) if is_blocked(relations, other) => Err(Fault::new(FaultCode::Blocked, format!("{name} can't be added"))),
            (Change::Friend, _) => Ok(Some(Relation::Friend)),
            (Change::Block, _) => Ok(Some(Relation::Block)),
            (Change::Unfriend, Relation::Friend) | (Change::Unblock, Relation::Block) => Ok(Some(Relation::Unspecified)),
            (Change::Unfriend, _) => Err(Fault::new(FaultCode::NotFound, format!("{name} is not your friend"))),
            (Change::Unblock, _) => Err(Fault::new(FaultCode::NotFound, format!("you do not block {name}"))),
        }
    }
}

impl Center {
    pub(crate) async fn list_friends(&self, speaker: &Speaker, seq: u32) -> Result<(), Fault> {
        let relations = self.relations(speaker.player).await.map_err(|err| dc_fault(&err))?;
        self.tell(&speaker.gate, speaker.session, seq, &self.friends(&relations));
        Ok(())
    }

    pub(crate) async fn change_relation(self: &Arc<Self>, speaker: &Speaker, seq: u32, change: Change, name: String) -> Result<(), Fault> {
        if let Some((other, known)) = self.whom_cached(&name).await {
            match self.change_relation_to(speaker, seq, change, other, known).await {
                // The role may be gone, and its name somebody else's.
                Err(fault) if fault.code() == FaultCode::NotFound => (),
                done => return done,
            }
        }
        let (other, name) = self.whom(&name).await?;
        self.change_relation_to(speaker, seq, change, other, name).await
    }

    async fn change_relation_to(
        self: &Arc<Self>,
        speaker: &Speaker,
        seq: u32,
        change: Change,
        other: PlayerId,
        name: String,
    ) -> Result<(), Fault> {
        if other == speaker.player {
            return Err(Fault::new(FaultCode::Invalid, "that is you"));
        }
        let relations = self.relations(speaker.player).await.map_err(|err| dc_fault(&err))?;
        let relations = match change.of(&relations, other, &name)? {
            None => relations,
            Some(relation) => Arc::new(self.set_relation(speaker, other, relation).await?),
        };
        self.tell_scene_later(speaker.player);
        let changed = FriendChanged { what: change.name().into(), other: name };
        self.process.events.emit(&subject(speaker), Body::FriendChanged(changed));
        self.tell(&speaker.gate, speaker.session, seq, &self.friends(&relations));
        Ok(())
    }

    async fn set_relation(&self, speaker: &Speaker, other: PlayerId, relation: Relation) -> Result<Relations, Fault> {
        let relations_max = self.process.zone.players.relations_max;
        let set = RelationSet { player: speaker.player.0, other: other.0, relation: relation.into(), relations_max };
        let answer = self.dc(&set).await;
        // Also when there was no answer: dc may have written it all the same.
        self.relations.changed(speaker.player, other);
        answer.map_err(|err| match err.code() {
            Some(CallFaultCode::CallLimit) => Fault::new(FaultCode::NotNow, format!("you have {relations_max} friends and blocks already")),
            Some(CallFaultCode::CallNotFound) => Fault::new(FaultCode::NotFound, "there is no such player"),
            Some(CallFaultCode::CallBlocked) => Fault::new(FaultCode::Blocked, "the player can't be added"),
            _ => dc_fault(&err),
        })
    }

    /// Whom a name means who is offline, if the cache has it: a role that was deleted a moment ago, perhaps.
    async fn whom_cached(&self, name: &str) -> Option<(PlayerId, String)> {
        if !names::player(name) || self.presence().players.named(name).is_some() {
            return None;
        }
        let holder = self.process.cache.name(name).await?;
        Some((PlayerId(holder.player), holder.name))
    }

    /// Whom a name means, online or not.
    async fn whom(&self, name: &str) -> Result<(PlayerId, String), Fault> {
        let nobody = || Fault::new(FaultCode::NotFound, "there is no player of that name");
        if !names::player(name) {
            return Err(nobody());
        }
        let online = self.presence().players.named(name).map(|player| (player.player, player.name.clone()));
        if let Some(online) = online {
            return Ok(online);
        }
        match self.dc(&ProfileFind { name: name.into(), player: 0 }).await {
            Ok(profile) => Ok((PlayerId(profile.player), profile.name)),
            Err(err) if err.code() == Some(CallFaultCode::CallNotFound) => Err(nobody()),
            Err(err) => Err(dc_fault(&err)),
        }
    }

    fn friends(&self, relations: &Relations) -> Friends {
        let presence = self.presence();
        let mut friends = Friends::default();
        for other in relations.outgoing.iter().take(SHOWN_MAX) {
            match other.relation() {
                Relation::Friend => {
                    let online = presence.players.get(PlayerId(other.player)).is_some_and(|player| player.online);
                    friends.friends.push(Friend { name: other.name.clone(), online });
                }
                Relation::Block => friends.blocked.push(other.name.clone()),
                Relation::Unspecified => (),
            }
        }
        friends
    }
}

#[cfg(test)]
mod tests {
    use proto::{ClientMessage, internal::RelationTo};

    use super::*;

    fn relations() -> Relations {
        let to = |player, relation: Relation| RelationTo { player, name: format!("P{player}"), relation: relation.into() };
        Relations { outgoing: vec![to(2, Relation::Friend), to(3, Relation::Block)], befriended_by: vec![], blocked_by: vec![4] }
    }

    fn code(outcome: Result<Option<Relation>, Fault>) -> Result<Option<Relation>, FaultCode> {
        outcome.map_err(|fault| fault.code())
    }

    #[test]
    fn each_change_follows_from_how_things_stand() {
        let relations = relations();
        let of = |change: Change, other| code(change.of(&relations, PlayerId(other), "X"));
        assert_eq!(of(Change::Friend, 9), Ok(Some(Relation::Friend)));
        assert_eq!(of(Change::Friend, 2), Ok(None), "asked twice is done once");
        assert_eq!(of(Change::Friend, 3), Err(FaultCode::Blocked));
        assert_eq!(of(Change::Friend, 4), Err(FaultCode::Blocked));
        assert_eq!(of(Change::Block, 2), Ok(Some(Relation::Block)), "a block ends the friendship");
        assert_eq!(of(Change::Block, 4), Ok(Some(Relation::Block)));
        assert_eq!(of(Change::Unfriend, 2), Ok(Some(Relation::Unspecified)));
        assert_eq!(of(Change::Unfriend, 3), Err(FaultCode::NotFound));
        assert_eq!(of(Change::Unblock, 3), Ok(Some(Relation::Unspecified)));
        assert_eq!(of(Change::Unblock, 2), Err(FaultCode::NotFound));
    }

    #[test]
    fn the_longest_list_fits_its_kind() {
        let name = "𠀀".repeat(16);
        let friends = vec![Friend { name, online: true }; SHOWN_MAX];
        let message = Friends { friends, blocked: Vec::new() };
        assert!(prost::Message::encoded_len(&message) <= Friends::INFO.body_max);
    }
}
