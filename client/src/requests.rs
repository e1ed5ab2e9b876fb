//! Everything that a client may ask of the zone, one method each. Units as in `client.proto`: centimetres and milliseconds.
//!
//! Methods that give back a message wait for the zone's answer. The others give back the number of what they sent: if the zone refuses
//! it, [`crate::Event::Fault`] names that number; what comes of it arrives as other events.

use bytes::Bytes;
use proto::client::{self, Friends, LoggedIn, Position, Role};

use crate::{client::Client, fault::RequestError};

/// What a request that waits for its answer gives.
type Answered<A> = Result<A, RequestError>;
/// The number of a message that has no answer of its own.
type Sent = Result<u32, RequestError>;

/// Accounts and roles.
impl Client {
    /// Makes an account, where the zone lets clients do so. May have to wait, as [`Client::login`].
    ///
    /// # Errors
    /// `NAME_TAKEN`, `INVALID`, `REGISTRATION_CLOSED`, and all that [`Client::request`] has.
    pub async fn register(&self, account: &str, password: &str) -> Answered<()> {
        let register = client::Register { account: account.into(), password: password.into() };
        self.request_in_queue::<_, client::Registered>(&register).await.map(drop)
    }

    /// Logs in. A session that the account has elsewhere ends. When many log in, or the zone is full, this waits, and
    /// [`crate::Event::Queued`] tells how it stands; a program that does not want to wait drops the future and the client.
    ///
    /// # Errors
    /// `BAD_CREDENTIALS`, `BANNED`, `BUSY`, and all that [`Client::request`] has.
    pub async fn login(&self, account: &str, password: &str) -> Answered<LoggedIn> {
        self.request_in_queue(&client::Login { account: account.into(), password: password.into() }).await
    }

    /// The account's characters.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn list_roles(&self) -> Answered<Vec<Role>> {
        self.request::<_, client::RoleList>(&client::ListRoles {}).await.map(|list| list.roles)
    }

    /// Makes a character.
    ///
    /// # Errors
    /// `NAME_TAKEN`, `INVALID`, `ROLE_LIMIT`, and all that [`Client::request`] has.
    pub async fn create_role(&self, name: &str) -> Answered<Role> {
        let created: client::RoleCreated = self.request(&client::CreateRole { name: name.into() }).await?;
        created.role.ok_or(RequestError::Unexpected { request: "CreateRole", answer: "RoleCreated without a role" })
    }

    /// Deletes a character, with all that it has.
    ///
    /// # Errors
    /// `NOT_FOUND`, and all that [`Client::request`] has.
    pub async fn delete_role(&self, player: u64) -> Answered<()> {
        self.request::<_, client::RoleDeleted>(&client::DeleteRole { player }).await.map(drop)
    }

    /// Steps into the world, where the character left it. `Entered` is an event too, so that whoever follows the events misses nothing.
    ///
    /// # Errors
    /// `NOT_FOUND`, `UNAVAILABLE`, and all that [`Client::request`] has.
    pub async fn enter(&self, player: u64) -> Answered<client::Entered> {
        self.request(&client::Enter { player }).await
    }

    /// Logs out: the character leaves the world at once, and the gate closes the connection.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn bye(&self) -> Result<(), RequestError> {
        self.send(&client::Bye {}).await.map(drop)
    }
}

/// The world.
impl Client {
    /// Moves the character. `Corrected` says if that was too fast or off the map.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn move_to(&self, x: i32, y: i32) -> Sent {
        self.send(&client::Move { to: Some(Position { x, y }) }).await
    }

    /// Says something to everybody near.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn say(&self, text: &str) -> Sent {
        self.send(&client::Say { text: text.into() }).await
    }

    /// Strikes at an entity.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn attack(&self, entity: u32) -> Sent {
        self.send(&client::Attack { entity }).await
    }

    /// Uses an item up. `SheetChanged` tells when it is safe.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn use_item(&self, item: Bytes) -> Sent {
        self.send(&client::UseItem { item }).await
    }

    /// Hands coins, an item, or both to a player near: both or neither. `SheetChanged` tells when it is safe.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn give(&self, entity: u32, coins: u64, item: Option<Bytes>) -> Sent {
        self.send(&client::Give { entity, coins, item: item.unwrap_or_default() }).await
    }

    /// Steps through the portal that the character stands at. `Entered` follows.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn use_portal(&self) -> Sent {
        self.send(&client::UsePortal {}).await
    }
}

