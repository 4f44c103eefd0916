//! Classifier-free guidance baked into the MeanFlow target.
