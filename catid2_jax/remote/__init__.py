"""Work directories in buckets of S3 and Google Cloud Storage."""
