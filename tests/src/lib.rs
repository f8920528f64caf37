//! What the black-box tests share: see the files beside this folder.
