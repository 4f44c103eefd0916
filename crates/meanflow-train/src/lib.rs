//! The MeanFlow training loop: run directory, checkpoints, metrics, resume.
