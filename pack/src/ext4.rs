//! The bytes of an ext4 disk that depend on when it was made, set to one moment.
//!
//! mke2fs copies each file's change time and stamps its own; two builds of the same tree would differ in them
//! alone. This walks the inode tables of a disk made with the features that the builder asks for (no checksums,
//! no journal, 32-byte group descriptors) and sets every time to the same second. It knows nothing else of ext4.
