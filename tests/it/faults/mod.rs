//! Faults: programs that are killed or paused anywhere, networks that are cut, disks that fail; held
//! against the ledger that the commands themselves keep.

mod chaos;

mod clocks;
mod copies;
mod disk;
mod failpoints;
mod links;
mod load;
mod nth;
mod paused;
mod privileges;
mod runner;
mod stories;
mod taken_over;
mod upgraded;
