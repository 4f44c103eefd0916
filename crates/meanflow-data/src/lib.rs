//! Data sets and picture files for MeanFlow, without libtorch.
