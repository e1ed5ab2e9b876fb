//! What reaches everybody: one group at each gate, whose members are the sessions in the world.

use proto::{
    ClientMessage, Frame,
    client::Announcement,
    link::{GROUP_PUBLISH, LinkFrame, Publish},
};
use service::ProcessKind;

use crate::center::{Center, ZONE_GROUP};

impl Center {
    /// Sends a message to everybody in the world, but one session. It is encoded once.
    pub(crate) fn broadcast<M: ClientMessage>(&self, except: u64, message: &M) {
        let body = Publish { except, frame: Frame::encode(0, message) }.encode();
        let number = self.next_broadcast();
        for gate in self.links_of(ProcessKind::Gate) {
            let frame = LinkFrame { kind: GROUP_PUBLISH, flags: 0, id: ZONE_GROUP, body: body.clone() };
            if let Err(err) = gate.send(frame).and_then(|()| gate.tick_end(number)) {
                tracing::debug!(gate = %gate.peer().id, "failed to broadcast: {err}");
            }
        }
    }

    /// Tells everybody a word of the GMs; returns its number.
    pub(crate) fn announce(&self, text: &str) -> u64 {
        let id = self.next_broadcast();
        self.broadcast(0, &Announcement { id, text: text.into() });
        id
    }
}
