//! Tasks of a simulated process: futures that are polled one at a time, whichever the dice choose.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use super::dice::Dice;

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// Where tasks begin tasks.
#[derive(Clone, Default)]
pub(crate) struct Spawner(Rc<RefCell<Vec<Work>>>);

impl Spawner {
    /// Begins a task.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        self.0.borrow_mut().push(Box::pin(work));
    }
}

#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Task {
    work: Work,
    bell: Arc<Bell>,
    waker: Waker,
}

/// All tasks of a process. Dropping them is its death.
#[derive(Default)]
pub(crate) struct Tasks {
    tasks: Vec<Task>,
    begun: Spawner,
}

impl Tasks {
    /// Where tasks are begun.
    pub(crate) fn spawner(&self) -> Spawner {
        self.begun.clone()
    }

    /// Whether any task can go on.
    pub(crate) fn ready(&mut self) -> bool {
        self.adopt();
        self.tasks
            .iter()
            .any(|task| task.bell.0.load(Ordering::Relaxed))
    }

    /// Polls one of the tasks that can go on.
    pub(crate) fn step(&mut self, dice: &mut Dice) {
        self.adopt();
        let is_ready = |task: &Task| task.bell.0.load(Ordering::Relaxed);
        let ready = self.tasks.iter().filter(|task| is_ready(task)).count();
        let chosen = dice.place(ready);
        let mut places = (0..self.tasks.len()).filter(|at| is_ready(&self.tasks[*at]));
        let Some(at) = places.nth(chosen) else { return };
        let task = &mut self.tasks[at];
        task.bell.0.store(false, Ordering::Relaxed);
        let waker = task.waker.clone();
        if task
            .work
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready()
        {
            self.tasks.swap_remove(at);
        }
    }

    fn adopt(&mut self) {
        for work in self.begun.0.borrow_mut().drain(..) {
            let bell = Arc::new(Bell(AtomicBool::new(true)));
            let waker = Waker::from(Arc::clone(&bell));
            self.tasks.push(Task { work, bell, waker });
        }
    }
}
