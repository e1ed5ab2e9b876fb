//! What players ask of their parties, and who hears what came of it. The rules are in [`crate::presence::parties`]; a party talks in a
//! group at the gates, which has its number.

use std::sync::Arc;

use proto::{
    Frame,
    client::{
        Fault, FaultCode, PartyAccept, PartyChat, PartyChatted, PartyDecline, PartyDeclined, PartyInvite, PartyInvited, PartyKick,
        PartyLead, PartyMember, PartyState,
    },
    event::{Chat, PartyChanged, event::Body},
    ids::PlayerId,
    internal::{Relation, SceneParty},
    link::Publish,
};
use service::ProcessKind;
use tokio::time::Instant;

use crate::{
    center::{Center, subject},
    client::dc_fault,
    presence::{
        Presence, Speaker,
        parties::{Change, PartyId, PartyRefused},
    },
    relations::is_blocked,
};

impl Center {
    pub(crate) async fn party_invite(self: &Arc<Self>, speaker: &Speaker, seq: u32, invite: &PartyInvite) -> Result<(), Fault> {
        let (other, name) = self.online(&invite.name)?;
        let relations = self.relations(speaker.player).await.map_err(|err| dc_fault(&err))?;
        if is_blocked(&relations, other) {
            return Err(Fault::new(FaultCode::Blocked, format!("you can't invite {name}")));
        }
        self.presence().parties.invite(speaker.player, other, Instant::now()).map_err(|why| refused(&name, why))?;
        let invited = PartyInvited { from: speaker.name.clone(), to: name };
        self.tell_player(other, 0, &invited);
        self.tell(&speaker.gate, speaker.session, seq, &invited);
        Ok(())
    }

    pub(crate) fn party_accept(self: &Arc<Self>, speaker: &Speaker, seq: u32, accept: &PartyAccept) -> Result<(), Fault> {
        let (from, name) = self.online(&accept.from)?;
        let who = (speaker.player, speaker.name.as_str());
        let change = self.presence().parties.accept(who, (from, &name), Instant::now()).map_err(|why| refused(&name, why))?;
        self.log_party(speaker, "joined", change.party);
        self.tell_party(&change, Some((speaker.player, seq)));
        Ok(())
    }

    pub(crate) fn party_decline(&self, speaker: &Speaker, seq: u32, decline: &PartyDecline) -> Result<(), Fault> {
        let (from, name) = self.online(&decline.from)?;
        self.presence().parties.decline(speaker.player, from, Instant::now()).map_err(|why| refused(&name, why))?;
        let declined = PartyDeclined { from: name, to: speaker.name.clone() };
        self.tell_player(from, 0, &declined);
        self.tell(&speaker.gate, speaker.session, seq, &declined);
        Ok(())
    }

    pub(crate) fn party_leave(self: &Arc<Self>, speaker: &Speaker, seq: u32) -> Result<(), Fault> {
        let change = self.presence().parties.leave(speaker.player).map_err(|why| refused(&speaker.name, why))?;
        self.log_party(speaker, "left", change.party);
        self.tell_party(&change, Some((speaker.player, seq)));
        Ok(())
    }

    pub(crate) fn party_kick(self: &Arc<Self>, speaker: &Speaker, seq: u32, kick: &PartyKick) -> Result<(), Fault> {
        let (_, change) = self.presence().parties.kick(speaker.player, &kick.name).map_err(|why| refused(&kick.name, why))?;
        self.log_party(speaker, "kicked", change.party);
        self.tell_party(&change, Some((speaker.player, seq)));
        Ok(())
    }

    pub(crate) fn party_lead(self: &Arc<Self>, speaker: &Speaker, seq: u32, lead: &PartyLead) -> Result<(), Fault> {
        let change = self.presence().parties.lead(speaker.player, &lead.name).map_err(|why| refused(&lead.name, why))?;
        self.log_party(speaker, "leads", change.party);
        self.tell_party(&change, Some((speaker.player, seq)));
        Ok(())
    }

    pub(crate) fn party_chat(&self, speaker: &Speaker, seq: u32, chat: PartyChat) -> Result<(), Fault> {
        self.may_say(speaker, &chat.text)?;
        let party = self.presence().parties.of(speaker.player).map(|party| party.id);
        let party = party.ok_or_else(|| refused(&speaker.name, PartyRefused::NoParty))?;
        let chatted = PartyChatted { from: speaker.name.clone(), text: chat.text.clone() };
        self.tell(&speaker.gate, speaker.session, seq, &chatted);
        let publish = Publish { except: speaker.session.0, frame: Frame::encode(0, &chatted) };
        let number = self.next_broadcast();
        for gate in self.links_of(ProcessKind::Gate) {
            if let Err(err) = gate.group_publish(party.0, &publish).and_then(|()| gate.tick_end(number)) {
                tracing::debug!(gate = %gate.peer().id, "failed to publish to a party: {err}");
            }
        }
        self.process.events.emit(&subject(speaker), Body::Chat(Chat { channel: "party".into(), text: chat.text, to: party.0.to_string() }));
        Ok(())
    }

