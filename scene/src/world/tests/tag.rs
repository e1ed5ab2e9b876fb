//! Another game.

use prost::Message;
use proto::{
    ClientMessage,
    client::{self, Attack, Fault, FaultCode},
};

use crate::rules::{Character, Ctx, Entity, EntityId, Kind, Looks, MapFacts, Position, Request, Rules, StateHash};

/// A game of tag, to show that another game takes the place of the example: who is it has level 1, and a ball rolls about.
struct Tag {
    it: Option<EntityId>,
    ball: Option<EntityId>,
}

pub(super) fn open_tag(_: &MapFacts<'_>) -> anyhow::Result<Box<dyn Rules>> {
    Ok(Box::new(Tag { it: None, ball: None }))
}

impl Rules for Tag {
    fn opened(&mut self, _: &mut Ctx<'_>) {}
    fn admit(&self, _: &mut Character) {}
    fn looks(&self, _: &Character) -> Looks {
        Looks::default()
    }
    fn sheet(&self, character: &Character) -> client::Sheet {
        client::Sheet { coins: character.coins, ..client::Sheet::default() }
    }
    fn may_walk(&self, _: &Entity) -> bool {
        true
    }
    fn entered(&mut self, ctx: &mut Ctx<'_>, entity: EntityId) {
        if self.it.is_none() {
            self.it = Some(entity);
            ctx.set_looks(entity, Looks { level: 1, ..Looks::default() });
        }
    }
    fn left(&mut self, _: &mut Ctx<'_>, entity: EntityId) {
        self.it = self.it.filter(|it| *it != entity);
    }
    fn moved(&mut self, _: &mut Ctx<'_>, _: EntityId) {}
    fn request(&mut self, ctx: &mut Ctx<'_>, entity: EntityId, request: &Request) -> Result<(), Fault> {
        if request.kind != Attack::KIND || self.it != Some(entity) {
            return Err(Fault::new(FaultCode::NotNow, "you are not it"));
        }
        let touched = EntityId(Attack::decode(request.body.clone()).map_or(0, |attack| attack.entity));
        if ctx.entity(touched).and_then(Entity::player).is_none() {
            return Err(Fault::new(FaultCode::NotFound, "whom?"));
        }
        ctx.set_looks(entity, Looks::default());
        ctx.set_looks(touched, Looks { level: 1, ..Looks::default() });
        self.it = Some(touched);
        Ok(())
    }
    fn tick(&mut self, ctx: &mut Ctx<'_>) {
        let at = Position { x: i32::try_from(ctx.below(10_000)).unwrap(), y: i32::try_from(ctx.below(10_000)).unwrap() };
        match (ctx.tick() % 4, self.ball) {
            (0, Some(ball)) => {
                ctx.despawn(ball);
                self.ball = None;
            }
            (_, Some(ball)) => ctx.walk(ball, at),
            (_, None) => self.ball = Some(ctx.spawn(Kind::Npc, "ball", at, Looks::default())),
        }
    }
    fn hash(&self, to: &mut StateHash) {
        use std::hash::Hash;
        (self.it, self.ball).hash(to);
    }
}
