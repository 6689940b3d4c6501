//! Whole bundles: what is packed comes out again, by us and by the programs that every Unix has; what was meddled with does
//! not.

mod damage;
mod meddled;
mod packing;
mod parts;
mod real_programs;
mod trust;