    /// Tells those who are in a party how it stands, and those who left that they are in none; their scenes too. `answers`: whose request
    /// this is.
    pub(crate) fn tell_party(self: &Arc<Self>, change: &Change, answers: Option<(PlayerId, u32)>) {
        let seq_of = |player| answers.filter(|(asks, _)| *asks == player).map_or(0, |(_, seq)| seq);
        for player in &change.gone {
            let route = self.presence().route(*player);
            if let Some((gate, session)) = route {
                self.at_gate(&gate, |link| link.group_leave(change.party.0, session.0));
                self.tell(&gate, session, seq_of(*player), &PartyState::default());
            }
            self.tell_scene_later(*player);
        }
        let Some(first) = change.members.first() else { return };
        let state = state_of(&self.presence(), *first);
        for player in &change.members {
            let route = self.presence().route(*player);
            if let Some((gate, session)) = route {
                self.at_gate(&gate, |link| link.group_join(change.party.0, session.0));
                self.tell(&gate, session, seq_of(*player), &state);
            }
            self.tell_scene_later(*player);
        }
    }

    /// Tells the scene that has a player whom the player is with.
    pub(crate) fn tell_scene_later(self: &Arc<Self>, player: PlayerId) {
        let center = self.clone();
        self.spawn("scene party", async move {
            let friends = match center.relations(player).await {
                Ok(relations) => relations.outgoing.iter().filter(|to| to.relation() == Relation::Friend).map(|to| to.player).collect(),
                Err(err) => {
                    tracing::debug!(%player, "dc does not say who its friends are: {err}");
                    Vec::new()
                }
            };
            let presence = center.presence();
            let party = presence.parties.of(player);
            let (party, leader) = party.map_or((0, 0), |party| (party.id.0, party.leader().0));
            let scene = presence.players.get(player).map(|known| known.place.scene.id.clone());
            drop(presence);
            if let Some(link) = scene.and_then(|scene| center.link(&scene))
                && let Err(err) = link.notify(0, &SceneParty { player: player.0, party, leader, friends })
            {
                tracing::debug!(%player, "failed to tell a scene of a party: {err}");
            }
        });
    }

    /// An online player of this name.
    fn online(&self, name: &str) -> Result<(PlayerId, String), Fault> {
        let known = self.presence().players.named(name).filter(|known| known.online).map(|known| (known.player, known.name.clone()));
        known.ok_or_else(|| Fault::new(FaultCode::NotFound, format!("{name} is not online")))
    }

    fn log_party(&self, speaker: &Speaker, what: &str, party: PartyId) {
        let leader = self.presence().parties.of(speaker.player).map(|party| party.leader_name().to_owned()).unwrap_or_default();
        let changed = PartyChanged { what: what.into(), party: party.0, leader };
        self.process.events.emit(&subject(speaker), Body::PartyChanged(changed));
        metrics::counter!("paifang_center_party_changes_total", "what" => what.to_owned()).increment(1);
    }
}

/// A player's party, as its members see it.
fn state_of(presence: &Presence, player: PlayerId) -> PartyState {
    let Some(party) = presence.parties.of(player) else { return PartyState::default() };
    let member = |member: &crate::presence::parties::Member| {
        let known = presence.players.get(member.player).filter(|known| known.online);
        PartyMember {
            name: member.name.clone(),
            level: known.map_or(0, |known| known.level),
            online: known.is_some(),
            map: known.map(|known| known.place.map.clone()).unwrap_or_default(),
            line: known.map_or(0, |known| known.place.line),
        }
    };
    PartyState { leader: party.leader_name().into(), members: party.members.iter().map(member).collect() }
}

fn refused(name: &str, why: PartyRefused) -> Fault {
    match why {
        PartyRefused::NotLeader => Fault::new(FaultCode::NotNow, "only the leader of your party may do that"),
        PartyRefused::Full => Fault::new(FaultCode::NotNow, "the party is full"),
        PartyRefused::InParty => Fault::new(FaultCode::NotNow, "you are in a party; leave it first"),
        PartyRefused::OtherInParty => Fault::new(FaultCode::NotNow, format!("{name} is in a party")),
        PartyRefused::NoParty => Fault::new(FaultCode::NotNow, "you are in no party"),
        PartyRefused::NotMember => Fault::new(FaultCode::NotFound, format!("{name} is not in your party")),
        PartyRefused::NoInvite => Fault::new(FaultCode::NotFound, format!("no invitation of {name} stands")),
        PartyRefused::TooMany => Fault::retry(FaultCode::Busy, format!("{name} has too many invitations"), 10_000),
        PartyRefused::Oneself => Fault::new(FaultCode::Invalid, "that is you"),
    }
}

#[cfg(test)]
mod tests {
    use proto::ClientMessage;

    use super::*;

    #[test]
    fn the_longest_state_fits_its_kind() {
        let name = "𠀀".repeat(16);
        let member = PartyMember { name: name.clone(), level: u32::MAX, online: true, map: "m".repeat(32), line: u32::MAX };
        let state = PartyState { leader: name, members: vec![member; 40] };
        assert!(prost::Message::encoded_len(&state) <= PartyState::INFO.body_max);
    }
}
