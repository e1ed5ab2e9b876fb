use proptest::prelude::*;
use proto::client::EntityLeft;

use super::*;

fn entity(number: u32, x: i32) -> Entity {
    Entity { entity: number, position: Some(Position { x, y: 0 }), ..Entity::default() }
}

fn snapshot(cell: u32, entities: Vec<Entity>) -> CellSnapshot {
    CellSnapshot { cell, tick: 1, entities }
}

fn moves(cell: u32, entity: u32, x: i32) -> CellMoves {
    CellMoves { cell, tick: 2, entity: vec![entity], x: vec![x], y: vec![0], keyframe: false }
}

fn left(cell: u32, entity: u32, to_cell: Option<u32>) -> CellChanges {
    CellChanges { cell, left: vec![EntityLeft { entity, to_cell }], ..CellChanges::default() }
}

fn came(cell: u32, entity: Entity) -> CellChanges {
    CellChanges { cell, entered: vec![entity], ..CellChanges::default() }
}

fn x_of(view: &WorldView, entity: u32) -> Option<i32> {
    view.get(entity)?.entity.position.map(|position| position.x)
}

#[test]
fn an_entity_crosses_cells_in_either_order_of_the_news() {
    for came_first in [true, false] {
        let mut view = WorldView::default();
        view.snapshot(&snapshot(1, vec![entity(7, 10)]));
        view.snapshot(&snapshot(2, vec![]));
        let mut news = [came(2, entity(7, 30)), left(1, 7, Some(2))];
        if !came_first {
            news.reverse();
        }
        news.iter().for_each(|changes| view.changes(changes));
        assert_eq!(view.get(7).unwrap().cell, 2);
        assert_eq!(x_of(&view, 7), Some(30));
    }
}

#[test]
fn who_leaves_for_a_cell_out_of_sight_is_gone() {
    let mut view = WorldView::default();
    view.snapshot(&snapshot(1, vec![entity(7, 10), entity(8, 10)]));
    view.changes(&left(1, 7, Some(99)));
    view.changes(&left(1, 8, None));
    assert_eq!(view.entities().count(), 0);
}

#[test]
fn old_moves_are_ignored_and_counted() {
    let mut view = WorldView::default();
    view.snapshot(&snapshot(1, vec![]));
    view.snapshot(&snapshot(2, vec![entity(7, 30)]));
    view.moves(&moves(1, 7, 5));
    view.moves(&moves(1, 42, 5));
    assert_eq!(x_of(&view, 7), Some(30));
    assert_eq!(view.ignored_moves(), 2);
    view.moves(&moves(2, 7, 31));
    assert_eq!(x_of(&view, 7), Some(31));
}

#[test]
fn a_change_of_looks_that_another_cell_tells_is_old_news() {
    let mut view = WorldView::default();
    view.snapshot(&snapshot(1, vec![]));
    view.snapshot(&snapshot(2, vec![entity(7, 30)]));
    view.changes(&CellChanges { cell: 1, changed: vec![entity(7, 1)], ..CellChanges::default() });
    assert_eq!(x_of(&view, 7), Some(30));
    view.changes(&CellChanges { cell: 2, changed: vec![Entity { hp: 3, ..entity(7, 30) }], ..CellChanges::default() });
    assert_eq!(view.get(7).unwrap().entity.hp, 3);
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
    Left(u32, u32, Option<u32>),
    Moves(u32, u32, i32),
    Gone(u32),
}

fn news() -> impl Strategy<Value = News> {
    let cell = 0u32..4;
    let number = 0u32..6;
    prop_oneof![
        (cell.clone(), proptest::collection::vec(number.clone(), 0..4)).prop_map(|(cell, who)| News::Snapshot(cell, who)),
        (cell.clone(), number.clone()).prop_map(|(cell, who)| News::Came(cell, who)),
        (cell.clone(), number.clone(), proptest::option::of(cell.clone())).prop_map(|(cell, who, to)| News::Left(cell, who, to)),
        (cell.clone(), number, any::<i32>()).prop_map(|(cell, who, x)| News::Moves(cell, who, x)),
        cell.prop_map(News::Gone),
    ]
}

proptest! {
    /// Whatever comes in whatever order: nobody stands in a cell that has gone, and only a cell that told of an entity has it.
    #[test]
    fn everybody_stands_in_a_cell_that_told_of_them(all in proptest::collection::vec(news(), 0..60)) {
        let mut view = WorldView::default();
        for one in all {
            match one {
                News::Snapshot(cell, who) => {
                    view.snapshot(&snapshot(cell, who.iter().map(|number| entity(*number, 0)).collect()));
                    for number in who {
                        prop_assert_eq!(view.get(number).map(|seen| seen.cell), Some(cell));
                    }
                }
                News::Came(cell, who) => {
                    view.changes(&came(cell, entity(who, 0)));
                    prop_assert_eq!(view.get(who).map(|seen| seen.cell), Some(cell));
                }
                News::Left(cell, who, to) => {
                    let before = view.get(who).cloned();
                    view.changes(&left(cell, who, to));
                    if before.as_ref().is_some_and(|seen| seen.cell != cell) {
                        prop_assert_eq!(view.get(who).cloned(), before);
                    } else if to.is_none() {
                        prop_assert!(view.get(who).is_none());
                    }
                }
                News::Moves(cell, who, x) => {
                    let before = (view.entities().count(), view.ignored_moves());
                    view.moves(&moves(cell, who, x));
                    let moved = x_of(&view, who) == Some(x) && view.get(who).is_some_and(|seen| seen.cell == cell);
                    prop_assert!(moved || view.ignored_moves() == before.1 + 1);
                    prop_assert_eq!(view.entities().count(), before.0);
                }
                News::Gone(cell) => {
                    view.gone(&CellGone { cell });
                    prop_assert!(view.entities.values().all(|seen| seen.cell != cell));
                    prop_assert!(!view.cells().contains(&cell));
                }
            }
        }
    }
}
