"""Where files come from and go to: downloads, buckets, web servers, archives."""
