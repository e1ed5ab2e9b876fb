//! Mail that has come: a scene sends it through dc, and the client of who gets it hears of it here, wherever its character is.

use proto::{client::MailArrived, ids::PlayerId, internal::MailNotice};

use crate::center::Center;

impl Center {
    /// A mail is safe. Nothing depends on this word: who does not hear it finds the mail in its list.
    pub(crate) fn mail_arrived(&self, notice: MailNotice) {
        self.tell_player(PlayerId(notice.to), 0, &MailArrived { id: notice.id, from: notice.from_name });
    }
}
