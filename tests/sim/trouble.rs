//! What goes wrong in a world, what people ask for, and how it becomes calm.

use std::rc::Rc;
use std::sync::Arc;

use steward_hub::flow::bridges::Wish;
use steward_hub::flow::runs::RunRequest;

use super::faults::Fault;
use super::setting::{REMOTE, TASKS, USER, setting};
use super::wire::Parcel;
use super::world::{Event, SETTLED_WITHIN, World};

const TARGETS: [&str; 5] = ["one", "two", "three", "four", "five"];

impl World {
    /// Something goes wrong.
    pub(crate) fn fault(&mut self) {
        if self.calm.is_some() {
            return;
        }
        let next = self.dice.between(100, self.plan.every);
        self.after(next, Event::Fault);
        let Some(fault) = self
            .plan
            .faults
            .get(self.dice.place(self.plan.faults.len()))
            .copied()
        else {
            return;
        };
        let at = self.dice.place(self.bridges.len());
        self.census.fault(&format!("{fault:?}"));
        self.trace.note(|| format!("{fault:?}, bridge {at}"));
        self.inject(fault, at);
    }

    fn inject(&mut self, fault: Fault, at: usize) {
        match fault {
            Fault::Break => {
                let connection = self.bridges[at]
                    .alive
                    .as_ref()
                    .and_then(|runner| runner.connection);
                let told = self.dice.chance(300);
                if let Some(id) = connection {
                    self.break_off(id, told);
                }
            }
            Fault::Partition => self.cut(at, true, true),
            Fault::OneWay => {
                let up = self.dice.chance(500);
                self.cut(at, up, !up);
            }
            Fault::Swizzle => {
                for at in 0..self.bridges.len() {
                    self.cut(at, true, true);
                }
            }
            Fault::HubKill => self.kill_hub(None),
            Fault::HubPause => self.hub_paused = self.time.now() + self.dice.between(200, 30_000),
            Fault::HubClock => {
                let ahead = self.jump();
                self.hub.clocks.set_ahead(ahead);
            }
            Fault::RunnerKill => self.kill_runner(at),
            Fault::Reboot => {
                self.kill_runner(at);
                self.bridges[at].boot_id = self.dice.bytes();
                self.bridges[at].clocks.boot_anew();
            }
            Fault::BridgePause => {
                let pause = self.dice.between(200, 30_000);
                self.bridges[at].paused = self.time.now() + pause;
            }
            Fault::BridgeClock => {
                let ahead = self.jump();
                self.bridges[at].clocks.set_ahead(ahead);
            }
            Fault::DiskRestored => self.restore(at),
            Fault::Replay => self.replay(),
            Fault::Lock => {
                let orders = &mut self.bridges[at].orders;
                orders.locked = !orders.locked;
            }
            Fault::Policy => {
                let rules = &setting().rules;
                self.bridges[at].orders.policy = Arc::clone(&rules[self.dice.place(rules.len())]);
            }
            Fault::Drain => {
                let wish = if self.dice.chance(500) {
                    Wish::Drain
                } else {
                    Wish::Resume
                };
                self.wish(at, wish);
            }
            Fault::Revoke => self.wish(at, Wish::Revoke),
            Fault::Cancel => self.ask_again(true),
            Fault::Rerun => self.ask_again(false),
        }
    }

    /// A wall clock's error: seconds, an hour and more, or days.
    fn jump(&mut self) -> i64 {
        let size = match self.dice.below(4) {
            0 => 0,
            1 => self.dice.between(1, 60_000),
            2 => self.dice.between(60_000, 2 * 3_600_000),
            _ => self.dice.between(20 * 3_600_000, 30 * 3_600_000),
        };
        let size = i64::try_from(size).unwrap();
        if self.dice.chance(500) { size } else { -size }
    }

    fn cut(&mut self, at: usize, up: bool, down: bool) {
        self.wire.cut_up[at] |= up;
        self.wire.cut_down[at] |= down;
        let heals = self.dice.between(200, 40_000);
        self.after(heals, Event::Heal(at));
    }

    /// A bridge can be reached again.
    pub(crate) fn heal(&mut self, at: usize) {
        self.wire.cut_up[at] = false;
        self.wire.cut_down[at] = false;
    }

    /// Keeps a bridge's disk as it is now.
    pub(crate) fn snapshot(&mut self, at: usize) {
        let bridge = &mut self.bridges[at];
        if let Some(runner) = &bridge.alive {
            bridge.snapshot = Some(bridge.disk.copied(runner.book().connection()));
        }
    }