/// Other players.
impl Client {
    /// Says something to one player, anywhere in the zone.
    ///
    /// # Errors
    /// `NOT_FOUND`, `BLOCKED`, `MUTED`, and all that [`Client::request`] has.
    pub async fn whisper(&self, to: &str, text: &str) -> Answered<client::Whispered> {
        self.request(&client::Whisper { to: to.into(), text: text.into() }).await
    }

    /// Says something to the whole zone.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn world_chat(&self, text: &str) -> Sent {
        self.send(&client::WorldChat { text: text.into() }).await
    }

    /// The character's friends and blocks.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn friends(&self) -> Answered<Friends> {
        self.request(&client::FriendList {}).await
    }

    /// Takes a player among the friends.
    ///
    /// # Errors
    /// `NOT_FOUND`, `BLOCKED`, and all that [`Client::request`] has.
    pub async fn add_friend(&self, name: &str) -> Answered<Friends> {
        self.request(&client::FriendAdd { name: name.into() }).await
    }

    /// Ends a friendship.
    ///
    /// # Errors
    /// `NOT_FOUND`, and all that [`Client::request`] has.
    pub async fn remove_friend(&self, name: &str) -> Answered<Friends> {
        self.request(&client::FriendRemove { name: name.into() }).await
    }

    /// Blocks a player; ends the friendship, if there is one.
    ///
    /// # Errors
    /// `NOT_FOUND`, and all that [`Client::request`] has.
    pub async fn block(&self, name: &str) -> Answered<Friends> {
        self.request(&client::FriendBlock { name: name.into() }).await
    }

    /// Lifts a block.
    ///
    /// # Errors
    /// `NOT_FOUND`, and all that [`Client::request`] has.
    pub async fn unblock(&self, name: &str) -> Answered<Friends> {
        self.request(&client::FriendUnblock { name: name.into() }).await
    }
}

/// Parties. `PartyState` tells every member of every change, as an event.
impl Client {
    /// Asks a player who is in the world into the party; who has none begins one with it.
    ///
    /// # Errors
    /// `NOT_FOUND`, `BLOCKED`, `NOT_NOW` when the party is full or another leads it, and all that [`Client::request`] has.
    pub async fn party_invite(&self, name: &str) -> Answered<()> {
        self.request::<_, client::PartyInvited>(&client::PartyInvite { name: name.into() }).await.map(drop)
    }

    /// Takes an invitation.
    ///
    /// # Errors
    /// `NOT_FOUND` when none of this player stands, `NOT_NOW`, and all that [`Client::request`] has.
    pub async fn party_accept(&self, from: &str) -> Answered<client::PartyState> {
        self.request(&client::PartyAccept { from: from.into() }).await
    }

    /// Does not take an invitation.
    ///
    /// # Errors
    /// `NOT_FOUND`, and all that [`Client::request`] has.
    pub async fn party_decline(&self, from: &str) -> Answered<()> {
        self.request::<_, client::PartyDeclined>(&client::PartyDecline { from: from.into() }).await.map(drop)
    }

    /// Leaves the party.
    ///
    /// # Errors
    /// `NOT_NOW` when there is none, and all that [`Client::request`] has.
    pub async fn party_leave(&self) -> Answered<()> {
        self.request::<_, client::PartyState>(&client::PartyLeave {}).await.map(drop)
    }

    /// Sends a member away.
    ///
    /// # Errors
    /// `NOT_FOUND`, `NOT_NOW` when another leads the party, and all that [`Client::request`] has.
    pub async fn party_kick(&self, name: &str) -> Answered<client::PartyState> {
        self.request(&client::PartyKick { name: name.into() }).await
    }

