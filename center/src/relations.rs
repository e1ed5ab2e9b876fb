//! Friends and blocks of players who are online, kept from dc's answers.
//!
//! A change of one player's relations is a change of the other's too. An answer that was under way during any change is used but not
//! kept, so that what is kept is never older than what was changed here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use proto::{
    client::FriendNotice,
    ids::PlayerId,
    internal::{Relation, RelationList, Relations},
};
use service::CallError;

use crate::center::Center;

/// The kept relations. One entry a player in the world at the most; the sweep lets the others go.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    relations: BTreeMap<PlayerId, Arc<Relations>>,
    changes: u64,
}

impl Cache {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("no holder panics")
    }

    fn get(&self, player: PlayerId) -> (Option<Arc<Relations>>, u64) {
        let kept = self.kept();
        (kept.relations.get(&player).cloned(), kept.changes)
    }

    fn keep(&self, player: PlayerId, relations: &Arc<Relations>, changes: u64) {
        let mut kept = self.kept();
        if kept.changes == changes {
            kept.relations.insert(player, relations.clone());
        }
    }

    /// The relation of two players has changed, or may have.
    pub(crate) fn changed(&self, one: PlayerId, other: PlayerId) {
        let mut kept = self.kept();
        kept.changes += 1;
        kept.relations.remove(&one);
        kept.relations.remove(&other);
    }

    pub(crate) fn retain(&self, mut keep: impl FnMut(PlayerId) -> bool) {
        self.kept().relations.retain(|player, _| keep(*player));
    }
}

impl Center {
    /// The relations of a player.
    ///
    /// # Errors
    /// When they are not kept, and dc does not answer.
    pub(crate) async fn relations(&self, player: PlayerId) -> Result<Arc<Relations>, CallError> {
        let (kept, changes) = self.relations.get(player);
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let relations = Arc::new(self.dc(&RelationList { player: player.0 }).await?);
        self.relations.keep(player, &relations, changes);
        Ok(relations)
    }

    /// Tells those who have the player as a friend that it came or went. Not those whom the player blocks.
    pub(crate) async fn tell_friends(&self, player: PlayerId, name: &str, online: bool) {
        let relations = match self.relations(player).await {
            Ok(relations) => relations,
            Err(err) => return tracing::warn!(%player, "failed to tell the friends: {err}"),
        };
        let notice = FriendNotice { name: name.into(), online };
        for friend in relations.befriended_by.iter().map(|friend| PlayerId(*friend)) {
            let presence = self.presence();
            // Changed again meanwhile: a newer notice tells the truth.
            if presence.players.get(player).is_some_and(|known| known.online) != online {
                return;
            }
            let route = presence.route(friend);
            drop(presence);
            if let Some((gate, session)) = route.filter(|_| to(&relations, friend) != Relation::Block) {
                self.tell(&gate, session, 0, &notice);
                metrics::counter!("paifang_center_friend_notices_total").increment(1);
            }
        }
    }
}

/// How the player of these relations stands to another.
pub(crate) fn to(relations: &Relations, other: PlayerId) -> Relation {
    relations.outgoing.iter().find(|to| to.player == other.0).map_or(Relation::Unspecified, proto::internal::RelationTo::relation)
}

/// Whether either blocks the other.
pub(crate) fn is_blocked(relations: &Relations, other: PlayerId) -> bool {
    to(relations, other) == Relation::Block || relations.blocked_by.contains(&other.0)
}

#[cfg(test)]
mod tests {
    use proto::internal::RelationTo;

    use super::*;

    fn relations() -> Relations {
        let to = |player, relation: Relation| RelationTo { player, name: format!("P{player}"), relation: relation.into() };
        Relations { outgoing: vec![to(2, Relation::Friend), to(3, Relation::Block)], befriended_by: vec![2], blocked_by: vec![4] }
    }

    #[test]
    fn a_block_counts_in_either_direction() {
        let relations = relations();
        assert!(!is_blocked(&relations, PlayerId(2)));
        assert!(is_blocked(&relations, PlayerId(3)));
        assert!(is_blocked(&relations, PlayerId(4)));
    }

    #[test]
    fn an_answer_from_before_a_change_is_not_kept() {
        let cache = Cache::default();
        let answer = Arc::new(relations());
        let (_, before) = cache.get(PlayerId(1));
        cache.changed(PlayerId(7), PlayerId(1));
        cache.keep(PlayerId(1), &answer, before);
        assert_eq!(cache.get(PlayerId(1)).0, None);
        let (_, now) = cache.get(PlayerId(1));
        cache.keep(PlayerId(1), &answer, now);
        assert_eq!(cache.get(PlayerId(1)).0, Some(answer));
        cache.retain(|_| false);
        assert_eq!(cache.get(PlayerId(1)).0, None);
    }
}
