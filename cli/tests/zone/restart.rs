//! What a player was told to have is there after a restart: stopped in order, and with every process killed.

use std::time::Duration;

use nix::sys::signal::Signal;
use proto::client::Sheet;

use crate::{
    harness::{Zone, signal},
    player::Player,
};

#[test]
fn zone_finds_everything_as_it_was_left_after_a_restart() {
    let owner = tempfile::tempdir().expect("make a folder");
    std::fs::write(owner.path().join("test.yaml"), crate::harness::zone_file()).expect("write the zone file");
    let zone = Zone::start_in(owner.path());
    let (sheet, at) = runtime().block_on(async {
        let mut player = Player::enter(&zone.gate(), "keeper", "Keeper").await;
        player.earn().await;
        player.settle().await;
        (player.sheet.clone(), player.at)
        // The player is still in the world when the zone stops.
    });
    assert!(zone.stop().success());

    let zone = Zone::start_in(owner.path());
    runtime().block_on(async {
        let player = Player::enter(&zone.gate(), "keeper", "Keeper").await;
        assert_kept(&sheet, &player.sheet);
        assert_eq!(player.at, at, "the character stands where it was left");
        player.leave().await;
    });
    assert!(zone.stop().success());
}

#[test]
fn zone_keeps_what_it_acknowledged_when_everything_is_killed_at_once() {
    let owner = tempfile::tempdir().expect("make a folder");
    std::fs::write(owner.path().join("test.yaml"), crate::harness::zone_file()).expect("write the zone file");
    let zone = Zone::start_in(owner.path());
    let sheet = runtime().block_on(async {
        let mut player = Player::enter(&zone.gate(), "keeper", "Keeper").await;
        player.earn().await;
        player.sheet.clone()
    });
    zone.kill_all();

    let zone = Zone::start_in(owner.path());
    runtime().block_on(async {
        let player = Player::enter(&zone.gate(), "keeper", "Keeper").await;
        assert_kept(&sheet, &player.sheet);
        player.leave().await;
    });
    assert!(zone.stop().success());
}

/// Everything that was acknowledged is there; a fight that went on may have added to it.
fn assert_kept(acknowledged: &Sheet, found: &Sheet) {
    assert!(found.coins >= acknowledged.coins, "{} coins were acknowledged, {} are there", acknowledged.coins, found.coins);
    assert!(found.experience >= acknowledged.experience && found.level >= acknowledged.level, "{acknowledged:?} became {found:?}");
    for item in &acknowledged.items {
        assert_eq!(found.items.iter().filter(|kept| kept.id == item.id).count(), 1, "{item:?} is there once: {found:?}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("start the runtime")
}

impl Zone {
    /// Kills `zone up` and every process of the zone with SIGKILL.
    fn kill_all(self) {
        let status = self.status();
        let pids: Vec<i32> = status["processes"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|process| process["pid"].as_i64())
            .map(|pid| pid as i32)
            .collect();
        assert_eq!(pids.len(), 7, "{status:#}");
        let up = self.into_up();
        signal(up.id() as i32, Signal::SIGSTOP);
        pids.iter().for_each(|pid| signal(*pid, Signal::SIGKILL));
        signal(up.id() as i32, Signal::SIGKILL);
        let mut up = up;
        up.wait().expect("wait for `zone up`");
        // Killed processes keep their locks until the kernel has ended them.
        let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
        while pids.iter().any(|pid| std::path::Path::new(&format!("/proc/{pid}/cmdline")).exists()) {
            assert!(std::time::Instant::now() < deadline, "killed processes are still there");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
