"""The retrieval service: an HTTP server over a retriever, its queue, its versions and its page."""