    fn restore(&mut self, at: usize) {
        let Some(snapshot) = self.bridges[at].snapshot.take() else {
            return;
        };
        self.kill_runner(at);
        let bridge = &mut self.bridges[at];
        if let (Some(old), Some(new)) = (&snapshot.journal, &bridge.disk.journal) {
            let name = bridge.enrolled.id.to_string();
            self.witness
                .restored(&self.hub.database.lock().unwrap(), &name, old, new);
        }
        bridge.disk = snapshot;
    }

    /// Somebody carries again what was carried before.
    fn replay(&mut self) {
        let place = self.dice.place(self.wire.copies.len());
        let Some((at, parcel)) = self.wire.copies.get(place).cloned() else {
            return;
        };
        let Some(runner) = &self.bridges[at].alive else {
            return;
        };
        let Some(id) = runner.connection else { return };
        match parcel {
            Parcel::Down(frame) => self.hand_over(at, frame),
            Parcel::Up(frame) => {
                if let Some(process) = &self.hub.alive {
                    process.frame(id, frame);
                }
            }
            Parcel::Output(..) | Parcel::Close => {}
        }
    }

    /// An admin wants something of a bridge.
    fn wish(&self, at: usize, wish: Wish) {
        let Some(process) = &self.hub.alive else {
            return;
        };
        let (flow, name) = (process.flow.clone(), self.bridges[at].enrolled.name.clone());
        process.tasks.spawner().spawn(async move {
            flow.set_bridge(USER, &name, wish).await.ok();
        });
    }

    /// A user cancels or repeats a run.
    fn ask_again(&mut self, cancel: bool) {
        let Some(process) = &self.hub.alive else {
            return;
        };
        let place = self.dice.place(self.runs.borrow().len());
        let Some(run) = self.runs.borrow().get(place).copied() else {
            return;
        };
        let (flow, runs) = (process.flow.clone(), Rc::clone(&self.runs));
        process.tasks.spawner().spawn(async move {
            if cancel {
                flow.cancel_run(USER, &run.to_string()).await.ok();
            } else if let Ok(run) = flow.rerun(USER, &run.to_string(), false, None).await {
                runs.borrow_mut().push(run.id);
            }
        });
    }

    /// A user starts a run.
    pub(crate) fn user(&mut self) {
        if self.calm.is_some() {
            return;
        }
        let next = self.dice.between(100, 4_000);
        self.after(next, Event::User);
        let Some(process) = &self.hub.alive else {
            return;
        };
        let count = self.dice.place(TARGETS.len()) + 1;
        let first = self.dice.place(TARGETS.len());
        let targets = (first..first + count).map(|at| TARGETS[at % TARGETS.len()].to_owned());
        let task = if self.remote && self.dice.chance(300) {
            REMOTE
        } else {
            TASKS[self.dice.place(TASKS.len())]
        };
        let request = RunRequest {
            probe: false,
            rendered: None,
            approval: None,
            task: task.to_owned(),
            inputs: std::collections::BTreeMap::new(),
            targets: targets.collect(),
            labels: std::collections::BTreeMap::new(),
            reason: String::new(),
            ticket: String::new(),
            at_once: Some(u32::try_from(self.dice.between(1, 5)).unwrap()),
            project: "default".to_owned(),
        };
        let (flow, runs) = (process.flow.clone(), Rc::clone(&self.runs));
        process.tasks.spawner().spawn(async move {
            if let Ok(run) = flow.create_run(USER, request, None).await {
                runs.borrow_mut().push(run.id);
            }
        });
    }

    /// Nothing goes wrong from now on: all is up, connected, right and allowed.
    pub(crate) fn become_calm(&mut self) {
        let now = self.time.now();
        self.calm = Some(now);
        self.trace.note(|| "it is calm from now on".to_owned());
        self.hub_paused = 0;
        self.start_hub();
        self.hub.clocks.set_ahead(0);
        for at in 0..self.bridges.len() {
            self.heal(at);
            self.bridges[at].paused = 0;
            self.bridges[at].clocks.set_ahead(0);
            self.bridges[at].orders.locked = false;
            self.bridges[at].orders.policy = Arc::clone(&setting().rules[0]);
            self.start_bridge(at);
        }
        self.after(2_000, Event::Check);
    }

    /// Is everything settled? Whatever an admin must do for that is done.
    pub(crate) fn check(&mut self) {
        let since = self.calm.unwrap_or_default();
        for at in 0..self.bridges.len() {
            self.wish(at, Wish::Resume);
        }
        let open = self.open();
        if open.is_empty() {
            self.over = true;
        } else if self.time.now() > since + SETTLED_WITHIN {
            self.witness
                .fail("I10", format!("not settled: {}", open.join(", ")));
        } else {
            self.after(5_000, Event::Check);
        }
    }
}
