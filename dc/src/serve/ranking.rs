//! Calls about rankings: dc answers them from the store, with or without a cache.

use std::sync::Arc;

use proto::internal::{RankBy, RankList, RankListed, RankRebuild, RankRebuilt};

use super::Desk;
use crate::{refusal::Refusal, store::LIST_MAX};

impl Desk {
    pub(super) async fn rank_list(self: Arc<Self>, call: RankList) -> Result<RankListed, Refusal> {
        let by = match call.by() {
            RankBy::Unspecified => return Err(Refusal::invalid("a ranking is by level or by coins")),
            by => by,
        };
        let limit = call.limit.min(LIST_MAX);
        Ok(RankListed { entries: self.read(move |reader| reader.foremost(by, limit)).await? })
    }

    pub(super) async fn rank_rebuild(self: Arc<Self>, _: RankRebuild) -> Result<RankRebuilt, Refusal> {
        let publisher = self.shared.publisher();
        if !publisher.is_open() {
            return Ok(RankRebuilt { players: 0, cached: false });
        }
        Ok(RankRebuilt { players: publisher.rebuild().await?, cached: true })
    }
}
