"""Many processes and machines over Dask."""
