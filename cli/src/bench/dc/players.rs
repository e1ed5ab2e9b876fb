//! The players that are saved: made once, owned by the scenes of the benchmark, with records of a wanted size.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use prost::Message;
use proto::{
    client::{Item, Position},
    internal::{AccountCreate, CallFaultCode, Commit, CommitUnit, Durability, PlayerClaim, PlayerSave, RoleCreate},
    record::PlayerRecord,
};
use service::Link;

/// How long one call may take.
pub(super) const CALL_WITHIN: Duration = Duration::from_secs(30);
/// Who owns the players.
const OWNER: &str = "scene-1/1";
/// Roles of an account.
const ROLES: u32 = 100;
/// Calls under way while players are made.
const MAKING: usize = 256;
/// Bytes of a record for every item that it has, about: 512 bytes are a sheet and four items.
const BYTES_PER_ITEM: usize = 128;

/// Makes players, and claims them: one save each, as dc has it now.
pub(super) async fn make(link: &Link, count: usize) -> anyhow::Result<Vec<PlayerSave>> {
    let accounts = count.div_ceil(ROLES as usize);
    let made = stream::iter(0..accounts).map(|account| make_account(link, account)).buffered(MAKING);
    let accounts: Vec<u64> = made.try_collect().await.context("make accounts")?;
    let made = stream::iter(0..count).map(|player| make_player(link, accounts[player / ROLES as usize], player)).buffered(MAKING);
    made.try_collect().await.context("make players")
}

async fn make_account(link: &Link, number: usize) -> anyhow::Result<u64> {
    let create = AccountCreate { name: format!("account{number}"), password_hash: "-".into() };
    Ok(link.call(&create, CALL_WITHIN).await?.account)
}

async fn make_player(link: &Link, account: u64, number: usize) -> anyhow::Result<PlayerSave> {
    let record = PlayerRecord { account, name: format!("Player{number}"), ..sheet() };
    let made = link.call(&RoleCreate { record: Some(record), roles_max: ROLES }, CALL_WITHIN).await?;
    let player = made.role.context("a role without a number")?.player;
    let held = link.call(&PlayerClaim { player, owner: OWNER.into() }, CALL_WITHIN).await?;
    Ok(PlayerSave { player, owner: OWNER.into(), epoch: held.epoch, version: held.version, record: held.record })
}

/// What every record has.
fn sheet() -> PlayerRecord {
    PlayerRecord {
        map: "meadow".into(),
        line: 1,
        position: Some(Position { x: 12_345, y: 54_321 }),
        level: 12,
        experience: 34_567,
        coins: 1_000_000,
        hp: 200,
        created_ms: 1_790_000_000_000,
        seen_ms: 1_790_000_000_000,
        ..PlayerRecord::default()
    }
}

/// Gives a record items, and the rules' bytes up to `bytes` encoded.
pub(super) fn grow(save: &mut PlayerSave, bytes: usize) {
    let Some(known) = save.record.take() else { return };
    let item = |item: usize| {
        let id = u128::from(save.player) << 64 | item as u128;
        Item { id: id.to_be_bytes().to_vec().into(), kind: format!("item-{item}"), count: 1 }
    };
    let items = (0..bytes / BYTES_PER_ITEM).map(item).collect();
    let mut grown = PlayerRecord { player: known.player, account: known.account, name: known.name, items, ..sheet() };
    // The tag and the length of the rules' bytes take up to three themselves.
    let missing = bytes.saturating_sub(grown.encoded_len() + 3);
    grown.rules = vec![0x5a; missing].into();
    save.record = Some(grown);
}

/// What came of a call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Saves that were acknowledged, or records that were read.
    pub taken: u64,
    /// Saves that dc had no room for.
    pub refused: u64,
}

/// Players that are saved in one call, again and again.
pub(super) struct Group {
    commit: Commit,
}

impl Group {
    /// Each save is a unit.
    pub(super) fn new(saves: Vec<PlayerSave>, class: Durability) -> Self {
        let unit = |save| CommitUnit { saves: vec![save], ..CommitUnit::default() };
        Self { commit: Commit { units: saves.into_iter().map(unit).collect(), durability: class.into() } }
    }

    /// How many saves a call has.
    pub(super) fn len(&self) -> usize {
        self.commit.units.len()
    }

    /// Saves the next version of all. What dc has no room for counts as refused; its player has the same version in the next call.
    pub(super) async fn save(&mut self, link: &Link) -> anyhow::Result<Tally> {
        for save in self.commit.units.iter_mut().flat_map(|unit| &mut unit.saves) {
            save.version += 1;
            if let Some(record) = &mut save.record {
                record.coins ^= 1; // as many bytes, and not what dc has
            }
        }
        let answer = link.call(&self.commit, CALL_WITHIN).await?;
        let mut tally = Tally { taken: self.len() as u64, refused: 0 };
        for (unit, result) in self.commit.units.iter_mut().zip(&answer.units).filter(|(_, result)| result.refused != 0) {
            ensure!(result.refused() == CallFaultCode::CallUnavailable, "dc refuses a save: {}", result.text);
            unit.saves.iter_mut().for_each(|save| save.version -= 1);
            tally = Tally { taken: tally.taken - 1, refused: tally.refused + 1 };
        }
        Ok(tally)
    }

    /// The saves, to be grouped otherwise.
    pub(super) fn into_saves(self) -> impl Iterator<Item = PlayerSave> {
        self.commit.units.into_iter().flat_map(|unit| unit.saves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_the_wanted_size() {
        for bytes in [128, 512, 2048] {
            let record = PlayerRecord { player: 7, account: 3, name: "Player7".into(), ..sheet() };
            let mut save = PlayerSave { player: 7, record: Some(record), ..PlayerSave::default() };
            grow(&mut save, bytes);
            let length = save.record.unwrap().encoded_len();
            assert!(length.abs_diff(bytes) <= 3, "{length} for {bytes}");
        }
    }
}
