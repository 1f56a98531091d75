//! Damage at rest: bits that flip and files that are cut, on copies of a directory.
