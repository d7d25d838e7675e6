"""Groups of overlapping patterns as batches: grouping, sampling, the validation split, the Lightning datamodule."""