    /// Lets another member lead the party.
    ///
    /// # Errors
    /// As [`Client::party_kick`].
    pub async fn party_lead(&self, name: &str) -> Answered<client::PartyState> {
        self.request(&client::PartyLead { name: name.into() }).await
    }

    /// Says something to the party.
    ///
    /// # Errors
    /// `NOT_NOW` when there is none, `MUTED`, and all that [`Client::request`] has.
    pub async fn party_chat(&self, text: &str) -> Answered<()> {
        self.request::<_, client::PartyChatted>(&client::PartyChat { text: text.into() }).await.map(drop)
    }
}

/// Lines of the map.
impl Client {
    /// The open lines of the map that the character is on.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn lines(&self) -> Answered<client::Lines> {
        self.request(&client::LineList {}).await
    }

    /// Goes to another line, to the same place. `Entered` tells of the arrival.
    ///
    /// # Errors
    /// `NOT_FOUND`, `NOT_NOW` in a fight or a trade, when the line is full or when the last change is less than ten seconds ago, and all
    /// that [`Client::request`] has.
    pub async fn change_line(&self, line: u32) -> Answered<()> {
        self.request::<_, client::LineChanged>(&client::LineChange { line }).await.map(drop)
    }
}

/// Trade. `TradeState` tells both of every change; the end is `TradeSettled` or `TradeEnded`, as events.
impl Client {
    /// Opens a trade with a player who is in the world, wherever it is. `id`: 16 random bytes, which name the trade for ever.
    ///
    /// # Errors
    /// `NOT_FOUND`, `BLOCKED`, `NOT_NOW`, and all that [`Client::request`] has.
    pub async fn trade_open(&self, id: Bytes, with: &str) -> Answered<client::TradeState> {
        self.request(&client::TradeOpen { id, with: with.into() }).await
    }

    /// Offers coins and items, in place of what was offered before. Nobody has confirmed that.
    ///
    /// # Errors
    /// `NOT_FOUND`, `NOT_NOW`, and all that [`Client::request`] has.
    pub async fn trade_set(&self, id: Bytes, coins: u64, items: Vec<Bytes>) -> Answered<client::TradeState> {
        self.request(&client::TradeSet { id, coins, items }).await
    }

    /// Agrees to what both offer in this revision.
    ///
    /// # Errors
    /// `NOT_FOUND`, `NOT_NOW` when the offers have changed, and all that [`Client::request`] has.
    pub async fn trade_confirm(&self, id: Bytes, revision: u32) -> Answered<client::TradeState> {
        self.request(&client::TradeConfirm { id, revision }).await
    }

    /// Leaves the trade, as long as not both have confirmed.
    ///
    /// # Errors
    /// `NOT_FOUND`, `NOT_NOW`, and all that [`Client::request`] has.
    pub async fn trade_cancel(&self, id: Bytes) -> Answered<client::TradeEnded> {
        self.request(&client::TradeCancel { id }).await
    }
}

/// Mail.
impl Client {
    /// Sends coins and items to a player, in the world or not; safe when this returns. `id`: 16 random bytes, which name the mail for
    /// ever: sent again with the same id it is sent once.
    ///
    /// # Errors
    /// `NOT_FOUND`, `BLOCKED`, `NOT_NOW`, `INVALID`, and all that [`Client::request`] has.
    pub async fn mail_send(&self, id: Bytes, to: &str, text: &str, coins: u64, items: Vec<Bytes>) -> Answered<()> {
        let send = client::MailSend { id, to: to.into(), text: text.into(), coins, items };
        self.request::<_, client::MailSent>(&send).await.map(drop)
    }

    /// What waits for the character, oldest first.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn mails(&self) -> Answered<Vec<client::Mail>> {
        self.request::<_, client::Mails>(&client::MailList {}).await.map(|mails| mails.mails)
    }

    /// Takes what a mail holds; safe when this returns.
    ///
    /// # Errors
    /// `NOT_FOUND` when it was taken before, `NOT_NOW`, and all that [`Client::request`] has.
    pub async fn mail_take(&self, id: Bytes) -> Answered<client::MailTaken> {
        self.request(&client::MailTake { id }).await
    }
}
