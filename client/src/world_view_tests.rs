use proptest::prelude::*;
use proto::{client::EntityCrossed, moves::Moved};

use super::*;

fn entity(number: u32, x: i32) -> Entity {
    Entity { entity: number, position: Some(Position { x, y: 0 }), ..Entity::default() }
}

fn snapshot(cell: u32, entities: Vec<Entity>) -> CellSnapshot {
    CellSnapshot { cell, tick: 1, entities }
}

fn moves(entity: u32, x: i32) -> CellMoves {
    CellMoves { tick: 2, moved: proto::moves::pack(&[Moved { entity, x, y: 0 }]) }
}

fn left(entity: u32) -> CellChanges {
    CellChanges { left: vec![entity], ..CellChanges::default() }
}

fn crossed(entity: u32, cell: u32) -> CellChanges {
    CellChanges { crossed: vec![EntityCrossed { entity, cell }], ..CellChanges::default() }
}

fn came(cell: u32, entity: Entity) -> CellChanges {
    CellChanges { entered: vec![Entity { cell, ..entity }], ..CellChanges::default() }
}

fn changed(entity: Entity) -> CellChanges {
    CellChanges { changed: vec![entity], ..CellChanges::default() }
}

fn x_of(view: &WorldView, entity: u32) -> Option<i32> {
    view.get(entity)?.entity.position.map(|position| position.x)
}

#[test]
fn an_entity_crosses_cells_and_goes_with_the_cell_that_it_is_in() {
    let mut view = WorldView::default();
    view.snapshot(&snapshot(1, vec![entity(7, 10)]));
    view.snapshot(&snapshot(2, vec![]));
    view.changes(&crossed(7, 2));
    assert_eq!((view.get(7).unwrap().cell, view.get(7).unwrap().entity.cell), (2, 2));
    view.gone(&CellGone { cell: 1 });
    assert_eq!(x_of(&view, 7), Some(10));
    view.gone(&CellGone { cell: 2 });
    assert!(view.get(7).is_none());
}

#[test]
fn what_is_not_known_moves_and_changes_nothing() {
    let mut view = WorldView::default();
    view.snapshot(&snapshot(1, vec![entity(7, 10)]));
    view.changes(&left(7));
    for changes in [left(7), crossed(7, 1), changed(entity(7, 10))] {
        view.changes(&changes);
    }
    view.moves(&moves(7, 5));
    assert_eq!((view.entities().count(), view.ignored_moves()), (0, 1));
    view.changes(&came(2, entity(7, 30)));
    view.moves(&moves(7, 31));
    assert_eq!(x_of(&view, 7), Some(31));
    view.changes(&changed(Entity { hp: 3, cell: 2, ..entity(7, 32) }));
    assert_eq!((view.get(7).unwrap().entity.hp, x_of(&view, 7)), (3, Some(32)));
}

#[test]
fn a_new_world_has_its_own_time() {
    let mut view = WorldView::default();
    assert_eq!(view.time_permille(), 1_000);
    view.time(TimeFactor { permille: 400 });
    assert_eq!(view.time_permille(), 400);
    view.entered(Entered::default());
    assert_eq!(view.time_permille(), 1_000);
}

#[test]
fn a_new_world_forgets_the_old_one() {
    let mut view = WorldView::default();
    view.snapshot(&snapshot(1, vec![entity(7, 10)]));
    view.entered(Entered { entity: 9, ..Entered::default() });
    assert_eq!((view.entities().count(), view.cells().len()), (0, 0));
    assert!(view.own().is_none());
    view.snapshot(&snapshot(1, vec![entity(9, 10)]));
    assert_eq!(view.own().unwrap().entity, 9);
}

#[derive(Clone, Debug)]
enum News {
    Snapshot(u32, Vec<u32>),
    Came(u32, u32),
    Left(u32),
    Crossed(u32, u32),
    Moves(u32, i32),
    Gone(u32),
}

fn news() -> impl Strategy<Value = News> {
    let cell = 0u32..4;
    let number = 1u32..6;
    prop_oneof![
        (cell.clone(), proptest::collection::vec(number.clone(), 0..4)).prop_map(|(cell, who)| News::Snapshot(cell, who)),
        (cell.clone(), number.clone()).prop_map(|(cell, who)| News::Came(cell, who)),
        number.clone().prop_map(News::Left),
        (number.clone(), cell.clone()).prop_map(|(who, cell)| News::Crossed(who, cell)),
        (number, any::<i32>()).prop_map(|(who, x)| News::Moves(who, x)),
        cell.prop_map(News::Gone),
    ]
}

proptest! {
    /// Whatever comes in whatever order: who was told of is there, in the cell that was told last, until it left or its cell has gone.
    #[test]
    fn everybody_stands_in_the_cell_that_was_told_last(all in proptest::collection::vec(news(), 0..60)) {
        let (mut view, mut known) = (WorldView::default(), BTreeMap::new());
        for one in all {
            match one {
                News::Snapshot(cell, who) => {
                    view.snapshot(&snapshot(cell, who.iter().map(|number| entity(*number, 0)).collect()));
                    known.extend(who.into_iter().map(|number| (number, cell)));
                }
                News::Came(cell, who) => {
                    view.changes(&came(cell, entity(who, 0)));
                    known.insert(who, cell);
                }
                News::Left(who) => {
                    view.changes(&left(who));
                    known.remove(&who);
                }
                News::Crossed(who, cell) => {
                    view.changes(&crossed(who, cell));
                    known.entry(who).and_modify(|stands| *stands = cell);
                }
                News::Moves(who, x) => {
                    let before = view.ignored_moves();
                    view.moves(&moves(who, x));
                    let ignored = view.ignored_moves() == before + 1;
                    prop_assert_eq!(ignored, !known.contains_key(&who));
                    prop_assert!(ignored || x_of(&view, who) == Some(x));
                }
                News::Gone(cell) => {
                    view.gone(&CellGone { cell });
                    known.retain(|_, stands| *stands != cell);
                    prop_assert!(!view.cells().contains(&cell));
                }
            }
            let stand: BTreeMap<u32, u32> = view.entities.iter().map(|(number, seen)| (*number, seen.cell)).collect();
            prop_assert_eq!(&stand, &known);
        }
    }
}
