//! MeanFlow networks, forward-mode derivatives and training objective on libtorch.
